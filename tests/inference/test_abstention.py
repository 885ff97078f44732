"""Who is unsure: every head by its own threshold, and a flag where any is."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.inference.abstention import judge, thresholds
from rtseg.recordings.heads import Head

HEADS = (Head("one", ("a", "b", "c"), ("a",), "one"), Head("two", ("x", "y"), ("x",), "two"))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_a_head_is_unsure_where_its_highest_probability_lies_below_its_threshold(
    seed: int, one: float, two: float
) -> None:
    probs = np.random.default_rng(seed).random((20, 5)).astype(np.float32)
    unsure, flags = np.ones((20, 2), np.bool_), np.full(20, 77, np.int32)
    judge(probs, np.array([0, 3, 5]), thresholds(HEADS, {"one": one, "two": two}), 128, unsure, flags)
    expected = np.stack([probs[:, :3].max(1) < np.float32(one), probs[:, 3:].max(1) < np.float32(two)], axis=1)
    np.testing.assert_array_equal(unsure, expected)
    np.testing.assert_array_equal(flags, np.where(expected.any(1), 128, 0))


def test_a_head_without_a_threshold_never_abstains() -> None:
    assert thresholds(HEADS, {"two": 0.5}).tolist() == [0.0, 0.5]
