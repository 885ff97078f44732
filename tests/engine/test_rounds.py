"""Batches in rounds: every row once, no slot twice in a round, a slot's rows in their order."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtseg.engine.rounds import rounds


def test_rounds_hold_every_row_once_and_no_slot_twice() -> None:
    slots = np.array([4, 1, 4, 4, 0, 1, 7], np.int32)
    found = [np.arange(7)[rows].tolist() for rows in rounds(slots)]
    assert found == [[0, 1, 4, 6], [2, 5], [3]]
    assert [np.arange(3)[rows].tolist() for rows in rounds(np.zeros(3, np.int32))] == [[0], [1], [2]]
    assert list(rounds(np.arange(5, dtype=np.int32))) == [slice(0, 5)]
    assert not list(rounds(np.empty(0, np.int32)))


@given(st.lists(st.integers(0, 5), max_size=20))
def test_rounds_of_any_slots(slots: list[int]) -> None:
    found = [np.arange(len(slots))[rows].tolist() for rows in rounds(np.array(slots, np.int32))]
    assert sorted(row for part in found for row in part) == list(range(len(slots)))
    order: dict[int, list[int]] = {}
    for part in found:
        assert len({slots[row] for row in part}) == len(part)
        for row in part:
            order.setdefault(slots[row], []).append(row)
    assert all(rows == sorted(rows) for rows in order.values())
