"""Receive a daemon's predictions and events.

    for prediction in Subscriber("tcp://127.0.0.1:5758", "cage1"):
        print(prediction.seq, prediction.labels)

Needs numpy, msgpack and pyzmq only: no model and no compiler. Not safe to share between threads.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import zmq

from rtseg.client.connection import Key, connect, key_of, milliseconds, no_daemon, reachable
from rtseg.wire.messages import PredictionMessage, Served, StreamEvent, parse_published, unpack


class Subscriber:
    """Predictions of some streams, or of all.

    address: the daemon's predictions address. streams: names; none = all. timeout_s: how long iterating waits for the
    next message; None = for ever. Returns once the daemon has confirmed the subscription, so that nothing published
    after that is lost; raises ServeError where it does not within connect_timeout_s. served says what the
    predictions mean. key: your key file, where the daemon asks for one. heard_s: when anything last came, on
    `time.monotonic`; a daemon that is alive sends something every heartbeat_s (1 s), which is not passed on.
    """

    def __init__(
        self,
        address: str,
        streams: str | Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float = 5.0,
        key: Key = None,
    ) -> None:
        self.address, self.timeout_s = address, timeout_s
        self.streams = frozenset([streams] if isinstance(streams, str) else streams)
        self._topics = frozenset(stream.encode() for stream in self.streams)
        self._early: deque[PredictionMessage | StreamEvent] = deque()  # came before the subscription was confirmed
        self.heard_s = time.monotonic()
        self._key = key_of(key)
        self._socket = connect(zmq.SUB, address, self._key)
        try:
            self.served = self._subscribe(connect_timeout_s)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout_s: float | None = None) -> PredictionMessage | StreamEvent | None:
        """The next message; None where none comes within timeout_s (None = wait for ever)."""
        if self._early:
            return self._early.popleft()
        return self._receive(timeout_s)

    def __iter__(self) -> Iterator[PredictionMessage]:
        """Predictions as they come.

        Ends where the daemon stops, all named streams have closed, or nothing comes for timeout_s.
        """
        # Without names there is no telling which streams are still to come: only silence or the daemon's end stops it.
        running = set(self.streams)
        while (message := self.receive(self.timeout_s)) is not None:
            if isinstance(message, PredictionMessage):
                yield message
                continue
            # A stream that is reopened continues under the same name.
            if message.type == "closed" and message.fields.get("reason") != "reopened":
                running.discard(message.stream)
            if message.type == "stopping" or (self.streams and not running):
                return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _subscribe(self, timeout_s: float) -> Served:
        """Subscribe and wait for the daemon's confirmation of every topic. Raises ServeError where one is missing."""
        # The daemon confirms topic by topic; the empty one stands for all streams.
        missing = set(self.streams) or {""}
        for topic in missing:
            self._socket.subscribe(topic)
        deadline = time.monotonic() + timeout_s
        while message := self._receive(deadline - time.monotonic()):
            if isinstance(message, StreamEvent) and message.type == "subscribed":
                missing.discard(message.stream)
                if not missing:
                    return reachable(Served.from_message(message.fields), self.address)
            else:
                self._early.append(message)
        raise no_daemon(self.address, timeout_s, self._key)

    def _receive(self, timeout_s: float | None) -> PredictionMessage | StreamEvent | None:
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(None if timeout_s is None else milliseconds(deadline - time.monotonic())):
            topic, data = self._socket.recv_multipart()
            self.heard_s = time.monotonic()
            # ZeroMQ matches topics by prefix: "cage1" would hear "cage10" as well.
            # Compared as bytes, for a prefix may also be the beginning of what is no text.
            if not self._topics or topic in self._topics:
                message = parse_published(unpack(data))
                if not (isinstance(message, StreamEvent) and message.type == "beat"):
                    return message
        return None
