"""Hellos and byes that a front asks again of a worker's replacement."""

from __future__ import annotations

import pytest

from rtseg.serve.workers.pending_requests import MAX_PENDING, PendingRequests


@pytest.mark.parametrize(
    ("kind", "answer", "open_after"),
    [
        ("hello", {"type": "accepted", "stream": "cage1"}, 0),
        ("hello", {"type": "refused", "stream": "cage1"}, 0),
        ("bye", {"type": "goodbye", "stream": "cage1"}, 0),
        ("bye", {"type": "error", "stream": "cage1", "seq": None}, 0),
        ("bye", {"type": "error", "stream": "cage1", "seq": 3}, 1),  # about a frame
        ("bye", {"type": "goodbye", "stream": "cage2"}, 1),
        ("hello", {"type": "beat", "stream": "cage1"}, 1),
    ],
)
def test_a_request_is_asked_again_until_it_is_answered(kind: str, answer: dict[str, object], open_after: int) -> None:
    requests = PendingRequests()
    requests.add_request(b"one", kind, "cage1", b"message")
    assert list(requests.unanswered()) == [(b"one", kind, "cage1", b"message")]
    requests.record_answer(b"two", answer)
    assert len(list(requests.unanswered())) == 1
    requests.record_answer(b"one", answer)
    assert len(list(requests.unanswered())) == open_after


def test_what_is_pending_is_bounded() -> None:
    requests = PendingRequests()
    for i in range(MAX_PENDING + 5):
        requests.add_request(b"one", "hello", f"cage{i}", b"")
    assert len(list(requests.unanswered())) == MAX_PENDING
