"""Which rows are run for which slots: each once, never beyond the memory, cheap, and in a slot's own order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.config import OnnxSettings
from rtseg.engine.onnx.slot_windows import cover_slots, rows_for
from rtseg.errors import SettingError

SIZES = OnnxSettings().batches


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), min_size=1))),
    st.floats(0, 50),
)
def test_every_slot_is_in_one_window_and_no_window_beyond_the_memory(
    case: tuple[int, set[int]], call_rows: float
) -> None:
    capacity, slots = case
    rows = rows_for(capacity, SIZES)
    assert capacity <= rows < capacity + SIZES[1]
    found = cover_slots(sorted(slots), SIZES, rows, call_rows)
    held = [slot for first, size in found for slot in range(first, first + size)]
    assert len(held) == len(set(held))
    assert slots <= set(held)
    assert max(held) < rows
    assert all(size in SIZES and first % size == 0 for first, size in found)
    cost = sum(call_rows + size for _, size in found)
    assert cost <= len(slots) * (call_rows + 1) + 1e-6, "one by one would have been cheaper"


def test_neighbouring_slots_share_a_window_and_distant_ones_do_not() -> None:
    assert cover_slots(range(70), SIZES, 80, 4.0) == [(0, 64), (64, 16)]
    assert cover_slots([3, 40, 41, 42, 43, 44, 45, 79], SIZES, 80, 4.0) == [(3, 1), (32, 16), (79, 1)]
    assert cover_slots([5], SIZES, 1024, 4.0) == [(5, 1)]
    assert cover_slots(range(300), SIZES, 304, 4.0) == [(0, 256), (256, 16), (272, 16), (288, 16)]


@pytest.mark.parametrize("batches", [(), (16,), (1, 16, 40), (1, 64, 16), (1, 1)])
def test_sizes_that_do_not_nest_are_refused(batches: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match="batches begin with 1 and each divides the next"):
        OnnxSettings(batches=batches)
