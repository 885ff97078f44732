"""A client's question that every worker of a front must answer, and one answer made of theirs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MARK = b"\x00asked "
"""No client's routing id: one of its own may not begin with a zero, and those from ZeroMQ have five bytes."""
MAX_OPEN = 64
Answer = dict[str, Any]


@dataclass(eq=False)
class _Question:
    client: bytes
    wanted: int
    answers: list[Answer] = field(default_factory=list)


class Asked:
    """Questions for the status that are open; the oldest one is given up where a worker that hangs leaves too many."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Question] = {}
        self._count = 0

    def begin(self, client: bytes, workers: int) -> bytes:
        """What stands in the client's place when its question is handed to so many workers."""
        if len(self._open) >= MAX_OPEN:
            del self._open[next(iter(self._open))]
        self._count += 1
        name = _MARK + str(self._count).encode()
        self._open[name] = _Question(client, workers)
        return name

    def knows(self, name: bytes) -> bool:
        """Whether an answer is one to such a question."""
        return name.startswith(_MARK)

    def add(self, name: bytes, answer: Answer) -> tuple[bytes, Answer] | None:
        """One worker's answer; once all have answered, the client and what it is told."""
        question = self._open.get(name)
        if question is None:
            return None
        question.answers.append(answer)
        if len(question.answers) < question.wanted:
            return None
        del self._open[name]
        refused = [a for a in question.answers if a["type"] == "error"]
        return question.client, refused[0] if refused else whole_status(question.answers)

    def give_up(self) -> list[bytes]:
        """A worker has died: the clients whose questions stay without an answer."""
        clients = [question.client for question in self._open.values()]
        self._open.clear()
        return clients


def whole_status(answers: list[Answer]) -> Answer:
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
        whole["recording"] = whole_recording([answer["recording"] for answer in answers])
    return whole


def whole_recording(parts: list[Answer]) -> Answer:
    """The workers' recordings as one: their folder and files, the first trouble, the rest added."""
    states = [part for part in parts if part["state"] != "recording"] or parts
    whole: Answer = {"file": str(Path(parts[0]["file"]).parent), "files": [part["file"] for part in parts]}
    whole |= {key: states[0][key] for key in ("state", "reason")}
    whole["writer"] = [part["writer"] for part in parts]
    return whole | {key: sum(part[key] for part in parts) for key in parts[0] if key not in whole}
