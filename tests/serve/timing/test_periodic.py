"""When a periodic task is due."""

from __future__ import annotations

from rtseg.serve.timing.periodic import Periodic


def test_a_task_that_was_never_done_is_due_at_once() -> None:
    assert Periodic(100).is_due(100)
    assert not Periodic(100, last_ns=50).is_due(100)


def test_a_task_is_due_again_one_interval_after_it_was_done() -> None:
    task = Periodic(100)
    assert task.restart_if_due(1000)
    assert not task.is_due(1099)
    assert not task.restart_if_due(1099)
    assert task.is_due(1100)
    task.restart(1100)
    assert not task.restart_if_due(1199)
    assert task.restart_if_due(1200)


def test_asking_changes_nothing() -> None:
    task = Periodic(100)
    assert task.is_due(500)
    assert task.is_due(500)
    assert task.last_ns == 0


def test_intervals_do_not_shift_by_when_they_are_noticed() -> None:
    """A late task is next due an interval after it was done, not twice in a row to catch up."""
    task = Periodic(100)
    task.restart(0)
    assert task.restart_if_due(350)
    assert not task.is_due(400)
