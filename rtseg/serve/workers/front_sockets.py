"""A front's two sockets and who may come in: bound, asked for keys where there are some, messages taken from them.

What a message is about is the front's affair; what its sender's key covers is `guard`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import zmq

from rtseg.compiled.libzmq import addresses
from rtseg.config import ServeSettings
from rtseg.serve.access.guard import Guard
from rtseg.serve.access.zap import FRAMES, PREDICTIONS, Authenticator
from rtseg.system.shutdown import LINGER_MS
from rtseg.wire.addresses import bind, remove_ipc_file
from rtseg.wire.batch_receiver import HEADERS_ONLY, BatchReceiver
from rtseg.wire.keys import KeyStore

AT_ONCE = 256
"""Messages of one socket before the next one has its turn."""


class FrontSockets:
    """Binds the clients' addresses. Raises ServeError where it can't.

    frames, predictions: the addresses. guard: None where no key is asked for.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._addresses: list[str] = []
        self._gatekeeper: Authenticator | None = None
        self.guard: Guard | None = None
        try:
            if settings.keys:
                self._gatekeeper = Authenticator(self._context, KeyStore(settings.keys))
            self.router = self._listen(zmq.ROUTER, settings.frames, FRAMES)
            self.xpub = self._listen(zmq.XPUB, settings.predictions, PREDICTIONS)
            if self._gatekeeper is not None:
                self.guard = Guard(self._gatekeeper, settings, self._addresses)
                self._gatekeeper.start()
        except BaseException:
            self.close()
            raise
        self.frames, self.predictions = self._addresses
        functions = addresses()
        self._intake: BatchReceiver | None = None
        if functions is not None:
            self._intake = BatchReceiver(self.router, functions, AT_ONCE, HEADERS_ONLY, keyed=self.guard is not None)

    def warm_up(self) -> None:
        """Compile, or load, what takes messages; nobody knows the address yet."""
        if self._intake is not None and not cast(int, self.router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._intake.receive_messages()

    def receive_messages(
        self, take: Callable[[bytes, bytes, int, int], None], take_frame: Callable[[bytes, str, int, bytes, int], None]
    ) -> int:
        """Those that wait, from keys that are valid; how many.

        take: routing id, bytes, when they came, how many parts. take_frame: routing id, stream, seq, bytes, when they
        came, of what plainly is a frame.
        """
        if self._intake is None:

            def one(parts: list[bytes]) -> None:
                take(parts[0], parts[1], time.monotonic_ns(), len(parts) - 1)

            return receive_waiting(self.router, one, None if self.guard is None else self.guard.receive_message)
        messages = self._intake.receive_messages()
        for owner, data, t_recv_ns, plain, parts, sender in messages:
            if (
                self.guard is not None
                and sender is not None
                and not self.guard.identify_sender(sender[0].decode(), sender[1])
            ):
                continue
            if plain is not None:
                take_frame(owner, plain[0].decode(errors="replace"), plain[1], data, t_recv_ns)
            else:
                take(owner, data, t_recv_ns, parts)
        return len(messages)

    def receive_subscriptions(self, take: Callable[[bytes], None]) -> None:
        """The same for subscribers who come and go."""
        receive_waiting(self.xpub, lambda parts: take(parts[0]), None if self.guard is None else self._subscription)

    def refusals(self) -> dict[str, int]:
        """Who was not let in."""
        if self._gatekeeper is None or self.guard is None:
            return {}
        return {"refused connections": self._gatekeeper.refused, "revoked messages": self.guard.ignored}

    def close(self) -> None:
        """Close the sockets, giving what is unsent LINGER_MS, and remove ipc files."""
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def _subscription(self, socket: zmq.Socket[bytes]) -> list[bytes] | None:
        frame = socket.recv(copy=False)
        said = frame.bytes
        assert self.guard is not None
        return [said] if said[:1] != b"\x01" or self.guard.may_subscribe(frame) else None

    def _listen(self, kind: int, address: str, domain: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        socket.setsockopt(zmq.MAXMSGSIZE, self._settings.max_message_bytes)
        options = (zmq.ROUTER_MANDATORY,) if kind == zmq.ROUTER else (zmq.XPUB_VERBOSE, zmq.XPUB_NODROP)
        for option in options:
            socket.setsockopt(option, 1)
        if self._gatekeeper is not None:
            self._gatekeeper.secure(socket, domain)
        self._addresses.append(bind(socket, address, keyed=self._gatekeeper is not None))
        return socket


def receive_waiting(
    socket: zmq.Socket[bytes],
    take: Callable[[list[bytes]], None],
    receive: Callable[[zmq.Socket[bytes]], list[bytes] | None] | None = None,
) -> int:
    """Take what waits at a socket, up to AT_ONCE messages; how many.

    receive: gives the next message, None for one that is not to be taken.
    """
    for taken in range(AT_ONCE):
        if not cast(int, socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return taken
        parts = socket.recv_multipart() if receive is None else receive(socket)
        if parts is not None:
            take(parts)
    return AT_ONCE
