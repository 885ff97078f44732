"""Frames of the daemon's own that nobody hears of, so that the next real one finds weights and code in the caches.

A processor that does something else for a millisecond, or nothing, gives its caches away; the first frame afterwards
takes several times as long. With `busy_poll` the loop has the time to prevent that.
"""

from __future__ import annotations

import time

import msgpack
import numpy as np
import zmq

from rtseg.config import ServeSettings
from rtseg.serve.batches import Batches
from rtseg.serve.load import Gauge
from rtseg.serve.messages import Hello, frame_message, parse_frame, parse_to_daemon
from rtseg.serve.models import Model
from rtseg.serve.outlet import Outlet
from rtseg.serve.streams import Streams

NAME, OWNER = "rehearsal", b"rehearsal"


class Rehearsal:
    """A stream in a slot of its own, stepped by `once`; takes one of the pool's slots.

    Its answers go all the way, into a socket that nobody can connect to; what is counted on the way is nobody's.
    """

    def __init__(self, model: Model, settings: ServeSettings, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        skeleton = model.bundle.skeleton
        self._streams = Streams(model)
        stream = self._streams.open(OWNER, Hello(NAME, skeleton, model.bundle.fps), None, 0)
        self._socket = context.socket(zmq.XPUB)
        outlet = Outlet(self._socket, self._socket)
        stream.heard, stream.heard_at = True, 0  # the outlet has heard of no subscription
        self._batches = Batches(settings, self._streams, outlet, Gauge(0.0))
        x0, y0, x1, y1 = model.bundle.arena
        rng = np.random.default_rng(0)
        points = rng.uniform((x0, y0), (x1, y1), (*skeleton.shape, 2)).astype("<f4")
        self._points, self._scores = points.tobytes(), np.ones(skeleton.shape, "<f4").tobytes()
        self._packer, self._interval_ns = msgpack.Packer(), stream.interval_ns
        self._seq = 0

    def once(self) -> None:
        """A frame's whole way but the sockets of others."""
        self._seq += 1
        times = self._seq, self._seq * self._interval_ns
        data = self._packer.pack(frame_message(NAME, *times, self._points, self._scores))
        wire = parse_frame(parse_to_daemon(data)[1])
        stream = self._streams.of(OWNER, wire.stream)
        self._batches.add(stream, stream.frame(wire), time.monotonic_ns(), data)
        self._batches.step()

    def close(self) -> None:
        """Close its socket."""
        self._socket.close(linger=0)
