"""Scores against scikit-learn and the naive versions, hand-made cases, and CalMS21's true labels."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from rtseg.evaluation.metrics import (
    Video,
    average_precision,
    edit_score,
    group_scores,
    score_head,
    segmental_f1,
)
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from tests import naive

TASK1 = Head("task1", ("attack", "investigation", "mount", "other"), ("attack", "investigation", "mount"), "task1")
PAIR = Head("sniff", ("other", "sniff"), ("sniff",), "task3")


def sure_of(labels: NDArray[np.int16] | list[int], n_classes: int) -> NDArray[np.float32]:
    """Probabilities (T, n) whose best class is the label."""
    return (0.1 + 0.8 * np.eye(n_classes)[np.asarray(labels)]).astype(np.float32)


def labels_of(text: str, classes: str) -> NDArray[np.int16]:
    """'aa.b' -> labels; a dot is an ignored frame."""
    return np.array([IGNORE if c == "." else classes.index(c) for c in text], np.int16)


def bouts(rng: np.random.Generator, n_frames: int, n_classes: int) -> NDArray[np.int16]:
    """Labels with stretches of a few frames."""
    lengths = rng.integers(1, 9, n_frames)
    return np.repeat(rng.integers(0, n_classes, n_frames), lengths)[:n_frames].astype(np.int16)


@pytest.mark.parametrize("seed", range(8))
def test_frame_scores_equal_scikit_learns_over_pooled_videos(seed: int) -> None:
    rng = np.random.default_rng(seed)
    videos: list[Video] = []
    for n_frames in (300, 40, 170):
        truth = bouts(rng, n_frames, 4)
        probs = rng.random((n_frames, 4)) + 0.7 * np.eye(4)[truth]
        truth[rng.random(n_frames) < 0.2] = IGNORE
        videos.append(((probs / probs.sum(1, keepdims=True)).astype(np.float32), truth))
    score = score_head(TASK1, videos, 30.0)
    truth = np.concatenate([y for _, y in videos])
    probs = np.concatenate([p for p, _ in videos])[truth != IGNORE]
    truth = truth[truth != IGNORE]
    guess = probs.argmax(1)
    assert score.frames == len(truth)
    assert score.videos == 3
    f1 = f1_score(truth, guess, labels=[0, 1, 2], average=None)
    np.testing.assert_allclose([s.f1 for s in score.classes.values()], f1)
    np.testing.assert_allclose(score.macro_f1, f1.mean())
    aps = [average_precision_score(truth == c, probs[:, c]) for c in range(3)]
    np.testing.assert_allclose([s.average_precision for s in score.classes.values()], aps)
    np.testing.assert_allclose(score.mean_average_precision, np.mean(aps))
    for figure, of in (("precision", precision_score), ("recall", recall_score)):
        expected = of(truth, guess, labels=[0, 1, 2], average=None)
        np.testing.assert_allclose([getattr(s, figure) for s in score.classes.values()], expected)
    assert [s.frames for s in score.classes.values()] == [int((truth == c).sum()) for c in range(3)]
    assert list(score.classes) == list(TASK1.scored)


def test_ignored_frames_have_no_influence() -> None:
    rng = np.random.default_rng(1)
    truth = bouts(rng, 200, 4)
    truth[50:90] = IGNORE
    probs = rng.random((200, 4)).astype(np.float32)
    other = probs.copy()
    other[50:90] = rng.random((40, 4))
    kept = truth != IGNORE
    assert score_head(TASK1, [(probs, truth)], 30.0) == score_head(TASK1, [(other, truth)], 30.0)
    assert score_head(TASK1, [(probs, truth)], 30.0) == score_head(TASK1, [(probs[kept], truth[kept])], 30.0)


def test_a_video_without_labels_is_no_video() -> None:
    rng = np.random.default_rng(1)
    truth, probs = bouts(rng, 100, 4), rng.random((100, 4)).astype(np.float32)
    nothing = np.full(100, IGNORE, np.int16)
    assert score_head(TASK1, [(probs, truth), (probs, nothing)], 30.0) == score_head(TASK1, [(probs, truth)], 30.0)
    empty = score_head(TASK1, [(probs, nothing)], 30.0)
    assert (empty.frames, empty.videos) == (0, 0)
    assert math.isnan(empty.macro_f1)
    assert math.isnan(empty.mean_average_precision)


def test_a_class_that_is_neither_labelled_nor_predicted_is_left_out_of_the_means() -> None:
    truth = labels_of("iiiioooo", "aimo")
    score = score_head(TASK1, [(sure_of(truth, 4), truth)], 30.0)
    assert math.isnan(score.classes["attack"].f1)
    assert math.isnan(score.classes["mount"].f1)
    assert score.macro_f1 == score.classes["investigation"].f1 == 1.0
    assert score.mean_average_precision == 1.0


def test_a_class_that_is_predicted_but_not_labelled_scores_nothing() -> None:
    truth = labels_of("iiiioooo", "aimo")
    score = score_head(TASK1, [(sure_of(labels_of("iiiiooam", "aimo"), 4), truth)], 30.0)
    assert score.classes["attack"].f1 == score.classes["mount"].f1 == 0.0
    assert math.isnan(score.classes["attack"].average_precision)
    assert score.macro_f1 == pytest.approx(1 / 3)


def test_calms21s_protocol_by_hand() -> None:
    """Two videos pooled; `other` counts as a wrong answer but has no score of its own."""
    truth = ["aaaiiooo", "mmoo"]
    guess = ["aaiiiooa", "moom"]
    videos = [(sure_of(labels_of(g, "aimo"), 4), labels_of(t, "aimo")) for g, t in zip(guess, truth, strict=True)]
    score = score_head(TASK1, videos, 30.0)
    # attack: 2 hits of 3 calls and 3 frames; investigation: 2 hits, 3 calls, 2 frames; mount: 1 hit, 2 calls, 2 frames.
    assert score.classes["attack"].f1 == pytest.approx(2 * 2 / (3 + 3))
    assert score.classes["investigation"].f1 == pytest.approx(2 * 2 / (3 + 2))
    assert score.classes["mount"].f1 == pytest.approx(2 * 1 / (2 + 2))
    assert score.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 1 / 2) / 3)
    # Pooling is not a mean over videos: the second video alone has no attack.
    assert score.macro_f1 != pytest.approx(np.mean([score_head(TASK1, [v], 30.0).macro_f1 for v in videos]))


def test_groups_are_means_over_their_heads() -> None:
    heads = [PAIR, Head("back", ("other", "back"), ("back",), "task3"), TASK1]
    truth = [labels_of(t, "ox") for t in ("ooxx", "oxxx")]
    guess = [labels_of(t, "ox") for t in ("oxxx", "oxxx")]
    scores = {
        h.name: score_head(h, [(sure_of(g, 2), t)], 30.0) for h, g, t in zip(heads[:2], guess, truth, strict=True)
    }
    groups = group_scores(heads, scores)  # a head without a score is left out
    assert list(groups) == ["task3"]
    assert groups["task3"]["f1"] == pytest.approx((0.8 + 1.0) / 2)
    assert groups["task3"]["map"] == pytest.approx(np.mean([s.mean_average_precision for s in scores.values()]))
    assert groups["task3"]["segmental_f1_50"] == pytest.approx(100.0)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_classes=st.integers(2, 5),
    n_videos=st.integers(1, 3),
    overlap=st.sampled_from([0.1, 0.25, 0.5, 0.9]),
)
def test_segmental_and_edit_scores_equal_the_naive_versions(
    seed: int, n_classes: int, n_videos: int, overlap: float
) -> None:
    rng = np.random.default_rng(seed)
    truths = [bouts(rng, int(rng.integers(0, 40)), n_classes) for _ in range(n_videos)]
    guesses = []
    for truth in truths:  # the truth with some frames replaced, so that all degrees of overlap come up
        guess = np.where(rng.random(len(truth)) < rng.random(), bouts(rng, len(truth), n_classes), truth)
        guesses.append(np.roll(guess, int(rng.integers(0, 3))).astype(np.int16))
    scored = [int(c) for c in rng.permutation(n_classes)[: rng.integers(1, n_classes + 1)]]
    plain = [[[int(v) for v in track] for track in tracks] for tracks in (guesses, truths)]
    assert segmental_f1(guesses, truths, scored, overlap) == pytest.approx(
        naive.segmental_f1(plain[0], plain[1], scored, overlap)
    )
    for guess, truth in zip(*plain, strict=True):
        found = edit_score(np.array(guess, np.int16), np.array(truth, np.int16), scored)
        both_empty = not any(v in scored for v in [*guess, *truth])
        assert found == pytest.approx(100.0 if both_empty else naive.edit_score(guess, truth, scored))


@pytest.mark.parametrize(
    ("guess", "truth", "overlap", "expected"),
    [
        ("ooxxxxoo", "ooxxxxoo", 0.5, 100.0),
        ("ooxxoooo", "ooxxxxoo", 0.5, 100.0),  # 2 of 4
        ("ooxxoooo", "ooxxxxoo", 0.51, 0.0),
        ("ooxoxooo", "ooxxxxoo", 0.1, 100 * 2 / (2 + 1)),  # one true bout counts once
        ("oooooooo", "ooxxxxoo", 0.1, 0.0),
        ("ooxxxxoo", "oooooooo", 0.1, 0.0),
        ("oooooooo", "oooooooo", 0.1, 0.0),
    ],
)
def test_segmental_f1_by_hand(guess: str, truth: str, overlap: float, expected: float) -> None:
    found = segmental_f1([labels_of(guess, "ox")], [labels_of(truth, "ox")], [1], overlap)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("guess", "truth", "expected"),
    [
        ("oaobo", "oaobo", 100.0),
        ("aaabbb", "ab", 100.0),  # lengths don't matter
        ("oaooo", "oaobo", 50.0),
        ("obooa", "oaobo", 0.0),  # two changes of two
        ("ababab", "ab", 100 * (1 - 4 / 6)),
        ("ooo", "oao", 0.0),
        ("ooo", "ooo", 100.0),
    ],
)
def test_edit_score_by_hand(guess: str, truth: str, expected: float) -> None:
    found = edit_score(labels_of(guess, "oab"), labels_of(truth, "oab"), [1, 2])
    assert found == pytest.approx(expected)


def clinic(guess: str, truth: str, fps: float = 10.0) -> tuple[float, float, float]:
    """Onset delay, share of bouts found, false starts per minute of class x."""
    score = score_head(PAIR, [(sure_of(labels_of(guess, "ox"), 2), labels_of(truth, "ox"))], fps).classes["sniff"]
    return score.onset_delay_s, score.found_bouts, score.false_starts_per_minute


def test_onset_delay_is_the_median_over_found_bouts() -> None:
    assert clinic("ooooxxoo", "ooxxxxoo")[:2] == (pytest.approx(0.2), 1.0)
    assert clinic("oxxxxxoo", "ooxxxxoo")[:2] == (pytest.approx(-0.1), 1.0)
    # The first bout that touches counts, however short; the median is over found bouts: 0.1, 0 and -0.2 s.
    guess = "oooxoxxooo" + "ooxxxxoooo" + "xxxxxxoooo" + "oooooooooo"
    truth = "ooxxxxoooo" * 4
    assert clinic(guess, truth)[:2] == (pytest.approx(0.0), 0.75)


def test_a_bout_that_ends_where_the_true_one_begins_does_not_find_it() -> None:
    delay, found, false_starts = clinic("xxoooooooo", "ooxxxxoooo")
    assert math.isnan(delay)
    assert found == 0.0
    assert false_starts == pytest.approx(1 / (10 / 10 / 60))


def test_false_starts_are_counted_per_minute() -> None:
    # 40 frames at 10 per s are 4 s; two of three bouts touch no true one.
    guess = "oxxooooooo" + "ooooxooooo" + "oxoooooooo" + "oooooooooo"
    truth = "ooxxoooooo" + "o" * 30
    assert clinic(guess, truth)[2] == pytest.approx(2 / (4 / 60))
    assert clinic("oooooooooo", "ooxxoooooo")[2] == 0.0


def test_two_videos_do_not_share_bouts() -> None:
    """A bout at one video's end and one at the next one's start are two."""
    truth, guess = labels_of("ooxx", "ox"), labels_of("xxoo", "ox")
    videos = [(sure_of(truth, 2), truth), (sure_of(guess, 2), guess)]
    assert score_head(PAIR, videos, 10.0).classes["sniff"].found_bouts == 1.0
    crossed = [(sure_of(guess, 2), truth), (sure_of(truth, 2), guess)]
    assert score_head(PAIR, crossed, 10.0).classes["sniff"].found_bouts == 0.0
    assert score_head(PAIR, crossed, 10.0).segmental_f1["10"] == 0.0


def test_average_precision_without_a_positive_frame_is_unknown() -> None:
    assert math.isnan(average_precision(np.zeros(5, bool), np.ones(5)))
    assert average_precision(np.array([True, False, False]), np.array([0.9, 0.8, 0.1])) == 1.0


def test_calms21s_true_labels_give_known_scores(data_root: Path) -> None:
    """The official counts of Task 1's test set, and what constant and perfect predictors score on it."""
    path = data_root / "calms21" / "calms21_task1_test_labels.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    sequence, label = np.array([int(r[0]) for r in rows]), np.array([int(r[1]) for r in rows], np.int16)
    truths = [label[sequence == s] for s in np.unique(sequence)]
    counts = [12_630, 61_275, 31_848, 156_354]
    assert (len(truths), np.bincount(label).tolist()) == (19, counts)
    total = sum(counts)
    perfect = score_head(TASK1, [(sure_of(y, 4), y) for y in truths], 30.0)
    assert (perfect.macro_f1, perfect.mean_average_precision, perfect.edit) == (1.0, pytest.approx(1.0), 100.0)
    assert set(perfect.segmental_f1.values()) == {100.0}
    assert {(s.onset_delay_s, s.found_bouts, s.false_starts_per_minute) for s in perfect.classes.values()} == {
        (0, 1, 0)
    }
    # Always `investigation`: its F1 is 2p / (1 + p) of its share p; the others are never right. A constant
    # probability's average precision is the class's share.
    same = np.tile(np.array([[0.2, 0.4, 0.3, 0.1]], np.float32), (total, 1))
    constant = score_head(TASK1, [(same[: len(y)], y) for y in truths], 30.0)
    share = counts[1] / total
    assert constant.classes["investigation"].f1 == pytest.approx(2 * share / (1 + share))
    assert constant.macro_f1 == pytest.approx(2 * share / (1 + share) / 3)
    assert constant.mean_average_precision == pytest.approx(np.mean([c / total for c in counts[:3]]))
    assert constant.frames == total
