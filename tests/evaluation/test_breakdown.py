"""Confusion, boundaries, missing points and abstention: hand-made cases, and parts that add up to the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from rtseg.evaluation.breakdown import abstention, boundary_errors, by_missing_points, confusion, near_boundaries
from rtseg.evaluation.metrics import Video, macro_f1, mean_average_precision, score_head
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from tests.evaluation.test_metrics import bouts, labels_of, sure_of

HEAD = Head("social", ("a", "b", "c"), ("a", "b"), "social")


def made(seed: int, n_videos: int = 3, n_frames: int = 200) -> list[Video]:
    rng = np.random.default_rng(seed)
    videos: list[Video] = []
    for _ in range(n_videos):
        truth = bouts(rng, n_frames, 3)
        probs = rng.random((n_frames, 3)) + 0.8 * np.eye(3)[truth]
        truth[rng.random(n_frames) < 0.1] = IGNORE
        videos.append(((probs / probs.sum(1, keepdims=True)).astype(np.float32), truth))
    return videos


def test_confusion_equals_scikit_learns() -> None:
    videos = made(0)
    truth = np.concatenate([y for _, y in videos])
    guess = np.concatenate([p.argmax(1) for p, _ in videos])
    kept = truth != IGNORE
    expected = confusion_matrix(truth[kept], guess[kept], labels=[0, 1, 2])
    assert confusion(HEAD, videos) == {"classes": ["a", "b", "c"], "counts": expected.tolist()}


def test_the_short_ways_to_a_score_give_the_score() -> None:
    videos, score = made(1), score_head(HEAD, made(1), 30.0)
    assert macro_f1(HEAD, videos) == pytest.approx(score.macro_f1)
    assert mean_average_precision(HEAD, videos) == pytest.approx(score.mean_average_precision)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("aaaaaabbbbbb", "...######..."),  # the change lies between 5 and 6: three frames to either side...
        ("aaaaaaaaaaaa", "............"),
        ("abbbbbbbbbbb", "####........"),  # ... and fewer where the video begins
        ("aaaaaa..bbbb", "............"),  # nobody knows where behind the mask the change was
        ("aaaabbbaaaaa", ".#########.."),
    ],
)
def test_frames_near_boundaries(text: str, near: str) -> None:
    reach = near_boundaries(labels_of(text, "abc"), fps=30.0, within_s=0.1)
    assert "".join("#" if n else "." for n in reach) == near


def test_errors_at_boundaries_are_told_from_others() -> None:
    truth = labels_of("a" * 50 + "b" * 50, "abc")
    late = np.roll(truth, 10)
    late[:10] = truth[0]
    apart = boundary_errors(HEAD, [(sure_of(late, 3), truth)], fps=30.0)
    assert apart["errors"] == 1.0
    assert apart["frames"] == pytest.approx(0.3)
    assert apart["f1_away"] == 1.0
    assert apart["f1_near"] < 1.0
    amid = truth.copy()
    amid[10:20] = 1
    assert boundary_errors(HEAD, [(sure_of(amid, 3), truth)], fps=30.0)["errors"] == 0.0
    right = boundary_errors(HEAD, [(sure_of(truth, 3), truth)], fps=30.0)
    assert np.isnan(right["errors"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_bins_of_missing_points_share_out_all_frames(seed: int) -> None:
    videos = made(seed, 2, 60)
    rng = np.random.default_rng(seed)
    missing = [rng.integers(0, 11, 60) / 10 for _ in videos]
    rows = by_missing_points(HEAD, videos, missing)
    assert sum(row["frames"] for row in rows) == sum(int((y != IGNORE).sum()) for _, y in videos)
    none = [(p[share == 0], y[share == 0]) for (p, y), share in zip(videos, missing, strict=True)]
    assert rows[0]["up_to"] == 0
    np.testing.assert_equal(rows[0]["f1"], macro_f1(HEAD, none))


def test_abstention_keeps_the_sure_frames() -> None:
    truth = labels_of("aaaabbbb", "abc")
    probs = sure_of(truth, 3)
    probs[::2] = np.roll(sure_of(truth, 3), 1, axis=1)[::2] * 0.4 + 0.2  # wrong, but not sure of it
    videos: list[Video] = [(probs, truth)]
    assert abstention(HEAD, videos)["coverage"] == 1.0
    kept = abstention(HEAD, videos, below=0.7)
    assert (kept["below"], kept["coverage"], kept["f1"]) == (0.7, 0.5, 1.0)
    coverage = [row["coverage"] for row in abstention(HEAD, made(4))["curve"]]
    assert coverage == sorted(coverage, reverse=True)
