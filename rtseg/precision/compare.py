"""How far one engine's answers to a split are from another's: scores, probabilities, labels, bouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.evaluation.evaluate import SplitPredictions
from rtseg.evaluation.metrics import Video, macro_f1, macro_mean, mean_average_precision
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.heads import Head


def compare_precisions(plain: SplitPredictions, other: SplitPredictions) -> dict[str, Any]:
    """Per head and over all: float32's answers (plain) beside another precision's to the same videos.

    `f1` and `map` are pairs (float32, other): frames pooled over videos, argmax; over all, the mean over heads.
    `argmax_differs`, `decoded_differs`: shares of frames. `difference`: of probabilities, on every frame whether it has
    a label or not. `bouts`: decoded ones of each, and how many begin, end and are called alike in both.
    """
    heads = {head.name: _head(head, plain, other) for head in plain.heads}
    pairs = {part: [macro_mean([h[part][i] for h in heads.values()]) for i in (0, 1)] for part in ("f1", "map")}
    worst = {part: max(h["difference"][part] for h in heads.values()) for part in ("largest", "mean")}
    return {"heads": heads, **pairs, "f1_drop": pairs["f1"][0] - pairs["f1"][1], "difference": worst}


def _head(head: Head, plain: SplitPredictions, other: SplitPredictions) -> dict[str, Any]:
    sides: Sequence[list[Video]] = (plain.videos[head.name], other.videos[head.name])
    one, two = (np.concatenate([p for p, _ in videos]) for videos in sides)
    apart = np.abs(one.astype(np.float64) - two)
    labels = [[one_hot.argmax(1) for one_hot, _ in answers.decoded[head.name]] for answers in (plain, other)]
    names = plain.names[head.name]
    return {
        "f1": [macro_f1(head, videos) for videos in sides],
        "map": [mean_average_precision(head, videos) for videos in sides],
        "videos": {name: [macro_f1(head, [side[i]]) for side in sides] for i, name in enumerate(names)},
        "frames": len(one),
        "argmax_differs": float((one.argmax(1) != two.argmax(1)).mean()),
        "decoded_differs": float((np.concatenate(labels[0]) != np.concatenate(labels[1])).mean()),
        "difference": {
            "largest": float(apart.max()),
            "p99.9": float(np.quantile(apart.max(1), 0.999)),
            "mean": float(apart.mean()),
        },
        "bouts": _bouts(*labels),
    }


def _bouts(plain: list[NDArray[np.intp]], other: list[NDArray[np.intp]]) -> dict[str, int]:
    counts = {"float32": 0, "other": 0, "the_same": 0}
    for one, two in zip(plain, other, strict=True):
        ours, theirs = set(bouts_of(one)), set(bouts_of(two))
        counts["float32"] += len(ours)
        counts["other"] += len(theirs)
        counts["the_same"] += len(ours & theirs)
    return counts
