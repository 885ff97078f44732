"""A client's question that every worker of a front must answer, and one answer made of theirs."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtseg.serve.monitoring.merge import Answer, merge_answers

_MARK = b"\x00asked "
"""No client's routing id: one of its own may not begin with a zero, and those from ZeroMQ have five bytes."""
MAX_OPEN = 64


@dataclass(eq=False)
class _Question:
    client: bytes
    wanted: int
    answers: list[Answer] = field(default_factory=list)


class PendingStatus:
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
        return question.client, refused[0] if refused else merge_answers(question.answers)

    def give_up(self) -> list[bytes]:
        """A worker has died: the clients whose questions stay without an answer."""
        clients = [question.client for question in self._open.values()]
        self._open.clear()
        return clients
