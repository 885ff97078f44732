"""Lines of a daemon's `zmq` sink, for a loop of your own on this machine or another one.

    with rtseg.TriggerSubscriber("tcp://127.0.0.1:5760") as lines:
        for change in lines:
            drive_the_laser(change.is_on)
            lines.acknowledge(change)

Needs numpy, msgpack and pyzmq only. Not safe to share between threads.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import zmq

from rtseg.client.connection import Key, connect, key_of, no_daemon
from rtseg.client.line_follower import LineChange, LineFollower
from rtseg.errors import ServeError
from rtseg.system.machine import boot_id
from rtseg.wire.addresses import seen_from
from rtseg.wire.fields import MessageError
from rtseg.wire.line_messages import BEAT_TOPIC, LineAck, LineMessage, line_topic, pack_line_ack, parse_line

LOG = logging.getLogger("rtseg.client")
_yield_core = getattr(os, "sched_yield", lambda: None)  # ZeroMQ's own thread may be waiting for it
BEATS_MISSED = 4
"""After so many heartbeats that did not come the sink is lost."""


class TriggerSubscriber:
    """Lines of a sink of the kind `zmq`, each until its OFF or the end of its lease, whichever comes first.

    address: the sink's. triggers: names; none = all. key: your key file, where the sink asks for one. busy_poll: never
    sleep while waiting, which is faster by a fraction of a millisecond and takes a whole core. Returns once the sink
    was heard; raises ServeError where nothing comes within connect_timeout_s.

    A line is on only as long as renewals come, so it is off at this end too when the daemon, the sink or the network
    stops, within the time that the daemon gives a line: **call `receive` again and again**, for nothing goes off while
    your program does not ask. An ON that comes when its lease is over is left out and counted as `late`.
    """

    def __init__(
        self,
        address: str,
        triggers: str | Sequence[str] = (),
        *,
        connect_timeout_s: float = 5.0,
        key: Key = None,
        busy_poll: bool = False,
    ) -> None:
        self.address, self._busy_poll = address, busy_poll
        names = [triggers] if isinstance(triggers, str) else list(triggers)
        self._topics = {line_topic(name) for name in names}
        self._key = key_of(key)
        self._follower = LineFollower(boot_id())
        self._changes: deque[LineChange] = deque()
        self._acks: zmq.Socket[bytes] | None = None
        self._heard_s, self._heartbeat_s, self._ack_address = -math.inf, math.inf, ""
        self._socket = connect(zmq.SUB, address, self._key)
        for topic in (BEAT_TOPIC, *(self._topics or {line_topic("")})):
            self._socket.subscribe(topic)
        deadline = time.monotonic() + connect_timeout_s
        while self._heard_s < 0:
            if not self._take_next(deadline):
                self.close()
                raise no_daemon(address, connect_timeout_s, self._key)

    @property
    def on(self) -> tuple[LineChange, ...]:
        """The lines that are on, as far as `receive` has told."""
        waiting = {change.event for change in self._changes if change.is_on}
        return tuple(change for change in self._follower.on if change.event not in waiting)

    @property
    def is_alive(self) -> bool:
        """Whether the sink was heard lately. Without it no line stays on."""
        return time.monotonic() - self._heard_s < BEATS_MISSED * self._heartbeat_s

    @property
    def late(self) -> int:
        """Messages that came too late to turn anything on."""
        return self._follower.late

    @property
    def missed(self) -> int:
        """Messages that were lost, by their numbers."""
        return self._follower.missed

    def receive(self, timeout_s: float | None = None) -> LineChange | None:
        """The next change; None where there is none within timeout_s (None = wait for ever)."""
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while True:
            # First what has come, however long this was not asked: a renewal that waits keeps its line on.
            while self._take_next(0.0):
                pass
            self._changes += self._follower.expire(time.monotonic_ns())
            if self._changes:
                return self._changes.popleft()
            if time.monotonic() >= deadline:
                return None
            end_ns = self._follower.next_end_ns()
            self._take_next(min(deadline, math.inf if end_ns is None else end_ns / 1e9))

    def __iter__(self) -> Iterator[LineChange]:
        """Changes as they come, without end."""
        while (change := self.receive()) is not None:
            yield change

    def acknowledge(self, change: LineChange) -> None:
        """Tell the daemon that you have acted on it, where the sink takes acknowledgements; else nothing happens.

        Raises ServeError where the sink cannot be told.
        """
        if not self._ack_address:
            return
        if self._acks is None:
            self._acks = connect(zmq.PUSH, self._ack_address, self._key)
        try:
            self._acks.send(pack_line_ack(LineAck(change.run, change.event, change.is_on)), zmq.NOBLOCK)
        except zmq.Again:
            raise ServeError(f"the sink at {self._ack_address} takes no acknowledgements") from None

    def close(self) -> None:
        """Close the sockets. What is on stays on: turn it off yourself."""
        for socket in (self._socket, self._acks):
            if socket is not None:
                socket.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _take_next(self, deadline_s: float) -> bool:
        """Take in one message; False where none comes until then, or a little before."""
        if self._busy_poll:
            while not self._socket.poll(0):
                if time.monotonic() >= deadline_s:
                    return False
                _yield_core()
            return self._take_waiting()
        remaining_s = deadline_s - time.monotonic()
        # Whole milliseconds, rounded down: the last one is waited for by looking again.
        wait_ms = None if remaining_s == math.inf else max(0, int(remaining_s * 1000))
        if not self._socket.poll(wait_ms):
            return False
        return self._take_waiting()

    def _take_waiting(self) -> bool:
        """Take in the message that waits."""
        topic, *parts = self._socket.recv_multipart()
        now_ns = time.monotonic_ns()
        # ZeroMQ matches topics by prefix.
        if topic != BEAT_TOPIC and self._topics and topic not in self._topics:
            return True
        try:
            self._take(parse_line(parts[0] if parts else b""), now_ns)
        except MessageError as error:
            LOG.warning("a message from the sink at %s is left out: %s", self.address, error)
        return True

    def _take(self, message: LineMessage, now_ns: int) -> None:
        late = self._follower.late
        self._changes += self._follower.take(message, now_ns)
        self._heard_s = now_ns / 1e9
        if message.heartbeat_s:
            self._heartbeat_s = message.heartbeat_s
            self._ack_address = seen_from(message.acknowledgements, self.address)
        if self._follower.late > late:
            LOG.warning("event %d of %r came too late to turn its line on", message.event, message.trigger)
