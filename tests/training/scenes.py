"""Short synthetic examples on which a small network can learn something, and a recipe that trains it in a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtseg import config
from rtseg.config import Recipe
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.training.task import Example, TrainingTask

HEADS = (
    Head("near", ("far", "near"), ("near",), "near"),
    Head("speed", ("still", "slow", "fast"), ("slow", "fast"), "pair"),
    Head("fast", ("no", "fast"), ("fast",), "pair"),
)
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "dataset": "none.toml",
    "arena": [0, 0, 1000, 600],
    "features": {"groups": ["between_distance", "speed", "center"], "lags": [1, 3]},
    "model": {"channels": 8, "layers": 3, "head_channels": 4, "head_layers": 2, "dropout": 0.1},
    "augment": {"rotate": True, "mirror": True, "drop_points": 0.02},
    "train": {
        "seed": 5,
        "epochs": 3,
        "batch": 4,
        "crop_frames": 96,
        "warmup_frames": 24,
        "warmup_steps": 4,
        "learning_rate": 0.01,
        "evaluate_every": 1,
        "threads": 1,
    },
}


def recipe(**sections: dict[str, Any]) -> Recipe:
    """The tiny recipe with some settings changed: recipe(train={"epochs": 1})."""
    merged = {k: {**v, **sections.get(k, {})} if isinstance(v, dict) else v for k, v in RECIPE.items()}
    merged |= {k: v for k, v in sections.items() if k not in merged}
    return config.from_plain(merged, Recipe)


def task(plan: Recipe, training: Sequence[Example], validation: Sequence[Example]) -> TrainingTask:
    """A training of the tiny recipe's kind on these examples."""
    return TrainingTask(plan, MICE7, 30.0, HEADS, training, validation)


def example(name: str, seed: int, n_frames: int = 400, masked: bool = True) -> Example:
    """Two animals that wander; labels say whether they are near each other and how fast the first one walks."""
    rng = np.random.default_rng(seed)
    pace = np.repeat(rng.choice([0.0, 2.0, 8.0], n_frames // 20 + 1), 20)[:n_frames]
    angle = np.cumsum(rng.normal(0, 0.2, (n_frames, 2)), axis=0)
    steps = np.stack([np.cos(angle), np.sin(angle)], -1) * np.stack([pace, np.full(n_frames, 3.0)], -1)[..., None]
    body = 300 + np.abs((np.cumsum(steps, axis=0) + 200) % 400 - 200)
    points = (body[:, :, None] + rng.normal(0, 20, (1, 2, 7, 2)) + rng.normal(0, 0.3, (n_frames, 2, 7, 2))).astype(
        np.float32
    )
    scores = np.ones((n_frames, 2, 7), np.float32)
    points[rng.random((n_frames, 2, 7)) < 0.05] = np.nan
    scores[np.isnan(points[..., 0])] = 0
    near = np.linalg.norm(body[:, 0] - body[:, 1], axis=-1) < 100
    labels = np.stack([near, np.searchsorted([1, 4], pace), pace > 4], axis=1).astype(np.int16)
    if masked:
        labels[: n_frames // 10, 0] = IGNORE
    assert points.shape[1:3] == MICE7.shape
    return Example(name, points, scores, labels)
