"""Gradient-boosted trees (XGBoost) on window statistics: what laboratories use today, one booster per head.

Each frame is a row of its own, so nothing of the networks' loop applies: no crops, no augmentation, no checkpoints.
Offline only; no engine steps trees.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.config import Recipe
from rtseg.errors import SettingError, needs_extra
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.training.losses import class_weights
from rtseg.training.selection import score_groups, selection_score
from rtseg.training.task import F32, EventCallback, Example, TrainingTask, features_of

ROW_SHARE, COLUMN_SHARE = 0.4, 0.3
"""Drawn anew for every tree, so that the trees differ."""
BINS = 64
EARLY_STOPPING_ROUNDS = 15
"""Rounds without a lower weighted validation loss before boosting stops."""


class WindowTable:
    """Recordings to rows of window statistics; with a lookahead of k, row t is what is known at t + k."""

    def __init__(self, task: TrainingTask) -> None:
        recipe = task.recipe
        self._recipe, self._extractor = recipe, task.feature_extractor()
        self._windows = [max(1, round(seconds * task.fps)) for seconds in recipe.boosting.windows_s]
        self.lookahead = recipe.model.lookahead_frames

    def rows(self, example: Example) -> F32:
        """(T - lookahead, columns), NaN where nothing is known."""
        features = features_of(example, self._extractor, self._recipe)
        return window_statistics(features, self._windows, self._recipe.model.causal)[self.lookahead :]

    def sample(self, examples: Sequence[Example], limit: int) -> tuple[F32, NDArray[np.int16], NDArray[np.int32]]:
        """Rows, labels (N, H) and the example (N,) of every n-th labelled frame, n such that about `limit` are left."""
        labelled = sum(int((e.labels != IGNORE).any(axis=1).sum()) for e in examples)
        every = max(1, -(-labelled // limit))  # rounded up, so that never more than the limit are left
        rows, labels, owners = [], [], []
        for number, example in enumerate(examples):
            known = example.labels[: len(example) - self.lookahead]
            taken = np.flatnonzero((known != IGNORE).any(axis=1))[::every]
            if len(taken):
                rows.append(self.rows(example)[taken])
                labels.append(known[taken])
                owners.append(np.full(len(taken), number, np.int32))
        if not rows:
            raise SettingError("no frame of the recordings carries a label; look at the dataset file's heads and split")
        return np.concatenate(rows), np.concatenate(labels), np.concatenate(owners)


def window_statistics(
    features: NDArray[np.float32], windows: Sequence[int], causal: bool
) -> NDArray[np.float32]:  # (T, F * (1 + 4 * windows))
    """Features (T, F) and beside them their mean, deviation, minimum and maximum over windows of these lengths.

    Causal: a window ends at its frame. Otherwise it is centred on it, an even length made odd by one frame more. NaN is
    left out; a window without a value gives NaN. Windows are shorter where the recording begins or ends.
    """
    import pandas as pd

    # pandas' rolling statistics skip NaN and cost the same for any length of window.
    table = pd.DataFrame(features)
    columns = [features]
    for window in windows:
        length = window if causal else window + 1 - window % 2
        # min_periods = 1: a window at the beginning has the frames that there are.
        rolling = table.rolling(length, min_periods=1, center=not causal)
        statistics = (rolling.mean(), rolling.std(ddof=0), rolling.min(), rolling.max())
        columns += [s.to_numpy(np.float32) for s in statistics]
    return np.concatenate(columns, axis=1)


@dataclass
class TrainedTrees:
    """One booster per head; None where no training frame carries a label of the head, which is then undecided."""

    heads: tuple[Head, ...]
    table: WindowTable
    boosters: list[Any]
    score: float = float("nan")
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def nodes(self) -> int:
        """Branchings and leaves of all trees."""
        return sum(tree.count("\n") for booster in self.boosters if booster for tree in booster.get_dump())

    @property
    def rounds(self) -> int:
        """Rounds of boosting of all heads."""
        return sum(entry["rounds"] for entry in self.history)

    def predict(self, example: Example) -> F32:
        """Probabilities (T, P), row t about frame t; the last `lookahead` rows, never answered, are NaN."""
        rows = self.table.rows(example)
        probs = np.full((len(example), sum(len(h.classes) for h in self.heads)), np.nan, np.float32)
        first = 0
        for head, booster in zip(self.heads, self.boosters, strict=True):
            of_head = probs[: len(rows), first : first + len(head.classes)]
            of_head[:] = 1 / len(head.classes)
            if booster and len(rows):
                predicted = booster.inplace_predict(rows)
                # Of two classes XGBoost gives the second one's probability alone.
                of_head[:] = predicted if predicted.ndim == 2 else np.stack((1 - predicted, predicted), axis=1)
            first += len(head.classes)
        return probs


def train_trees(task: TrainingTask, report: EventCallback = lambda event: None) -> TrainedTrees:
    """Boost one set of trees per head, stopped early on the validation recordings; the same seed, the same trees.

    Validation recordings that are among the training ones too choose the number of rounds only: they are left out
    while it is looked for, and the trees are then boosted anew, with that number, on all training recordings.
    """
    task = task.in_pieces()
    recipe = task.recipe
    held_out = {e.name for e in task.validation}
    is_training_only = np.array([e.name not in held_out for e in task.training], np.bool_)
    if not is_training_only.any() or not task.validation:
        raise SettingError("training needs at least one training and one validation recording")
    started, cpu_started = time.monotonic(), time.process_time()
    table = WindowTable(task)
    rows, labels, owners = table.sample(task.training, recipe.boosting.frames)
    # They only decide when to stop, for which a quarter of the rows is enough.
    held_out_rows, held_out_labels, _ = table.sample(task.validation, max(1, recipe.boosting.frames // 4))
    chosen_on = is_training_only[owners]  # the rows that may be learned from while the rounds are chosen
    trees = TrainedTrees(task.heads, table, [])
    weights = class_weights([e.labels for e in task.training], task.heads, recipe.train.class_weight_power)
    for column, head in enumerate(task.heads):
        weight = weights[column].numpy().astype(np.float32)
        training = (rows[chosen_on], labels[chosen_on, column])
        booster, entry = _boost(recipe, head, training, (held_out_rows, held_out_labels[:, column]), weight)
        if booster is not None and not chosen_on.all():
            booster, _ = _boost(recipe, head, (rows, labels[:, column]), None, weight, entry["rounds"])
        trees.boosters.append(booster)
        trees.history.append(entry)
        report({"epoch": column + 1, "step": column + 1, "steps": len(task.heads), "loss": entry["loss"]})
    trees.seconds, trees.cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    # On all frames of the validation recordings, as networks are scored, not on the sampled rows.
    scores = score_groups(task.heads, task.validation, [trees.predict(e) for e in task.validation], task.fps)
    trees.score = selection_score(scores, recipe.train)
    return trees


def _boost(
    recipe: Recipe,
    head: Head,
    training: tuple[F32, NDArray[np.int16]],
    validation: tuple[F32, NDArray[np.int16]] | None,
    weight: F32,
    most_rounds: int | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The best rounds of one head's booster, and its entry of the history. validation None: `most_rounds` rounds."""
    try:
        import xgboost
    except ImportError:
        raise needs_extra("xgboost", "train", "gradient boosting") from None

    def matrix(rows: F32, labels: NDArray[np.int16], ref: Any = None) -> Any:
        labelled = labels != IGNORE
        classes = labels[labelled]
        return xgboost.QuantileDMatrix(
            rows[labelled], classes, weight=weight[classes], max_bin=BINS, nthread=recipe.train.threads, ref=ref
        )

    entry: dict[str, Any] = {"head": head.name, "rounds": 0, "loss": float("nan")}
    if not (training[1] != IGNORE).any():
        return None, entry
    data = matrix(*training)
    # A class that training never had weighs nothing; validation recordings of such frames only can't stop anything.
    known = None if validation is None else validation[1][validation[1] != IGNORE]
    can_stop = known is not None and bool(weight[known].sum() > 0)
    most = most_rounds or recipe.boosting.trees
    losses: dict[str, Any] = {}
    booster = xgboost.train(
        _xgboost_parameters(recipe, len(head.classes)),
        data,
        num_boost_round=most,
        evals=[(matrix(*validation, ref=data), "validation")] if validation is not None and can_stop else [],
        early_stopping_rounds=EARLY_STOPPING_ROUNDS if can_stop else None,
        evals_result=losses,
        verbose_eval=False,
    )
    rounds = booster.best_iteration + 1 if can_stop else most
    if losses:
        entry["loss"] = float(next(iter(losses["validation"].values()))[rounds - 1])
    entry["rounds"] = rounds
    return booster[:rounds], entry


def _xgboost_parameters(recipe: Recipe, n_classes: int) -> dict[str, Any]:
    settings = recipe.boosting
    if n_classes == 2:
        objective: dict[str, Any] = {"objective": "binary:logistic"}
    else:
        objective = {"objective": "multi:softprob", "num_class": n_classes}
    return objective | {
        "tree_method": "hist",
        "max_bin": BINS,
        "max_depth": settings.depth,
        "eta": settings.learning_rate,
        "min_child_weight": settings.min_child_weight,
        "subsample": ROW_SHARE,
        "colsample_bytree": COLUMN_SHARE,
        "seed": recipe.train.seed,
        "nthread": recipe.train.threads,
    }
