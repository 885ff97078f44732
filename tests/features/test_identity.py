"""Animals that a tracker mixes up: seen, flagged, and traded back or begun anew, the same live and offline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import SettingError
from rtseg.features.identity import advance, init_state
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Predictions, Quality
from rtseg.recordings.recording import Recording
from tests.live import random_walk
from tests.naive import jumps

SWAPS = (40, 90)


def calm_walk(n_frames: int = 150) -> Recording:
    """Two animals far apart, every point seen: nothing to mix up but what a test mixes up."""
    walk = random_walk(n_frames, 5)
    rng = np.random.default_rng(6)
    places = np.array([[200.0, 200.0], [600.0, 300.0]])[None, :, None] + rng.normal(0, 15, (1, 2, 7, 2))
    points = (places + np.cumsum(rng.normal(0, 0.5, (n_frames, 2, 1, 2)), axis=0)).astype(np.float32)
    return replace(walk, keypoints=points, confidence=np.full((n_frames, 2, 7), 0.9, np.float32))


def mixed_up(walk: Recording) -> Recording:
    points, scores = walk.keypoints.copy(), walk.confidence.copy()
    here = slice(*SWAPS)
    points[here], scores[here] = points[here, ::-1], scores[here, ::-1]
    return replace(walk, keypoints=points, confidence=scores)


def run_live(classifier: Classifier, walk: Recording) -> tuple[Predictions, int]:
    session = classifier.open("s")
    answers = []
    for seq in range(len(walk)):
        answers += session.step(classifier.frame(walk.keypoints[seq], walk.confidence[seq], seq=seq))
        if seq in (39, 60):  # snapshots keep who is who
            kept = session.snapshot()
            session.reset()
            session.restore(kept)
    session.close()
    return Predictions.collect(classifier.bundle.heads, answers), session.counters.identity_jumps


@pytest.mark.parametrize("mode", ["flag", "swap", "reset"])
def test_live_is_offline_and_jumps_are_flagged(tiny_bundle: Path, mode: str) -> None:
    classifier, walk = load(tiny_bundle, identity=mode), mixed_up(calm_walk())
    before = walk.keypoints.tobytes()
    offline = classifier.run(walk)
    live, counted = run_live(classifier, walk)
    assert walk.keypoints.tobytes() == before
    assert live.probs.tobytes() == offline.probs.tobytes()
    np.testing.assert_array_equal(live.quality, offline.quality)
    np.testing.assert_array_equal(live.labels, offline.labels)
    assert np.flatnonzero(live.quality & Quality.IDENTITY_JUMP).tolist() == list(SWAPS)
    assert counted == 2
    resets = np.flatnonzero(live.quality & Quality.RESET).tolist()
    assert resets == (list(SWAPS) if mode == "reset" else [])


def test_traded_back_is_as_if_never_mixed_up(tiny_bundle: Path) -> None:
    walk = calm_walk()
    swap, flag = load(tiny_bundle, identity="swap"), load(tiny_bundle, identity="flag")
    np.testing.assert_array_equal(swap.run(mixed_up(walk)).probs, flag.run(walk).probs)
    assert (flag.run(mixed_up(walk)).probs != flag.run(walk).probs).any()


def test_a_new_start_is_a_fresh_stream(tiny_bundle: Path) -> None:
    walk, classifier = mixed_up(calm_walk()), load(tiny_bundle, identity="reset")
    rest = replace(walk, keypoints=walk.keypoints[90:], confidence=walk.confidence[90:])
    np.testing.assert_array_equal(classifier.run(walk).probs[90:], classifier.run(rest).probs)


def test_animals_that_only_move_are_left_alone(tiny_bundle: Path) -> None:
    quality = load(tiny_bundle).run(calm_walk()).quality
    assert not (quality & Quality.IDENTITY_JUMP).any()


@pytest.mark.parametrize("mode", ["flag", "swap", "reset"])
@pytest.mark.parametrize("unseen", [0, 1])
def test_an_animal_alone_is_never_taken_for_another(tiny_bundle: Path, mode: str, unseen: int) -> None:
    """The resident before the intruder comes: of the other assignment nothing is known."""
    walk = random_walk(200, 11)
    points, scores = walk.keypoints.copy(), walk.confidence.copy()
    points[:, 1 - unseen] += 15 * np.arange(200, dtype=np.float32)[:, None, None]  # faster than any margin
    points[:150, unseen], scores[:150, unseen] = np.nan, 0
    alone = replace(walk, keypoints=points, confidence=scores)
    classifier = load(tiny_bundle, identity=mode)
    answers = classifier.run(alone)
    assert not (answers.quality[:150] & (Quality.IDENTITY_JUMP | Quality.RESET)).any()
    plain = load(tiny_bundle).run(alone)
    np.testing.assert_array_equal(answers.probs[:150], plain.probs[:150])


@settings(max_examples=60, deadline=None)
@given(n_animals=st.integers(2, 4), n_points=st.integers(1, 3), swap=st.booleans(), seed=st.integers(0, 10**6))
def test_jumps_are_those_of_the_rule(n_animals: int, n_points: int, swap: bool, seed: int) -> None:
    """For any number of animals, however much of them is missing: two are mixed up where that is known."""
    rng = np.random.default_rng(seed)
    shape = (12, n_animals, n_points)
    points = rng.uniform(0, 60, (*shape, 2)).astype(np.float32)
    points[rng.random(shape) < rng.choice([0.0, 0.4, 0.8])] = np.nan
    points[: rng.integers(0, 12), rng.integers(n_animals)] = np.nan  # not seen for a while
    scores = np.where(np.isnan(points[..., 0]), 0, 1).astype(np.float32)
    expected, renamed = jumps(points, margin=5.0, cap=40.0, swap=swap)
    state, quality = init_state(1, shape[1:]), np.zeros(12, np.int32)
    rule = np.array([5.0, 40.0, float(swap)])
    advance(points, scores, np.zeros(12, np.int32), state, rule, np.ones(12), 1, quality)
    assert quality.tolist() == expected
    np.testing.assert_array_equal(points, renamed)


def test_an_unknown_way_to_treat_identities_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(SettingError, match="flag, swap, reset; got 'guess'"):
        load(tiny_bundle, identity="guess")
