"""Another bundle for all workers of a front between two frames, or for none: they load it, then the front says when.

The word to take it stands among the frames in the order in which the front handed them on. A worker that ends before
that word ends the load for all; one that ends afterwards is started with the new bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rtseg.errors import ServeError
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.worker_pool import Worker
from rtseg.wire.messages import parse_load

LOG = logging.getLogger("rtseg.serve")


@dataclass(eq=False)
class _Load:
    """One that is under way. served: worker -> what it would serve, once it has loaded."""

    number: int
    owner: bytes
    bundle: str
    served: dict[int, dict[str, Any]] = field(default_factory=dict)


class BundleRollout:
    """Loads a bundle in all workers. taken: called with what is served from then on."""

    def __init__(
        self, workers: list[Worker], outlet: Outlet, kept: StreamBackups, taken: Callable[[dict[str, Any]], None]
    ) -> None:
        self._workers, self._outlet, self._backups, self._taken = workers, outlet, kept, taken
        self._load: _Load | None = None
        self._count = 0

    def ask(self, owner: bytes, message: dict[str, Any], by: str) -> None:
        """Begin to load what a client asks for. by: for the log. Raises ServeError where it can't begin."""
        bundle, stream = parse_load(message)
        if stream is not None:
            raise ServeError("a daemon with workers loads a bundle for all streams, not for one alone")
        if self._load is not None:
            raise ServeError(f"bundle {self._load.bundle} is being loaded: ask again when that is done")
        for worker in self._workers:
            if not worker.ready:
                raise ServeError(f"worker {worker.number} is being started: ask again")
        LOG.info("asked to load %s%s", bundle, by)
        self._count += 1
        self._load = _Load(self._count, owner, bundle)
        self._tell_all(worker_protocol.prepare(self._count, bundle))

    def prepared(self, told: dict[str, Any]) -> None:
        """A worker has loaded the bundle, or cannot."""
        load = self._load
        if load is None or told["load"] != load.number:
            return
        load.served[told["worker"]] = told["served"]
        if told["error"]:
            self._give_up(load, told["error"])
        elif len(load.served) == len(self._workers):
            self._take(load)

    def ended(self, worker: Worker) -> None:
        """A worker is no more."""
        if self._load is not None:
            self._give_up(self._load, f"worker {worker.number} ended before all had loaded the bundle: ask again")

    def _take(self, load: _Load) -> None:
        first, *others = load.served.values()
        if any(served["model"] != first["model"] for served in others):
            self._give_up(load, f"{load.bundle} was changed while it was loaded: ask again")
            return
        self._load = None
        for worker in self._workers:
            worker.serve_from_now(load.bundle, first["model"])
        self._tell_all(worker_protocol.commit(load.number))
        self._taken(first)
        LOG.info("model %s answers all streams", first["model"][:12])
        about = {"stream": None, "streams": self._backups.names()}
        self._outlet.answer(load.owner, {"type": "loaded", **about, **first})

    def _give_up(self, load: _Load, reason: str) -> None:
        self._load = None
        self._tell_all(worker_protocol.abandon(load.number))
        LOG.warning("bundle %s is not taken: %s", load.bundle, reason)
        self._outlet.counters["refused loads"] += 1
        self._outlet.answer(load.owner, {"type": "refused", "stream": None, "reason": reason})

    def _tell_all(self, data: bytes) -> None:
        for worker in self._workers:
            if not worker.send([worker_protocol.NO_CLIENT, data]) and worker.ready:
                worker.process.kill()  # it takes nothing more; the one in its place has nothing to be told
