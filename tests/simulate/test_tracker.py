"""What the simulated tracker does to true points."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.recordings.bouts import bouts_of
from rtseg.simulate.behaviour import AGGRESSIVE, CALM
from rtseg.simulate.body import ARENA_PX, FPS, Motion, simulate_motion
from rtseg.simulate.plan import draw_plan
from rtseg.simulate.tracker import NEAR_PX, UNSURE, Tracks, drop_unsure, track_points


@pytest.fixture(scope="module")
def motion() -> Motion:
    rng = np.random.default_rng(5)
    return simulate_motion(rng, draw_plan(rng, 40_000, CALM, AGGRESSIVE))


@pytest.fixture(scope="module")
def tracks(motion: Motion) -> Tracks:
    return track_points(np.random.default_rng(6), motion.keypoints)


def errors_px(motion: Motion, tracks: Tracks) -> np.ndarray:
    """(T', 2, 7) distances from the true points in frames without a swap."""
    right = ~tracks.swapped
    return np.linalg.norm(tracks.keypoints[right] - motion.keypoints[right], axis=-1)


def test_points_and_scores_are_finite_and_in_range(tracks: Tracks) -> None:
    assert tracks.keypoints.dtype == tracks.scores.dtype == np.float32
    assert np.isfinite(tracks.keypoints).all()
    assert (tracks.keypoints >= 0).all()
    assert (tracks.keypoints <= np.array(ARENA_PX) - 1).all()
    assert (tracks.scores > 0).all()
    assert (tracks.scores <= 1).all()


def test_most_points_are_good_and_low_scores_mean_large_errors(motion: Motion, tracks: Tracks) -> None:
    error, scores = errors_px(motion, tracks), tracks.scores[~tracks.swapped]
    assert 0.5 < np.median(error) < 4
    assert (scores < UNSURE).mean() < 0.05
    assert np.median(error[scores < UNSURE]) > 2 * np.median(error[scores > 0.8])


def test_points_are_hidden_where_bodies_overlap(motion: Motion, tracks: Tracks) -> None:
    gap = np.linalg.norm(motion.poses[:, 0, :2] - motion.poses[:, 1, :2], axis=-1)
    low = (tracks.scores < 0.7).mean(axis=(1, 2))
    assert low[gap < 40].mean() > 10 * low[gap > 200].mean()


def test_noise_grows_with_speed(motion: Motion, tracks: Tracks) -> None:
    speed = np.linalg.norm(motion.poses[:, :, 3:5], axis=-1)[~tracks.swapped]
    error = np.median(errors_px(motion, tracks), axis=-1)
    assert error[speed > 250].mean() > 1.3 * error[speed < 30].mean()


def test_identities_swap_now_and_then_mostly_when_near(motion: Motion, tracks: Tracks) -> None:
    swaps = [bout for bout in bouts_of(tracks.swapped.astype(np.int8)) if bout.label]
    assert 2 <= len(swaps) <= 40
    assert all(0.3 * FPS - 1 <= bout.stop - bout.start <= 6 * FPS for bout in swaps)
    neck = motion.keypoints[:, :, 3]
    gaps = [np.linalg.norm(neck[b.start, 0] - neck[b.start, 1]) for b in swaps]
    assert np.median(gaps) < 2 * NEAR_PX
    there = swaps[0].start
    own, other = motion.keypoints[there], motion.keypoints[there, ::-1]
    seen = tracks.keypoints[there]
    assert np.linalg.norm(seen - other, axis=-1).mean() < np.linalg.norm(seen - own, axis=-1).mean()


def test_unsure_points_can_be_dropped(tracks: Tracks) -> None:
    before = tracks.keypoints.copy()
    dropped = drop_unsure(tracks)
    missing = np.isnan(dropped.keypoints).all(axis=-1)
    np.testing.assert_array_equal(missing, tracks.scores < UNSURE)
    assert missing.any()
    assert (dropped.scores[missing] == 0).all()
    np.testing.assert_array_equal(dropped.keypoints[~missing], tracks.keypoints[~missing])
    np.testing.assert_array_equal(tracks.keypoints, before)
