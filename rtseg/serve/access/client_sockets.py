"""The two sockets that clients connect to, and who may connect: a lone daemon's, or a front's.

A worker has them as well, with its front for its only client. What a message says is not looked at here.
"""

from __future__ import annotations

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.access.guard import Guard
from rtseg.serve.access.zap import FRAMES, PREDICTIONS, Authenticator
from rtseg.system.shutdown import LINGER_MS
from rtseg.wire.addresses import bind, remove_ipc_file
from rtseg.wire.keys import KeyStore

# ZeroMQ bounds a queue by messages, not by bytes: what may be large must be few. The bounds hold for each connection.
# They are set before the socket is bound: a queue whose bound is changed later may wait for its other end for ever.
ANSWER_MESSAGES = 1000
"""A client that does not read gets no more answers beyond this many. Each frame has its answer on the other socket."""
RECEIVED_MESSAGES = 1000
"""What waits beyond this many waits in the system's buffers and at the client, and none is lost."""


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
        self.guard: Guard | None = None
        try:
            if settings.keys:
                self._authenticator = Authenticator(context, KeyStore(settings.keys))
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

    def refusals(self) -> dict[str, int]:
        """For the counters: connections and messages that were refused for their key; nothing where none is needed."""
        if self._authenticator is None or self.guard is None:
            return {}
        return {"refused connections": self._authenticator.refused, "revoked messages": self.guard.ignored}

    def close(self) -> None:
        """Close all sockets of the context, giving what is unsent LINGER_MS, and remove ipc files."""
        if self._authenticator is not None:
            self._authenticator.close()
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def _bind(self, kind: int, address: str, domain: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        if self._limit_message_bytes:
            if kind == zmq.ROUTER:
                socket.sndhwm = min(self._settings.queue_messages, ANSWER_MESSAGES)
                socket.rcvhwm = min(self._settings.queue_messages, RECEIVED_MESSAGES)
            socket.setsockopt(zmq.MAXMSGSIZE, self._settings.max_message_bytes)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an answer to somebody who left is an error, not silence
        else:
            socket.setsockopt(zmq.XPUB_NODROP, 1)  # the outlet is told of a full queue, and drops and counts itself
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscriber is confirmed, not only a topic's first
        if self._authenticator is not None:
            self._authenticator.secure(socket, domain)
        self._addresses.append(bind(socket, address, keyed=self._authenticator is not None))
        return socket
