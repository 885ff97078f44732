"""Another bundle while the daemon serves: asked for, loaded on a thread, and put in place between two frames."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError, clip_reason
from rtseg.inference.predictions import Prediction
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.bundle_loader import BundleLoader, LoadRequest
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, StreamError, Streams
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.wire.messages import parse_load

LOG = logging.getLogger("rtseg.serve")
Points = NDArray[np.intp] | None
"""Where a model finds its points among a stream's (`Streams.match_hello`)."""


class BundleSwap:
    """Loads bundles and lets them answer.

    step_all: steps every frame that waits. adopted: called with a model that answers all streams from now on.
    stage: None where there are no triggers.
    """

    def __init__(
        self,
        settings: ServeSettings,
        streams: Streams,
        outlet: Outlet,
        step_all: Callable[[], None],
        adopted: Callable[[ServedModel], None],
        stage: TriggerStage | None = None,
    ) -> None:
        self._stage = stage
        self._streams, self._outlet = streams, outlet
        self._step_all, self._adopted = step_all, adopted
        self._loader = BundleLoader(settings, streams.model.served.predictions)

    def request_load(self, owner: bytes, message: dict[str, Any], by: str) -> None:
        """Begin to load what a message asks for. by: who asked, for the log. Raises ServeError where it can't begin."""
        folder, name = parse_load(message)
        if name is not None and self._streams.find(name) is None:
            raise StreamError(f"stream {name!r} is not open"[:300])
        LOG.info("asked to load %s%s", folder, by)
        self._loader.start_loading(LoadRequest(owner, Path(folder), name))

    def refuse_unfinished(self) -> None:
        """The daemon stops: whoever waits for a bundle is told that it is not taken."""
        if self._loader.request is not None:
            self._refuse(self._loader.request, ServeError("the daemon stops"))

    def install_loaded(self) -> None:
        """Let a bundle answer that has been loaded since the last call."""
        finished = self._loader.take_finished()
        if finished is not None:
            self._install(*finished)

    def _install(self, request: LoadRequest, result: ServedModel | Exception) -> None:
        """Let a loaded model answer: from the next frame on, for one stream or for all and those to come."""
        try:
            if isinstance(result, Exception):
                raise result
            streams = [stream for stream in self._streams if request.stream in (None, stream.name)]
            if request.stream is not None and not streams:
                raise StreamError(f"stream {request.stream!r} has been closed in the meantime"[:300])
            # All are checked before one is swapped: all go over to the new bundle, or none.
            places = [(stream, self._streams.check_new_model(stream, result)) for stream in streams]
            if self._stage is not None:
                self._stage.check_model(result, request.stream)
        except Exception as error:
            self._refuse(request, error)
            return
        self._swap_streams(request.stream, result, places)
        LOG.info("model %s answers %s", result.served.model[:12], request.stream or "all streams")
        about = {"stream": request.stream, "streams": [stream.name for stream in streams]}
        self._outlet.answer(request.owner, {"type": "loaded", **about, **result.served.to_fields()})

    def _swap_streams(self, only: str | None, model: ServedModel, places: list[tuple[Stream, Points]]) -> None:
        """Let a model answer these streams; where `only` names none, also those that are opened from now on.

        places: each stream, and where the model finds its points among the stream's.
        """
        self._step_all()  # frames that wait have their points in the old model's order
        if self._stage is not None:
            self._stage.change_model(model)
        for stream, index in places:
            self._streams.swap_model(stream, model, index, partial(self._publish_owed, stream))
            self._outlet.announce(stream.topic, {"type": "model", **model.served.to_fields()})
            # The recording's earlier snapshots are of the old model's state, from which the new one cannot go on.
            if self._outlet.recording is not None:
                self._outlet.recording.record_snapshot(stream, time.monotonic_ns())
        if only is None:
            self._streams.model = model
            self._adopted(model)
        self._outlet.counters["loads"] += 1

    def _publish_owed(self, stream: Stream, predictions: list[Prediction]) -> None:
        """Publish what the old model's lookahead still owes, before the new one answers."""
        for prediction in predictions:
            self._outlet.publish_prediction(stream, prediction, stream.queued.last_ns)
        self._outlet.flush()

    def _refuse(self, request: LoadRequest, error: Exception) -> None:
        self._outlet.counters["refused loads"] += 1
        unforeseen = None if isinstance(error, RtsegError) else error
        LOG.warning("bundle %s is not taken: %s", request.bundle, error, exc_info=unforeseen)
        self._outlet.answer(request.owner, {"type": "refused", "stream": request.stream, "reason": clip_reason(error)})
