"""What can be known of a source's clock from when its frames came: its offset to the daemon's, its drift, its jumps.

It is published, and never subtracted from anything: a frame's answer depends on no clock. How long a frame travels
varies, but never below a certain time; so of all frames within a window only the quickest one counts. Reads no clock.
"""

from __future__ import annotations

from collections import deque
from typing import Any

WINDOW_NS = 2_000_000_000
WINDOWS = 60
"""Two minutes: long enough for a drift of some millionths to show."""
JUMP_NS = 250_000_000
"""The quickest travel time does not change by this much; a clock that was set does."""
LONG_INTERVAL = 1.15
"""An interval between two frames is long from this many declared ones on."""
IMPLAUSIBLE = 100
"""Rates this many times too high or too low are none: t_source_ns stands still, or does not count nanoseconds."""
_MIN_WINDOWS = 5


class SourceClock:
    """One stream's clock. interval_ns: between two frames, as declared.

    jumps: how often it was set, or went back. long_intervals: how often a frame came too long after the one before, by
    the source's clock, or by the daemon's where the source has none.
    """

    __slots__ = (
        *(
            "_began_ns",
            "_due_recv_ns",
            "_due_source_ns",
            "_has_begun",
            "_least_ns",
            "_long_ns",
            "_quickest",
            "_recv_ns",
            "_source_ns",
            "_started_ns",
            "_tick_ns",
            "_windows",
        ),
        *("jumps", "long_intervals"),
    )

    def __init__(self, interval_ns: int) -> None:
        self.jumps = self.long_intervals = 0
        self._long_ns, self._tick_ns = int(LONG_INTERVAL * interval_ns), interval_ns // IMPLAUSIBLE
        self._recv_ns = self._began_ns = 0
        self._source_ns = -1
        self._windows: deque[tuple[int, int]] = deque(maxlen=WINDOWS)  # when, and the least difference then
        self._has_begun, self._least_ns = False, 0
        self._started_ns = self._quickest = 0
        self._due_source_ns = self._due_recv_ns = 0  # the first frame reaches both

    def takes_next(self, t_source_ns: int, t_recv_ns: int) -> bool:
        """Whether a frame's two times tell nothing new, as nearly all do: they are then taken in. Where not, nothing
        has changed, and `compare_times` decides.
        """
        step_ns = t_source_ns - self._source_ns
        if (
            step_ns < self._tick_ns
            or t_recv_ns - t_source_ns < self._least_ns
            or t_recv_ns >= self._due_recv_ns
            or t_source_ns >= self._due_source_ns
        ):
            return False
        if step_ns > self._long_ns:
            self.long_intervals += 1
        self._source_ns, self._recv_ns = t_source_ns, t_recv_ns
        return True

    def compare_from(self, t_source_ns: int, t_recv_ns: int) -> None:
        """From either of these times on `takes_next` takes no frame: somebody else (`declared_rate`) has to see one."""
        # Or when the window of this clock has passed, which only `compare_times` begins anew.
        self._due_source_ns, self._due_recv_ns = t_source_ns, min(t_recv_ns, self._started_ns + WINDOW_NS + 1)

    def compare_times(self, t_source_ns: int, t_recv_ns: int) -> bool:
        """Take in one frame's two times; whether the source's clock has jumped."""
        apart_ns = t_recv_ns - t_source_ns
        before_ns, self._source_ns = self._source_ns, t_source_ns
        step_ns = t_source_ns - before_ns
        if step_ns > self._long_ns or (step_ns < self._tick_ns and t_recv_ns - self._recv_ns > self._long_ns):
            self.long_intervals += 1
        self._recv_ns = t_recv_ns
        least_ns = self._least_ns
        if not self._has_begun:
            self._has_begun, self._began_ns = True, t_source_ns
            self._started_ns, self._least_ns, self._quickest = t_recv_ns, apart_ns, t_recv_ns
        # Nothing travels faster than before by a quarter of a second, nor backwards: its clock was set.
        elif t_source_ns < before_ns or apart_ns < least_ns - JUMP_NS:
            return self._jumped(t_source_ns, t_recv_ns)
        elif apart_ns < least_ns:
            self._least_ns, self._quickest = apart_ns, t_recv_ns
        elif t_recv_ns - self._started_ns > WINDOW_NS:
            return self._close_window(t_source_ns, t_recv_ns)
        return False

    def summary(self) -> dict[str, Any]:
        """offset_ns: the daemon's clock minus the source's, at the last window's quickest frame, its travel included.

        drift_ppm: how much faster the source's clock runs than the daemon's, in millionths; None until there are
        _MIN_WINDOWS windows. jumps.
        """
        windows = list(self._windows)
        offset_ns = windows[-1][1] if windows else self._least_ns if self._has_begun else None
        return {"offset_ns": offset_ns, "drift_ppm": _drift_ppm(windows), "jumps": self.jumps}

    def _close_window(self, t_source_ns: int, t_recv_ns: int) -> bool:
        passed_ns, self._began_ns = t_source_ns - self._began_ns, t_source_ns
        if passed_ns * IMPLAUSIBLE < WINDOW_NS:  # it stands still: the source sends no times, and no clock was set
            self._windows.clear()
            self._started_ns, self._least_ns, self._quickest = t_recv_ns, t_recv_ns - t_source_ns, t_recv_ns
            return False
        # One frame may be late. Where the quickest of a whole window is, the clock was set back while no frame came.
        if self._windows and self._least_ns - self._windows[-1][1] > JUMP_NS:
            return self._jumped(t_source_ns, t_recv_ns)
        self._windows.append((self._quickest, self._least_ns))
        self._started_ns = self._quickest = t_recv_ns
        self._least_ns = t_recv_ns - t_source_ns
        return False

    def _jumped(self, t_source_ns: int, t_recv_ns: int) -> bool:
        self.jumps += 1
        self._windows.clear()
        self._began_ns = t_source_ns
        self._started_ns, self._least_ns, self._quickest = t_recv_ns, t_recv_ns - t_source_ns, t_recv_ns
        return True


def _drift_ppm(windows: list[tuple[int, int]]) -> float | None:
    """Slope of the windows' least differences over time, by least squares, as the source's drift."""
    if len(windows) < _MIN_WINDOWS:
        return None
    start_ns, base_ns = windows[0]
    times = [(t - start_ns) * 1e-9 for t, _ in windows]
    apart = [(d - base_ns) * 1e-9 for _, d in windows]
    mean_t, mean_d = sum(times) / len(times), sum(apart) / len(apart)
    spread = sum((t - mean_t) ** 2 for t in times)
    slope = sum((t - mean_t) * (d - mean_d) for t, d in zip(times, apart, strict=True)) / spread
    return round(-slope * 1e6, 2)
