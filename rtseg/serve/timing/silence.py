"""Which streams have fallen silent: each that sends is looked at again when its next two frames are overdue.

One entry a stream in a heap, which is moved on when it is looked at and not with every frame: so a frame costs nothing
here. Reads no clock.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

SILENT_INTERVALS = 1.75
"""Of the stream's own frame interval. Said within two, whatever the timer's resolution."""


class FrameTimes(Protocol):
    """When a stream's last frame came."""

    @property
    def last_ns(self) -> int:
        """On the monotonic clock."""


class Silence(Protocol):
    """What the silence watch alone writes: whether a next frame is expected, and whether it is overdue."""

    is_watched: bool
    is_stale: bool


class Watched(Protocol):
    """What must be known of a stream."""

    @property
    def queued(self) -> FrameTimes:
        """When its last frame came."""

    @property
    def silence(self) -> Silence:
        """Its record."""

    @property
    def interval_ns(self) -> int:
        """Between two frames of its camera."""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more comes of it."""


S = TypeVar("S", bound=Watched)


class SilenceWatch(Generic[S]):
    """The streams that are expected to send."""

    def __init__(self) -> None:
        # The count breaks ties: streams can't be compared.
        self._due: list[tuple[int, int, S]] = []
        self._count = 0

    def watch_stream(self, stream: S) -> None:
        """Expect frames of a stream that has begun to send, or sends again."""
        stream.silence.is_watched, stream.silence.is_stale = True, False
        self._count += 1
        heapq.heappush(self._due, (_overdue_ns(stream), self._count, stream))

    def next_due_ns(self) -> int | None:
        """When to ask for `fallen_silent` again; None = never."""
        return self._due[0][0] if self._due else None

    def fallen_silent(self, now_ns: int) -> list[S]:
        """Streams that have fallen silent since the last call; each is named once, until it is watched again."""
        silent: list[S] = []
        due = self._due
        while due and due[0][0] <= now_ns:
            stream = due[0][2]
            then_ns = _overdue_ns(stream)
            if then_ns > now_ns and not stream.is_closed:
                # Frames have come since it was last looked at.
                self._count += 1
                heapq.heapreplace(due, (then_ns, self._count, stream))
                continue
            heapq.heappop(due)
            if not stream.is_closed:
                stream.silence.is_watched, stream.silence.is_stale = False, True
                silent.append(stream)
        return silent


def _overdue_ns(stream: Watched) -> int:
    return stream.queued.last_ns + int(SILENT_INTERVALS * stream.interval_ns)
