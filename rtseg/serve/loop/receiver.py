"""The daemon's door for frames and questions: takes what waits, and knows no message but the plain frame.

Many messages in one compiled call (`batch_receiver`); one by one where libzmq can't be called.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import zmq

from rtseg.compiled.libzmq import addresses
from rtseg.config import ServeSettings
from rtseg.frames.frame import Frame
from rtseg.serve.access.guard import Guard
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.front_orders import FrontOrders
from rtseg.serve.publish.outlet import POLLIN, Outlet
from rtseg.serve.streams.stream import Streams
from rtseg.wire.batch_receiver import BatchReceiver, ReceivedMessage, parse_messages
from rtseg.wire.messages import MessageError

TAKEN_AT_ONCE = 4
"""Messages read before the next batch is stepped, in batches: when a frame came is known as soon as it came."""


class Receiver:
    """Stands between a ROUTER socket and a queue of frames.

    take: whatever is no plain frame of an open stream; the sender's routing id, the bytes, when they came. emptied_ns:
    when nothing waited at the socket any more.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        streams: Streams,
        batches: FrameQueue,
        outlet: Outlet,
        take: Callable[[bytes, bytes, int], None],
        settings: ServeSettings,
        guard: Guard | None = None,
        front_orders: FrontOrders | None = None,
    ) -> None:
        self._router, self._streams, self._batches, self._outlet = router, streams, batches, outlet
        self._take, self._most, self._guard, self._front_orders = take, settings.max_batch, guard, front_orders
        self._burst_ns, self.emptied_ns = int(settings.burst_s * 1e9), 0
        self._intake: BatchReceiver | None = None
        self._shape = streams.model.bundle.skeleton.shape
        functions = addresses()
        if functions is not None and front_orders is None:
            self._intake = BatchReceiver(router, functions, self._most, self._shape, keyed=guard is not None)

    def warm_up(self) -> None:
        """Compile what a front's messages need; the rest is rehearsed."""
        if self._front_orders is not None:
            parse_messages([(b"", 0, b"")], self._shape)

    def take_what_waits(self) -> None:
        """Up to TAKEN_AT_ONCE batches, or a little more from a front; less of a burst, as long as that may last.

        What waits for longer in the socket than a burst may is more than can be served: it is read, and the queue
        leaves out what is too much.
        """
        now_ns, left = time.monotonic_ns(), TAKEN_AT_ONCE * self._most
        while left > 0:
            if self._batches.is_crowded and now_ns - self.emptied_ns < self._burst_ns:
                return
            taken = self._take_some()
            if not taken:
                self.emptied_ns = now_ns
                return
            left -= taken

    def _take_some(self) -> int:
        """Messages that came with one call, 0 where none waits any more."""
        if self._intake is not None:
            messages = self._intake.receive_messages()
            self._take_many(messages)
            return len(messages) if len(messages) == self._most else 0
        taken = 1
        if self._front_orders is None:
            self._take_one(self._router)
        else:
            clients = self._front_orders.open_message(self._router.recv_multipart()[2], time.monotonic_ns())
            taken += len(clients)
            if clients:
                self._take_many(parse_messages(clients, self._shape))
        return taken if cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN else 0

    def _take_many(self, messages: list[ReceivedMessage]) -> None:
        plain_stream, add, guard, shape = self._streams.plain, self._batches.add, self._guard, self._shape
        now_ns = time.monotonic_ns()
        for owner, data, t_recv_ns, plain, parts, sender in messages:
            if guard is not None and sender is not None and not guard.identify_sender(sender[0].decode(), sender[1]):
                continue
            if plain is not None:
                topic, seq, t_source_ns, keypoints, confidence = plain
                stream = plain_stream(owner, topic, shape)
                if stream is not None and (guard is None or guard.allows_frame(stream.name, t_recv_ns)):
                    add(stream, Frame(stream.name, seq, t_source_ns, keypoints, confidence), t_recv_ns, data, now_ns)
                    continue
            if parts == 1:
                self._take(owner, data, t_recv_ns)
            else:
                self._complain(owner, parts)

    def _take_one(self, router: zmq.Socket[bytes]) -> None:
        parts = router.recv_multipart() if self._guard is None else self._guard.receive_message(router)
        if parts is None:
            return
        if len(parts) == 2:
            self._take(parts[0], parts[1], time.monotonic_ns())
        else:
            self._complain(parts[0], len(parts) - 1)

    def _complain(self, owner: bytes, parts: int) -> None:
        self._outlet.complain(owner, None, None, MessageError(f"expected one message part, got {parts}"))
