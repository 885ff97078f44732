"""Slow, obvious versions of the running body size, and of features that are divided by it. Imports nothing of rtseg."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NAN = float("nan")
Columns = dict[str, list[float]]


def running_sizes(
    keypoints: NDArray[np.float32], pairs: Sequence[tuple[int, int]], lengths: Sequence[float], horizon_frames: float
) -> list[float]:
    """How many times the lengths the pairs of keypoints (T, A, K, 2) are apart, in every frame from the whole past.

    All distances that were ever seen over the lengths of their pairs; what lies n frames with distances back weighs
    exp(-n / horizon_frames). NaN before any was seen.
    """
    shown: list[tuple[float, float]] = []
    sizes: list[float] = []
    for frame in keypoints.astype(np.float64):
        apart = [
            (math.dist(animal[i], animal[j]), length)
            for animal in frame
            for (i, j), length in zip(pairs, lengths, strict=True)
        ]
        known = [(d, length) for d, length in apart if not math.isnan(d)]
        if known:
            shown.append((sum(d for d, _ in known), sum(length for _, length in known)))
        weights = [math.exp(-n / horizon_frames) for n in range(len(shown))][::-1]
        seen, usual = (sum(w * s[end] for w, s in zip(weights, shown, strict=True)) for end in (0, 1))
        sizes.append(seen / usual if usual else NAN)
    return sizes


def at_scale(group: str, columns: Columns, scales: Sequence[float]) -> Columns:
    """A group's features with lengths divided by the scale of their frame, and areas by its square."""
    angles_and_times = ("heading", "relative_angle", "confidence", "missing", "absence")

    def power(name: str) -> int:
        return 0 if group in angles_and_times else 2 if "overlap" in name else 1

    return {
        name: [value / scale ** power(name) for value, scale in zip(values, scales, strict=True)]
        for name, values in columns.items()
    }
