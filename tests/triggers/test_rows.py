"""Rows of live batches decide as the rule does, however they are cut into batches and whoever else is in them."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.inference.predictions import PredictionBatch
from rtseg.triggers.rows import DecisionRows
from rtseg.triggers.rule import BEGAN, ENDED_AT, TriggerRule
from tests.triggers.test_rule import FPS, HEADS, POINTS, UNSURE, probabilities, trigger

TRIGGERS = {
    "pulse": trigger(pulse_s=0.3, refractory_s=0.2, max_missing=0.5),
    "bout": trigger(min_duration_s=0.2, streams=("*1",)),
}
ANSWERS = st.lists(
    st.tuples(
        st.integers(0, 2),  # slot; the last one has no triggers, and is not added
        st.sampled_from([0.0, 0.7, 0.9]),
        st.sampled_from([0, 0, UNSURE]),
        st.sampled_from([0, 9]),  # missing points
        st.sampled_from([1, 1, 1, 3, 0]),  # frames on; 0 = an old one
        st.booleans(),  # a batch ends here
    ),
    max_size=40,
)


AnswerRow = tuple[int, float, int, int, int, bool]


@settings(deadline=None, max_examples=60)
@given(answers=ANSWERS, armed=st.lists(st.booleans(), min_size=2, max_size=2))
def test_any_batches_decide_as_the_rule(
    answers: list[tuple[int, float, int, int, int, bool]], armed: list[bool]
) -> None:
    rules = [TriggerRule(TRIGGERS, HEADS, FPS, 2, POINTS) for _ in range(2)]
    for rule in rules:
        for slot in range(2):
            rule.open_slot(slot, f"cage{slot}")
    rows = DecisionRows(rules[0], 2)
    rows.armed_slots[:] = armed
    seqs, begin = [-1, -1, -1], 0
    expected: list[list[list[int]]] = []
    n = 0
    for i, (slot, value, flags, missing, on, ends) in enumerate(answers):
        seqs[slot] += on
        if slot < 2:
            rows.add(n, slot, i - begin, seqs[slot], flags)
            n += 1
            one = np.zeros((1, 2, 4), np.uint8)
            if on or seqs[slot] > rules[1].arrays.slots[slot, 0]:
                given = np.array([slot], np.int32), np.array([seqs[slot]]), probabilities([value])
                quality = np.array([flags], np.int32), np.array([missing], np.int32), np.array([armed[slot]])
                one = rules[1].step(*given, np.zeros((1, 2), np.int16), *quality)
            expected.append(one[0].tolist())
        if ends or i == len(answers) - 1:
            of = answers[begin : i + 1]
            none = np.zeros((len(of), 2), np.bool_)
            counts = np.array([a[3] for a in of], np.int32)
            labels = np.zeros((len(of), 2), np.int16)
            batch = PredictionBatch(probabilities([a[1] for a in of]), labels, none, none, counts, HEADS)
            decided = []
            if n and len(of) == 1:  # a lone frame
                decided = rows.decide_one(slot, 0, seqs[slot], flags, batch)
            elif n:
                decided = rows.decide(n, batch)
            if decided:
                assert decided == expected
            else:
                assert not any(d[BEGAN] or d[ENDED_AT] for row in expected for d in row)
            expected, n, begin = [], 0, i + 1
    for one, other in zip(rules[0].arrays, rules[1].arrays, strict=True):
        np.testing.assert_array_equal(one, other)
