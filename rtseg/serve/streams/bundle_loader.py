"""Loading another bundle on a thread of its own while the hot loop turns.

Reading, checking and warming up happen there; the loop swaps when all is done, between two frames (`loop.bundle_swap`).
"""

from __future__ import annotations

import logging
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from rtseg.compiled.ahead import compile_elsewhere
from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError
from rtseg.inference.classifier import load
from rtseg.inference.model_slots import kernels_of
from rtseg.serve.streams.served_model import ServedModel

LOG = logging.getLogger("rtseg.serve")
SWITCH_S = 50e-6
"""While a bundle is loaded: how long the hot loop waits for the interpreter, each time it has let go of it, before the
loading thread is asked to hand it back. (Python's own 5 ms made the slowest frame of a load 3 ms slower.)"""


@dataclass(frozen=True)
class LoadRequest:
    """Who asked for which bundle, and for which stream (None = all)."""

    owner: bytes
    bundle: Path
    stream: str | None


class BundleLoader:
    """Loads one bundle at a time on a thread. settings: the daemon's."""

    def __init__(self, settings: ServeSettings, predictions: str) -> None:
        self._settings, self._predictions = settings, predictions
        self._request: LoadRequest | None = None
        self._result: ServedModel | Exception | None = None

    def start_loading(self, request: LoadRequest) -> None:
        """Begin to load. Raises ServeError while another load is under way."""
        if self._request is not None:
            raise ServeError(f"bundle {self._request.bundle} is being loaded: ask again when that is done")
        self._request, self._result = request, None
        threading.Thread(target=self._load, args=(request,), name="rtseg load", daemon=True).start()

    @property
    def request(self) -> LoadRequest | None:
        """What is being loaded, or is loaded and not taken yet; None for nothing."""
        return self._request

    def take_finished(self) -> tuple[LoadRequest, ServedModel | Exception] | None:
        """The load that has ended since the last call, with its model or why there is none; None where none has."""
        request, result = self._request, self._result
        if request is None or result is None:
            return None
        self._request = self._result = None
        return request, result

    def _load(self, request: LoadRequest) -> None:
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            result = self._loaded(request)
        finally:
            sys.setswitchinterval(before)
        self._result = result  # last: from here on another load may begin, which must find the interval as it was

    def _loaded(self, request: LoadRequest) -> ServedModel | Exception:
        try:
            settings = self._settings
            classifier = load(request.bundle, settings.engine, settings.slots, settings.identity, settings.heads)
            # A bundle of another kind may need a kernel that nothing on this machine has needed so far.
            compile_elsewhere(kernels_of(classifier.pool.engine))
            model = ServedModel(classifier, self._predictions, settings.capacity)
            model.warm_up()
        except RtsegError as error:
            return error
        except Exception as error:
            LOG.exception("bundle %s could not be loaded", request.bundle)
            return error
        return model
