"""The subscribers' side of a front: what they want to hear goes to all workers, what those publish to them, once.

Drops what another worker has said already, and decides nothing else.
"""

from __future__ import annotations

from typing import Any

import msgpack

from rtseg.serve import relay
from rtseg.serve.crew import Worker
from rtseg.serve.kept import KeptStreams
from rtseg.serve.outlet import Outlet
from rtseg.serve.topics import Topics


class Fanout:
    """Between what the workers publish and the front's publishing socket."""

    def __init__(self, workers: list[Worker], outlet: Outlet, kept: KeptStreams) -> None:
        self._workers, self._outlet, self._kept = workers, outlet, kept
        self._topics = Topics(len(workers))

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
            self._outlet.send(topic, confirmed)
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
        is_news, send = self._kept.is_news, self._outlet.send
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
            is_news = relay.worker_of(event["stream"], len(self._workers)) == worker.number
        else:
            is_news = kind != "stopping"
        if is_news:
            self._outlet.send(topic, data)

    def announce_end(self) -> None:
        """The last word on every topic."""
        for topic in self._topics:
            self._outlet.announce(topic, {"type": "stopping"})

    def _tell_all(self, said: bytes) -> None:
        for worker in self._workers:
            if worker.topics is not None:
                worker.topics.send(said)
