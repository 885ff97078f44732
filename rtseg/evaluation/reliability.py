"""Whether probabilities agree with frequencies: calibration error, log loss, Brier score, reliability bins.

Probabilities are calibrated where eight in ten of all frames that got 0.8 carry that label. numpy only; frames labelled
IGNORE and rows never answered are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.evaluation.metrics import Video, answered, macro_mean
from rtseg.recordings.heads import Head

BINS = 15
"""Bins have equal width over [0, 1], as in Guo et al. 2017."""
LEAST = 1e-12
"""A probability of 0 counts as this in the log loss."""


class ReliabilityBins(NamedTuple):
    """Per bin, each (bins,). frames: how many. confidence: their mean probability. frequency: share that was true."""

    frames: NDArray[np.int64]
    confidence: NDArray[np.float64]
    frequency: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over frames of |confidence - frequency| of their bin; NaN for none."""
        total = self.frames.sum()
        if not total:
            return float("nan")
        filled = self.frames > 0
        return float((self.frames * np.abs(self.confidence - self.frequency))[filled].sum() / total)


def reliability_bins(probability: NDArray[np.floating[Any]], held: NDArray[np.bool_]) -> ReliabilityBins:
    """Bins of probabilities (N,) and whether their label was true (N,); NaN in empty bins."""
    # A probability of exactly 1 belongs to the last bin.
    at = np.clip((probability * BINS).astype(np.int64), 0, BINS - 1)
    count = np.bincount(at, minlength=BINS)
    empty = np.full((2, BINS), np.nan)
    sums = np.bincount(at, probability, BINS), np.bincount(at, held, BINS)
    confidence, frequency = (
        np.divide(total, count, out=none, where=count > 0) for total, none in zip(sums, empty, strict=True)
    )
    return ReliabilityBins(count, confidence, frequency)


def top_label_bins(videos: Sequence[Video]) -> ReliabilityBins:
    """Bins of the highest probability of each frame, and whether its class was the label."""
    probs, truth = _pooled(videos)
    return reliability_bins(probs.max(-1, initial=0.0), probs.argmax(-1) == truth if len(truth) else truth == 0)


def class_bins(videos: Sequence[Video], c: int) -> ReliabilityBins:
    """Bins of class c's probability in every frame, and whether c was the label."""
    probs, truth = _pooled(videos)
    return reliability_bins(probs[:, c], truth == c)


def calibration_scores(head: Head, videos: Sequence[Video]) -> dict[str, Any]:
    """Distances of a head's probabilities from frequencies, over the frames of all videos.

    ece: expected calibration error of the top label. ece_classes: of each scored class's own probability, and
    ece_classwise their mean. nll: mean -log of the label's probability, in nats. brier: mean squared distance to the
    label, summed over the classes (0 to 2). confidence and accuracy: means of the top label. NaN without a frame.
    """
    probs, truth = _pooled(videos)
    # The top label's error hides that of rare classes, which are seldom on top: theirs are given one by one.
    classes = {name: class_bins(videos, head.classes.index(name)).error for name in head.scored} if len(truth) else {}
    top = top_label_bins(videos)
    empty = float("nan")
    at_label = probs[np.arange(len(truth)), truth]
    # Squared distance to the one-hot label, multiplied out: no (N, n) array of labels is needed.
    squares = (probs.astype(np.float64) ** 2).sum(-1) - 2 * at_label + 1
    return {
        "ece": top.error,
        "ece_classwise": macro_mean(list(classes.values())),
        "ece_classes": classes,
        "nll": float(-np.log(np.maximum(at_label, LEAST), dtype=np.float64).mean()) if len(truth) else empty,
        "brier": float(squares.mean()) if len(truth) else empty,
        "confidence": float(probs.max(-1).mean(dtype=np.float64)) if len(truth) else empty,
        "accuracy": float((probs.argmax(-1) == truth).mean()) if len(truth) else empty,
        "frames": len(truth),
    }


def _pooled(videos: Sequence[Video]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """All scored frames' probabilities (N, n) and labels (N,)."""
    scored = answered(videos)
    if not scored:
        return np.zeros((0, videos[0][0].shape[1] if videos else 1), np.float32), np.zeros(0, np.int16)
    return np.concatenate([p for p, _ in scored]), np.concatenate([y for _, y in scored])
