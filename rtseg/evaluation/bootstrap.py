"""Intervals of scores: bootstrap over videos, of one system and of two compared on the same videos.

Frames of a video are not independent, videos are: whole videos are drawn, with replacement, and macro-F1 and mAP are
computed again over all the frames drawn. A score is a function of counts that add up over videos, so that a thousand
resamples are a few matrix products. numpy and scikit-learn only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SettingError
from rtseg.evaluation.metrics import (
    Video,
    answered,
    confusions,
    f1_scores,
    macro_f1,
    macro_mean,
    mean_average_precision,
)
from rtseg.recordings.heads import Head

F64 = NDArray[np.float64]
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)
"""Percentiles: 95 % intervals."""
FEW_VIDEOS = 5
"""Of fewer videos than this there are too few different resamples for an interval to mean what it says."""
THRESHOLDS = 4096
"""Steps of the precision-recall curve at most: exact where a class has no more positive frames than that, else within
1e-3 of all of them (a test)."""
_CHUNK = 128
"""Resamples worked on at once."""


class Resampled(NamedTuple):
    """Scores of some videos, and in n resamples of them: f1, map; f1_in, map_in (n,)."""

    f1: float
    map: float
    f1_in: F64
    map_in: F64

    def intervals(self) -> dict[str, dict[str, float]]:
        """{"f1": {"value", "low", "high"}, "map": {...}}."""
        return {
            "f1": {"value": self.f1, **interval(self.f1_in)},
            "map": {"value": self.map, **interval(self.map_in)},
        }

    def ahead_of(self, other: Resampled) -> dict[str, dict[str, float]]:
        """{"f1": {"difference", "low", "high"}, "map": {...}}; `other` is of the same resamples of the same videos."""
        return {
            "f1": {"difference": self.f1 - other.f1, **interval(self.f1_in - other.f1_in)},
            "map": {"difference": self.map - other.map, **interval(self.map_in - other.map_in)},
        }


def interval_notes(n_videos: int) -> list[str]:
    """What to say beside intervals over n videos: a sentence where they are too few, else nothing."""
    if n_videos >= FEW_VIDEOS:
        return []
    number = "one video" if n_videos == 1 else f"{n_videos} videos"
    return [f"Intervals are over {number}: of fewer than {FEW_VIDEOS} they say little about new animals."]


def head_interval_notes(n_videos: Mapping[str, int]) -> list[str]:
    """`interval_notes` of several heads, by head: named where they are not all over as many videos."""
    counts = sorted(set(n_videos.values()))
    if len(counts) < 2:
        return interval_notes(*(counts or [0]))
    notes = []
    for n in counts:
        heads = ", ".join(head for head, own in n_videos.items() if own == n)
        notes += [note.replace("Intervals", f"Intervals of {heads}", 1) for note in interval_notes(n)]
    return notes


def bootstrap(videos: Sequence[Video], head: Head, n: int = RESAMPLES, seed: int = 0) -> dict[str, dict[str, float]]:
    """Macro-F1 and mAP over all videos with 95 % intervals from n resamples of the videos.

    Returns {"f1": {"value", "low", "high"}, "map": {...}}; NaN where there is nothing to score. With one video low and
    high are its own score: it says nothing about others.
    """
    return resample(videos, head, n, seed).intervals()


def paired_bootstrap(
    ours: Sequence[Video], theirs: Sequence[Video], head: Head, n: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, float]]:
    """The difference of ours from theirs, with 95 % intervals; both get the same resample of the videos each time.

    ours, theirs: the same videos in the same order, with the same labels; frames that one of them never answered are
    left out of both. Returns {"f1": {"difference", "low", "high"}, "map": {...}}. Raises SettingError for other videos.
    """
    both = _paired(ours, theirs)
    # One draw for both: the difference then does not vary with how hard the drawn videos are.
    first, second = (resample(videos, head, n, seed) for videos in ([a for a, _ in both], [b for _, b in both]))
    return first.ahead_of(second)


def resample(videos: Sequence[Video], head: Head, n: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Macro-F1 and mAP of the videos, and of n resamples of them."""
    scores = resampled_scores(videos, head, n, seed)
    return Resampled(macro_f1(head, videos), mean_average_precision(head, videos), *scores)


