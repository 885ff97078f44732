"""How fast subscribers are let in: no faster than the loop gets done with what they bring.

libzmq takes subscriptions in on the loop's thread for as long as any wait, and when a connection ends it goes through
the topics of all. Peers that flood, are ended and come back at once kept a loop busy so for minutes. Now ZeroMQ asks
before a connection's first topic is read (ZAP, RFC 27), and answers are given as the loop grants them: while it is held
up it grants none, so nothing comes after what holds it up. Frames' connections are not asked about.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

import zmq

LOG = logging.getLogger("rtseg.serve")
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
AT_ONCE = 4
"""Connections that are let in between two looks of the loop, a tenth of a second apart where it is not held up."""
BURST, RATE, FLOOD_RATE = 200, 20.0, 5.0
"""Connections as fast as looks allow, and then in a second; the last one while there are floods."""
FLOOD_NS = 10_000_000_000
"""After a connection was ended for a flood, so long is taken for one."""
MAX_WAITING = 4096
"""Connections that wait; beyond, the oldest ones are not answered any more (ZeroMQ gives them up after 30 s)."""
WAIT_MS, IDLE_MS = 5, 500


class ConnectionLimit:
    """The connections that may be let in, granted by the loop and taken by the thread that answers ZeroMQ.

    Each of the two counts is written by one thread alone. count_floods: connections that were ended for floods so far.
    """

    def __init__(self, count_floods: Callable[[], int]) -> None:
        self._count_floods = count_floods
        self._granted, self._taken = AT_ONCE, 0
        self._allowance, self._counted, self._looked_ns = float(BURST), 0, 0
        self._floods, self._flooded_ns = 0, -FLOOD_NS

    def grant(self, now_ns: int) -> None:
        """The loop has come round again."""
        taken, floods = self._taken, self._count_floods()
        if floods > self._floods:
            self._floods, self._flooded_ns = floods, now_ns
            self._allowance = min(self._allowance, 1.0)
        rate = FLOOD_RATE if now_ns - self._flooded_ns < FLOOD_NS else RATE
        passed_s = (now_ns - self._looked_ns) * 1e-9 if self._looked_ns else 0.0
        # However long the loop was held up: that it was is no reason to let in more.
        added = min(rate * passed_s, float(AT_ONCE))
        self._allowance = max(0.0, min(float(BURST), self._allowance + added) - (taken - self._counted))
        self._counted, self._looked_ns = taken, now_ns
        self._granted = taken + min(AT_ONCE, int(self._allowance))

    def take_one(self) -> bool:
        """Whether one more may be let in; then it counts."""
        # Not behind a flood: the loop has to get done with what it brought, and with its end.
        if self._taken >= self._granted or self._count_floods() > self._floods:
            return False
        self._taken += 1
        return True

    def put_back(self) -> None:
        """The one that was taken had gone."""
        self._taken -= 1


class OpenAuthenticator:
    """Lets every subscriber in, where no key is asked for, at the limit's pace. A thread of its own."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], limit: ConnectionLimit) -> None:
        self._limit = limit
        self._waiting: deque[list[bytes]] = deque(maxlen=MAX_WAITING)
        self._requests = context.socket(zmq.ROUTER)
        self._requests.linger = 0
        self._requests.setsockopt(zmq.ROUTER_MANDATORY, 1)  # whoever has gone is told apart, and costs nothing
        self._requests.bind(ZAP_ENDPOINT)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtseg connections", daemon=True)

    def secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        """Make ZeroMQ ask about the connections of this socket; before it is bound."""
        socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering; nobody new gets in."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._requests.close(linger=0)

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                if self._requests.poll(WAIT_MS if self._waiting else IDLE_MS):
                    self._waiting.append(self._requests.recv_multipart())
                self._answer_waiting()
        except Exception:
            # Without anybody at this address ZeroMQ lets everybody in unasked: no subscriber is lost by an error here.
            self._requests.close(linger=0)
            LOG.exception("connections of subscribers are not limited until the daemon is started again")

    def _answer_waiting(self) -> None:
        while self._waiting and self._limit.take_one():
            asker, empty, version, number, *_ = [*self._waiting.popleft(), b"", b"", b""]
            try:
                self._requests.send_multipart([asker, empty, version, number, b"200", b"OK", b"", b""])
            except zmq.ZMQError:
                self._limit.put_back()
