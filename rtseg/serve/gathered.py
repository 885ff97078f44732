"""The boards of a front and its workers as one, for the process that shows them; what ended workers had counted stays.

Read beside the front, so that a scrape costs it nothing. Knows no socket.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import rtseg
from rtseg.errors import ServeError
from rtseg.serve.board import BoardReader

if TYPE_CHECKING:  # the process that reads boards needs no workers
    from rtseg.serve.crew import Worker

SILENT_S = 5.0
"""A worker that has not turned for so long is not ready."""


def gather(about: dict[str, Any], now_ns: int) -> dict[str, Any]:
    """What a front's board says, with what its workers' boards say; that of a daemon without workers as it is.

    Counters and histograms are added, streams stand side by side. `waiting` says which workers do not serve.
    """
    if not about.get("workers"):
        return about
    whole = dict(about)
    sums = Sums(about["counters"], about["latency"])
    whole["streams"], whole["waiting"] = {}, []
    for number, worker in enumerate(about["workers"]):
        silent_s = 0.0
        # One that was replaced twice in this very moment has no board any more.
        with contextlib.suppress(ServeError):
            alive_ns, one = BoardReader(worker["board"]).read()
            silent_s = (now_ns - alive_ns) / 1e9
            sums.add(one)
            whole["capacity"] += one.get("capacity", 0)
            whole["streams"] |= one.get("streams", {})
        if not worker["ready"]:
            whole["waiting"].append(f"worker {number} is being started")
        elif silent_s > SILENT_S:
            whole["waiting"].append(f"worker {number} has given no sign of life for {silent_s:.1f} s")
    return whole | sums.told()


class Sums:
    """Counters and cumulative histograms of several boards."""

    def __init__(self, counters: dict[str, int] | None = None, latency: dict[str, list[int]] | None = None) -> None:
        self._counters = Counter(counters or {})
        self._latency = dict(latency or {})

    def add(self, about: dict[str, Any]) -> None:
        """What one board says."""
        self._counters.update(about.get("counters", {}))
        for stage, counts in about.get("latency", {}).items():
            before = self._latency.get(stage, [0] * len(counts))
            self._latency[stage] = [a + b for a, b in zip(before, counts, strict=True)]

    def add_last_of(self, board: str) -> None:
        """What a worker that has ended said last."""
        with contextlib.suppress(ServeError):
            self.add(BoardReader(board).read()[1])

    def told(self, counters: dict[str, int] | None = None) -> dict[str, Any]:
        """For a board. counters: more of them."""
        return {"counters": dict(self._counters + Counter(counters or {})), "latency": self._latency}


def told_of(workers: Sequence[Worker]) -> dict[str, Any]:
    """For the front's board: which workers there are, and what is the same of all."""
    served = next((worker.about for worker in workers if worker.about), {})
    return {
        "model": served.get("model", ""),
        "engine": served.get("engine", ""),
        "version": rtseg.__version__,
        "capacity": 0,
        "ready": True,
        "streams": {},
        "workers": [{"ready": w.ready, "starts": w.starts, "board": w.board} for w in workers],
    }
