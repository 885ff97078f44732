"""Augmentation: each switch does what it says, and what animals do stays the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.config import AugmentSettings
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec, length_power
from rtseg.frames.frame import Frame
from rtseg.frames.resampling import Resampler
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.recordings.recording import IGNORE
from rtseg.training.augment import (
    augment,
    draw_rate,
    film_slower,
    frames_at,
    interpolate,
    interpolate_labels,
    labels_between,
    poses_at,
)

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
    rotate=True,
    mirror=True,
    shift_px=3.0,
    noise_px=1.0,
    scale=0.1,
    drop_points=0.1,
    drop_animal=0.1,
    swap_points=0.1,
    swap_animals=0.1,
    camera_rate=0.6,
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


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_scaled_crop_is_the_poses_at_that_scale(seed: int) -> None:
    """Features of lengths grow by the factor that was drawn, angles do not."""
    spec = FeatureSpec(groups=("within_distance", "between_distance", "speed", "relative_angle", "acceleration"))
    extractor = FeatureExtractor(MICE7, spec, 30.0)
    points, scores = scene(seed=seed % 5)
    new, same = changed(AugmentSettings(scale=0.3), points, scores, seed)
    factor = np.exp(np.random.default_rng(seed).normal(0, 0.3))
    np.testing.assert_allclose(new, CENTER + (points - CENTER) * factor, rtol=1e-4, atol=1e-2)
    assert same.tobytes() == scores.tobytes()
    powers = np.array([length_power(feature) for feature in extractor.features])
    assert set(powers) == {0, 1}
    before, after = (extractor.run(p, scores, ARENA) for p in (points, new))
    # Accelerations are small differences of large places in float32, times 900.
    for power, atol in ((0, 1e-2), (1, 1.0)):
        own = powers == power
        np.testing.assert_allclose(after[:, own], before[:, own] * factor**power, rtol=2e-3, atol=atol)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), share=st.sampled_from([1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0]), n_frames=st.integers(1, 30))
def test_a_slower_camera_is_brought_back_as_when_serving(data: st.DataObject, share: float, n_frames: int) -> None:
    points, scores = scene(n_frames, seed=data.draw(st.integers(0, 9)), missing=0.3)
    # A camera that took every frame at its own rate: what it saw, and what the daemon's rule makes of it.
    new, new_scores = film_slower(points, scores, share, 0.0)
    assert new.shape == points.shape
    camera, camera_scores = poses_at(points, scores, np.clip(np.arange(n_frames + 1) / share, 0, n_frames - 1))
    resampler = Resampler(30 * share, 30)
    served = [
        frame
        for seq in range(n_frames + 1)
        for frame in resampler.push(Frame("s", seq, seq, camera[seq], camera_scores[seq]))
    ]
    for n in range(n_frames):
        np.testing.assert_allclose(new[n], served[n].keypoints, rtol=1e-6)
        np.testing.assert_allclose(new_scores[n], served[n].confidence, rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(share=st.floats(0.5, 1), phase=st.floats(0, 0.99), n_frames=st.integers(1, 40))
def test_what_moves_evenly_looks_the_same_to_a_slower_camera(share: float, phase: float, n_frames: int) -> None:
    t = np.arange(n_frames, dtype=np.float32)[:, None, None, None]
    points = np.broadcast_to(100 + 3 * t, (n_frames, 2, 7, 2)).copy()
    new, scores = film_slower(points, np.ones((n_frames, 2, 7), np.float32), share, phase)
    # But at the ends, where the camera's frames lie outside.
    inside = slice(2, max(n_frames - 2, 2))
    np.testing.assert_allclose(new[inside], points[inside], atol=1e-3)
    assert (scores == 1).all()


def test_a_slower_camera_is_another_one_for_each_crop() -> None:
    points, scores = scene(missing=0.0)
    some = [changed(AugmentSettings(camera_rate=0.5), points, scores, seed)[0] for seed in range(3)]
    assert len({one.tobytes() for one in (points, *some)}) == 4
    same, _ = film_slower(points, scores, 1.0, 0.0)
    assert same.tobytes() == points.tobytes()


@settings(max_examples=50, deadline=None)
@given(data=st.data(), n_frames=st.integers(1, 20))
def test_between_frames_the_nearer_one_stands_in_for_what_is_missing(data: st.DataObject, n_frames: int) -> None:
    points, scores = scene(n_frames, missing=0.4)
    labels = np.arange(n_frames, dtype=np.int16)
    at = np.array(data.draw(st.lists(st.floats(0, n_frames - 1), max_size=20)))
    new, new_scores = poses_at(points, scores, at)
    assert new.dtype == new_scores.dtype == np.float32
    for n, place in enumerate(at):
        early, late = int(place), min(int(place) + 1, n_frames - 1)
        nearer, part = (late if place - early >= 0.5 else early), np.float32(place - early)
        straight = points[early] + (points[late] - points[early]) * part
        expected = np.where(np.isnan(straight), points[nearer], straight)
        np.testing.assert_array_equal(new[n], expected)
        assert labels_between(labels, at)[n] == nearer
        assert (new_scores[n][np.isnan(new[n, ..., 0])] == 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), deviation=st.floats(0.01, 3))
def test_time_runs_up_to_twice_as_fast_and_no_frame_lies_outside(seed: int, deviation: float) -> None:
    rate = draw_rate(AugmentSettings(rate=deviation), np.random.default_rng(seed))
    assert 0.5 <= rate <= 2
    for n in (1, 2, 50, 997):
        last = (frames_at(n, rate) - 1) * rate
        assert n - 1 - rate - 1e-9 < last <= n - 1 + 1e-9
    rng = np.random.default_rng(seed)
    assert draw_rate(AugmentSettings(), rng) == 1
    assert rng.random() == np.random.default_rng(seed).random()  # a switch that is off draws nothing


def test_swapped_points_are_left_and_right_of_one_animal_for_a_while() -> None:
    points, scores = scene(n_frames=3000, missing=0.1)
    new, new_scores = changed(AugmentSettings(swap_points=0.1), points, scores)
    mirror = list(MICE7.mirror)
    swapped = ~np.isclose(new, points, atol=1e-3, equal_nan=True).all(-1)
    np.testing.assert_allclose(new[swapped], points[:, :, mirror][swapped], atol=1e-3)
    assert (new_scores[swapped] == scores[:, :, mirror][swapped]).all()
    single = [k for k, other in enumerate(mirror) if k == other]
    assert not swapped[:, :, single].any()
    pair = swapped[:, 0, MICE7.keypoints.index("left_ear")]
    assert 0.03 < pair.mean() < 0.17
    assert (swapped[:, 1, MICE7.keypoints.index("left_ear")] != pair).any()


@pytest.mark.parametrize("n_animals", [1, 2, 3])
def test_swapped_animals_trade_all_their_points_for_a_while(n_animals: int) -> None:
    points, scores = (np.concatenate([x, x + 1], axis=1)[:, :n_animals] for x in scene(n_frames=3000, missing=0.0))
    skeleton = Skeleton(tuple("abc"[:n_animals]), MICE7.keypoints)
    rng = np.random.default_rng(2)
    new, new_scores = augment(points, scores, AugmentSettings(swap_animals=0.1), skeleton, ARENA, rng)
    order = np.array([[np.isclose(new[:, i], points[:, j], atol=1e-3).all((1, 2)) for j in range(n_animals)]
                      for i in range(n_animals)])  # fmt: skip
    assert (order.sum(0) == 1).all()  # each animal is there once, and whole
    assert (order.sum(1) == 1).all()
    swapped = ~order[0, 0]
    assert (0.03 if n_animals > 1 else -1) < swapped.mean() < 0.3
    np.testing.assert_array_equal(new_scores[~swapped, 0], scores[~swapped, 0])


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
