"""A bundle as the daemon serves it, and loading another one while the hot loop turns.

Reading, checking and warming up happen on a thread; the loop swaps when all is done, between two frames. Knows neither
sockets nor streams.
"""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtseg import frames
from rtseg.classifier import Classifier, load
from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError
from rtseg.serve.messages import Served
from rtseg.serve.packing import Packing

LOG = logging.getLogger("rtseg.serve")
SWITCH_S = 50e-6
"""While a bundle is loaded: how long the hot loop waits for the interpreter, each time it has let go of it, before the
loading thread is asked to hand it back. (Python's own 5 ms made the slowest frame of a load 3 ms slower.)"""


class Model:
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
        self.packing = Packing(self.heads, bundle.hash)

    def warm_up(self) -> None:
        """Compile everything that a frame's way needs, on a stream of its own."""
        session = self.pool.open("warm-up")
        shape = self.bundle.skeleton.shape
        nothing = np.full((*shape, 2), np.nan, np.float32)
        for seq in range(3):
            # Through the validation, which is compiled as well.
            blank = frames.frame(nothing, shape=shape, seq=seq, t_source_ns=seq, stream="warm-up")
            self.pool.step([session], [blank])
        session.finish()
        session.close()


@dataclass(frozen=True)
class LoadRequest:
    """Who asked for which bundle, and for which stream (None = all)."""

    owner: bytes
    bundle: Path
    stream: str | None


class Loader:
    """Loads one bundle at a time on a thread. settings: the daemon's."""

    def __init__(self, settings: ServeSettings, predictions: str) -> None:
        self._settings, self._predictions = settings, predictions
        self._request: LoadRequest | None = None
        self._result: Model | Exception | None = None

    def start(self, request: LoadRequest) -> None:
        """Begin. Raises ServeError while another load is under way."""
        if self._request is not None:
            raise ServeError(f"bundle {self._request.bundle} is being loaded: ask again when that is done")
        self._request, self._result = request, None
        threading.Thread(target=self._load, args=(request,), name="rtseg load", daemon=True).start()

    def done(self) -> tuple[LoadRequest, Model | Exception] | None:
        """The load that has ended since the last call: its model, or why there is none."""
        request, result = self._request, self._result
        if request is None or result is None:
            return None
        self._request = self._result = None
        return request, result

    def _load(self, request: LoadRequest) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            settings = self._settings
            classifier = load(request.bundle, settings.engine, settings.slots, settings.identity, settings.heads)
            model = Model(classifier, self._predictions, settings.capacity)
            model.warm_up()
        except RtsegError as error:
            self._result = error
        except Exception as error:
            LOG.exception("bundle %s could not be loaded", request.bundle)
            self._result = error
        else:
            self._result = model
        finally:
            sys.setswitchinterval(before)
