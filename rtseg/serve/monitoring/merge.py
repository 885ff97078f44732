"""The status of a front and of its workers as one. What workers that have ended had counted stays.

Of the two forms of a status, the one in shared memory is merged beside the front (`http_process`), so that a scrape
costs it nothing; the answer to a client's question is merged in the front. Knows no socket.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtseg.errors import ServeError
from rtseg.serve.monitoring.shared_status import SharedStatusReader

Status = dict[str, Any]
SILENT_S = 5.0
"""A worker that has not turned for so long is not ready."""


def merge_worker_status(status: Status, now_ns: int) -> Status:
    """A front's shared status with those of its workers; that of a daemon without workers as it is.

    Counters and histograms are added, streams stand side by side. `waiting` says which workers do not serve.
    """
    if not status.get("workers"):
        return status
    whole = dict(status)
    # The front has its own counters there, and those of workers that have ended.
    totals = StatusTotals(status["counters"], status["latency"])
    whole["streams"], whole["waiting"] = {}, []
    for number, worker in enumerate(status["workers"]):
        silent_s = 0.0
        # One that was replaced twice in this very moment has no file any more.
        with contextlib.suppress(ServeError):
            alive_ns, of_worker = SharedStatusReader(worker["status_file"]).read()
            silent_s = (now_ns - alive_ns) / 1e9
            totals.add_status(of_worker)
            whole["capacity"] += of_worker.get("capacity", 0)
            whole["streams"] |= of_worker.get("streams", {})
        if not worker["ready"]:
            whole["waiting"].append(f"worker {number} is being started")
        elif silent_s > SILENT_S:
            whole["waiting"].append(f"worker {number} has given no sign of life for {silent_s:.1f} s")
    return whole | totals.to_fields()


class StatusTotals:
    """Sums of the counters and cumulative histograms of several processes."""

    def __init__(
        self, counters: Mapping[str, int] | None = None, latency: Mapping[str, list[int]] | None = None
    ) -> None:
        self._counters = Counter(counters or {})
        self._latency = dict(latency or {})

    def add_status(self, status: Status) -> None:
        """Add what one process shares."""
        self._counters.update(status.get("counters", {}))
        for stage, counts in status.get("latency", {}).items():
            before = self._latency.get(stage, [0] * len(counts))
            self._latency[stage] = [a + b for a, b in zip(before, counts, strict=True)]

    def add_last_status(self, status_file: str) -> None:
        """Add what a process that has ended shared last; nothing where its file is gone."""
        with contextlib.suppress(ServeError):
            self.add_status(SharedStatusReader(status_file).read()[1])

    def to_fields(self, counters: Mapping[str, int] | None = None) -> Status:
        """The sums as fields of a shared status. counters: more of them, which are added for this once."""
        return {"counters": dict(self._counters + Counter(counters or {})), "latency": self._latency}


def merge_answers(answers: Sequence[Status]) -> Status:
    """Workers' answers to a question for the status: counters added, streams side by side, capacities added.

    Of load and latencies the highest stand there, for percentiles can't be added.
    """
    whole = dict(answers[0])
    for key in ("streams", "drift", "models", "rates", "clocks"):
        whole[key] = {stream: value for answer in answers for stream, value in answer[key].items()}
    for key in ("stale", "frozen"):
        whole[key] = [stream for answer in answers for stream in answer[key]]
    whole["capacity"] = sum(answer["capacity"] for answer in answers)
    whole["load"] = max(answer["load"] for answer in answers)
    counters: Counter[str] = Counter()
    for answer in answers:
        counters.update(answer["counters"])
    whole["counters"] = dict(counters)
    whole["latency"] = {
        stage: {
            key: (sum if key == "count" else max)(answer["latency"][stage][key] for answer in answers)
            for key in summary
        }
        for stage, summary in answers[0]["latency"].items()
    }
    if all("recording" in answer for answer in answers):
        whole["recording"] = merge_recordings([answer["recording"] for answer in answers])
    return whole


def merge_recordings(parts: Sequence[Status]) -> Status:
    """The workers' recordings as one: their folder and files, the first trouble, the counts added."""
    in_trouble = [part for part in parts if part["state"] != "recording"]
    shown = (in_trouble or parts)[0]
    whole: Status = {"file": str(Path(parts[0]["file"]).parent), "files": [part["file"] for part in parts]}
    whole |= {key: shown[key] for key in ("state", "reason")}
    whole["writer"] = [part["writer"] for part in parts]
    return whole | {key: sum(part[key] for part in parts) for key in parts[0] if key not in whole}
