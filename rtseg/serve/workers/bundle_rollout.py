"""Another bundle for all workers of a front between two frames, or for none: a commit in two phases.

First every worker loads the bundle and says so (`PrepareBundle`, `BundlePrepared`). Once all have, the front sends
`CommitBundle` over the sockets that carry the frames, so that it stands between the same two frames for every stream:
those that the front handed on before are answered by the old bundle, those after it by the new one. Where a worker
cannot load it, or ends before the commit, none takes it. The client hears of that once the last worker has answered:
only then can another bundle be loaded. A worker that ends after the commit is started with the new bundle.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rtseg.errors import MAX_REASON_CHARACTERS, ServeError
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.worker_pool import Worker
from rtseg.serve.workers.worker_protocol import AbandonBundle, BundlePrepared, CommitBundle, FromFront, PrepareBundle
from rtseg.wire.messages import parse_load

LOG = logging.getLogger("rtseg.serve")


@dataclass(eq=False)
class _Load:
    """One that is under way.

    client: who asked for it. awaited: the workers that have not answered yet. served: what each of the others would
    serve. problem: why it cannot be taken, as the first worker that could not said; "" = none so far.
    """

    number: int
    client: bytes
    bundle: str
    awaited: set[int]
    served: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""


class BundleRollout:
    """Loads a bundle in all workers. committed: called with the fields of what is served from then on."""

    def __init__(
        self,
        workers: Sequence[Worker],
        outlet: Outlet,
        backups: StreamBackups,
        committed: Callable[[dict[str, Any]], None],
    ) -> None:
        self._workers, self._outlet, self._backups, self._committed = workers, outlet, backups, committed
        self._load: _Load | None = None
        self._count = 0

    def request_load(self, client: bytes, message: dict[str, Any], sender_note: str) -> None:
        """Begin to load what a client asks for. sender_note: for the log. Raises ServeError where it can't begin."""
        bundle, stream = parse_load(message)
        if stream is not None:
            raise ServeError("a daemon with workers loads a bundle for all streams, not for one alone")
        if self._load is not None:
            raise ServeError(f"bundle {self._load.bundle} is being loaded: ask again when that is done")
        for worker in self._workers:
            if not worker.ready:
                raise ServeError(f"worker {worker.number} is being started: ask again")
        LOG.info("asked to load %s%s", bundle, sender_note)
        self._count += 1
        self._load = _Load(self._count, client, bundle, {worker.number for worker in self._workers})
        self._tell_workers(PrepareBundle(self._count, bundle))

    def refuse_unfinished(self) -> None:
        """The daemon stops: whoever waits for a bundle is told that it is not taken."""
        if self._load is not None:
            self._give_up(self._load, "the daemon stops")

    def worker_prepared(self, prepared: BundlePrepared) -> None:
        """A worker has loaded the bundle, or cannot."""
        load = self._load
        if load is None or prepared.load != load.number:
            return  # of a load that was given up meanwhile
        load.served.append(prepared.served)
        self._worker_answered(load, prepared.worker, prepared.error)

    def worker_ended(self, worker: Worker) -> None:
        """A worker has ended, so not all can take the bundle: none does."""
        if self._load is not None:
            reason = f"worker {worker.number} ended before all had loaded the bundle: ask again"
            self._worker_answered(self._load, worker.number, reason)

    def _worker_answered(self, load: _Load, worker: int, problem: str) -> None:
        load.awaited.discard(worker)
        load.problem = load.problem or problem
        # A refusal waits for the last worker as well: one that still loads this bundle could not load the next.
        if load.awaited:
            return
        if load.problem:
            self._give_up(load, load.problem)
        else:
            self._commit(load)

    def _commit(self, load: _Load) -> None:
        first, *others = load.served
        if any(served["model"] != first["model"] for served in others):
            self._give_up(load, f"{load.bundle} was changed while it was loaded: ask again")
            return
        self._load = None
        # Before the commit is sent: a worker that dies of it must be replaced by one with the new bundle.
        for worker in self._workers:
            worker.set_bundle(load.bundle, first["model"])
        self._tell_workers(CommitBundle(load.number))
        self._committed(first)
        LOG.info("model %s answers all streams", first["model"][:12])
        streams = {"stream": None, "streams": self._backups.stream_names()}
        self._outlet.answer(load.client, {"type": "loaded", **streams, **first})

    def _give_up(self, load: _Load, reason: str) -> None:
        self._load = None
        self._tell_workers(AbandonBundle(load.number))
        LOG.warning("bundle %s is not taken: %s", load.bundle, reason)
        self._outlet.counters["refused loads"] += 1
        self._outlet.answer(load.client, {"type": "refused", "stream": None, "reason": reason[:MAX_REASON_CHARACTERS]})

    def _tell_workers(self, message: FromFront) -> None:
        for worker in self._workers:
            if not worker.tell(message) and worker.ready:
                # Its queue is full, so it misses the message. The process in its place does not need it.
                worker.process.kill()
