"""The boards of a front and its workers as one, for the process that shows them; what ended workers had counted stays.

Read beside the front, so that a scrape costs it nothing. Knows no socket.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

from rtseg.errors import ServeError
from rtseg.serve.monitoring.shared_status import SharedStatusReader

Answer = dict[str, Any]
SILENT_S = 5.0
"""A worker that has not turned for so long is not ready."""


def merge_worker_status(about: dict[str, Any], now_ns: int) -> dict[str, Any]:
    """What a front's board says, with what its workers' boards say; that of a daemon without workers as it is.

    Counters and histograms are added, streams stand side by side. `waiting` says which workers do not serve.
    """
    if not about.get("workers"):
        return about
    whole = dict(about)
    sums = StatusTotals(about["counters"], about["latency"])
    whole["streams"], whole["waiting"] = {}, []
    for number, worker in enumerate(about["workers"]):
        silent_s = 0.0
        # One that was replaced twice in this very moment has no board any more.
        with contextlib.suppress(ServeError):
            alive_ns, one = SharedStatusReader(worker["board"]).read()
            silent_s = (now_ns - alive_ns) / 1e9
            sums.add(one)
            whole["capacity"] += one.get("capacity", 0)
            whole["streams"] |= one.get("streams", {})
        if not worker["ready"]:
            whole["waiting"].append(f"worker {number} is being started")
        elif silent_s > SILENT_S:
            whole["waiting"].append(f"worker {number} has given no sign of life for {silent_s:.1f} s")
    return whole | sums.told()


class StatusTotals:
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
            self.add(SharedStatusReader(board).read()[1])

    def told(self, counters: dict[str, int] | None = None) -> dict[str, Any]:
        """For a board. counters: more of them."""
        return {"counters": dict(self._counters + Counter(counters or {})), "latency": self._latency}


def merge_answers(answers: list[Answer]) -> Answer:
    """Counters added, streams side by side; of latencies the slowest worker's, for percentiles can't be added."""
    whole = dict(answers[0])
    for key in ("streams", "drift", "models", "clocks"):
        whole[key] = {name: about for answer in answers for name, about in answer[key].items()}
    whole["stale"] = [name for answer in answers for name in answer["stale"]]
    whole["capacity"] = sum(answer["capacity"] for answer in answers)
    whole["load"] = max(answer["load"] for answer in answers)
    counters: Counter[str] = Counter()
    for answer in answers:
        counters.update(answer["counters"])
    whole["counters"] = dict(counters)
    whole["latency"] = {
        stage: {
            key: (sum if key == "count" else max)(answer["latency"][stage][key] for answer in answers) for key in about
        }
        for stage, about in answers[0]["latency"].items()
    }
    if all("recording" in answer for answer in answers):
        whole["recording"] = merge_recordings([answer["recording"] for answer in answers])
    return whole


def merge_recordings(parts: list[Answer]) -> Answer:
    """The workers' recordings as one: their folder and files, the first trouble, the rest added."""
    states = [part for part in parts if part["state"] != "recording"] or parts
    whole: Answer = {"file": str(Path(parts[0]["file"]).parent), "files": [part["file"] for part in parts]}
    whole |= {key: states[0][key] for key in ("state", "reason")}
    whole["writer"] = [part["writer"] for part in parts]
    return whole | {key: sum(part[key] for part in parts) for key in parts[0] if key not in whole}
