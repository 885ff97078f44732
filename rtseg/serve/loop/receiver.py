"""What has arrived at the frames' socket: plain frames of open streams, ready to be queued, and all other messages.

Many messages in one compiled call (`wire.batch_receiver`); one by one where libzmq can't be called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, cast

import zmq

from rtseg.compiled.libzmq import addresses
from rtseg.config import ServeSettings
from rtseg.serve.access.guard import Guard
from rtseg.serve.loop.frame_queue import FrameQueue, new_frame
from rtseg.serve.publish.outlet import POLLIN
from rtseg.serve.streams.stream import Streams
from rtseg.wire.batch_receiver import BatchReceiver, ReceivedMessage, parse_messages

MAX_BATCHES = 4
"""Read before the next batch is stepped: soon enough that t_recv_ns is true, and few enough that a step is not late."""


HandleMessage = Callable[[bytes, bytes, int, int], None]
"""Gets a message that is no plain frame of an open stream: routing id of its sender, bytes, when it came (the monotonic
clock), and how many parts it had."""


class MessageSource(Protocol):
    """Where messages come from."""

    def read_messages(self) -> tuple[Sequence[ReceivedMessage], bool]:
        """What one look brings, in the order in which it came, and whether more may wait."""

    def warm_up(self) -> None:
        """Compile what `read_messages` calls."""


class CompiledSource:
    """Clients' messages, up to `most` in one compiled call."""

    def __init__(self, batch_receiver: BatchReceiver, most: int) -> None:
        self._batch_receiver, self._most = batch_receiver, most

    def read_messages(self) -> tuple[Sequence[ReceivedMessage], bool]:
        """As many as fit; where some room was left, nothing waits any more."""
        messages = self._batch_receiver.receive_messages()
        return messages, len(messages) == self._most

    def warm_up(self) -> None:
        """A frame of the cache warmer's own compiles it."""


class SingleSource:
    """Clients' messages, one at a time. guard: None where no key is asked for."""

    def __init__(self, router: zmq.Socket[bytes], guard: Guard | None) -> None:
        self._router, self._guard = router, guard

    def read_messages(self) -> tuple[Sequence[ReceivedMessage], bool]:
        """The next one; none where its sender's key is revoked. One must wait."""
        parts = self._router.recv_multipart() if self._guard is None else self._guard.receive_message(self._router)
        more = bool(cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN)
        if parts is None:
            return (), more
        return ((parts[0], parts[1], time.monotonic_ns(), None, len(parts) - 1, None),), more

    def warm_up(self) -> None:
        """Nothing is compiled."""


class FrontSource:
    """What a worker's front hands on, many clients' messages at once.

    open_message: the clients' messages in one of the front's, each with its routing id, when it came, and its bytes; it
    obeys the front's own orders. shape: (A, K) of frames that need no other order of points.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        open_message: Callable[[bytes, int], Sequence[tuple[bytes, int, bytes]]],
        shape: tuple[int, int],
    ) -> None:
        self._router, self._open_message, self._shape = router, open_message, shape

    def read_messages(self) -> tuple[Sequence[ReceivedMessage], bool]:
        """Those in the front's next message. One must wait."""
        clients = self._open_message(self._router.recv_multipart()[2], time.monotonic_ns())
        messages = parse_messages(clients, self._shape) if clients else ()
        return messages, bool(cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN)

    def warm_up(self) -> None:
        """The compiled parser of frames; a cache warmer's frames come over a socket of its own."""
        parse_messages([(b"", 0, b"")], self._shape)


def client_source(
    router: zmq.Socket[bytes], settings: ServeSettings, shape: tuple[int, int], guard: Guard | None = None
) -> MessageSource:
    """Clients' messages at a ROUTER socket, compiled where that can be. shape: as of `FrontSource`."""
    functions = addresses()
    if functions is None:
        return SingleSource(router, guard)
    batch_receiver = BatchReceiver(router, functions, settings.max_batch, shape, keyed=guard is not None)
    return CompiledSource(batch_receiver, settings.max_batch)


class Receiver:
    """Reads a source, as far as there is room, and finds the streams of plain frames. guard: as of `SingleSource`."""

    def __init__(
        self,
        source: MessageSource,
        streams: Streams,
        queue: FrameQueue,
        settings: ServeSettings,
        guard: Guard | None = None,
    ) -> None:
        self._source, self._by_topic, self._queue, self._guard = source, streams.by_topic, queue, guard
        self._shape = streams.model.bundle.skeleton.shape
        self._most = MAX_BATCHES * settings.max_batch
        self._burst_ns = settings.burst_s * 1e9
        self._emptied_ns = 0

    def warm_up(self) -> None:
        """Compile what the source needs."""
        self._source.warm_up()

    def socket_is_empty(self, now_ns: int) -> None:
        """Nothing waits at the socket: no burst lasts any longer."""
        self._emptied_ns = now_ns

    def hold_bursts(self, burst_s: float) -> None:
        """From now on leave a burst in the socket for this long at most."""
        self._burst_ns = burst_s * 1e9

    def receive(self, handle_message: HandleMessage) -> None:
        """Queue the plain frames that have arrived and hand on all other messages, up to MAX_BATCHES, or a little more
        from a front.

        One after the other, in the order in which they came: a hello opens the stream of the frames behind it, and with
        keys the guard knows whose the message in hand is.

        A burst is left in the socket while the queue is crowded, but for `burst_s` at most: so no frame of it is lost.
        What waits for longer is more than can be served: it is read, and the queue leaves out what is too much.
        """
        by_topic, guard, shape, enqueue_frame = self._by_topic, self._guard, self._shape, self._queue.enqueue_frame
        now_ns, left = time.monotonic_ns(), self._most
        while left > 0:
            # The clock is read once a call: a burst is a matter of seconds, and a call of microseconds.
            if self._queue.is_crowded and now_ns - self._emptied_ns < self._burst_ns:
                return
            messages, more = self._source.read_messages()
            decoded_ns = time.monotonic_ns()  # of all of them: they were decoded in one call
            # This loop's body is run for every frame: it enters no Python function but the guard's and the queue's.
            for owner, data, t_recv_ns, parsed, parts, sender in messages:
                # A sender is told where the source has not asked the guard itself (`SingleSource` has).
                if guard is not None and sender is not None:
                    key, descriptor = sender
                    if not guard.identify_sender(key.decode(), descriptor):
                        continue
                if parsed is not None:
                    topic, seq, t_source_ns, keypoints, confidence, is_clipped = parsed
                    stream = by_topic.get(topic)
                    # Whatever is not as it should be goes the general way, where an error says what it is.
                    if (
                        stream is not None
                        and stream.owner == owner
                        and stream.points is None
                        and stream.shape == shape
                        and (guard is None or guard.allows_frame(stream.name, t_recv_ns))
                    ):
                        frame = new_frame((stream.name, seq, t_source_ns, keypoints, confidence, is_clipped))
                        enqueue_frame((stream, frame, t_recv_ns, decoded_ns, data))
                        continue
                handle_message(owner, data, t_recv_ns, parts)
            if not more:
                self._emptied_ns = now_ns
                return
            left -= max(
                1, len(messages)
            )  # a source may have had only what is not passed on, and must not loop for ever
