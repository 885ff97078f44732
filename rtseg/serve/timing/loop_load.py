"""How busy the loop is, and whether one more stream would be too many. Reads no clock.

The measure is the share of the last seconds that the loop spent on frames. At low load a frame costs more than it will
at high load, where frames are stepped together; so no stream is refused before the loop is half busy.
"""

from __future__ import annotations

from collections import deque

from rtseg.errors import ServeError

WINDOW_NS = 500_000_000
WINDOWS = 4
TRUSTED_SHARE = 0.5
"""At a lower load, what a frame costs now says too little of what it will cost."""


class CapacityError(ServeError):
    """One stream more than the daemon can serve in time."""


class LoopLoad:
    """The loop's load. max_load: share of the time from which on hellos are refused; 0 = never."""

    def __init__(self, max_load: float) -> None:
        self._max_load = max_load
        self._started_ns: int | None = None  # of the window that is being counted
        self._busy_ns = self._frames = 0
        self._windows: deque[tuple[int, int, int]] = deque(maxlen=WINDOWS)  # length, busy, frames

    def count_turn(self, busy_ns: int, frames: int, now_ns: int) -> None:
        """Count a turn of the loop that ends now, took `busy_ns` without waiting, and stepped this many frames."""
        if self._started_ns is None:
            self._started_ns = now_ns - busy_ns
        self._busy_ns += busy_ns
        self._frames += frames
        length_ns = now_ns - self._started_ns
        if length_ns > WINDOW_NS:
            self._windows.append((length_ns, self._busy_ns, self._frames))
            self._started_ns, self._busy_ns, self._frames = now_ns, 0, 0

    def measured(self) -> tuple[float, float]:
        """(share of the time, frames per second) over the last WINDOWS windows; zeros before the first one ends."""
        length_ns = sum(length for length, _, _ in self._windows)
        if not length_ns:
            return 0.0, 0.0
        busy_ns, frames = (sum(w[i] for w in self._windows) for i in (1, 2))
        return busy_ns / length_ns, frames / length_ns * 1e9

    def check_new_stream(self, name: str, fps: float, declared_fps: float) -> None:
        """Raises CapacityError where one more stream, of `fps` frames per second, would be too many.

        declared_fps: of all open streams together, as their hellos said: not all of them may have begun to send.
        """
        share, measured_fps = self.measured()
        if not self._max_load or share < TRUSTED_SHARE or not measured_fps:
            return
        expected = share * (max(declared_fps, measured_fps) + fps) / measured_fps
        if expected > self._max_load:
            raise CapacityError(
                f"stream {name!r}: the daemon is busy {share:.0%} of the time with {measured_fps:.0f} frames per "
                f"second; {fps:g} more would make it {expected:.0%}, above max_load = {self._max_load:g}: close a "
                "stream, serve with more workers, or on a faster machine"
            )
