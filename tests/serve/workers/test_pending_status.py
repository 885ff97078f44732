"""A question for the status, which all workers of a front answer."""

from __future__ import annotations

from rtseg.serve.workers.pending_status import MAX_OPEN, PendingStatus


def test_a_status_is_whole_when_all_have_answered() -> None:
    pending, summary = PendingStatus(), {"count": 1, "p50_us": 5.0}
    answer = {"type": "status", "capacity": 4, "load": 0.25, "stale": ["a"], "frozen": [], "latency": {"step": summary}}
    answer |= {key: {"a": 1} for key in ("streams", "drift", "models", "rates", "clocks")} | {"counters": {"frames": 2}}
    other = answer | {key: {"b": 2} for key in ("streams", "drift", "models", "rates", "clocks")} | {"load": 0.5}
    question_id = pending.open_question(b"client", 2)
    assert pending.is_question(question_id)
    assert not pending.is_question(b"\x00\x01\x02\x03\x04")
    assert pending.add_answer(question_id, answer) is None
    client, whole = pending.add_answer(question_id, other) or (b"", {})
    assert client == b"client"
    assert (whole["capacity"], whole["load"], whole["counters"]) == (8, 0.5, {"frames": 4})
    assert whole["streams"] == {"a": 1, "b": 2}
    assert whole["latency"] == {"step": {"count": 2, "p50_us": 5.0}}


def test_questions_are_bounded_and_given_up_when_a_worker_ends() -> None:
    pending = PendingStatus()
    for _ in range(MAX_OPEN + 5):
        pending.open_question(b"client", 2)
    assert len(pending.abandon_questions()) == MAX_OPEN
    assert pending.abandon_questions() == []