def resampled_scores(videos: Sequence[Video], head: Head, n: int = RESAMPLES, seed: int = 0) -> tuple[F64, F64]:
    """Macro-F1 (n,) and mAP (n,) in each of n resamples of the videos, for means over heads or seeds.

    The same seed draws the same resamples of as many videos, so that the differences of two systems are paired.
    """
    videos = answered(videos)
    return _resampled(videos, head, draw_videos(len(videos), n, seed))


def _paired(ours: Sequence[Video], theirs: Sequence[Video]) -> list[tuple[Video, Video]]:
    """The frames of each video that have a label and both answers; videos without any are left out."""
    if len(ours) != len(theirs):
        raise SettingError(f"a paired comparison needs the same videos: got {len(ours)} and {len(theirs)}")
    both = []
    for i, ((p, y), (q, z)) in enumerate(zip(ours, theirs, strict=True)):
        if len(y) != len(z) or (y != z).any():
            raise SettingError(f"a paired comparison needs the same videos: the labels of number {i} (from 0) differ")
        known = ~(np.isnan(p).any(-1) | np.isnan(q).any(-1))
        for a, b in zip(answered([(p[known], y[known])]), answered([(q[known], z[known])]), strict=True):
            both.append((a, b))
    return both


def draw_videos(n_videos: int, n: int, seed: int) -> F64:
    """How often each video was drawn, (n, videos)."""
    if not n_videos:
        return np.zeros((n, 0))
    # How often each video comes is all that sums of counts need; the order of the draws does not matter.
    drawn = np.random.default_rng(seed).multinomial(n_videos, np.full(n_videos, 1 / n_videos), size=n)
    return drawn.astype(np.float64)


def _resampled(videos: Sequence[Video], head: Head, drawn: F64) -> tuple[F64, F64]:
    """Macro-F1 (n,) and mAP (n,) of every resample."""
    scored = [head.classes.index(name) for name in head.scored]
    counts = np.tensordot(drawn, confusions(videos, len(head.classes))[:, :, scored], 1)  # (n, 3, scored)
    precision = np.stack([_precisions(videos, c, drawn) for c in scored], axis=1)  # (n, scored)
    f1, mean = ([macro_mean(row) for row in rows] for rows in (f1_scores(counts), precision))
    return np.array(f1), np.array(mean)


def _precisions(videos: Sequence[Video], c: int, drawn: F64) -> F64:
    """Average precision of class c in every resample, (n,); NaN where no positive frame was drawn.

    The curve moves along recall only at positive frames' probabilities, so that those are all its thresholds; of more
    than THRESHOLDS, that many quantiles are taken.
    """
    found = np.concatenate([p[y == c, c] for p, y in videos]) if videos else np.zeros(0, np.float32)
    result = np.full(len(drawn), np.nan)
    if not len(found):
        return result
    levels = np.unique(found)
    if len(levels) > THRESHOLDS:
        at = np.linspace(0, len(found) - 1, THRESHOLDS).round().astype(np.intp)
        levels = np.unique(np.sort(found)[at])
    positives, others = np.zeros((2, len(videos), len(levels)))
    for v, (p, y) in enumerate(videos):
        # How many thresholds a frame reaches, less one; a frame below all of them never matters.
        reached = np.searchsorted(levels, p[:, c], "right") - 1
        for counts, of in ((positives, y == c), (others, y != c)):
            counts[v] = np.bincount(reached[of & (reached >= 0)], minlength=len(levels))
    for start in range(0, len(drawn), _CHUNK):
        here = drawn[start : start + _CHUNK]
        step = (here @ positives)[:, ::-1]  # from the highest threshold down
        hits = step.cumsum(1)
        called = hits + (here @ others)[:, ::-1].cumsum(1)
        precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
        total = hits[:, -1]
        area = (step * precision).sum(1)
        result[start : start + _CHUNK] = np.divide(area, total, out=np.full(len(here), np.nan), where=total > 0)
    return result


def interval(values: F64) -> dict[str, float]:
    """The 95 % interval of a score's values in many resamples (n,), without those that are NaN."""
    known = values[~np.isnan(values)]  # a resample may hold no frame of any scored class
    low, high = np.percentile(known, INTERVAL) if len(known) else (np.nan, np.nan)
    return {"low": float(low), "high": float(high)}
