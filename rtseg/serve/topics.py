"""What subscribers want to hear, seen from a front: every worker must know a topic before it counts as subscribed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack


@dataclass(eq=False)
class _Topic:
    wanted: bool = True
    known_by: set[int] = field(default_factory=set)
    said: bytes = b""  # a worker's confirmation


class Topics:
    """All topics that somebody subscribed to. workers: how many must confirm one."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._topics: dict[bytes, _Topic] = {}

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._topics))

    def subscribed(self, topic: bytes) -> bytes | None:
        """Somebody wants to hear a topic: what to confirm it with at once, None where workers must be told first."""
        known = self._topics.get(topic)
        if known is None:
            self._topics[topic] = _Topic()
            return None
        known.wanted = True
        return known.said if len(known.known_by) == self._workers else None

    def confirmed(self, topic: bytes, worker: int, said: bytes) -> bool:
        """A worker knows a topic; whether it was the last one, so that `said` goes out to those who wait for it."""
        known = self._topics.get(topic)
        if known is None or worker in known.known_by:
            return False
        known.known_by.add(worker)
        known.said = said
        return len(known.known_by) == self._workers and known.wanted

    def unsubscribed(self, topic: bytes) -> None:
        """Nobody hears a topic any more."""
        known = self._topics.get(topic)
        if known is not None:
            known.wanted = False

    def unwanted(self) -> list[bytes]:
        """Topics that workers may forget from now on; those that they still have to confirm stay until then.

        (Otherwise the confirmation on its way would be taken for that of a later subscription.)
        """
        over = [t for t, known in self._topics.items() if not known.wanted and len(known.known_by) == self._workers]
        for topic in over:
            del self._topics[topic]
        return over

    def serve(self, served: dict[str, Any]) -> None:
        """Another bundle answers from now on, which later subscribers hear."""
        for known in self._topics.values():
            if known.said:
                known.said = msgpack.packb(msgpack.unpackb(known.said) | served)

    def forget_worker(self, worker: int) -> None:
        """A worker has died; the one in its place knows no topic."""
        for known in self._topics.values():
            known.known_by.discard(worker)
