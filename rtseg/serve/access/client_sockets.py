"""The two sockets that clients connect to, and who may connect: a lone daemon's, or a front's.

A worker has them as well, with its front for its only client. What a message says is not looked at here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.access.connection_limit import ConnectionLimit, OpenAuthenticator
from rtseg.serve.access.flood_watch import RECEIVE_BUFFER, FloodWatch
from rtseg.serve.access.guard import Guard
from rtseg.serve.access.memory_watch import MemoryWatch
from rtseg.serve.access.zap import FRAMES, PREDICTIONS, Authenticator
from rtseg.system.shutdown import LINGER_MS
from rtseg.wire.addresses import bind, remove_ipc_file
from rtseg.wire.keys import KeyStore

# ZeroMQ bounds a queue by messages, not by bytes: what may be large must be few. The bound holds for each connection.
# It is set before the socket is bound: a queue whose bound is changed later may wait for its other end for ever.
ANSWER_MESSAGES = 1000
"""A client that does not read gets no more answers beyond this many. Each frame has its answer on the other socket."""
MAX_SUBSCRIPTION_BYTES = 1024
"""The longest topic that can match (800 bytes), and what ZMTP, its handshake and CURVE need besides."""


class ClientSockets:
    """Binds the clients' addresses at once. Raises ServeError where it can't.

    limit_message_bytes: whether messages above `max_message_bytes` are refused unread.

    router: where clients' messages come, and answers to them leave. xpub: where predictions and events leave, and
    subscriptions come. frames, predictions: their addresses. guard: None where no key is asked for.
    """

    def __init__(
        self, settings: ServeSettings, context: zmq.Context[zmq.Socket[bytes]], *, limit_message_bytes: bool = True
    ) -> None:
        self._settings, self._context, self._limit_message_bytes = settings, context, limit_message_bytes
        self._addresses: list[str] = []
        self._authenticator: Authenticator | None = None
        self._open_authenticator: OpenAuthenticator | None = None
        self.guard: Guard | None = None
        # A worker's only client is its front.
        max_growth = settings.max_growth_mb << 20 if limit_message_bytes else 0
        self._flood_watch = FloodWatch()
        self._memory_watch = MemoryWatch(self._addresses, max_growth, self._flood_watch)
        self._connection_limit = ConnectionLimit(lambda: self._flood_watch.ended)
        try:
            if settings.keys:
                self._authenticator = Authenticator(context, KeyStore(settings.keys), self._connection_limit)
            elif limit_message_bytes:
                self._open_authenticator = OpenAuthenticator(context, self._connection_limit)
            self.router = self._bind(zmq.ROUTER, settings.frames, FRAMES)
            self.xpub = self._bind(zmq.XPUB, settings.predictions, PREDICTIONS)
            if self._authenticator is not None:
                self.guard = Guard(self._authenticator, settings, self._addresses)
                # Only now: until both sockets ask for keys, and the guard knows whose messages come, nobody gets in.
                self._authenticator.start()
        except BaseException:
            self.close()
            raise
        self.frames, self.predictions = self._addresses
        if self._open_authenticator is not None:
            self._open_authenticator.start()
        if limit_message_bytes:
            self._flood_watch.start(self.predictions)

    def look_after(self) -> None:
        """End connections that fill memory, and say which have flooded a socket. To be called each LOOK_NS."""
        self._memory_watch.look()
        self._connection_limit.grant(time.monotonic_ns())
        self._flood_watch.log_ended()

    def refusals(self) -> dict[str, int]:
        """For the counters: connections that were ended for what they sent, where any were; with keys, refusals."""
        counts = {"ended for memory": self._memory_watch.ended, "ended for floods": self._flood_watch.ended}
        ended = {name: count for name, count in counts.items() if count}
        if self._authenticator is None or self.guard is None:
            return ended
        return {"refused connections": self._authenticator.refused, "revoked messages": self.guard.ignored} | ended

    def close(self) -> None:
        """Close all sockets of the context, giving what is unsent LINGER_MS, and remove ipc files."""
        for authenticator in (self._authenticator, self._open_authenticator):
            if authenticator is not None:
                authenticator.close()
        self._flood_watch.close()
        self._context.destroy(linger=LINGER_MS)
        self._memory_watch.close()
        for address in self._addresses:
            remove_ipc_file(address)

    def _bind(self, kind: int, address: str, domain: str) -> zmq.Socket[bytes]:
        if kind == zmq.ROUTER:
            _seed_routing_ids()
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        max_bytes = self._settings.max_message_bytes
        if self._limit_message_bytes:
            if kind == zmq.ROUTER:
                socket.sndhwm = min(self._settings.queue_messages, ANSWER_MESSAGES)
            # No limit: where one is reached, libzmq stops reading a connection, and if that is reset meanwhile and a
            # PING waits behind, libzmq aborts the process (4.3.5, `!_io_error`). A worker's only peer sends none.
            socket.rcvhwm = 0
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an answer to somebody who left is an error, not silence
        else:
            # Nothing but topics comes here. ZeroMQ takes a node of its tree for each byte of one, whoever sends it.
            max_bytes = min(max_bytes, MAX_SUBSCRIPTION_BYTES)
            socket.setsockopt(zmq.XPUB_NODROP, 1)  # the outlet is told of a full queue, and drops and counts itself
            if self._limit_message_bytes:
                socket.rcvbuf = RECEIVE_BUFFER
            # Every subscription and every cancel is told, with its connection, and not only a topic's first and last.
            socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        if self._limit_message_bytes:
            socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        if self._authenticator is not None:
            self._authenticator.secure(socket, domain)
        elif self._open_authenticator is not None and kind == zmq.XPUB:
            self._open_authenticator.secure(socket, domain)
        self._addresses.append(bind(socket, address, keyed=self._authenticator is not None))
        return socket


def _seed_routing_ids() -> None:
    """Make the next ROUTER socket begin to number nameless connections at a place that nobody knows.

    libzmq takes that place from C's `rand`, which gives the same in every process that has not seeded it. A peer that
    called itself by one of the next numbers would make libzmq abort the process as soon as another one got it.
    """
    with contextlib.suppress(TypeError):  # Windows, where this process's C library cannot be asked for
        ctypes.CDLL(None).srand(ctypes.c_uint(int.from_bytes(os.urandom(4), "little")))
