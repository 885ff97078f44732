"""Every system behind one function: settings and recordings in, something that answers about a recording out.

What a comparison needs beside the answers (time, memory, size) is measured here, the same way for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import Recipe
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.heads import Head
from rtseg.training.boosting import train_trees
from rtseg.training.crops import Example
from rtseg.training.loop import Report, predict
from rtseg.training.members import train_network
from rtseg.training.memory import peak_memory


@dataclass(frozen=True)
class Fitted:
    """A trained system.

    predict: probabilities (T, P) of an example, row t about frame t (a lookahead is undone; rows that were never
    answered are NaN). seconds: of training. peak_memory_mb: MiB that training took at its peak, see `peak_memory`.
    parameters: trained numbers; of trees, their nodes. multiply_adds: for one frame; 0 for trees, which only compare.
    epoch: the one that was kept; of trees, the rounds of all heads. history: what was measured on the way. score: on
    the validation recordings, what the epoch was chosen by.
    """

    predict: Callable[[Example], NDArray[np.float32]]
    seconds: float
    peak_memory_mb: float
    parameters: int
    multiply_adds: int
    epoch: int
    history: list[dict[str, Any]]
    score: float


def fit(
    recipe: Recipe,
    skeleton: Skeleton,
    fps: float,
    heads: Sequence[Head],
    training: Sequence[Example],
    validation: Sequence[Example],
    folder: Path | None = None,
    report: Report = lambda event: None,
) -> Fitted:
    """Train the system that `recipe.model.kind` names; the same recipe and recordings give the same system.

    folder: where checkpoints go, so that a killed run resumes (networks only). report: called after every batch and
    evaluation. Raises SettingError for settings or recordings that nothing can be learned from.
    """
    with peak_memory() as memory:
        if recipe.model.kind == "gradient-boosting":
            fitted = _fit_trees(recipe, skeleton, fps, heads, training, validation, report)
        else:
            fitted = _fit_network(recipe, skeleton, fps, heads, training, validation, folder, report)
    return replace(fitted, peak_memory_mb=memory[0])


def _fit_network(
    recipe: Recipe,
    skeleton: Skeleton,
    fps: float,
    heads: Sequence[Head],
    training: Sequence[Example],
    validation: Sequence[Example],
    folder: Path | None,
    report: Report,
) -> Fitted:
    trained = train_network(recipe, skeleton, fps, heads, training, validation, folder, report)
    extractor = FeatureExtractor(skeleton, FeatureSpec(**config.to_plain(recipe.features)), fps)

    def answer(example: Example) -> NDArray[np.float32]:
        features = extractor.run(example.keypoints, example.confidence, recipe.arena)
        return predict(trained.model, features, recipe.model.lookahead_frames)

    return Fitted(
        predict=answer,
        seconds=trained.seconds,
        peak_memory_mb=float("nan"),
        parameters=sum(p.numel() for p in trained.model.parameters()),
        multiply_adds=trained.model.multiply_adds,
        epoch=trained.epoch,
        history=trained.history,
        score=trained.score,
    )


def _fit_trees(
    recipe: Recipe,
    skeleton: Skeleton,
    fps: float,
    heads: Sequence[Head],
    training: Sequence[Example],
    validation: Sequence[Example],
    report: Report,
) -> Fitted:
    trees = train_trees(recipe, skeleton, fps, heads, training, validation, report)
    return Fitted(
        predict=trees.predict,
        seconds=trees.seconds,
        peak_memory_mb=float("nan"),
        parameters=trees.nodes,
        multiply_adds=0,
        epoch=trees.rounds,
        history=trees.history,
        score=trees.score,
    )
