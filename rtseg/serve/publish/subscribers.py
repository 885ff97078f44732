"""Who has subscribed to what, by connection: which topics get a sign of life, and which are still to be confirmed.

Nothing that is published depends on it: ZeroMQ's own filter decides who gets what. It cannot be asked who is there,
and what it tells of subscriptions may be a peer's invention: it reports the cancel of a topic that the peer never had
as if the topic's last subscriber had left. Here a cancel counts for the connection that it came over, and for no other.

What one peer can make the daemon hold, do and send is bounded: topics of one connection and of all, changes a second,
confirmations a second. Whoever goes beyond is disconnected, and its topics go with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import cast

import zmq

from rtseg.serve.access.connections import Connection, connection_of, descriptor_of, end_connection, is_open
from rtseg.serve.access.guard import Guard
from rtseg.serve.timing.periodic import Periodic

MAX_TOPIC_BYTES = 800
"""As long as a stream's name can be: 200 characters of four bytes. A longer topic can match nothing."""
MAX_TOPICS_OF_ONE, MAX_TOPICS = 2_000, 20_000
"""Topics of one connection, and of all together. Whoever wants thousands of streams subscribes to all of them."""
MAX_BYTES = 1_000_000
"""Of all topics together. ZeroMQ's tree of topics takes 32 bytes and more for each of these."""
MAX_CHANGES = 10_000
"""Subscriptions and cancels of one connection in a second."""
AT_ONCE = 64
"""Changes that are read before frames have their turn again."""
CONFIRMATIONS_AT_ONCE, CONFIRM_MS = 32, 10
"""So many each time: other subscribers of the same topics get them too, and must not lose predictions for them."""
SECOND_NS = 1_000_000_000
WITHIN_PROCESS = Connection(-1, 0)
"""Stands for connections that have no descriptor: nothing but this process's own."""


