"""Cameras of other rates: the written rule against a slow one, and live against offline."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import RateError
from rtseg.frames.frame import Frame, checked_frame
from rtseg.frames.resampling import Resampler
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Predictions
from rtseg.recordings.recording import Recording
from tests.live import random_walk

SHAPE = (1, 2)
RATES = [(25, 30), (60, 30), (100, 30), (30, 25), (24, 30), (59.94, 30), (15, 30)]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


def camera_frame(seq: int, seed: int = 0) -> Frame:
    rng = np.random.default_rng((seed, seq))
    points = rng.uniform(0, 100, (*SHAPE, 2))
    points[rng.random(SHAPE) < 0.3] = np.nan
    return checked_frame(points, rng.random(SHAPE), shape=SHAPE, seq=seq, t_source_ns=1000 * seq)


def naive(frames: dict[int, Frame], ratio: Fraction, n: int) -> Frame | None:
    """Model frame n as the rule is written, from all frames at once; None where it is not made."""
    origin, newest = min(frames), max(frames)
    at = origin + n * ratio
    early, late = int(at), -int(-at // 1)
    assert late <= newest
    if at == early:
        return frames.get(early)
    if early in frames and late in frames:
        one, two, w = frames[early], frames[late], np.float32(float(at - early))
        nearer = two if at - early >= Fraction(1, 2) else one
        seen = ~np.isnan(one.keypoints + two.keypoints)
        points = np.where(seen, one.keypoints + (two.keypoints - one.keypoints) * w, nearer.keypoints)
        mixed = one.confidence + (two.confidence - one.confidence) * w
        return one._replace(seq=n, keypoints=points, confidence=np.where(seen[..., 0], mixed, nearer.confidence))
    return frames.get(early if at - early < Fraction(1, 2) else late)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RATES),
    st.integers(0, 10**6),
    st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 9]), min_size=2, max_size=30),
)
def test_the_rule_as_it_is_written(rates: tuple[float, float], first: int, steps: list[int]) -> None:
    resampler = Resampler(*rates)
    ratio = Fraction(rates[0] / rates[1]).limit_denominator(1001)
    seqs = [first, *(first + int(s) for s in np.cumsum(steps))]
    frames = {seq: camera_frame(seq) for seq in seqs}
    made = {}
    for seq in seqs:
        for got in resampler.push(frames[seq]):
            assert got.seq not in made
            made[got.seq] = got
            assert resampler.camera_seq(got.seq) == first - int(-got.seq * ratio // 1)
    last = int((seqs[-1] - first) / ratio)
    for n in range(last + 1):
        expected = naive(frames, ratio, n)
        assert (n in made) == (expected is not None), n
        if expected is not None:
            np.testing.assert_array_equal(made[n].keypoints, expected.keypoints)
            np.testing.assert_array_equal(made[n].confidence, expected.confidence)
    assert list(made) == sorted(made)
    assert max(made) <= last


def test_a_frame_on_the_grid_is_that_frame_and_half_the_frames_are_left_out() -> None:
    resampler = Resampler(60, 30)
    made = [got for seq in range(10) for got in resampler.push(camera_frame(seq))]
    assert [got.seq for got in made] == [0, 1, 2, 3, 4]
    assert [got.t_source_ns for got in made] == [0, 2000, 4000, 6000, 8000]
    assert resampler.delay_s == 0


def test_the_delay_is_under_one_camera_interval() -> None:
    assert Resampler(25, 30).delay_s == pytest.approx(5 / 6 / 25)
    assert Resampler(100, 30).delay_s == pytest.approx(2 / 3 / 100)


@pytest.mark.parametrize("fps", [10.0, 1000.0])
def test_a_camera_too_slow_or_too_fast(fps: float) -> None:
    with pytest.raises(RateError, match="must run at 15 to 600"):
        Resampler(fps, 30.0, "stream 's'")


def at_rate(walk: Recording, fps: float) -> Recording:
    return replace(walk, fps=fps)


def assert_same(live: Predictions, offline: Predictions) -> None:
    assert live.probs.tobytes() == offline.probs.tobytes()
    for name in ("seq", "labels", "quality", "unsure"):
        np.testing.assert_array_equal(getattr(live, name), getattr(offline, name))


@pytest.mark.parametrize("fps", [25.0, 60.0, 100.0])
def test_live_is_offline_with_gaps_and_a_snapshot_between(classifier: Classifier, fps: float) -> None:
    walk = at_rate(random_walk(200, 3), fps)
    offline = classifier.run(walk, resample=True)
    session = classifier.open("s", fps=fps)
    answers = []
    for seq in range(len(walk)):
        if seq == 77:  # broken off, and taken up again
            kept = session.snapshot()
            session.close()
            session = classifier.open("s", fps=fps)
            session.restore(kept)
        answers += session.step(classifier.frame(walk.keypoints[seq], walk.confidence[seq], seq=seq))
        assert session.step(classifier.frame(walk.keypoints[seq], walk.confidence[seq], seq=seq)) == []
    session.close()
    assert_same(Predictions.collect(classifier.bundle.heads, answers), offline)
    assert session.counters.duplicates == len(walk)
    assert len(offline) == pytest.approx(200 * 30 / fps, abs=2)


def test_without_resampling_another_rate_is_refused(classifier: Classifier) -> None:
    with pytest.raises(RateError, match="annotate --resample"):
        classifier.run(at_rate(random_walk(5, 1), 25.0))


def test_the_models_own_rate_is_left_alone(classifier: Classifier) -> None:
    walk = random_walk(50, 1)
    assert_same(classifier.run(walk, resample=True), classifier.run(walk))


def test_a_short_gap_is_filled_and_a_long_one_starts_anew(classifier: Classifier) -> None:
    walk = random_walk(60, 4)
    fill = classifier.bundle.gaps.fill_frames
    for missing, counted in ((10, (1, 0)), (2 * fill + 60, (0, 1))):
        session = classifier.open("s", fps=60.0)
        answers = []
        for t in range(60):
            seq = t if t < 30 else t + missing
            answers += session.step(classifier.frame(walk.keypoints[t], walk.confidence[t], seq=seq))
        assert (session.counters.filled > 0, session.counters.restarts) == (bool(counted[0]), counted[1])
        assert [a.seq % 2 for a in answers] == [0] * len(answers)
        assert session.counters.frames == 60
        session.close()
