"""Faults come in the amount that was asked for, from the seed alone, and change nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.recordings.recording import Recording
from rtseg.simulate.tasks import simulate_sequence
from rtseg.study import faults

Change = Callable[[Recording, float, np.random.Generator], Recording]
CHANGES: dict[str, tuple[Change, float]] = {
    "points": (faults.drop_points, 0.3),
    "animal": (faults.drop_animal, 0.3),
    "swaps": (faults.swap_identities, 500.0),
    "noise": (faults.jitter, 2.0),
}


@pytest.fixture(scope="module")
def recording() -> Recording:
    return simulate_sequence(3, 3000, name="r", aggressive=True)[0]


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0.05, 0.95), mean=st.floats(1, 30), seed=st.integers(0, 1000))
def test_stretches_cover_the_share_that_was_asked_for(share: float, mean: float, seed: int) -> None:
    n = 10_000
    mask = faults.stretches(np.random.default_rng(seed), n, share, mean)
    assert mask.shape == (n,)
    on = max(mean, share / (1 - share))
    memory = on * (1 - share)  # frames after which the chain has forgotten where it was
    deviation = np.sqrt(share * (1 - share) * (2 * memory + 1) / n)
    assert abs(mask.mean() - share) < 6 * deviation


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share: float) -> None:
    assert (faults.stretches(np.random.default_rng(0), 50, share, 5.0) == bool(share)).all()


@pytest.mark.parametrize("name", CHANGES)
def test_the_same_generator_gives_the_same_faults_and_leaves_the_recording_alone(
    name: str, recording: Recording
) -> None:
    change, level = CHANGES[name]
    before = recording.keypoints.copy(), recording.confidence.copy()
    one, same, other = (change(recording, level, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.keypoints, same.keypoints)
    np.testing.assert_array_equal(one.confidence, same.confidence)
    assert not np.array_equal(one.keypoints, other.keypoints, equal_nan=True)
    np.testing.assert_array_equal(recording.keypoints, before[0])
    np.testing.assert_array_equal(recording.confidence, before[1])
    assert one.keypoints.dtype == one.confidence.dtype == np.float32


@pytest.mark.parametrize("name", CHANGES)
def test_none_of_a_fault_is_none(name: str, recording: Recording) -> None:
    clean = CHANGES[name][0](recording, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(clean.keypoints, recording.keypoints)
    np.testing.assert_array_equal(clean.confidence, recording.confidence)


@pytest.mark.parametrize(("name", "share"), [("points", 0.2), ("points", 0.6), ("animal", 0.4)])
def test_what_is_missing_is_missing_in_both(name: str, share: float, recording: Recording) -> None:
    changed = CHANGES[name][0](recording, share, np.random.default_rng(4))
    gone = np.isnan(changed.keypoints).any(-1)
    was_gone = np.isnan(recording.keypoints).any(-1)
    assert (changed.confidence[gone] == 0).all()
    assert gone[was_gone].all()
    kept = ~gone
    np.testing.assert_array_equal(changed.keypoints[kept], recording.keypoints[kept])
    whole = gone.all(axis=2)
    if name == "animal":
        assert whole.any(axis=1).mean() == pytest.approx(share, abs=0.15)
        assert whole.sum(axis=1).max() <= 1 + (was_gone.all(axis=2).sum(axis=1).max())
        assert whole.any(axis=0).all()  # now this one, now that
    else:
        expected = share * (1 - was_gone.mean()) + was_gone.mean()
        assert gone.mean() == pytest.approx(expected, abs=0.06)


def test_swapped_animals_are_the_same_animals(recording: Recording) -> None:
    changed = faults.swap_identities(recording, 500.0, np.random.default_rng(0))
    straight = (changed.keypoints == recording.keypoints) | np.isnan(recording.keypoints)
    crossed = (changed.keypoints == recording.keypoints[:, ::-1]) | np.isnan(recording.keypoints[:, ::-1])
    straight, crossed = (np.all(x, axis=(1, 2, 3)) for x in (straight, crossed))
    assert (straight | crossed).all()
    flips = np.abs(np.diff(crossed.astype(int))).sum()
    assert 0.5 < flips / (500 * len(recording) / 18000) < 1.6  # 83 are expected in 100 seconds


def test_noise_has_its_deviation(recording: Recording) -> None:
    noise = faults.jitter(recording, 3.0, np.random.default_rng(0)).keypoints - recording.keypoints
    assert np.nanstd(noise) == pytest.approx(3.0, rel=0.02)


def test_frames_that_are_lost(recording: Recording) -> None:
    came = faults.frames_that_arrive(recording, 0.2, np.random.default_rng(1))
    assert came.mean() == pytest.approx(0.8, abs=0.05)
    assert came[0]
    assert came[-1]
    assert faults.frames_that_arrive(recording, 0.0, np.random.default_rng(1)).all()
