"""Every system behind one function: settings and recordings in, a system that predicts recordings out.

Time, memory and size, which a comparison needs as well, are measured here in the same way for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.heads import output_offsets
from rtseg.system.peak_memory import peak_memory
from rtseg.training.boosting.trees import train_trees
from rtseg.training.ensemble import train_network
from rtseg.training.selection import predict_probabilities
from rtseg.training.task import EventCallback, Example, TrainingTask, features_of, predict_in_pieces


@dataclass(frozen=True)
class FittedSystem:
    """A trained system.

    predict: probabilities (T, P) of an example, row t about frame t (a lookahead is undone; rows that were never
    answered are NaN). seconds: of training; cpu_seconds: the processor's, which other load does not lengthen.
    peak_memory_mb: MiB that training took at its peak, see `peak_memory`.
    parameters: trained numbers; of trees, their nodes. multiply_adds: for one frame; 0 for trees, which only compare.
    epoch: the one whose weights were chosen; of trees, the rounds of all heads. history: the evaluations on the way.
    score: on the validation recordings, what the epoch was chosen by.
    """

    predict: Callable[[Example], NDArray[np.float32]]
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float
    parameters: int
    multiply_adds: int
    epoch: int
    history: list[dict[str, Any]]
    score: float


def fit(task: TrainingTask, folder: Path | None = None, report: EventCallback = lambda event: None) -> FittedSystem:
    """Train the system that the recipe's `model.kind` names; the same task gives the same system.

    folder: where checkpoints go, so that a killed run resumes (networks only). report: called after every batch and
    evaluation. Raises SettingError for settings or recordings that nothing can be learned from.
    """
    # Around everything, features and crops included: that is what a machine must have to train the system.
    with peak_memory() as memory:
        if task.recipe.model.is_trees:
            fitted = _fit_trees(task, report)
        else:
            fitted = _fit_network(task, folder, report)
    return replace(fitted, peak_memory_mb=memory[0])


def _fit_network(task: TrainingTask, folder: Path | None, report: EventCallback) -> FittedSystem:
    trained = train_network(task, folder, report)
    recipe, extractor = task.recipe, task.feature_extractor()

    def predict(piece: Example) -> NDArray[np.float32]:
        features = features_of(piece, extractor, recipe)
        return predict_probabilities(trained.model, features, recipe.model.lookahead_frames)

    n_outputs = output_offsets(task.heads)[-1]
    return FittedSystem(
        predict=lambda example: predict_in_pieces(example, recipe, n_outputs, predict),
        seconds=trained.seconds,
        cpu_seconds=trained.cpu_seconds,
        peak_memory_mb=float("nan"),
        parameters=sum(p.numel() for p in trained.model.parameters()),
        multiply_adds=trained.model.multiply_adds,
        epoch=trained.epoch,
        history=trained.history,
        score=trained.score,
    )


def _fit_trees(task: TrainingTask, report: EventCallback) -> FittedSystem:
    # `fit` measures the memory of both kinds and fills it in; NaN until then.
    trees = train_trees(task, report)
    n_outputs = output_offsets(task.heads)[-1]
    return FittedSystem(
        predict=lambda example: predict_in_pieces(example, task.recipe, n_outputs, trees.predict),
        seconds=trees.seconds,
        cpu_seconds=trees.cpu_seconds,
        peak_memory_mb=float("nan"),
        parameters=trees.nodes,
        multiply_adds=0,
        epoch=trees.epoch,
        history=trees.history,
        score=trees.score,
    )
