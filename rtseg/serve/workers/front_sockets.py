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
from rtseg.serve.access.client_sockets import ClientSockets
from rtseg.wire.batch_receiver import HEADERS_ONLY, BatchReceiver

AT_ONCE = 256
"""Messages of one socket before the next one has its turn."""


class FrontSockets(ClientSockets):
    """Clients' sockets, and what takes messages from them. Raises ServeError where an address can't be had."""

    def __init__(self, settings: ServeSettings) -> None:
        super().__init__(settings, zmq.Context())
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

    def _subscription(self, socket: zmq.Socket[bytes]) -> list[bytes] | None:
        frame = socket.recv(copy=False)
        said = frame.bytes
        assert self.guard is not None
        return [said] if said[:1] != b"\x01" or self.guard.may_subscribe(frame) else None


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
