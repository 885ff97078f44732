"""Frames of the daemon's own that nobody hears of, so that the next real one finds weights and code in the caches.

A processor that does something else for a millisecond, or nothing, gives its caches away; the first frame afterwards
takes several times as long. With `busy_poll` the loop has the time to prevent that.
"""

from __future__ import annotations

import msgpack
import numpy as np

from rtseg.serve.messages import Hello, frame_message, parse_frame, parse_to_daemon
from rtseg.serve.models import Model
from rtseg.serve.streams import Streams


class Rehearsal:
    """A stream in a slot of its own, stepped by `once`; takes one of the pool's slots."""

    def __init__(self, model: Model) -> None:
        skeleton = model.bundle.skeleton
        self._model = model
        self._stream = Streams(model).open(b"", Hello("rehearsal", skeleton, model.bundle.fps), None, 0)
        x0, y0, x1, y1 = model.bundle.arena
        rng = np.random.default_rng(0)
        points = rng.uniform((x0, y0), (x1, y1), (*skeleton.shape, 2)).astype("<f4")
        self._points, self._scores = points.tobytes(), np.ones(skeleton.shape, "<f4").tobytes()
        self._packer = msgpack.Packer()
        self._seq = 0

    def once(self) -> None:
        """A frame's whole way but the sockets."""
        stream = self._stream
        self._seq += 1
        data = self._packer.pack(frame_message(stream.name, self._seq, self._seq, self._points, self._scores))
        frame = stream.frame(parse_frame(parse_to_daemon(data)[1]))
        for answer in self._model.pool.step([stream.session], [frame])[0]:
            times = (answer.seq, answer.t_source_ns, 0, 0)
            self._model.packing.pack(stream.prefix, times, *answer.answers.plain(answer.row), answer.quality)
