"""Another bundle in a worker: loaded when the front says so, and put in place when the front says that all have it.

A daemon without a front decides itself (`bundle_swap`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError
from rtseg.serve.loop.bundle_swap import BundleSwap, Points
from rtseg.serve.streams.bundle_loader import LoadRequest
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.workers.front_link import FrontLink, WorkerOutlet
from rtseg.serve.workers.worker_protocol import NO_CLIENT, AbandonBundle, BundlePrepared, CommitBundle, PrepareBundle

LOG = logging.getLogger("rtseg.serve")


class WorkerBundleSwap(BundleSwap):
    """Loads and takes bundles as a front orders. end_stream: the daemon's, for one that a new bundle cannot serve."""

    def __init__(
        self,
        settings: ServeSettings,
        streams: Streams,
        outlet: WorkerOutlet,
        step_all: Callable[[], None],
        adopted: Callable[[ServedModel], None],
        front_link: FrontLink,
        end_stream: Callable[[Stream, str], None],
    ) -> None:
        super().__init__(settings, streams, outlet, step_all, adopted)
        self._front, self._link, self._end_stream = outlet, front_link, end_stream
        self._load = 0  # number of the load that the front waits for, 0 = none
        self._loaded: ServedModel | None = None

    def refuse_unfinished(self) -> None:
        """Whoever waits is the front's client."""

    def prepare(self, order: PrepareBundle) -> None:
        """Begin to load a bundle; what came of it is told to the front."""
        try:
            self._loader.start_loading(LoadRequest(NO_CLIENT, Path(order.bundle), None))
            self._load = order.load
        except ServeError as error:  # a load that was abandoned is still under way
            self._tell_prepared(order.load, error=str(error))

    def commit(self, order: CommitBundle) -> None:
        """Let the loaded bundle answer, from the next frame on."""
        model = self._take_loaded(order.load)
        if model is not None:
            self._swap_all(model)

    def abandon(self, order: AbandonBundle) -> None:
        """Forget the loaded bundle, or the one that is being loaded."""
        self._take_loaded(order.load)

    def _install(self, request: LoadRequest, result: ServedModel | Exception) -> None:
        """It is loaded, or cannot be: the front is told, and decides."""
        if not self._load:
            return
        try:
            if isinstance(result, Exception):
                raise result
            for stream in self._streams:
                self._streams.check_new_model(stream, result)
        except Exception as error:
            LOG.warning("bundle %s: %s", request.bundle, error, exc_info=not isinstance(error, RtsegError))
            self._tell_prepared(self._load, error=str(error) or repr(error))
        else:
            self._loaded = result
            self._tell_prepared(self._load, served=result.served.to_fields())

    def _take_loaded(self, load: int) -> ServedModel | None:
        """The model that waits for the front's word about this load, which is over."""
        if load != self._load:
            return None
        model, self._loaded, self._load = self._loaded, None, 0
        return model

    def _swap_all(self, model: ServedModel) -> None:
        fitting: list[tuple[Stream, Points]] = []
        for stream in self._streams:
            try:
                fitting.append((stream, self._streams.check_new_model(stream, model)))
            except RtsegError as error:  # it was opened while the bundle was loaded
                self._end_stream(stream, f"the new bundle cannot serve it: {error}"[:300])
        self._swap_streams(None, model, fitting)
        # The states that the front has are the old model's: whoever takes this worker's place could not use them.
        for stream, _ in fitting:
            self._link.report_moved(stream)
        LOG.info("model %s answers all streams", model.served.model[:12])

    def _tell_prepared(self, load: int, served: dict[str, object] | None = None, error: str = "") -> None:
        self._front.tell_front(BundlePrepared(load, self._link.place.number, served or {}, error))
