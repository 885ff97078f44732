"""Where a head errs: class by class, near label boundaries, by missing points, where it is unsure.

All take the same videos as `rtseg.evaluation.metrics` and leave out the same frames; argmax, nothing tuned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.evaluation.metrics import Video, answered, macro_f1, mean_average_precision
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE

BOUNDARY_S = 0.5
"""Two annotators place the same boundary some tenths of a second apart: errors nearer than this are counted apart."""
MISSING_EDGES = (0.0, 0.1, 0.25, 0.5, 1.0)
"""Shares of missing points: none, up to a tenth, up to a quarter, up to half, more."""
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Points of the curve from which a threshold of abstention can be chosen."""

Mask = NDArray[np.bool_]


def confusion(head: Head, videos: Sequence[Video]) -> dict[str, Any]:
    """Frames by true class (rows) and predicted class (columns), both in the order of `classes`."""
    n = len(head.classes)
    counts = np.zeros((n, n), np.int64)
    for probs, truth in answered(videos):
        # One number for each pair of classes, so that all pairs are counted at once.
        counts += np.bincount(truth.astype(np.int64) * n + probs.argmax(-1), minlength=n * n).reshape(n, n)
    return {"classes": list(head.classes), "counts": counts.tolist()}


def near_boundaries(labels: NDArray[np.int16], fps: float, within_s: float = BOUNDARY_S) -> Mask:
    """Which frames (T,) lie within `within_s` of a change of label; the edge of masked frames is no change."""
    reach = max(1, round(within_s * fps))
    change = np.flatnonzero((labels[1:] != labels[:-1]) & (labels[1:] != IGNORE) & (labels[:-1] != IGNORE)) + 1
    # +1 where the surroundings of a change begin, -1 where they end: the running sum is how many reach a frame.
    edges = np.zeros(len(labels) + 1, np.int64)
    np.add.at(edges, np.maximum(change - reach, 0), 1)
    np.add.at(edges, np.minimum(change + reach, len(labels)), -1)
    return edges[:-1].cumsum() > 0


def boundary_errors(head: Head, videos: Sequence[Video], fps: float, within_s: float = BOUNDARY_S) -> dict[str, float]:
    """Errors near label boundaries apart.

    frames, errors: the share of all frames, and of all errors, that lie within `within_s` of a label change. f1_near,
    f1_away: macro-F1 of the frames there and of the others. NaN where there is nothing to share.
    """
    # Before masking: a boundary is one of the video, whichever of its frames have answers.
    near = [near_boundaries(y, fps, within_s) for _, y in videos]
    close, away = _masked(videos, near), _masked(videos, [~mask for mask in near])
    counts = [
        (sum(len(y) for _, y in some), sum(int((p.argmax(-1) != y).sum()) for p, y in some)) for some in (close, away)
    ]
    (frames, errors), (other_frames, other_errors) = counts
    return {
        "within_s": within_s,
        "frames": _share(frames, frames + other_frames),
        "errors": _share(errors, errors + other_errors),
        "f1_near": macro_f1(head, close),
        "f1_away": macro_f1(head, away),
    }


def by_missing_points(
    head: Head, videos: Sequence[Video], missing: Sequence[NDArray[np.floating[Any]]]
) -> list[dict[str, float]]:
    """Scores by how many points the tracker saw. missing: per video (T,), the share of keypoints that are missing.

    One entry per bin of MISSING_EDGES, (above, up_to]; the first is frames with every point. Each has frames, f1, map.
    """
    rows = []
    # The first bin begins below 0, so that frames without any missing point are a bin of their own.
    for above, up_to in zip((-1.0, *MISSING_EDGES[:-1]), MISSING_EDGES, strict=True):
        some = _masked(videos, [(share > above) & (share <= up_to) for share in missing])
        frames = sum(len(y) for _, y in some)
        row = {"above": max(above, 0.0), "up_to": up_to, "frames": frames, "f1": macro_f1(head, some)}
        rows.append(row | {"map": mean_average_precision(head, some)})
    return rows


def abstention(head: Head, videos: Sequence[Video], below: float | None = None) -> dict[str, Any]:
    """Coverage and macro-F1 where a head may say that it is unsure of a frame.

    below: the head's own threshold, None = it never abstains. coverage: share of frames whose highest probability
    reaches it; f1: macro-F1 of those. curve: the same at THRESHOLDS.
    """
    return {
        "below": below,
        **_at_least(head, videos, below or 0.0),
        "curve": [_at_least(head, videos, t) for t in THRESHOLDS],
    }


def _at_least(head: Head, videos: Sequence[Video], below: float) -> dict[str, float]:
    # As float32, like the session: in float64 a probability equal to the threshold could fall on the other side.
    sure = [p.max(-1) >= np.float32(below) for p, _ in videos]
    some = _masked(videos, sure)
    total = sum(len(y) for _, y in answered(videos))
    return {"below": below, "coverage": _share(sum(len(y) for _, y in some), total), "f1": macro_f1(head, some)}


def _masked(videos: Sequence[Video], masks: Sequence[Mask]) -> list[Video]:
    return answered([(p[mask], y[mask]) for (p, y), mask in zip(videos, masks, strict=True)])


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
