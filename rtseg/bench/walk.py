"""The keypoints that a benchmark feeds: animals that wander through the bundle's arena. For benchmarks only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle

F32 = NDArray[np.float32]
N_FRAMES = 512
"""Frames that a case repeats."""


def walk(bundle: Bundle) -> tuple[F32, F32]:
    """Keypoints (T, A, K, 2) and confidence (T, A, K) of animals that wander through the arena; 3 % are missing."""
    rng = np.random.default_rng(0)
    a, k = bundle.skeleton.shape
    x0, y0, x1, y1 = bundle.arena
    low, size = np.array([x0, y0]), np.array([x1 - x0, y1 - y0])
    # Sine curves: the animals move at all times and come back.
    turn = 2 * np.pi * (np.arange(N_FRAMES)[:, None, None] * rng.uniform(0.5, 2.0, (a, 2)) / 300 + rng.random((a, 2)))
    body = low + size * (0.5 + 0.4 * np.sin(turn))  # (T, A, 2)
    shape = rng.normal(0, 0.03, (a, k, 2)) * size
    points = body[:, :, None] + shape + rng.normal(0, 1, (N_FRAMES, a, k, 2))
    confidence = rng.uniform(0.5, 1.0, (N_FRAMES, a, k))
    missing = rng.random((N_FRAMES, a, k)) < 0.03
    points[missing], confidence[missing] = np.nan, 0.0
    return points.astype(np.float32), confidence.astype(np.float32)
