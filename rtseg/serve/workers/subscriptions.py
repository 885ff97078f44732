"""The subscribers' side of a front: what they want to hear goes to all workers, what those publish to them, once.

Drops what another worker has said already, and decides nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack

from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.worker_pool import Worker


@dataclass(eq=False)
class _Topic:
    wanted: bool = True
    known_by: set[int] = field(default_factory=set)
    said: bytes = b""  # a worker's confirmation


class SubscribedTopics:
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


class Subscriptions:
    """Between what the workers publish and the front's publishing socket."""

    def __init__(self, workers: list[Worker], outlet: Outlet, kept: StreamBackups) -> None:
        self._workers, self._outlet, self._backups = workers, outlet, kept
        self._topics = SubscribedTopics(len(workers))

    def subscription(self, said: bytes) -> None:
        """A subscriber has come or gone."""
        topic = said[1:]
        if said[:1] == b"\x00":
            self._topics.unsubscribed(topic)
            return
        if said[:1] != b"\x01":
            return
        confirmed = self._topics.subscribed(topic)
        if confirmed is not None:
            self._outlet.send_packed(topic, confirmed)
            return
        self._tell_all(said)

    def forget_unwanted(self) -> None:
        """Topics that nobody hears any more."""
        for topic in self._topics.unwanted():
            self._tell_all(b"\x00" + topic)

    def connected(self, worker: Worker) -> None:
        """A worker serves, or serves again: it learns all topics."""
        assert worker.topics is not None
        for topic in self._topics:
            worker.topics.send(b"\x01" + topic)

    def serve(self, served: dict[str, Any]) -> None:
        """Another bundle answers from now on."""
        self._topics.serve(served)

    def forget_worker(self, worker: Worker) -> None:
        """It has ended."""
        self._topics.forget_worker(worker.number)

    def answered(self, answers: list[tuple[bytes, int, bytes]]) -> None:
        """Predictions of a worker (`relay.answers`)."""
        is_news, send = self._backups.is_news, self._outlet.send_packed
        for topic, number, data in answers:
            if is_news(topic, number):
                send(topic, data)

    def published(self, worker: Worker, topic: bytes, data: bytes) -> None:
        """What else a worker says to subscribers."""
        event = msgpack.unpackb(data)
        kind = event.get("type")
        if kind == "subscribed":
            is_news = self._topics.confirmed(topic, worker.number, data)
        elif kind == "beat":
            is_news = worker_protocol.worker_of(event["stream"], len(self._workers)) == worker.number
        else:
            is_news = kind != "stopping"
        if is_news:
            self._outlet.send_packed(topic, data)

    def announce_stopping(self) -> None:
        """The last word on every topic."""
        for topic in self._topics:
            self._outlet.announce(topic, {"type": "stopping"})

    def _tell_all(self, said: bytes) -> None:
        for worker in self._workers:
            if worker.topics is not None:
                worker.topics.send(said)
