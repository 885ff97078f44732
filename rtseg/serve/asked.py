"""Questions that a front hands to all its workers, and one answer made of theirs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_MARK = b"\x00asked "


@dataclass(eq=False)
class _Question:
    client: bytes
    kind: str
    answers: list[dict[str, Any]] = field(default_factory=list)


class Asked:
    """Questions that are open. workers: how many answers each gets."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._open: dict[bytes, _Question] = {}
        self._count = 0

    def begin(self, client: bytes, kind: str) -> bytes:
        """What stands in the client's place when it is handed on."""
        self._count += 1
        name = _MARK + str(self._count).encode()
        self._open[name] = _Question(client, kind)
        return name

    def knows(self, name: bytes) -> bool:
        """Whether an answer is one to such a question."""
        return name.startswith(_MARK)

    def add(self, name: bytes, answer: dict[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
        """One worker's answer; once all have answered, the client and what it is told."""
        question = self._open.get(name)
        if question is None:
            return None
        question.answers.append(answer)
        if len(question.answers) < self._workers:
            return None
        del self._open[name]
        refused = [a for a in question.answers if a["type"] in ("error", "refused")]
        if refused:
            return question.client, refused[0]
        whole = _status(question.answers) if question.kind == "status" else _loaded(question.answers)
        return question.client, whole

    def give_up(self) -> list[bytes]:
        """A worker has died: the clients whose questions stay without an answer."""
        clients = [question.client for question in self._open.values()]
        self._open.clear()
        return clients


def _loaded(answers: list[dict[str, Any]]) -> dict[str, Any]:
    return answers[0] | {"streams": [name for answer in answers for name in answer["streams"]]}


def _status(answers: list[dict[str, Any]]) -> dict[str, Any]:
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
    return whole
