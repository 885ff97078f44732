"""Window statistics: each against numpy on the window itself, whatever is missing; the past only where causal."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.training.boosting.window_table import window_statistics


def some(n_frames: int, seed: int, missing: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    features = rng.normal(50, 20, (n_frames, 3)).astype(np.float32)
    features[rng.random(features.shape) < missing] = np.nan
    return features


def naive(features: np.ndarray, windows: list[int], causal: bool) -> np.ndarray:
    blocks = [features]
    for window in windows:
        rows = []
        for t in range(len(features)):
            first, last = (t - window + 1, t) if causal else (t - window // 2, t + window // 2)
            cut = features[max(first, 0) : last + 1].astype(np.float64)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a window without a value
                rows.append([f(cut, axis=0) for f in (np.nanmean, np.nanstd, np.nanmin, np.nanmax)])
        blocks.append(np.array(rows).reshape(len(features), -1))
    return np.concatenate(blocks, axis=1)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 99), st.booleans(), st.lists(st.integers(1, 12), max_size=2))
def test_statistics_of_windows(n_frames: int, seed: int, causal: bool, windows: list[int]) -> None:
    features = some(n_frames, seed)
    found = window_statistics(features, windows, causal)
    assert found.dtype == np.float32
    assert found.shape == (n_frames, 3 * (1 + 4 * len(windows)))
    np.testing.assert_allclose(found, naive(features, windows, causal), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("cut", [1, 20, 59])
def test_the_future_changes_no_causal_window(cut: int) -> None:
    features = some(60, 1)
    changed = features.copy()
    changed[cut:] = some(60, 2)[cut:] * 100
    before, after = window_statistics(features, [5, 30], True), window_statistics(changed, [5, 30], True)
    assert before[:cut].tobytes() == after[:cut].tobytes()
    assert before[:cut].tobytes() == window_statistics(features[:cut], [5, 30], True).tobytes()
    assert (
        window_statistics(features, [5, 30], False)[:cut].tobytes()
        != window_statistics(changed, [5, 30], False)[:cut].tobytes()
    )
