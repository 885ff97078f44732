"""A worker's way to another bundle: the front asks for it, and says when it answers.

That is when all workers have loaded it. What an only daemon does otherwise stands in `swap`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtseg.errors import RtsegError, ServeError
from rtseg.serve.loop.bundle_swap import BundleSwap, Points
from rtseg.serve.streams.bundle_loader import LoadRequest
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.front_link import FrontLink, WorkerOutlet

LOG = logging.getLogger("rtseg.serve")


class WorkerBundleSwap(BundleSwap):
    """Obeys a front. number: this worker's; end: the daemon's, for a stream that the new bundle can't serve."""

    _outlet: WorkerOutlet

    def follow(self, front_link: FrontLink, number: int, end: Callable[[Stream, str], None]) -> None:
        """To be called once, before anything else."""
        self._front_link, self._number, self._end = front_link, number, end
        self._load = 0  # the one that the front waits for
        self._loaded: ServedModel | None = None
        front_link.swap = self.hear

    def hear(self, message: dict[str, Any]) -> None:
        """prepare, commit or abandon."""
        load: int = message["load"]
        if message["type"] == "prepare":
            try:
                self._loader.start_loading(LoadRequest(worker_protocol.NO_CLIENT, Path(message["bundle"]), None))
                self._load = load
            except ServeError as error:
                self._outlet.tell_front(worker_protocol.prepared(load, self._number, {}, str(error)))
        elif load == self._load:
            model, self._loaded, self._load = self._loaded, None, 0
            if message["type"] == "commit" and model is not None:
                self._take(model)

    def _put(self, request: LoadRequest, result: ServedModel | Exception) -> None:
        """It is loaded: the front decides."""
        if not self._load:
            return
        served, error = {}, ""
        try:
            if isinstance(result, Exception):
                raise result
            for stream in self._streams:
                self._streams.check_new_model(stream, result)
        except Exception as reason:
            LOG.warning("bundle %s: %s", request.bundle, reason, exc_info=not isinstance(reason, RtsegError))
            error = str(reason) or repr(reason)
        else:
            self._loaded, served = result, result.served.to_fields()
        self._outlet.tell_front(worker_protocol.prepared(self._load, self._number, served, error))

    def _take(self, model: ServedModel) -> None:
        places: list[tuple[Stream, Points]] = []
        for stream in self._streams:
            try:
                places.append((stream, self._streams.check_new_model(stream, model)))
            except RtsegError as error:  # it was opened while the bundle was loaded
                self._end(stream, f"the new bundle cannot serve it: {error}"[:300])
        self._adopt(None, model, places)
        for stream, _ in places:
            self._front_link.report_moved(stream)
        LOG.info("model %s answers all streams", model.served.model[:12])
