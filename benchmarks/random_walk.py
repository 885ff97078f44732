"""Animals that wander at random, for benchmarks that compare live answers with offline ones."""

from __future__ import annotations

import numpy as np

from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.recording import Recording, clean

MISSING = 0.05
"""Share of the keypoints that are missing."""


def random_walk(skeleton: Skeleton, n_frames: int, fps: float, seed: int, name: str = "walk") -> Recording:
    """A recording of animals that wander, with points missing now and then."""
    rng = np.random.default_rng(seed)
    a, k = skeleton.shape
    centres = rng.uniform(200, 500, (1, a, 1, 2)) + np.cumsum(rng.normal(0, 3, (n_frames, a, 1, 2)), axis=0)
    keypoints = centres + rng.normal(0, 15, (1, a, k, 2)) + rng.normal(0, 1, (n_frames, a, k, 2))
    keypoints[rng.random((n_frames, a, k)) < MISSING] = np.nan
    points, confidence = clean(keypoints, rng.uniform(0.3, 1.0, (n_frames, a, k)))
    return Recording(name, skeleton, points, confidence, fps)
