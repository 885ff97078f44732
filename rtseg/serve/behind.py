"""A daemon behind a front: it answers by way of the front, and gives it what another worker needs to take its place.

The only part of a worker that knows of the front; without one nothing here exists.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from rtseg.errors import RtsegError
from rtseg.serve import relay
from rtseg.serve.messages import VERSION
from rtseg.serve.outlet import Outlet
from rtseg.serve.relay import NOBODY, RELAY, Relay
from rtseg.serve.streams import Stream, Streams

LOG = logging.getLogger("rtseg.serve")
PARENT_LOOK_NS = 1_000_000_000
MAX_GONE = 1024
Take = Callable[[bytes, bytes, int], None]
"""One client's message: its routing id, the bytes, when they came."""


class RelayedOutlet(Outlet):
    """The sending ends of a worker's sockets, at whose other ends there is only the front."""

    gone: set[bytes]

    def send(self, topic: bytes, packed: bytes, number: int = 0) -> None:
        """To the front, which is waited for: it reads always, and a worker that is faster must not lose anything."""
        self._xpub.send_multipart([topic, packed, relay.packed_number(number)] if number else [topic, packed])

    def answer(self, owner: bytes, message: dict[str, Any]) -> bool:
        """To a client; whether it is there is the front's to know, which names those that are `gone`."""
        if owner in self.gone:
            return False
        parts = [RELAY, owner, self._packer.pack({"v": VERSION, **message})]
        return self._to_front(parts)

    def tell_front(self, data: bytes) -> None:
        """A message between a worker and its front."""
        self._to_front([RELAY, NOBODY, data])

    def _to_front(self, parts: list[bytes]) -> bool:
        with contextlib.suppress(zmq.ZMQError):  # a front that is gone takes its workers along
            self._router.send_multipart(parts, zmq.NOBLOCK)
            return True
        return False


class Behind:
    """A worker's dealings with its front. take, step_all, stop: the daemon's."""

    def __init__(
        self,
        place: Relay,
        outlet: RelayedOutlet,
        streams: Streams,
        take: Take,
        step_all: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._place, self._outlet, self._streams = place, outlet, streams
        self._take, self._step_all, self._stop = take, step_all, stop
        self._due: deque[str] = deque()
        self._told_ns = self._looked_ns = 0
        outlet.gone = set()

    def open_message(self, parts: list[bytes], now_ns: int) -> tuple[list[bytes] | None, int]:
        """A client's [routing id, bytes] and when the front got it; None where the front itself spoke."""
        if len(parts) == 3 and parts[1] == NOBODY:
            self._hear(relay.unpack(parts[2]), now_ns)
            return None, now_ns
        return [parts[1], parts[3]], relay.number_in(parts[2])

    def opened(self, stream: Stream, now_ns: int) -> None:
        """Before a hello is answered, so that the front never knows less of a stream than its client.

        Numbers of answers begin at the time of opening: above all that went out under this name before.
        """
        stream.opened_ns = stream.answers = now_ns
        self.moved(stream)

    def moved(self, stream: Stream) -> None:
        """Another connection goes on with a stream."""
        self._outlet.tell_front(relay.state_of(stream))

    def ended(self, stream: Stream) -> None:
        """A stream has been closed."""
        self._outlet.tell_front(relay.ended(stream.name))

    def look_around(self, now_ns: int, *, quiet: bool) -> None:
        """Give the front the state of a stream whose turn it is, when nothing waits; stop where the front is gone.

        One stream at a time, all of them every `every_s`; where something always waits, at every second of these.
        """
        if now_ns - self._looked_ns > PARENT_LOOK_NS:
            self._looked_ns = now_ns
            if os.getppid() != self._place.parent:
                LOG.error("the front is gone: this worker ends with it")
                self._stop()
        every_ns = int(self._place.every_s * 1e9)
        if not self._due and now_ns - self._told_ns > every_ns:
            self._told_ns = now_ns
            self._due.extend(stream.name for stream in self._streams)
        if self._due and (quiet or now_ns - self._told_ns > every_ns):
            stream = self._streams.find(self._due.popleft())
            if stream is not None and stream.session.last_seq is not None:
                self._outlet.tell_front(relay.state_of(stream))

    def _hear(self, message: dict[str, Any], now_ns: int) -> None:
        if message["type"] == "stop":
            self._stop()
            return
        if message["type"] == "gone":
            if len(self._outlet.gone) >= MAX_GONE:
                self._outlet.gone.clear()
            self._outlet.gone.add(message["owner"])
            return
        name = message["stream"]
        try:
            self._restore(message, now_ns)
        except Exception as error:  # the other streams go on
            LOG.error("stream %r cannot be restored: %s", name, error, exc_info=not isinstance(error, RtsegError))
            left = self._streams.find(name)
            if left is not None:
                self._streams.close(left)
            self._outlet.tell_front(relay.ended(name))
            self._outlet.announce(name.encode(), {"type": "closed", "reason": f"could not be restored: {error}"[:300]})

    def _restore(self, message: dict[str, Any], now_ns: int) -> None:
        hello = relay.hello_of(message)
        stream = self._streams.open(message["owner"], hello, self._streams.check(hello), now_ns)
        if message["state"] is not None:
            stream.session.restore(message["state"])
            stream.newest_seq = message["seq"]
        stream.opened_ns, stream.answers = message["opened_ns"], message["answers"]
        stream.refused, stream.dropped, stream.superseded = message["outside"]
        for t_recv_ns, data in message["frames"]:
            self._take(stream.owner, data, t_recv_ns)
            self._step_all()  # one by one: nothing is left out for a backlog
        stream.last_ns = now_ns
        LOG.info("stream %r is restored, %d frames were stepped again", stream.name, len(message["frames"]))
