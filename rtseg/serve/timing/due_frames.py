"""When the next frame is due, and so when to be awake and warm for it.

A processor that slept for some milliseconds, or did something else, has lost the model from its caches, and waking up
takes time itself. Cameras are punctual: shortly before a frame is due the loop rehearses one (`rehearsal`) and looks
for it without sleeping. What that may cost is bounded; where frames come often nothing needs it. Reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import Protocol

MAX_SHARE = 0.25
"""Of the time that may be spent awake in vain."""
MAX_STREAMS = 8
"""Of more of them some frame is always about to come."""


class Punctual(Protocol):
    """What must be known of a stream."""

    last_ns: int
    interval_ns: int
    stale: bool
    newest_seq: int


class Expected(Sized, Iterable[Punctual], Protocol):
    """All open streams."""


class Ahead:
    """Looks ahead by so many microseconds."""

    def __init__(self, ahead_us: int) -> None:
        self._ahead_ns = ahead_us * 1000

    def window(self, streams: Expected, now_ns: int) -> tuple[int, int] | None:
        """From when until when to be awake for the next frame; None where nobody is expected, or too many are.

        It ends as long after the frame is due as it began before.
        """
        if len(streams) > MAX_STREAMS:
            return None
        next_ns, per_s = 0, 0.0
        for stream in streams:
            if stream.stale or stream.newest_seq < 0:
                continue
            per_s += 1e9 / stream.interval_ns
            due_ns = stream.last_ns + stream.interval_ns
            if due_ns + self._ahead_ns > now_ns and (not next_ns or due_ns < next_ns):
                next_ns = due_ns
        if not next_ns or 2e-9 * self._ahead_ns * per_s > MAX_SHARE:
            return None
        return next_ns - self._ahead_ns, next_ns + self._ahead_ns
