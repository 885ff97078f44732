"""Calibration error, log loss and Brier score against slow versions and scikit-learn, and what they must do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from rtseg.evaluation.metrics import Video
from rtseg.evaluation.reliability import BINS, calibration_scores, reliability_bins, top_label_bins
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

HEAD = Head("social", ("sniff", "mount", "other"), ("sniff", "mount"), "social")


def honest(n_frames: int, seed: int, scale: float = 1.0) -> Video:
    """Labels drawn from the very probabilities that are then sharpened by `scale`: 1 = calibrated."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1.5, (n_frames, 3))
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    labels = (rng.random((n_frames, 1)) > p.cumsum(1)).sum(1).clip(0, 2)
    q = np.exp(scale * z) / np.exp(scale * z).sum(1, keepdims=True)
    return q.astype(np.float32), labels.astype(np.int16)


def test_a_calibrated_system_has_next_to_no_error_and_a_sharper_or_flatter_one_has() -> None:
    errors = {scale: calibration_scores(HEAD, [honest(40_000, 0, scale)]) for scale in (0.4, 1.0, 2.5)}
    assert errors[1.0]["ece"] < 0.01
    assert errors[1.0]["ece_classwise"] < 0.01
    for scale in (0.4, 2.5):
        assert errors[scale]["ece"] > 0.08
        assert errors[scale]["ece_classwise"] > 0.04
        assert errors[scale]["nll"] > errors[1.0]["nll"]
        assert errors[scale]["brier"] > errors[1.0]["brier"]
    assert errors[2.5]["confidence"] > errors[2.5]["accuracy"]
    assert errors[0.4]["confidence"] < errors[0.4]["accuracy"]


def test_the_figures_are_those_of_slow_versions() -> None:
    probs, labels = honest(3000, 1, 1.7)
    scores = calibration_scores(HEAD, [(probs[:1000], labels[:1000]), (probs[1000:], labels[1000:])])
    assert scores["nll"] == pytest.approx(log_loss(labels, probs, labels=[0, 1, 2]), rel=1e-5)
    assert scores["brier"] == pytest.approx(((probs - np.eye(3)[labels]) ** 2).sum(1).mean(), rel=1e-5)
    assert scores["frames"] == 3000

    def slow(confidence: np.ndarray, held: np.ndarray) -> float:
        total = 0.0
        for i in range(BINS):
            inside = (confidence >= i / BINS) & ((confidence < (i + 1) / BINS) | (i == BINS - 1))
            if inside.any():
                total += inside.sum() * abs(confidence[inside].mean() - held[inside].mean())
        return total / len(held)

    assert scores["ece"] == pytest.approx(slow(probs.max(1), probs.argmax(1) == labels), abs=1e-6)
    for c, name in enumerate(HEAD.scored):
        assert scores["ece_classes"][name] == pytest.approx(slow(probs[:, c], labels == c), abs=1e-6)
    assert scores["ece_classwise"] == pytest.approx(np.mean(list(scores["ece_classes"].values())))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=200))
def test_every_frame_falls_into_one_bin_and_the_error_is_a_share(frames: list[tuple[float, bool]]) -> None:
    bins = reliability_bins(np.array([p for p, _ in frames], np.float32), np.array([held for _, held in frames]))
    assert bins.frames.sum() == len(frames)
    assert 0 <= bins.error <= 1
    assert (np.isnan(bins.confidence) == (bins.frames == 0)).all()


def test_a_system_that_is_sure_and_right_has_no_error() -> None:
    labels = np.array([0, 1, 2, 1], np.int16)
    scores = calibration_scores(HEAD, [(np.eye(3, dtype=np.float32)[labels], labels)])
    assert (scores["ece"], scores["nll"], scores["brier"]) == (0.0, 0.0, 0.0)
    wrong = calibration_scores(HEAD, [(np.eye(3, dtype=np.float32)[(labels + 1) % 3], labels)])
    assert (wrong["ece"], wrong["brier"]) == (1.0, 2.0)
    assert np.isfinite(wrong["nll"])


def test_masked_frames_do_not_count_and_none_at_all_is_nan() -> None:
    probs, labels = honest(500, 2)
    masked = labels.copy()
    masked[250:] = IGNORE
    assert calibration_scores(HEAD, [(probs, masked)]) == calibration_scores(HEAD, [(probs[:250], labels[:250])])
    nothing = calibration_scores(HEAD, [(probs, np.full(500, IGNORE, np.int16))])
    assert np.isnan([nothing[k] for k in ("ece", "ece_classwise", "nll", "brier")]).all()
    assert np.isnan(top_label_bins([]).error)
