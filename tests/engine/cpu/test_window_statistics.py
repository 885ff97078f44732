"""A frame's row for trees: against numpy, as a stream gets it, and without drift; the contract's other half."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.engine.cpu.tree_engine import TreeEngine
from rtseg.engine.cpu.window_statistics import causal_statistics, window_plan
from tests.engine.networks import SPECS, features_of
from tests.trees import random_trees, rows_of


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 99), st.lists(st.integers(1, 12), max_size=3))
def test_rows_are_those_of_numpy(n_frames: int, seed: int, windows: list[int]) -> None:
    features = features_of(SPECS["small"], n_frames, seed)[:, :5]
    found = causal_statistics(features, windows)
    assert found.shape == (n_frames, 5 * (1 + 4 * len(windows)))
    np.testing.assert_allclose(found, rows_of(features, tuple(windows)), rtol=1e-5, atol=1e-5)


def test_a_stream_gets_the_bits_of_training_s_rows_whatever_came_before() -> None:
    """After a long walk, a snapshot and a restart the ring lies otherwise; sums run from the newest frame on."""
    spec, tensors = random_trees(SPECS["small"])
    features = features_of(SPECS["small"], 120)
    rows = causal_statistics(features, spec.windows)
    engine, out = TreeEngine(spec, tensors, 3), np.empty((1, spec.n_outputs), np.float32)
    slot = np.array([1], np.int32)
    engine.step(features[::-1].copy(), np.repeat(slot, 120), np.empty((120, spec.n_outputs), np.float32))
    engine.reset(slot)
    for t, frame in enumerate(features):
        if t == 70:
            engine.restore(2, engine.snapshot(1))
            slot[0] = 2
        engine.step(frame[None], slot, out)
        assert engine._table.arrays.row.tobytes() == rows[t].tobytes()


def test_nothing_is_left_of_frames_that_have_passed() -> None:
    """A running sum would keep the rounding of a huge value for ever; the deviation of a still animal is exactly 0."""
    features = np.full((60, 3), 1234.567, np.float32)
    features[5] = 3e30
    features[6, 0] = np.nan
    rows = causal_statistics(features, (10,))
    mean, deviation, low, high = rows[20:, 3:].reshape(-1, 4, 3).transpose(1, 0, 2)
    assert (mean == features[0, 0]).all()
    assert (deviation == 0).all()
    assert (low == high).all()


def test_plans_rise_and_name_places() -> None:
    assert window_plan((120, 15, 15)).tolist() == [[15, 1], [15, 2], [120, 0]]
    assert window_plan(()).shape == (0, 2)
