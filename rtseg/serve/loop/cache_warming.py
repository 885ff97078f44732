"""Frames of the daemon's own that nobody hears of, so that the next real one finds weights and code in the caches.

A processor that does something else for a millisecond, or nothing, gives its caches away; the first frame afterwards
takes several times as long. With `busy_poll` the loop has the time to prevent that.
"""

from __future__ import annotations

from functools import partial

import msgpack
import numpy as np
import zmq

from rtseg.config import ServeSettings
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.receiver import Receiver
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.wire.messages import Hello, frame_message, parse_frame, parse_to_daemon

NAME, OWNER = "rehearsal", b"rehearsal"


class CacheWarmer:
    """A stream in a slot of its own, stepped by `step_own_frame`; takes one of the pool's slots.

    It comes and goes by sockets that nobody can connect to; what is counted on the way is nobody's.
    """

    def __init__(self, model: ServedModel, settings: ServeSettings, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        skeleton = model.bundle.skeleton
        self._streams = Streams(model)
        stream = self._stream = self._streams.open_stream(OWNER, Hello(NAME, skeleton, model.bundle.fps), None, 0)
        self._sockets = door, self._camera, xpub = [context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.XPUB)]
        address = f"inproc://rehearsal-{id(self)}"
        door.setsockopt(zmq.MAXMSGSIZE, settings.max_message_bytes)
        door.bind(address)
        self._camera.setsockopt(zmq.ROUTING_ID, OWNER)
        self._camera.connect(address)
        outlet = Outlet(door, xpub)
        stream.heard, stream.heard_at = True, 0  # the outlet has heard of no subscription
        self._batches = FrameQueue(settings, self._streams, outlet, LoopLoad(0.0))
        take = partial(_take, self._streams, self._batches)
        self._entrance = Receiver(door, self._streams, self._batches, outlet, take, settings)
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
        self._entrance.take_what_waits()
        self._batches.step()

    def close(self) -> None:
        """Close its sockets and give the slot back."""
        self._streams.close_stream(self._stream)
        for socket in self._sockets:
            socket.close(linger=0)


def _take(streams: Streams, batches: FrameQueue, owner: bytes, data: bytes, t_recv_ns: int) -> None:
    """Where messages come one by one."""
    wire = parse_frame(parse_to_daemon(data)[1])
    stream = streams.owned_stream(owner, wire.stream)
    batches.add(stream, stream.to_frame(wire), t_recv_ns, data)
