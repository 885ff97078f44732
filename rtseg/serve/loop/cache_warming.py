"""Frames of the daemon's own, answered to nobody, so that the next real one finds weights and code in the caches.

A processor that does something else for a millisecond, or nothing, loses what its caches held; the first frame
afterwards takes several times as long. With `busy_poll` the loop has the time to prevent that.
"""

from __future__ import annotations

import msgpack
import numpy as np
import zmq

from rtseg.config import ServeSettings
from rtseg.serve.loop.dispatch import parse_queued_frame
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.receiver import Receiver, client_source
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.wire.messages import Hello, frame_message, parse_to_daemon

NAME, OWNER = "cache warmer", b"cache warmer"


class CacheWarmer:
    """A stream in a slot of its own, stepped by `step_own_frame`; takes one of the pool's slots.

    Its frames come and its answers go by sockets that nobody can connect to. It has a queue, an outlet and counters of
    its own, so the daemon's count none of it.
    """

    def __init__(self, model: ServedModel, settings: ServeSettings, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        skeleton = model.bundle.skeleton
        self._streams = Streams(model)
        stream = self._stream = self._streams.open_stream(OWNER, Hello(NAME, skeleton, model.bundle.fps), None, 0)
        self._sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.XPUB)]
        router, self._camera, xpub = self._sockets
        address = f"inproc://cache-warmer-{id(self)}"
        router.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
        router.bind(address)
        self._camera.setsockopt(zmq.ROUTING_ID, OWNER)
        self._camera.connect(address)
        outlet = Outlet(router, xpub)
        self._queue = FrameQueue(settings, outlet, LoopLoad(0.0))
        self._stepper = Stepper(self._queue, self._streams, outlet)
        self._receiver = Receiver(client_source(router, settings, skeleton.shape), self._streams, self._queue, settings)
        x0, y0, x1, y1 = model.bundle.arena
        rng = np.random.default_rng(0)
        points = rng.uniform((x0, y0), (x1, y1), (*skeleton.shape, 2)).astype("<f4")
        self._points, self._scores = points.tobytes(), np.ones(skeleton.shape, "<f4").tobytes()
        self._packer, self._interval_ns = msgpack.Packer(), stream.interval_ns
        self._seq = 0

    def step_own_frame(self) -> None:
        """A frame's whole way but the network."""
        self._seq += 1
        times = self._seq, self._seq * self._interval_ns
        self._camera.send(self._packer.pack(frame_message(NAME, *times, self._points, self._scores)))
        self._receiver.receive(self._enqueue_unparsed)
        self._stepper.step_and_publish_batch()

    def _enqueue_unparsed(self, owner: bytes, data: bytes, t_recv_ns: int, parts: int) -> None:
        """The same frame where messages come one by one, and are not parsed yet."""
        _, message = parse_to_daemon(data)
        self._queue.enqueue_frame(parse_queued_frame(self._streams, OWNER, message, data, t_recv_ns))

    def close(self) -> None:
        """Close its sockets and give the slot back."""
        self._streams.close_stream(self._stream)
        for socket in self._sockets:
            socket.close(linger=0)
