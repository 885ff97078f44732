"""Recordings for the feature tests: animals that wander, with points and whole animals missing for a while."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from tests import naive

ARENA = (20.0, 10.0, 1044.0, 580.0)
FPS = 30.0


def skeleton_of(n_animals: int, n_points: int) -> Skeleton:
    """Animals a, b, ... with points p0, p1, ...; the axis is named for some and left to the default for others."""
    points = tuple(f"p{k}" for k in range(n_points))
    return Skeleton(tuple("abc"[:n_animals]), points, ("p1", "p0") if n_points > 2 else None)


def wander(
    shape: tuple[int, int], n_frames: int, seed: int = 0, missing: float = 0.25
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (T, A, K, 2) and confidence (T, A, K); points drop out in stretches, whole animals as well."""
    rng = np.random.default_rng(seed)
    a, k = shape
    body = rng.uniform(150, 850, (1, a, 1, 2)) + np.cumsum(rng.normal(0, 4, (n_frames, a, 1, 2)), axis=0)
    points = body + rng.normal(0, 25, (1, a, k, 2)) + rng.normal(0, 2, (n_frames, a, k, 2))
    keypoints, confidence = points.astype(np.float32), rng.random((n_frames, a, k)).astype(np.float32)
    gone = rng.random((n_frames, a, k)) < missing / 2
    if missing:
        for _ in range(3):
            start, animal = rng.integers(n_frames), rng.integers(a)
            gone[start : start + rng.integers(1, 12), animal] = True
            start, point = rng.integers(n_frames), rng.integers(k)
            gone[start : start + rng.integers(1, 30), rng.integers(a), point] = True
    keypoints[gone] = np.nan
    confidence[gone] = 0
    return keypoints, confidence


def scene_of(
    extractor: FeatureExtractor, keypoints: NDArray[np.float32], confidence: NDArray[np.float32]
) -> naive.Scene:
    """The same for the naive version."""
    skeleton, spec = extractor.skeleton, extractor.spec
    rear, front = skeleton.axis_indices
    return naive.Scene(
        keypoints,
        confidence,
        skeleton.animals,
        skeleton.keypoints,
        (skeleton.keypoints[rear], skeleton.keypoints[front]),
        ARENA,
        extractor.fps,
        spec.lags,
        spec.horizons_s,
        spec.hold_frames,
        spec.absence_cap_s,
        spec.windows_s,
    )


def extractor_of(
    n_animals: int = 2, n_points: int = 5, fps: float = FPS, spec: FeatureSpec | None = None
) -> FeatureExtractor:
    return FeatureExtractor(skeleton_of(n_animals, n_points), spec or FeatureSpec(), fps)
