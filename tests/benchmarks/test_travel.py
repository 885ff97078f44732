"""benchmarks/travel.py: what other cameras film, what is held out, and that the baseline knows no future."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import travel_small
from hypothesis import given, settings
from hypothesis import strategies as st
from travel import TITLES, WAYS, page, write_part
from travel_rates import CONDITIONS, OWN, Condition, answers_about, film
from travel_settings import arena_box, places_of
from window_baseline import KINDS, fit_and_predict, window_features

import rtseg
from rtseg.config import Recipe, load_settings
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import Recording
from rtseg.training.task import Example
from tests.features.scenes import wander
from tests.project.scenes import regular_bouts, write_boris, write_poses

N_FRAMES = 120


@pytest.fixture(scope="module")
def recording() -> Recording:
    points, scores = wander(MICE7.shape, N_FRAMES, seed=1, missing=0.3)
    return Recording("one", MICE7, points, scores, 30.0)


def test_a_camera_of_half_the_rate_shows_every_second_frame(recording: Recording) -> None:
    slow = film(recording, CONDITIONS["15 fps"])
    assert slow.fps == 15
    assert slow.keypoints.tobytes() == np.ascontiguousarray(recording.keypoints[::2]).tobytes()
    assert slow.source_times().tolist() == recording.source_times()[::2].tolist()


def test_a_camera_of_twice_the_rate_shows_every_frame_and_one_between_two(recording: Recording) -> None:
    fast = film(recording, CONDITIONS["60 fps"])
    assert len(fast) == 2 * N_FRAMES - 1
    assert fast.keypoints[::2].tobytes() == recording.keypoints.tobytes()
    between = (recording.keypoints[1:] + recording.keypoints[:-1]) / 2
    known = np.isfinite(between)
    np.testing.assert_allclose(fast.keypoints[1::2][known], between[known], rtol=1e-6)
    late = film(recording, CONDITIONS["60 fps, half a frame later"])
    assert late.keypoints.tobytes() == np.ascontiguousarray(fast.keypoints[1:]).tobytes()
    assert (late.source_times() == fast.source_times()[1:]).all()


def test_a_nearer_camera_shows_the_same_frames_larger(recording: Recording) -> None:
    near = film(recording, CONDITIONS["scale 2"])
    assert near.keypoints.tobytes() == (recording.keypoints * 2).tobytes()
    assert (near.fps, len(near)) == (30, N_FRAMES)


def test_frames_that_are_not_there_cannot_be_filmed_at_another_rate(recording: Recording) -> None:
    points = recording.keypoints.copy()
    points[5] = np.nan
    absent = np.arange(N_FRAMES) == 5
    holed = Recording("one", MICE7, points, recording.confidence, 30.0, absent=absent)
    with pytest.raises(ValueError, match="one lacks frames"):
        film(holed, CONDITIONS["15 fps"])
    assert film(holed, CONDITIONS[OWN]).absent is not None


def test_answers_are_about_the_recordings_own_frames(recording: Recording, tiny_bundle: Path) -> None:
    classifier = rtseg.load(tiny_bundle, "numba")
    own = answers_about(classifier, recording, "task1", Condition())
    assert own.tobytes() == np.ascontiguousarray(classifier.run(recording).of("task1")).tobytes()
    # Every second frame of such a camera is one of the recording's, and the resampler takes no other.
    twice = answers_about(classifier, recording, "task1", CONDITIONS["60 fps"])
    assert twice.tobytes() == own.tobytes()
    half = answers_about(classifier, recording, "task1", CONDITIONS["15 fps"])
    answered = np.isfinite(half[:, 0])
    assert answered[: N_FRAMES - 1].all()
    assert not answered[N_FRAMES - 1], "the last frame lies behind the slow camera's last one"
    late = answers_about(classifier, recording, "task1", CONDITIONS["60 fps, half a frame later"])
    assert np.flatnonzero(np.isnan(late[:, 0])).tolist() == [0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(1, 79), shape=st.sampled_from([(1, 4), (2, 1), (2, 3)]))
def test_the_baseline_knows_no_future(seed: int, cut: int, shape: tuple[int, int]) -> None:
    points, _ = wander(shape, 80, seed, missing=0.4)
    changed = points.copy()
    changed[cut:] += np.random.default_rng(seed).normal(0, 50, changed[cut:].shape).astype(np.float32)
    before, after = window_features(points, 30.0), window_features(changed, 30.0)
    # pandas adds to a window and takes away from it, so its sums may round by what came before; not by what comes.
    np.testing.assert_array_equal(before[:cut], after[:cut])


def test_the_baselines_windows_are_what_they_say() -> None:
    points = np.zeros((40, 1, 3, 2), np.float32)
    points[:, 0, :, 0] = np.arange(40)[:, None] * 2  # 2 px a frame
    points[:, 0, 1, 1], points[:, 0, 2, 0] = 3, points[:, 0, 2, 0] + 4
    table = window_features(points, 10.0, windows_s=(0.5,))
    speeds, distances, angle = table[:, :3], table[:, 3:6], table[:, 6]
    assert speeds[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(speeds[1:], 20.0)
    np.testing.assert_allclose(distances[5], [3, 4, 5])
    np.testing.assert_allclose(angle, np.arctan2(4, 3))  # at the middle one of the three points
    mean, deviation, low, high = (table[:, 7 + 7 * i] for i in range(4))  # of the first point's speed
    assert (mean[1], low[1], high[1]) == (10, 0, 20)
    np.testing.assert_allclose((mean[6:], low[6:], high[6:]), 20.0)
    np.testing.assert_allclose(deviation[6:], 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_baseline_learns_what_can_be_learnt(kind: str) -> None:
    """An animal that runs and stops; a class that training never shows gets nearly nothing."""
    pytest.importorskip("xgboost")
    heads = (Head("h", ("still", "run", "never"), ("run",), "h"),)
    runs = np.repeat(np.arange(12) % 2, 50)
    points = np.cumsum(np.random.default_rng(0).normal(0, 0.1 + 5 * runs[:, None, None, None], (600, 1, 2, 2)), axis=0)
    example = Example("e", points.astype(np.float32), np.ones((600, 1, 2), np.float32), runs[:, None].astype(np.int16))
    first, second = (travel_small.cut(example, name, a, a + 300) for name, a in (("a", 0), ("b", 300)))
    answers = fit_and_predict(kind, [first], [second, travel_small.cut(second, "end", 200, 300)], heads, 30.0, seed=0)
    probs = answers["b"]
    assert answers["end"].shape == (100, 3)
    assert probs.shape == (300, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    assert (probs.argmax(axis=1) == second.labels[:, 0]).mean() > 0.9
    assert probs[:, 2].max() < 0.01


@given(
    cuts=st.lists(st.integers(1, 500), min_size=4, max_size=10, unique=True),
    margin=st.integers(0, 80),
    data=st.data(),
)
def test_nothing_near_a_held_out_block_is_trained_on(cuts: list[int], margin: int, data: st.DataObject) -> None:
    ends = [0, *sorted(cuts)]
    held = sorted(data.draw(st.sets(st.integers(0, len(ends) - 2), min_size=1)))
    ranges = travel_small.ranges_outside(ends, held, margin)
    free = np.ones(ends[-1], np.bool_)
    for block in held:
        free[max(0, ends[block] - margin) : ends[block + 1] + margin] = False
    used = np.zeros(ends[-1], np.int64)
    for start, stop in ranges:
        used[start:stop] += 1
    assert (used == free).all()


def test_a_scene_is_what_init_writes(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    write_poses(folder / "video.csv")
    write_boris(folder / "video_events.csv", regular_bouts())
    scene = travel_small.load_scene(folder, tmp_path / "work")
    assert scene.dataset.heads[0].scored == ("sniff",)
    ends = scene.cuts(6, 0, len(scene.whole))
    labelled = np.diff([int(np.searchsorted(scene.labelled, end)) for end in ends])
    assert labelled.max() - labelled.min() <= 1
    recipe = travel_small.default_recipe(scene, [scene.part("first", 0, 900)], 2, tmp_path / "recipe")
    project = travel_small.write_project(scene.project, tmp_path / "own")
    written = load_settings(project[1], Recipe)
    assert recipe.train.seed == written.train.seed + 2
    assert recipe.features == written.features
    assert recipe.model == written.model


def test_videos_of_one_place_of_the_camera_are_found() -> None:
    examples = []
    for number in range(9):
        points, scores = wander((2, 3), 60, seed=number, missing=0.0)
        middle = np.nanmean(points, axis=(0, 1, 2))
        points = points - middle + np.float32([400.0 * (number % 3), 100.0])
        examples.append(Example(str(number), points, np.maximum(scores, 0.9), np.zeros((60, 1), np.int16)))
    assert sorted(places_of(examples)) == [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]
    box = arena_box(examples[0])
    assert (box[0], box[1]) < (box[2], box[3])


def test_parts_replace_their_own_section_only(tmp_path: Path) -> None:
    change = {key: {"difference": -0.01, "low": -0.02, "high": 0.0} for key in ("f1", "map")}
    seeds = [{"f1": 0.8, "map": 0.9, "segmental_f1_50": 50.0}]
    conditions = {name: {"seeds": seeds, **({} if name == OWN else {"change": change})} for name in CONDITIONS}
    about = {"command": "python", "date": "today", "commit": None, "machine": {"cpu": "c", "cores_usable": 2}}
    part = {
        "remarks": ["Of trials."],
        "head": "S1",
        "videos": 12,
        "first": "px",
        "systems": {"px": {"seeds": 1, "conditions": conditions}},
    }
    file = tmp_path / "travel.json"
    write_part(file, "settings", about | {"places": [], "scores": {}, "body_ahead": {}})
    write_part(file, "rates", about | part)
    whole = json.loads(file.read_text(encoding="utf-8"))
    assert list(whole) == ["rates", "settings"]
    text = file.with_suffix(".md").read_text(encoding="utf-8")
    assert text == page(whole)
    assert all(f"## {TITLES[name]}" in text for name in whole)
    assert "- Of trials.\n\n12 validation" in text
    assert "-0.010 [-0.020, +0.000]" in text
    assert set(WAYS) == {"px", "body", "px-camera", "body-camera"}
