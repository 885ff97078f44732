"""Whether a camera sends at the rate that its stream declared, by its frames' own numbers and times.

At another rate every velocity and duration that the network sees is wrong, and nothing else shows it. It is said, and
changes no answer. Judged window by window, and believed once three of them agree. Frames that the camera dropped are no
other rate, nor are pauses, nor what was held back in them and came all at once. Reads no clock.
"""

from __future__ import annotations

from typing import Any

from rtseg.serve.timing.source_clock import IMPLAUSIBLE

WINDOW_NS = 1_000_000_000
MIN_FRAMES = 15
"""Of a window: a slow camera's is longer."""
AGREEING = 3
"""Windows, one after another, that must say the same."""
TOO_FAST, TOO_SLOW = 1.1, 1 / 1.15
"""Times the declared rate."""
PAUSE_SHARE, LONG_SHARE = 0.3, 0.6
"""Most of a slow camera's intervals are long (`source_clock`). Where fewer are, frames were lost that their
numbers do not count; where very few are, there was a pause, and the window tells nothing."""
HELD_BACK_NS = 5_000_000_000
"""How long a pause may be in which frames are held back that then come at once."""
RIGHT, FAST, SLOW = 0, 1, -1


class DeclaredRate:
    """One stream's rate. fps: as declared. opened_ns: when it was opened, on the daemon's clock.

    due_source_ns, due_recv_ns: a window ends with the first frame that reaches one of them. measured_fps: what the last
    windows said, None before there were any; by: by which times, `source` or `receipt`. is_wrong: whether they
    contradict what was declared.
    """

    __slots__ = (
        *("due_recv_ns", "due_source_ns", "measured_fps", "by", "is_wrong", "_fps", "_interval_ns", "_ahead_ns"),
        *("_opened_ns", "_seq", "_source_ns", "_recv_ns", "_long"),
        *("_verdict", "_agreeing", "_frames", "_long_frames", "_took_ns"),
    )

    def __init__(self, fps: float, opened_ns: int) -> None:
        self._fps, self._interval_ns = fps, 1e9 / fps
        self.measured_fps: float | None = None
        self.by, self.is_wrong = "source", False
        # A window that has not begun: the first frame reaches both.
        self.due_source_ns = self.due_recv_ns = 0
        self._opened_ns, self._ahead_ns, self._seq = opened_ns, 0.0, -1
        self._verdict = self._agreeing = self._frames = self._long_frames = self._took_ns = 0

    def close_window(self, seq: int, t_source_ns: int, t_recv_ns: int, long_intervals: int) -> bool:
        """Judge the frames since the window began; whether `is_wrong` has changed. Does nothing for too few of them.

        seq: of the frame in hand. long_intervals: how many there were since the stream was opened.
        """
        if self._seq < 0:
            # What was held back since the hello, while a tracker loaded its network, may come at once.
            self._ahead_ns = -float(min(t_recv_ns - self._opened_ns, HELD_BACK_NS))
            self._begin_window(seq, t_source_ns, t_recv_ns, long_intervals)
            return False
        frames = seq - self._seq
        if frames < MIN_FRAMES:
            return False
        expected_ns = frames * self._interval_ns
        took_ns, by = t_source_ns - self._source_ns, "source"
        if not expected_ns / IMPLAUSIBLE < took_ns < expected_ns * IMPLAUSIBLE:
            took_ns, by = max(1, t_recv_ns - self._recv_ns), "receipt"
        long_frames = long_intervals - self._long
        self._begin_window(seq, t_source_ns, t_recv_ns, long_intervals)
        verdict = self._judge(expected_ns, took_ns, long_frames / frames)
        return verdict is not None and self._agree(verdict, frames, long_frames, took_ns, by)

    def summary(self) -> dict[str, Any]:
        """declared and measured, frames per second; by; wrong."""
        measured = None if self.measured_fps is None else round(self.measured_fps, 3)
        return {"declared": self._fps, "measured": measured, "by": self.by, "wrong": self.is_wrong}

    def _begin_window(self, seq: int, t_source_ns: int, t_recv_ns: int, long_intervals: int) -> None:
        self._seq, self._source_ns, self._recv_ns, self._long = seq, t_source_ns, t_recv_ns, long_intervals
        self.due_source_ns, self.due_recv_ns = t_source_ns + WINDOW_NS, t_recv_ns + WINDOW_NS

    def _judge(self, expected_ns: float, took_ns: int, long_share: float) -> int | None:
        """RIGHT, FAST or SLOW; None where the window tells nothing."""
        # How far the source is ahead of its rate: below 0 after a pause, for as long as frames may have been held back.
        self._ahead_ns = max(-float(HELD_BACK_NS), self._ahead_ns + expected_ns - TOO_FAST * took_ns)
        ratio = expected_ns / took_ns
        if ratio > TOO_FAST:
            return FAST if self._ahead_ns > 0 else None
        self._ahead_ns = min(self._ahead_ns, 0.0)
        if ratio >= TOO_SLOW:
            return RIGHT
        return SLOW if long_share > PAUSE_SHARE else None

    def _agree(self, verdict: int, frames: int, long_frames: int, took_ns: int, by: str) -> bool:
        """Add a window to those before it; whether `is_wrong` has changed. long_frames: its long intervals."""
        if verdict != self._verdict or by != self.by:
            self._verdict, self.by = verdict, by
            self._agreeing = self._frames = self._long_frames = self._took_ns = 0
        self._agreeing += 1
        self._frames, self._took_ns = self._frames + frames, self._took_ns + took_ns
        self._long_frames += long_frames
        if self._agreeing < AGREEING:
            return False
        lost_some = verdict == SLOW and self._long_frames < LONG_SHARE * self._frames
        measured_fps = self._frames * 1e9 / self._took_ns
        # So that what is measured is that of the last windows, and not of hours.
        self._agreeing, self._frames, self._took_ns = AGREEING - 1, self._frames // 2, self._took_ns // 2
        self._long_frames //= 2
        if lost_some:
            return False
        self.measured_fps = measured_fps
        was_wrong, self.is_wrong = self.is_wrong, verdict != RIGHT
        return self.is_wrong != was_wrong
