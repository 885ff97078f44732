"""Scores of predictions against labels: CalMS21's protocol, segmental scores, and for closed loops the onset delay.

numpy and scikit-learn only; no torch. Frames labelled IGNORE, and rows never answered (NaN), are left out everywhere.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import needs_extra
from rtseg.recordings.bouts import Bout, bouts_of
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

Video = tuple[NDArray[np.float32], NDArray[np.int16]]
"""One video's probabilities (T, n classes) of a head and its labels (T,)."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class. onset_delay_s: median over true bouts that were found (negative = early)."""

    f1: float
    precision: float
    recall: float
    average_precision: float
    frames: int
    onset_delay_s: float
    found_bouts: float
    false_starts_per_minute: float


@dataclass(frozen=True)
class HeadScore:
    """Scores of one head over all its videos; macro figures are means over its scored classes."""

    macro_f1: float
    mean_average_precision: float
    segmental_f1: dict[str, float]
    edit: float
    classes: dict[str, ClassScore]
    frames: int
    videos: int


def score_head(head: Head, videos: Sequence[Video], fps: float) -> HeadScore:
    """Frames pooled over videos, argmax, nothing tuned, unscored classes left out of the means (CalMS21's protocol).

    A scored class without a positive frame in any video counts as F1 0 only if it was predicted; otherwise it is NaN
    and left out of the means.
    """
    videos = answered(videos)
    truths = [y for _, y in videos]
    guesses = [p.argmax(-1).astype(np.int16) for p, _ in videos]
    classes = {}
    # Classes that are not scored (`other`) would lift every mean: they are easy and most frames have them.
    for name in head.scored:
        c = head.classes.index(name)
        classes[name] = _score_class(c, videos, guesses, fps)
    scored = [head.classes.index(name) for name in head.scored]
    return HeadScore(
        macro_f1=macro_mean([s.f1 for s in classes.values()]),
        mean_average_precision=macro_mean([s.average_precision for s in classes.values()]),
        segmental_f1={str(k): segmental_f1(guesses, truths, scored, k / 100) for k in (10, 25, 50)},
        edit=macro_mean([edit_score(g, y, scored) for g, y in zip(guesses, truths, strict=True)]),
        classes=classes,
        frames=sum(map(len, truths)),
        videos=len(videos),
    )


def group_scores(heads: Sequence[Head], scores: dict[str, HeadScore]) -> dict[str, dict[str, float]]:
    """Macro-F1 and mAP per group: the mean over its heads (Task 2: annotators; Task 3: behaviours)."""
    groups: dict[str, list[HeadScore]] = {}
    for head in heads:
        if head.name in scores:
            groups.setdefault(head.group, []).append(scores[head.name])
    return {
        group: {
            "f1": macro_mean([m.macro_f1 for m in members]),
            "map": macro_mean([m.mean_average_precision for m in members]),
            "segmental_f1_50": macro_mean([m.segmental_f1["50"] for m in members]),
        }
        for group, members in groups.items()
    }


def constant_scores(head: Head, labels: NDArray[np.int16]) -> tuple[float, float]:
    """Macro-F1 and mAP that a head gets without having learnt anything, on labels (T,): NaN without a scored frame.

    F1 of the class that scores best where it is answered at every frame; average precision of a ranking by chance.
    """
    labels = labels[labels != IGNORE]
    shares = np.bincount(labels, minlength=len(head.classes)) / max(len(labels), 1)
    scored = shares[[head.classes.index(name) for name in head.scored]]
    scored = scored[scored > 0]  # a class that never occurs has no score, as for systems that learn
    if not len(scored):
        return float("nan"), float("nan")
    # Always answering a class finds all of it, with its share as precision: F1 = 2 p / (1 + p), others 0.
    return float((2 * scored / (1 + scored)).max()) / len(scored), float(scored.mean())


