"""The subscribers' side of a front: every worker is told what they want to hear, and what those publish goes out once.

A worker's confirmation of a topic says that everything published from there on reaches its subscribers. Subscribers of
a front are told so when the last worker has confirmed, for any of them may publish under the topic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.worker_pool import Worker
from rtseg.serve.workers.worker_protocol import NumberedAnswer, worker_of

_SUBSCRIBE, _UNSUBSCRIBE = b"\x01", b"\x00"
"""ZeroMQ's: the first byte of what an XPUB socket receives; the topic follows."""


@dataclass(eq=False)
class _Topic:
    is_wanted: bool = True
    confirmed_by: set[int] = field(default_factory=set)
    confirmation: bytes = b""  # the last worker's


class SubscribedTopics:
    """All topics that somebody subscribed to. workers: how many must confirm one."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._topics: dict[bytes, _Topic] = {}

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._topics))

    def subscribe(self, topic: bytes) -> bytes | None:
        """Somebody wants to hear a topic: the confirmation to send at once, None where workers must be told first."""
        known = self._topics.get(topic)
        if known is None:
            self._topics[topic] = _Topic()
            return None
        known.is_wanted = True
        return known.confirmation if self._is_known(known) else None

    def confirm(self, topic: bytes, worker: int, confirmation: bytes) -> bool:
        """A worker knows a topic; whether it was the last one, so that the confirmation goes out to subscribers."""
        known = self._topics.get(topic)
        if known is None or worker in known.confirmed_by:
            return False
        known.confirmed_by.add(worker)
        known.confirmation = confirmation
        return self._is_known(known) and known.is_wanted

    def unsubscribe(self, topic: bytes) -> None:
        """Nobody hears a topic any more."""
        known = self._topics.get(topic)
        if known is not None:
            known.is_wanted = False

    def take_unwanted(self) -> list[bytes]:
        """Topics that workers are to forget, which are forgotten here.

        One that a worker still has to confirm stays until it has: the confirmation on its way would be taken for that
        of a later subscription, and the subscriber would be told too early.
        """
        unwanted = [topic for topic, known in self._topics.items() if not known.is_wanted and self._is_known(known)]
        for topic in unwanted:
            del self._topics[topic]
        return unwanted

    def update_confirmations(self, served: dict[str, Any]) -> None:
        """Another bundle answers from now on: later subscribers hear of it. served: the fields that say so."""
        for known in self._topics.values():
            if known.confirmation:
                known.confirmation = msgpack.packb(msgpack.unpackb(known.confirmation) | served)

    def forget_worker(self, worker: int) -> None:
        """A worker has died; the one in its place has confirmed no topic."""
        for known in self._topics.values():
            known.confirmed_by.discard(worker)

    def _is_known(self, topic: _Topic) -> bool:
        """Whether every worker has confirmed it."""
        return len(topic.confirmed_by) == self._workers


class Subscriptions:
    """Between what the workers publish and the front's publishing socket."""

    def __init__(self, workers: Sequence[Worker], outlet: Outlet, backups: StreamBackups) -> None:
        self._workers, self._outlet, self._backups = workers, outlet, backups
        self._topics = SubscribedTopics(len(workers))

    def change_subscription(self, message: bytes) -> None:
        """A subscriber has come or gone. message: as the XPUB socket gives it."""
        topic = message[1:]
        if message[:1] == _UNSUBSCRIBE:
            self._topics.unsubscribe(topic)
            return
        if message[:1] != _SUBSCRIBE:
            return
        confirmation = self._topics.subscribe(topic)
        if confirmation is not None:
            self._outlet.send_packed(topic, confirmation)
        else:
            self._tell_workers(message)

    def forget_unwanted(self) -> None:
        """Unsubscribe the workers from topics without any subscriber."""
        for topic in self._topics.take_unwanted():
            self._tell_workers(_UNSUBSCRIBE + topic)

    def worker_connected(self, worker: Worker) -> None:
        """A worker serves, or serves again: it is told all topics."""
        for topic in self._topics:
            worker.send_subscription(_SUBSCRIBE + topic)

    def worker_ended(self, worker: Worker) -> None:
        """It confirms nothing more."""
        self._topics.forget_worker(worker.number)

    def update_confirmations(self, served: dict[str, Any]) -> None:
        """Another bundle answers from now on. served: the fields that say so."""
        self._topics.update_confirmations(served)

    def publish_answers(self, answers: Sequence[NumberedAnswer]) -> None:
        """Predictions of a worker, those left out that another worker has given before."""
        admit, send = self._backups.admit_answer, self._outlet.send_packed
        for topic, number, data in answers:
            if admit(topic, number):
                send(topic, data)

    def publish_event(self, worker: Worker, topic: bytes, data: bytes) -> None:
        """What else a worker publishes. All workers publish some of it alike, of which subscribers get one."""
        event = msgpack.unpackb(data)
        kind = event.get("type")
        if kind == "subscribed":
            is_sent = self._topics.confirm(topic, worker.number, data)
        elif kind == "beat":  # of the worker that would have the stream of this name, whether it is open or not
            is_sent = worker_of(event["stream"], len(self._workers)) == worker.number
        else:
            is_sent = kind != "stopping"  # the front's own last message is `announce_stopping`
        if is_sent:
            self._outlet.send_packed(topic, data)

    def announce_stopping(self) -> None:
        """The last message under every topic."""
        for topic in self._topics:
            self._outlet.announce(topic, {"type": "stopping"})

    def _tell_workers(self, message: bytes) -> None:
        for worker in self._workers:
            worker.send_subscription(message)  # one that is being started is told by `worker_connected`
