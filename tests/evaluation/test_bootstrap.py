"""The bootstrap: resampled scores are scikit-learn's on the frames drawn; intervals hold what they should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import (
    THRESHOLDS,
    _resampled,
    answered,
    bootstrap,
    draw_videos,
    head_interval_notes,
    interval_notes,
    paired_bootstrap,
)
from rtseg.evaluation.metrics import Video, score_head
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

HEAD = Head("social", ("sniff", "mount", "bite", "other"), ("sniff", "mount", "bite"), "social")


def made(rng: np.random.Generator, n_videos: int, n_frames: int, skill: float = 1.5, decimals: int = 7) -> list[Video]:
    """Videos in which a skilled system sees the label through noise, a rare class, and masked frames."""
    videos: list[Video] = []
    for _ in range(n_videos):
        truth = np.repeat(rng.choice(4, n_frames // 20 + 1, p=(0.3, 0.18, 0.02, 0.5)), 20)[:n_frames].astype(np.int16)
        z = rng.normal(size=(n_frames, 4)) + skill * np.eye(4)[truth] + rng.normal(0, 0.3, 4)
        probs = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        truth[rng.random(n_frames) < 0.1] = IGNORE
        videos.append((probs.round(decimals).astype(np.float32), truth))
    return videos


@pytest.mark.parametrize(("n_frames", "decimals"), [(200, 7), (200, 1), (30_000, 7)])
def test_a_resample_scores_as_scikit_learn_scores_its_frames(n_frames: int, decimals: int) -> None:
    videos = made(np.random.default_rng(n_frames), 5, n_frames, decimals=decimals)
    drawn = draw_videos(5, 3, seed=1)
    f1, precision = _resampled(answered(videos), HEAD, drawn)
    for row, times in enumerate(drawn.astype(int)):
        some = [video for video, n in zip(videos, times, strict=True) for _ in range(n)]
        truth, probs = np.concatenate([y for _, y in some]), np.concatenate([p for p, _ in some])
        truth, probs = truth[truth != IGNORE], probs[truth != IGNORE]
        there = sorted({0, 1, 2} & ({*truth} | {*probs.argmax(1)}))
        assert f1[row] == pytest.approx(f1_score(truth, probs.argmax(1), labels=there, average="macro"))
        areas = [average_precision_score(truth == c, probs[:, c]) for c in range(3) if (truth == c).any()]
        exact = max((truth == c).sum() for c in range(3)) <= THRESHOLDS
        assert precision[row] == pytest.approx(np.mean(areas), abs=1e-9 if exact else 1e-3)


def test_the_values_are_those_of_the_scores_and_lie_between_their_ends() -> None:
    videos = made(np.random.default_rng(0), 12, 400)
    intervals, score = bootstrap(videos, HEAD, n=300), score_head(HEAD, videos, 30.0)
    assert intervals["f1"]["value"] == pytest.approx(score.macro_f1)
    assert intervals["map"]["value"] == pytest.approx(score.mean_average_precision)
    for part in intervals.values():
        assert part["low"] < part["value"] < part["high"]
    assert bootstrap(videos, HEAD, n=300) == intervals
    assert bootstrap(videos, HEAD, n=300, seed=1) != intervals


def test_more_videos_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(3)
    few, many = (bootstrap(made(rng, n, 300), HEAD, n=300)["f1"] for n in (6, 60))
    assert many["high"] - many["low"] < few["high"] - few["low"]


def test_pairing_sees_a_difference_that_lies_within_both_intervals() -> None:
    theirs = made(np.random.default_rng(5), 12, 300, skill=1.0)
    # Ours knows the label of every twentieth frame better, in videos that differ much among themselves.
    ours = [(p.copy(), y) for p, y in theirs]
    for p, y in ours:
        known = np.flatnonzero(y[::20] != IGNORE) * 20
        p[known] = np.eye(4, dtype=np.float32)[y[known]]
    apart = paired_bootstrap(ours, theirs, HEAD, n=300)
    assert apart["f1"]["low"] > 0
    assert apart["map"]["low"] > 0
    assert bootstrap(ours, HEAD, n=300)["f1"]["low"] < bootstrap(theirs, HEAD, n=300)["f1"]["high"]
    back = paired_bootstrap(theirs, ours, HEAD, n=300)
    assert back["f1"]["difference"] == pytest.approx(-apart["f1"]["difference"])
    assert back["f1"]["low"] == pytest.approx(-apart["f1"]["high"])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_system_is_not_ahead_of_itself(seed: int, n_videos: int) -> None:
    videos = made(np.random.default_rng(seed), n_videos, 60)
    for part in paired_bootstrap(videos, videos, HEAD, n=20, seed=seed).values():
        assert part == {"difference": 0.0, "low": 0.0, "high": 0.0} or np.isnan(part["difference"])


def test_frames_that_one_of_two_never_answered_are_left_out_of_both() -> None:
    ours = made(np.random.default_rng(8), 3, 200)
    late = [(p.copy(), y) for p, y in ours]
    for p, _ in late:
        p[-15:] = np.nan
    assert paired_bootstrap(ours, late, HEAD, n=20)["map"] == {"difference": 0.0, "low": 0.0, "high": 0.0}


def test_other_videos_are_refused() -> None:
    ours, theirs = (made(np.random.default_rng(seed), 3, 100) for seed in (1, 2))
    with pytest.raises(SettingError, match=r"the labels of number 0 \(from 0\) differ"):
        paired_bootstrap(ours, theirs, HEAD)
    with pytest.raises(SettingError, match="got 3 and 2"):
        paired_bootstrap(ours, ours[:2], HEAD)


def test_nothing_to_score_is_nan_and_one_video_is_its_own_interval() -> None:
    videos = made(np.random.default_rng(0), 1, 300)
    only = bootstrap(videos, HEAD, n=10)["f1"]
    assert only["low"] == only["high"] == only["value"]
    nothing = bootstrap([(videos[0][0], np.full(300, IGNORE, np.int16))], HEAD, n=10)
    assert all(np.isnan(value) for part in nothing.values() for value in part.values())


def test_intervals_of_heads_are_named_where_they_are_over_other_videos() -> None:
    assert head_interval_notes({"a": 3, "b": 3}) == interval_notes(3)
    assert head_interval_notes({"a": 7, "b": 9}) == head_interval_notes({"a": 7}) == []
    rest = "of fewer than 5 they say little about new animals."
    assert head_interval_notes({"a": 7, "b": 1, "c": 2, "d": 1}) == [
        f"Intervals of b, d are over one video: {rest}",
        f"Intervals of c are over 2 videos: {rest}",
    ]