def answered(videos: Sequence[Video]) -> list[Video]:
    """The frames of each video that are scored: those with a label and an answer; videos without any are left out.

    A row with NaN was never answered: the last frames of a recording, where a lookahead needs later ones and nothing
    ended the stream, as in training.
    """
    masked = [(~np.isnan(p).any(-1) & (y != IGNORE), p, y) for p, y in videos]
    return [(p[mask], y[mask]) for mask, p, y in masked if mask.any()]


def macro_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    """The mean of the scores that exist; NaN if none does."""
    known = [float(v) for v in values if not np.isnan(v)]
    return sum(known) / len(known) if known else float("nan")


def confusions(videos: Sequence[Video], n_classes: int) -> NDArray[np.float64]:
    """Hits, labelled frames and predicted frames of every class of every video, (videos, 3, classes)."""
    counts = np.zeros((len(videos), 3, n_classes))
    for v, (probs, truth) in enumerate(videos):
        guess = probs.argmax(-1)
        counts[v, 0] = np.bincount(truth[guess == truth], minlength=n_classes)
        counts[v, 1] = np.bincount(truth, minlength=n_classes)
        counts[v, 2] = np.bincount(guess, minlength=n_classes)
    return counts


def f1_scores(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 (..., classes) of counts (..., 3, classes); NaN for a class that is neither labelled nor predicted."""
    hits, positives, called = np.moveaxis(counts, -2, 0)
    either = positives + called
    scores: NDArray[np.float64] = np.divide(2 * hits, either, out=np.full(either.shape, np.nan), where=either > 0)
    return scores


def macro_f1(head: Head, videos: Sequence[Video]) -> float:
    """Mean F1 of the scored classes over the frames of all videos, as `score_head` gives it."""
    scored = [head.classes.index(name) for name in head.scored]
    counts: NDArray[np.float64] = confusions(answered(videos), len(head.classes)).sum(0)
    return macro_mean(f1_scores(counts[:, scored]))


def mean_average_precision(head: Head, videos: Sequence[Video]) -> float:
    """Mean average precision of the scored classes over the frames of all videos, as `score_head` gives it."""
    videos = answered(videos)
    if not videos:
        return float("nan")
    truth, probs = np.concatenate([y for _, y in videos]), np.concatenate([p for p, _ in videos])
    columns = [head.classes.index(name) for name in head.scored]
    return macro_mean([average_precision(truth == c, probs[:, c]) for c in columns])


def average_precision(truth: NDArray[np.bool_], probability: NDArray[np.floating[Any]]) -> float:
    """Area under the precision-recall steps; NaN without a positive frame."""
    try:
        from sklearn.metrics import average_precision_score
    except ImportError:
        raise needs_extra("scikit-learn", "score", "scoring") from None
    return float(average_precision_score(truth, probability)) if truth.any() else float("nan")


def segmental_f1(
    guesses: Sequence[NDArray[np.int16]], truths: Sequence[NDArray[np.int16]], scored: Sequence[int], overlap: float
) -> float:
    """F1 in percent of bouts whose intersection over union reaches `overlap` (Lea et al. 2017).

    Each true bout counts once.
    """
    counts = [segmental_counts(g, y, scored, overlap) for g, y in zip(guesses, truths, strict=True)]
    return segmental_f1_of(np.array(counts).reshape(-1, 3).sum(axis=0))


def segmental_f1_of(counts: NDArray[np.integer | np.floating]) -> float:
    """Segmental F1 in percent of summed `segmental_counts` (3,)."""
    hits, wrong, missed = (float(n) for n in counts)
    # In percent, as Lea et al. report it; frame scores go from 0 to 1.
    return 100.0 * 2 * hits / max(2 * hits + wrong + missed, 1)


def segmental_counts(
    guess: NDArray[np.int16], truth: NDArray[np.int16], scored: Sequence[int], overlap: float
) -> tuple[int, int, int]:
    """True positive, false positive and missed bouts of one video; they add up over videos."""
    wanted = [b for b in bouts_of(truth) if b.label in scored]
    called = [b for b in bouts_of(guess) if b.label in scored]
    taken = [False] * len(wanted)
    hits = 0
    # A video's labels flicker: thousands of bouts, of which few lie over each other.
    for bout, (first, last) in zip(called, _overlapping(called, wanted), strict=True):
        # The best match alone, as Lea et al. do: a second bout over the same true one is a false positive. Another
        # label's overlap counts as none.
        ious = [_iou(bout, wanted[i]) if wanted[i].label == bout.label else 0.0 for i in range(first, last)]
        best = first + ious.index(max(ious)) if ious else -1
        if best >= 0 and ious[best - first] >= overlap and not taken[best]:
            taken[best] = True
            hits += 1
    return hits, len(called) - hits, taken.count(False)


def edit_score(guess: NDArray[np.int16], truth: NDArray[np.int16], scored: Sequence[int]) -> float:
    """100 * (1 - normalised Levenshtein distance) of the two orders of bouts of scored classes."""
    # The order of bouts alone: how long each lasts is what frame scores measure.
    a = np.array([b.label for b in bouts_of(guess) if b.label in scored])
    b = np.array([b.label for b in bouts_of(truth) if b.label in scored])
    if not len(a) and not len(b):
        return 100.0
    row = np.arange(len(b) + 1)
    for i, label in enumerate(a, 1):
        # One row of the usual table; the cheapest insertion chain is a running minimum of cost minus column.
        change = np.minimum(row[1:] + 1, row[:-1] + (b != label))
        cost = np.concatenate(([i], change)) - np.arange(len(b) + 1)
        row = np.minimum.accumulate(cost) + np.arange(len(b) + 1)
    return 100.0 * (1 - float(row[-1]) / max(len(a), len(b)))


def _score_class(c: int, videos: Sequence[Video], guesses: Sequence[NDArray[np.int16]], fps: float) -> ClassScore:
    truth = np.concatenate([y == c for _, y in videos]) if videos else np.zeros(0, bool)
    guess = np.concatenate([g == c for g in guesses]) if videos else np.zeros(0, bool)
    both, positives, called = int((truth & guess).sum()), int(truth.sum()), int(guess.sum())
    delays, found, true_bouts, false_starts = [], 0, 0, 0
    for (_, y), g in zip(videos, guesses, strict=True):
        mine = [b for b in bouts_of(g) if b.label == c]
        real = [b for b in bouts_of(y) if b.label == c]
        true_bouts += len(real)
        false_starts += sum(first == last for first, last in _overlapping(mine, real))
        for r, (first, last) in zip(real, _overlapping(real, mine), strict=True):
            # The first bout that overlaps, however short: a closed loop would have fired at its onset.
            if first < last:
                found += 1
                delays.append((mine[first].start - r.start) / fps)
    # Of scored frames only: a video with few labels has had few chances of a false start.
    minutes = len(truth) / fps / 60
    return ClassScore(
        f1=2 * both / (positives + called) if positives + called else float("nan"),
        precision=both / called if called else float("nan"),
        recall=both / positives if positives else float("nan"),
        average_precision=average_precision(truth, np.concatenate([p[:, c] for p, _ in videos]))
        if videos
        else float("nan"),
        frames=positives,
        onset_delay_s=float(np.median(delays)) if delays else float("nan"),
        found_bouts=found / true_bouts if true_bouts else float("nan"),
        false_starts_per_minute=false_starts / minutes if minutes else float("nan"),
    )


def _overlapping(bouts: Sequence[Bout], others: Sequence[Bout]) -> list[tuple[int, int]]:
    """For each bout which of the others share a frame with it: those from the first number up to the second.

    others: one video's, in order and apart, as `bouts_of` gives them.
    """
    starts, stops = ([b[end] for b in others] for end in (0, 1))
    return [(bisect_right(stops, start), bisect_left(starts, stop)) for start, stop, _ in bouts]


def _iou(a: Bout, b: Bout) -> float:
    inside = min(a.stop, b.stop) - max(a.start, b.start)
    return max(inside, 0) / (max(a.stop, b.stop) - min(a.start, b.start))
