"""Who has fallen silent: every stream that sends is looked at again when its next two frames are overdue.

One entry a stream in a heap, moved on when it is looked at and not with every frame; so a frame costs nothing here.
Reads no clock.
"""

from __future__ import annotations

import heapq
from typing import Generic, Protocol, TypeVar

SILENT_INTERVALS = 1.75
"""Of the stream's own frame interval. Said within two, whatever the timer's resolution."""


class Watched(Protocol):
    """What the vigil must know of a stream."""

    last_ns: int
    interval_ns: int
    watched: bool
    stale: bool
    closed: bool


S = TypeVar("S", bound=Watched)


class SilenceWatch(Generic[S]):
    """The streams that are expected to send."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, S]] = []
        self._count = 0

    def watch_stream(self, stream: S) -> None:
        """A stream has begun to send, or sends again."""
        stream.watched, stream.stale = True, False
        self._count += 1
        heapq.heappush(self._due, (_overdue_ns(stream), self._count, stream))

    def next_due_ns(self) -> int | None:
        """When to ask for `overdue` again; None = never."""
        return self._due[0][0] if self._due else None

    def fallen_silent(self, now_ns: int) -> list[S]:
        """Streams that have fallen silent since the last call; they are not looked at until they are watched again."""
        silent: list[S] = []
        due = self._due
        while due and due[0][0] <= now_ns:
            stream = due[0][2]
            then_ns = _overdue_ns(stream)
            if then_ns > now_ns and not stream.closed:
                self._count += 1
                heapq.heapreplace(due, (then_ns, self._count, stream))
                continue
            heapq.heappop(due)
            if not stream.closed:
                stream.watched, stream.stale = False, True
                silent.append(stream)
        return silent


def _overdue_ns(stream: Watched) -> int:
    return stream.last_ns + int(SILENT_INTERVALS * stream.interval_ns)
