"""What ends events between frames, and what is remembered beyond the end of a process."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import SnapshotError
from rtseg.triggers.cuts import (
    carry_memory,
    cut_event,
    fired_events,
    move_memory,
    newest_seq,
    pack_memory,
    restore_memory,
    running_arm,
)
from rtseg.triggers.rule import BEGAN, FIRED, LINE, TriggerRule
from tests.triggers.test_rule import FPS, HEADS, POINTS, probabilities, trigger

TRIGGERS = {"pulse": trigger(pulse_s=0.3, refractory_s=0.4, max_duty=0.5, window_s=2.0), "bout": trigger()}
VALUES = st.lists(st.sampled_from([0.0, 0.7, 0.9]), min_size=1, max_size=30)


def rule_of(triggers: dict[str, Any] = TRIGGERS) -> TriggerRule:
    rule = TriggerRule(triggers, HEADS, FPS, 2, POINTS)
    rule.open_slot(1, "cage1")
    return rule


def running_triggers(rule: TriggerRule) -> list[int]:
    return [r for r in range(len(TRIGGERS)) if running_arm(rule, 1, r) >= 0]


def step(rule: TriggerRule, values: list[float], first: int = 0) -> np.ndarray[Any, Any]:
    n = len(values)
    none = np.zeros(n, np.int32)
    given = np.full(n, 1, np.int32), np.arange(first, first + n), probabilities(values), np.zeros((n, 2), np.int16)
    return rule.step(*given, none, none, np.ones(n, np.bool_))


@settings(deadline=None)
@given(before=VALUES, after=VALUES)
def test_it_goes_on_from_what_was_packed(before: list[float], after: list[float]) -> None:
    one, other = rule_of(), rule_of()
    step(one, before)
    begun = dict.fromkeys(running_triggers(one), 5)
    packed = pack_memory(one, 1, begun, armed=True)
    assert restore_memory(other, 1, packed) == (True, begun)
    assert pack_memory(other, 1, begun, armed=True) == packed
    np.testing.assert_array_equal(step(one, after, len(before)), step(other, after, len(before)))


@settings(deadline=None)
@given(before=VALUES, frames=st.integers(0, 70), after=VALUES)
def test_a_stream_that_is_opened_again_goes_on_as_if_nothing_had_happened_meanwhile(
    before: list[float], frames: int, after: list[float]
) -> None:
    ended, again = rule_of(), rule_of()
    step(ended, before)
    for r in running_triggers(ended):
        cut_event(ended, 1, r)
    carry_memory(again, 1, pack_memory(ended, 1, {}, armed=True), frames)
    assert newest_seq(again, 1) == -1
    # The same with as many answers of a stream that goes on, in which the behaviour is over before the new one begins.
    step(ended, [0.0] * frames, len(before))
    if frames:
        first = len(before) + frames
        np.testing.assert_array_equal(step(again, after), step(ended, after, first))
        for r in range(len(TRIGGERS)):
            assert fired_events(again, 1, r) == fired_events(ended, 1, r)


def test_a_cut_event_is_over_and_its_bout_fires_no_second_one() -> None:
    rule = rule_of()
    assert step(rule, [0.9, 0.9])[:, 1, LINE].tolist() == [1, 1]
    assert (running_triggers(rule), running_arm(rule, 1, 1), newest_seq(rule, 1)) == ([0, 1], 0, 1)
    cut_event(rule, 1, 1)
    decided = step(rule, [0.9, 0.9, 0.0, 0.9], 2)
    assert decided[:, 1, LINE].tolist() == [0, 0, 0, 1]
    assert decided[:, 1, BEGAN].tolist() == [0, 0, 0, FIRED]
    assert fired_events(rule, 1, 1) == 2


def test_with_another_trigger_file_only_counts_go_on() -> None:
    one = rule_of()
    step(one, [0.9, 0.9, 0.0, 0.9])
    other = rule_of({"bout": trigger(min_duration_s=0.5), "new": trigger()})
    assert restore_memory(other, 1, pack_memory(one, 1, {}, armed=False)) == (False, {})
    assert (fired_events(other, 1, 0), fired_events(other, 1, 1)) == (2, 0)
    assert newest_seq(other, 1) == -1


def test_another_model_goes_on_with_counts_and_awaits_a_new_bout() -> None:
    before, rule = rule_of(), rule_of()
    step(before, [0.9, 0.9])
    for r in (0, 1):
        cut_event(before, 1, r)
    move_memory(before, rule)
    decided = step(rule, [0.9, 0.0, 0.9], 2)
    assert decided[:, 1, BEGAN].tolist() == [0, 0, FIRED]
    assert fired_events(rule, 1, 1) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"slot": [3, 10**6, 0, 0, 0]},
        {"slot": [3]},
        {"memory": b"12345678"},
        {"places": np.array([-1], "<i8").tobytes(), "bits": b"\1"},
        {"places": np.array([10**9], "<i8").tobytes(), "bits": b"\1"},
        {"begun": [[7, 1]]},
        {"begun": 3},
        {"triggers": None},
    ],
)
def test_what_is_damaged_changes_nothing(change: dict[str, Any]) -> None:
    rule = rule_of()
    step(rule, [0.9])
    before = pack_memory(rule, 1, {}, armed=False)
    with pytest.raises(SnapshotError, match="the snapshot's triggers are damaged"):
        restore_memory(rule, 1, msgpack.packb(msgpack.unpackb(before) | change))
    assert pack_memory(rule, 1, {}, armed=False) == before
    with pytest.raises(SnapshotError):
        restore_memory(rule, 1, b"\xc1")
