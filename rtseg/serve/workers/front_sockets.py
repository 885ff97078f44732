"""A front's two sockets: clients' messages, many at once, from keys that are valid.

What a message is about `request_router` knows; what its sender's key covers, `access.guard`; who has subscribed to
what, `publish.subscribers`.
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
RouteMessage = Callable[[bytes, bytes, int, int], None]
"""Takes the client's routing id, the message as it came, when it came (ns), and how many parts it had."""
RouteFrame = Callable[[bytes, str, int, bytes, int], None]
"""The same of what plainly is a frame: the routing id, the stream, the seq, the message, when it came (ns)."""


class FrontSockets(ClientSockets):
    """Binds the clients' addresses. Raises ServeError where one can't be had."""

    def __init__(self, settings: ServeSettings) -> None:
        super().__init__(settings, zmq.Context())
        functions = addresses()
        self._receiver: BatchReceiver | None = None  # None: libzmq can't be called here, messages come one by one
        if functions is not None:
            self._receiver = BatchReceiver(self.router, functions, AT_ONCE, HEADERS_ONLY, keyed=self.guard is not None)

    def warm_up(self) -> None:
        """Compile, or load, what receives messages; nobody knows the address yet."""
        if self._receiver is not None and not cast(int, self.router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._receiver.receive_messages()

    def receive_messages(self, route_message: RouteMessage, route_frame: RouteFrame) -> int:
        """Give each message that waits to one of the two; how many there were."""
        guard = self.guard
        if self._receiver is None:

            def route_parts(parts: list[bytes]) -> None:
                route_message(parts[0], parts[1], time.monotonic_ns(), len(parts) - 1)

            return receive_waiting(self.router, route_parts, None if guard is None else guard.receive_message)
        messages = self._receiver.receive_messages()
        for client, data, t_recv_ns, frame, parts, sender in messages:
            # Just before the message is routed: routing asks the guard about the sender identified last.
            if guard is not None and sender is not None and not guard.identify_sender(sender[0].decode(), sender[1]):
                continue
            if frame is not None:
                route_frame(client, frame[0].decode(errors="replace"), frame[1], data, t_recv_ns)
            else:
                route_message(client, data, t_recv_ns, parts)
        return len(messages)


def receive_waiting(
    socket: zmq.Socket[bytes],
    take: Callable[[list[bytes]], None],
    receive: Callable[[zmq.Socket[bytes]], list[bytes] | None] | None = None,
) -> int:
    """Give `take` the parts of each message that waits at a socket, up to AT_ONCE of them; how many there were.

    receive: gives the next message, None for one that is not to be taken.
    """
    for taken in range(AT_ONCE):
        if not cast(int, socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return taken
        parts = socket.recv_multipart() if receive is None else receive(socket)
        if parts is not None:
            take(parts)
    return AT_ONCE
