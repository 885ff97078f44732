"""Gradient boosting and a random forest as a laboratory would write them, independent of rtseg's features.

Speeds of all points, distances of all pairs of points, angles; beside each its mean, deviation, minimum and maximum
over windows that end at the frame; XGBoost or scikit-learn with their usual settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.training.task import Example

WINDOWS_S = (0.5, 1.0, 2.0)
KINDS = ("xgboost", "random forest")


def window_features(keypoints: NDArray[np.float32], fps: float, windows_s: Sequence[float] = WINDOWS_S) -> Any:
    """(T, columns) of keypoints (T, A, K, 2); a missing point stays where it was last seen."""
    import pandas as pd

    t, a, k, _ = keypoints.shape
    points = pd.DataFrame(keypoints.reshape(t, -1).astype(np.float64)).ffill().to_numpy().reshape(t, a * k, 2)
    speeds = np.zeros((t, a * k))
    speeds[1:] = np.linalg.norm(np.diff(points, axis=0), axis=-1) * fps
    one, other = np.triu_indices(a * k, 1)
    distances = np.linalg.norm(points[:, one] - points[:, other], axis=-1)
    plain = np.concatenate((speeds, distances, _angles(points.reshape(t, a, k, 2))), axis=1)
    table, columns = pd.DataFrame(plain), [plain]
    for seconds in windows_s:
        rolling = table.rolling(max(2, round(seconds * fps)), min_periods=1)
        columns += [part.to_numpy() for part in (rolling.mean(), rolling.std(ddof=0), rolling.min(), rolling.max())]
    return np.concatenate(columns, axis=1)


def _angles(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of every three points that follow each other in the skeleton; of an animal of one point, how it turns. In rad."""
    t, a, k, _ = points.shape
    if k < 3:
        steps = np.zeros_like(points)
        steps[1:] = np.diff(points, axis=0)
        before = np.concatenate((np.zeros((1, a, k, 2)), steps[:-1]))
        return _between(before, steps).reshape(t, -1)
    return _between(points[:, :, :-2] - points[:, :, 1:-1], points[:, :, 2:] - points[:, :, 1:-1]).reshape(t, -1)


def _between(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    cross = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    return np.abs(np.arctan2(cross, (one * other).sum(-1)))


def fit_and_predict(
    kind: str, training: Sequence[Example], held_out: Sequence[Example], heads: Sequence[Head], fps: float, seed: int
) -> dict[str, NDArray[np.float32]]:
    """Probabilities (T, P) about each of some recordings, by its name, after training on others. kind: of KINDS."""
    rows = np.concatenate([window_features(example.keypoints, fps) for example in training])
    labels = np.concatenate([example.labels for example in training])
    asked = np.concatenate([window_features(example.keypoints, fps) for example in held_out])
    parts = []
    for column, head in enumerate(heads):
        known = labels[:, column] != IGNORE
        # Classes that training lacks keep a probability of nearly nothing.
        present, classes = np.unique(labels[known, column], return_inverse=True)
        of_head = np.full((len(asked), len(head.classes)), 1e-6)
        of_head[:, present] = _probabilities(kind, rows[known], classes, asked, seed)
        parts.append(of_head / of_head.sum(axis=1, keepdims=True))
    probs = np.concatenate(parts, axis=1).astype(np.float32)
    starts = np.cumsum([0, *map(len, held_out)])
    return {e.name: probs[a:z] for e, (a, z) in zip(held_out, pairwise(starts), strict=True)}


def _probabilities(kind: str, rows: Any, classes: Any, asked: Any, seed: int) -> Any:
    if kind == "random forest":
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            300, min_samples_leaf=5, class_weight="balanced", random_state=seed, n_jobs=1
        ).fit(np.nan_to_num(rows, nan=-1), classes)
        return forest.predict_proba(np.nan_to_num(asked, nan=-1))
    import xgboost

    share = np.bincount(classes) / len(classes)
    booster = xgboost.XGBClassifier(
        n_estimators=200, max_depth=4, learning_rate=0.1, subsample=0.7, colsample_bytree=0.5, tree_method="hist",
        random_state=seed, n_jobs=1,
    ).fit(rows, classes, sample_weight=share[classes] ** -0.5)  # fmt: skip
    return booster.predict_proba(asked)
