"""What a front says of itself: its share of the status that its workers give, and of what is shared with watchers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rtseg.serve.monitoring.merge import StatusTotals
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.workers.worker_pool import Worker, worker_fields


class FrontStatus:
    """workers: by their numbers. load: of the front's loop. own_counters: what the front itself has counted.

    ended_totals: counters and latencies of workers that have ended. started_ns: when the front began to serve.
    """

    def __init__(
        self, workers: Sequence[Worker], load: LoopLoad, own_counters: Callable[[], dict[str, int]], fresh_s: float
    ) -> None:
        self._workers, self._load, self._own_counters, self._fresh_s = workers, load, own_counters, fresh_s
        self.ended_totals = StatusTotals()
        self.started_ns = 0

    def ready_fields(self) -> dict[str, Any]:
        """For the `ready` line: the processes, and of the model and the loop what a worker's own line says."""
        processes = {"pid": os.getpid(), "workers": [worker.process.pid for worker in self._workers]}
        return processes | {key: self._workers[0].announced[key] for key in ("model", "engine", "loop")}

    def shared_pieces(self, *, stopping: bool) -> Iterator[dict[str, Any]]:
        """For the shared status: the front's own part, and where its workers' are."""
        own = {"started_ns": self.started_ns, "fresh_s": self._fresh_s, "stopping": stopping}
        yield own | self.ended_totals.to_fields(self._own_counters()) | worker_fields(self._workers)

    def own_fields(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What the front adds to a status that its workers gave."""
        workers = [{"pid": w.process.pid, "starts": w.starts, "ready": w.ready} for w in self._workers]
        own = {"load": round(self._load.measured()[0], 4), "counters": self._own_counters()}
        counters = Counter(answer.get("counters", {}))
        counters.update(self._own_counters())
        return {"workers": workers, "front": own, "counters": dict(counters)}
