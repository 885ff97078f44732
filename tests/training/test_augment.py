"""Augmentation: each switch does what it says, and what animals do stays the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.config import AugmentSettings
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.recordings.recording import IGNORE
from rtseg.training.augment import augment, interpolate, interpolate_labels

F32 = NDArray[np.float32]
ARENA = (0.0, 0.0, 1000.0, 600.0)
CENTER = np.array([500.0, 300.0])


def scene(n_frames: int = 40, seed: int = 0, missing: float = 0.1) -> tuple[F32, F32]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(100, 500, (n_frames, 2, 7, 2)).astype(np.float32)
    scores = rng.uniform(0.1, 1, (n_frames, 2, 7)).astype(np.float32)
    gone = rng.random((n_frames, 2, 7)) < missing
    points[gone], scores[gone] = np.nan, 0
    return points, scores


def distances(points: F32) -> NDArray[np.float64]:
    """All distances within a frame (T, A * K, A * K)."""
    flat = points.reshape(len(points), -1, 2).astype(np.float64)
    return np.asarray(np.linalg.norm(flat[:, :, None] - flat[:, None], axis=-1))


def changed(settings: AugmentSettings, points: F32, scores: F32, seed: int = 0) -> tuple[F32, F32]:
    return augment(points, scores, settings, MICE7, ARENA, np.random.default_rng(seed))


def mirrored_seed() -> int:
    """A seed whose first coin says mirror."""
    return next(s for s in range(50) if np.random.default_rng(s).random() < 0.5)


EVERYTHING = AugmentSettings(
    rotate=True, mirror=True, shift_px=3.0, noise_px=1.0, scale=0.1, drop_points=0.1, drop_animal=0.1
)


def test_nothing_on_changes_nothing() -> None:
    points, scores = scene()
    new, same = changed(AugmentSettings(), points, scores)
    np.testing.assert_allclose(new, points, atol=1e-4)  # moved to the arena's middle and back, in float32
    assert same.tobytes() == scores.tobytes()


@pytest.mark.parametrize("seed", range(4))
def test_inputs_stay_as_they_are_and_outputs_are_valid(seed: int) -> None:
    points, scores = scene()
    before = points.tobytes(), scores.tobytes()
    new, new_scores = changed(EVERYTHING, points, scores, seed)
    assert (points.tobytes(), scores.tobytes()) == before
    assert not np.shares_memory(new, points)
    assert not np.shares_memory(new_scores, scores)
    assert new.dtype == new_scores.dtype == np.float32
    assert new.flags.c_contiguous
    assert new_scores.flags.c_contiguous
    assert (np.isnan(new).any(-1) == np.isnan(new).all(-1)).all()
    assert (new_scores[np.isnan(new[..., 0])] == 0).all()


def test_the_same_random_state_gives_the_same_change() -> None:
    points, scores = scene()
    one, two, other = (changed(EVERYTHING, points, scores, seed)[0].tobytes() for seed in (3, 3, 4))
    assert one == two != other


def test_a_mirror_swaps_left_and_right_points_about_the_middle() -> None:
    points, scores = scene(missing=0.0)
    settings, seen = AugmentSettings(mirror=True), set()
    for seed in range(20):
        new, new_scores = changed(settings, points, scores, seed)
        if np.allclose(new, points, atol=1e-4):
            seen.add("as it was")
            assert new_scores.tobytes() == scores.tobytes()
            continue
        seen.add("mirrored")
        names = MICE7.keypoints
        for left, right in (*MICE7.pairs, ("nose", "nose"), ("neck", "neck"), ("tail_base", "tail_base")):
            k, other = names.index(left), names.index(right)
            np.testing.assert_allclose(new[:, :, k, 0], 1000 - points[:, :, other, 0], atol=1e-3)
            np.testing.assert_allclose(new[:, :, other, 0], 1000 - points[:, :, k, 0], atol=1e-3)
            np.testing.assert_allclose(new[:, :, k, 1], points[:, :, other, 1], atol=1e-3)
            assert (new_scores[:, :, k] == scores[:, :, other]).all()
    assert seen == {"mirrored", "as it was"}


def test_a_mirror_keeps_distances_and_turns_the_body_over() -> None:
    """The left ear stays on the left of the body axis: that is what the exchange of the points is for."""
    points, scores = scene(missing=0.0)
    new, _ = changed(AugmentSettings(mirror=True), points, scores, mirrored_seed())
    order = [a * 7 + k for a in range(2) for k in MICE7.mirror]
    np.testing.assert_allclose(distances(new), distances(points)[:, order][:, :, order], atol=1e-2)

    def side(p: F32) -> NDArray[np.bool_]:
        nose, tail, ear = (p[:, :, MICE7.keypoints.index(n)] for n in ("nose", "tail_base", "left_ear"))
        axis, arm = nose - tail, ear - tail
        return np.asarray(axis[..., 0] * arm[..., 1] > axis[..., 1] * arm[..., 0])

    nose, tail, right = (points[:, :, MICE7.keypoints.index(n)] for n in ("nose", "tail_base", "right_ear"))
    axis, arm = nose - tail, right - tail
    was_right = axis[..., 0] * arm[..., 1] > axis[..., 1] * arm[..., 0]
    assert (side(new) == ~was_right).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_rotation_keeps_distances_and_the_arenas_middle(seed: int) -> None:
    points, scores = scene(seed=seed % 7)
    new, new_scores = changed(AugmentSettings(rotate=True), points, scores, seed)
    np.testing.assert_allclose(distances(new), distances(points), atol=5e-3)
    before, after = points - CENTER, new - CENTER
    np.testing.assert_allclose(np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1), atol=5e-3)
    # One turn for all points and frames, and no mirror.
    known = ~np.isnan(points[..., 0])
    was, now = (p[known][:, 0] + 1j * p[known][:, 1] for p in (before, after))
    turn = now[np.abs(was).argmax()] / was[np.abs(was).argmax()]
    np.testing.assert_allclose(now, was * turn, atol=5e-3)
    assert new_scores.tobytes() == scores.tobytes()


def test_a_shift_is_one_for_all_and_noise_is_not() -> None:
    points, scores = scene(n_frames=400)
    moved = changed(AugmentSettings(shift_px=20.0), points, scores, 1)[0] - points
    moved = moved[~np.isnan(moved[..., 0])]
    assert np.ptp(moved, axis=0).max() < 1e-3
    assert np.abs(moved[0]).max() > 1
    noise = changed(AugmentSettings(noise_px=2.0), points, scores, 1)[0] - points
    assert np.nanstd(noise) == pytest.approx(2.0, rel=0.03)
    assert (np.isnan(noise) == np.isnan(points)).all()


def test_a_scale_is_about_the_middle() -> None:
    points, scores = scene(missing=0.0)
    new, _ = changed(AugmentSettings(scale=0.2), points, scores, 5)
    factor = (new - CENTER) / (points - CENTER)
    kept = np.abs(points - CENTER) > 5
    assert np.ptp(factor[kept]) < 1e-3
    assert abs(math.log(factor[kept][0])) > 0.01


def test_dropped_points_are_missing_with_confidence_zero_for_a_while() -> None:
    points, scores = scene(n_frames=3000, missing=0.0)
    new, new_scores = changed(AugmentSettings(drop_points=0.1), points, scores)
    gone = np.isnan(new).any(-1)
    assert (np.isnan(new).all(-1) == gone).all()
    assert (new_scores[gone] == 0).all()
    assert (new_scores[~gone] == scores[~gone]).all()
    np.testing.assert_allclose(new[~gone], points[~gone], atol=1e-4)
    assert 0.05 < gone.mean() < 0.15
    starts = gone & ~np.concatenate((np.zeros((1, 2, 7), bool), gone[:-1]))
    assert 8 < gone.sum() / starts.sum() < 40  # frames in a stretch, about half a second
    assert not (gone == gone[:, :, :1]).all()  # points drop out one by one


def test_a_dropped_animal_is_missing_altogether() -> None:
    points, scores = scene(n_frames=3000, missing=0.0)
    new, new_scores = changed(AugmentSettings(drop_animal=0.1), points, scores)
    gone = np.isnan(new[..., 0])
    assert (gone == gone[:, :, :1]).all()
    assert not (gone[:, 0] == gone[:, 1]).all()
    assert 0.05 < gone.mean() < 0.15
    assert (new_scores[gone] == 0).all()


@settings(max_examples=60, deadline=None)
@given(
    factor=st.integers(2, 5),
    n_frames=st.integers(3, 12),
    curve=st.tuples(*[st.integers(-8, 8)] * 3, st.sampled_from([1, 2])),
)
def test_interpolation_reproduces_a_parabola(factor: int, n_frames: int, curve: tuple[int, int, int, int]) -> None:
    a, b, c, d = curve

    def at(t: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.stack([a * t**2 + b * t + c, c * t**2 - d * t + 300.0], -1)[:, None, None]

    points = at(np.arange(n_frames, dtype=np.float64)).astype(np.float32)
    new, scores = interpolate(points, np.ones((n_frames, 1, 1), np.float32), factor)
    assert new.shape == ((n_frames - 1) * factor + 1, 1, 1, 2)
    assert scores.shape == new.shape[:3]
    np.testing.assert_allclose(new, at(np.arange(len(new)) / factor), rtol=1e-5, atol=1e-3)
    if factor in (2, 4):  # quarters are exact in float32
        assert (new == at(np.arange(len(new)) / factor)).all()


def test_interpolation_keeps_true_frames_and_never_invents_a_point() -> None:
    points, scores = scene(n_frames=30, missing=0.3)
    new, new_scores = interpolate(points, scores, 3)
    assert new[::3].tobytes() == points.tobytes()
    assert new_scores[::3].tobytes() == scores.tobytes()
    gone, known = np.isnan(points[..., 0]), ~np.isnan(new[..., 0])
    for t in range(29):
        for step in (1, 2):
            at = 3 * t + step
            assert (known[at] == ~(gone[t] | gone[t + 1])).all()
            assert (new_scores[at][known[at]] == np.minimum(scores[t], scores[t + 1])[known[at]]).all()
            assert (new_scores[at][~known[at]] == 0).all()


def test_interpolation_is_straight_where_the_third_point_is_missing() -> None:
    points = np.array([0, 10, np.nan, 40, 70], np.float32)[:, None, None, None].repeat(2, -1)
    new, _ = interpolate(points, np.ones((5, 1, 1), np.float32), 2)
    assert new[1, 0, 0, 0] == 5.0
    assert np.isnan(new[3:6:2, 0, 0, 0]).all()
    assert new[7, 0, 0, 0] == 55.0


def test_interpolation_of_next_to_nothing() -> None:
    for n_frames in (0, 1, 2):
        points, scores = scene(n_frames=n_frames, missing=0.0)
        new, new_scores = interpolate(points, scores, 3)
        labels = interpolate_labels(np.arange(n_frames, dtype=np.int16), 3)
        assert len(new) == len(new_scores) == len(labels) == max((n_frames - 1) * 3 + 1, n_frames)
    np.testing.assert_allclose(new[1], points[0] + (points[1] - points[0]) / 3, rtol=1e-6)


def test_a_factor_of_one_is_off() -> None:
    points, scores = scene()
    labels = np.arange(40, dtype=np.int16)
    assert interpolate(points, scores, 1)[0].tobytes() == points.tobytes()
    assert interpolate(points, scores, 1)[1].tobytes() == scores.tobytes()
    assert interpolate_labels(labels, 1).tobytes() == labels.tobytes()


def test_new_frames_take_the_next_frames_label() -> None:
    labels = np.array([0, 2, IGNORE, 1], np.int16)
    new = interpolate_labels(labels, 3)
    assert new.tolist() == [0, 2, 2, 2, IGNORE, IGNORE, IGNORE, 1, 1, 1]
    assert new.dtype == np.int16
    assert new[::3].tolist() == labels.tolist()


def test_a_skeleton_without_pairs_is_mirrored_in_place() -> None:
    points, scores = scene(missing=0.0)
    plain = Skeleton(MICE7.animals, MICE7.keypoints)
    new, _ = augment(points, scores, AugmentSettings(mirror=True), plain, ARENA, np.random.default_rng(mirrored_seed()))
    np.testing.assert_allclose(new[..., 0], 1000 - points[..., 0], atol=1e-3)
