"""A client's question for the status, which every worker of a front answers, and one answer made of theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rtseg.serve.monitoring.merge import merge_answers

_QUESTION_ID = b"\x00asked "
"""What a question's id begins with. It cannot be a client's routing id: one that a client chooses must not begin with a
zero, and those that ZeroMQ gives have five bytes."""
MAX_OPEN = 64


class StatusAnswer(NamedTuple):
    """To whom the status goes, and its fields."""

    client: bytes
    message: dict[str, Any]


@dataclass(eq=False)
class _Question:
    client: bytes
    workers: int
    answers: list[dict[str, Any]] = field(default_factory=list)


class PendingStatus:
    """The questions that are open. The oldest one is given up where a worker that hangs leaves too many."""

    def __init__(self) -> None:
        self._open: dict[bytes, _Question] = {}
        self._count = 0

    def open_question(self, client: bytes, workers: int) -> bytes:
        """The id that stands in the client's place when its question is handed to this many workers."""
        if len(self._open) >= MAX_OPEN:  # the oldest stands first
            del self._open[next(iter(self._open))]
        self._count += 1
        question_id = _QUESTION_ID + str(self._count).encode()
        self._open[question_id] = _Question(client, workers)
        return question_id

    def is_question(self, routing_id: bytes) -> bool:
        """Whether an answer with this routing id is one to such a question, open or not."""
        return routing_id.startswith(_QUESTION_ID)

    def add_answer(self, question_id: bytes, answer: dict[str, Any]) -> StatusAnswer | None:
        """Take one worker's answer; once all have answered, what the client is told."""
        question = self._open.get(question_id)
        if question is None:
            return None
        question.answers.append(answer)
        if len(question.answers) < question.workers:
            return None
        del self._open[question_id]
        # Workers refuse alike (all have the same settings): one refusal is the answer.
        refused = [each for each in question.answers if each["type"] == "error"]
        return StatusAnswer(question.client, refused[0] if refused else merge_answers(question.answers))

    def abandon_questions(self) -> list[bytes]:
        """A worker has died: the clients whose questions stay without an answer.

        All of them, even if that worker had answered: who has answered is not kept, and asking again is cheap.
        """
        clients = [question.client for question in self._open.values()]
        self._open.clear()
        return clients
