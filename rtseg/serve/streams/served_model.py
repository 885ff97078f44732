"""A bundle as the daemon serves it, with what its clients must know of it. Knows neither sockets nor streams."""

from __future__ import annotations

import numpy as np

from rtseg.frames.frame import checked_frame
from rtseg.inference.classifier import Classifier
from rtseg.wire.messages import Served
from rtseg.wire.prediction_packer import PredictionPacker


class ServedModel:
    """One classifier, and what clients must know about it.

    heads: (name, classes, place among the bytes of float32 outputs). packing: of its predictions. late_ns: an answer
    that took longer is late. places: how many streams there may be at once; None = as many as the engine has slots.
    """

    def __init__(self, classifier: Classifier, predictions: str, places: int | None = None) -> None:
        bundle = self.bundle = classifier.bundle
        self.pool = classifier.pool
        self.places = self.pool.capacity if places is None else places
        self.served = Served(
            heads={head.name: head.classes for head in bundle.heads},
            lookahead_frames=bundle.lookahead_frames,
            fps=bundle.fps,
            model=bundle.hash,
            engine=self.pool.engine.name,
            predictions=predictions,
        )
        self.late_ns = int(1e9 / bundle.fps * (1 + bundle.lookahead_frames))
        self.heads: list[tuple[str, tuple[str, ...], slice]] = []
        start = 0
        for name, classes in self.served.heads.items():
            self.heads.append((name, classes, slice(4 * start, 4 * (start + len(classes)))))
            start += len(classes)
        self.packing = PredictionPacker(self.heads, bundle.hash)

    def warm_up(self) -> None:
        """Compile everything that a frame's way needs, on a stream of its own."""
        session = self.pool.open("warm-up")
        shape = self.bundle.skeleton.shape
        nothing = np.full((*shape, 2), np.nan, np.float32)
        for seq in range(3):
            # Through the validation, which is compiled as well.
            blank = checked_frame(nothing, shape=shape, seq=seq, t_source_ns=seq, stream="warm-up")
            self.pool.step([session], [blank])
        session.finish()
        session.close()