class Subscribers:
    """The subscribing peers of an XPUB socket (XPUB_VERBOSER). guard: None where no key is asked for.

    counters: gets `ignored subscriptions` (to what can be no stream's name) and `ended subscribers` (for going beyond
    a limit). unconfirmed: connection -> its topics that are still to be confirmed, oldest first; not to be written.
    """

    def __init__(self, xpub: zmq.Socket[bytes], counters: Counter[str], guard: Guard | None = None) -> None:
        self._xpub, self._guard, self._counters = xpub, guard, counters
        self._topics_of: dict[Connection, set[bytes]] = {}
        self._holders: Counter[bytes] = Counter()  # topic -> connections that have it
        self._n_topics = self._n_bytes = 0  # over all connections
        self.unconfirmed: dict[Connection, dict[bytes, None]] = {}
        self._changes: Counter[Connection] = Counter()  # since the last look at who is still there
        self._closing: set[Connection] = set()  # were ended here, and what they sent before may still come
        self._look, self._confirm = Periodic(SECOND_NS), Periodic(CONFIRM_MS * 1_000_000)

    def receive_changes(self, now_ns: int) -> None:
        """Read subscriptions and cancels that wait, AT_ONCE of them at most."""
        xpub = self._xpub
        for _ in range(AT_ONCE):
            if not cast(int, xpub.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                break
            self._take_change(xpub.recv(copy=False))
        self.forget_absent(now_ns)

    def confirmable(self, now_ns: int) -> list[bytes]:
        """Topics that are to be confirmed now; the others have to wait. Connections have their turn one by one."""
        if not self.unconfirmed or not self._confirm.restart_if_due(now_ns):
            return []
        topics: dict[bytes, None] = {}
        while self.unconfirmed and len(topics) < CONFIRMATIONS_AT_ONCE:
            connection = next(iter(self.unconfirmed))
            waiting = self.unconfirmed.pop(connection)
            topic = next(iter(waiting))
            del waiting[topic]
            topics[topic] = None  # one confirmation reaches all subscribers of a topic
            if waiting:
                self.unconfirmed[connection] = waiting  # at the end of the row
        return list(topics)

    def topics(self) -> list[bytes]:
        """All topics that somebody has subscribed to and that may be a stream's name, or the beginning of one."""
        return [topic for topic in self._holders if _is_name(topic)]

    def __contains__(self, topic: bytes) -> bool:
        """Whether somebody has subscribed to exactly this topic."""
        return topic in self._holders

    def forget_absent(self, now_ns: int) -> None:
        """Forget, once a second, what connections had that have gone."""
        if self._look.restart_if_due(now_ns):
            self._changes.clear()
            for connection in [each for each in self._topics_of if not _is_there(each)]:
                self._forget(connection)
            self._closing = {each for each in self._closing if _is_there(each)}

    def _take_change(self, frame: zmq.Frame) -> None:
        change = frame.bytes  # 1 or 0, and the topic; anything else is a message, which nobody is to send here
        connection = connection_of(frame)
        if connection is None:
            if descriptor_of(frame) is not None or change[:1] != b"\x01":
                return  # it has gone, or this is what ZeroMQ says of the topics of one that has
            connection = WITHIN_PROCESS
        if connection in self._closing:
            return
        self._changes[connection] += 1
        if self._changes[connection] > MAX_CHANGES:
            self._end(connection)
        elif change[:1] == b"\x00":
            self._cancel(connection, change[1:])
        elif change[:1] == b"\x01" and (self._guard is None or self._guard.may_subscribe(frame)):
            self._subscribe(connection, change[1:])

    def _subscribe(self, connection: Connection, topic: bytes) -> None:
        topics = self._topics_of.setdefault(connection, set())
        if topic not in topics:
            topics.add(topic)
            self._holders[topic] += 1
            self._n_topics += 1
            self._n_bytes += len(topic)
        if not _is_name(topic):
            self._counters["ignored subscriptions"] += 1
        else:
            self.unconfirmed.setdefault(connection, {})[topic] = None
        if len(topics) > MAX_TOPICS_OF_ONE:
            self._end(connection)
        elif self._n_topics > MAX_TOPICS:
            self._end(max(self._topics_of, key=lambda each: len(self._topics_of[each])))
        elif self._n_bytes > MAX_BYTES:
            self._end(max(self._topics_of, key=lambda each: sum(map(len, self._topics_of[each]))))

    def _cancel(self, connection: Connection, topic: bytes) -> None:
        topics = self._topics_of.get(connection, set())
        if topic in topics:
            topics.discard(topic)
            self._release((topic,))
        waiting = self.unconfirmed.get(connection, {})
        waiting.pop(topic, None)
        if not waiting:
            self.unconfirmed.pop(connection, None)

    def _release(self, topics: Iterable[bytes]) -> None:
        for topic in topics:
            self._n_topics -= 1
            self._n_bytes -= len(topic)
            self._holders[topic] -= 1
            if not self._holders[topic]:
                del self._holders[topic]

    def _forget(self, connection: Connection) -> None:
        self._release(self._topics_of.pop(connection, ()))
        self.unconfirmed.pop(connection, None)

    def _end(self, connection: Connection) -> None:
        """Disconnect one that goes too far; others keep their subscriptions."""
        if _is_there(connection):  # one that has gone is only forgotten
            self._counters["ended subscribers"] += 1
            self._closing.add(connection)
            address = cast(bytes, self._xpub.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
            end_connection(connection.descriptor, (address,), connection.inode)
        self._forget(connection)


def _is_there(connection: Connection) -> bool:
    return connection == WITHIN_PROCESS or is_open(connection)


def _is_name(topic: bytes) -> bool:
    """Whether it may be a stream's name, or the beginning of one."""
    if len(topic) > MAX_TOPIC_BYTES:
        return False
    try:
        topic.decode()
    except UnicodeDecodeError:
        return False
    return True
