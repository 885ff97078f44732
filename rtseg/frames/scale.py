"""How many px are a mm: which numbers can be meant; and how long animals are in px."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MIN_PX_PER_MM, MAX_PX_PER_MM = 1e-6, 1e6
"""A whale from far above, a mite under a microscope, and far beyond. Kernels divide by squares of their ratios."""
MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "meters": 1000.0, "in": 25.4, "inch": 25.4, "inches": 25.4, "ft": 304.8}
"""How many mm the lengths are in which programs give places."""
EXPECTED = f"expected how many px are a mm, from {MIN_PX_PER_MM:g} to {MAX_PX_PER_MM:g}"


def is_px_per_mm(value: float) -> bool:
    """Whether px_per_mm can be meant; NaN and infinity cannot."""
    return MIN_PX_PER_MM <= value <= MAX_PX_PER_MM


def body_length(keypoints: NDArray[np.float32]) -> float | None:
    """The median over frames and animals of the largest distance between two of an animal's points (T, A, K, 2).

    None where no two are seen at once.
    """
    k = keypoints.shape[2]
    thin = keypoints[:: max(1, len(keypoints) // 5000)]
    largest = np.full(thin.shape[:2], np.nan, np.float32)
    for i in range(k):
        for j in range(i + 1, k):
            largest = np.fmax(largest, np.linalg.norm(thin[:, :, i] - thin[:, :, j], axis=-1))
    lengths = largest[np.isfinite(largest)]
    return float(np.median(lengths)) if len(lengths) else None
