"""Gradient-boosted trees (XGBoost) on window statistics: what laboratories use today, one booster per head.

Each frame is a row of its own, so nothing of the networks' loop applies: no crops, no augmentation, no checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg import config
from rtseg.config import Recipe
from rtseg.errors import SettingError, needs_extra
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.spec import FeatureSpec
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE
from rtseg.training.crops import Example
from rtseg.training.loop import Report, overall, score
from rtseg.training.losses import class_weights
from rtseg.training.window_features import window_statistics

F32 = NDArray[np.float32]


class WindowTable:
    """Recordings to rows of window statistics; with a lookahead of k, row t is what is known at t + k."""

    def __init__(self, recipe: Recipe, skeleton: Skeleton, fps: float) -> None:
        self._extractor = FeatureExtractor(skeleton, FeatureSpec(**config.to_plain(recipe.features)), fps)
        groups = recipe.boosting.groups
        self._columns = [i for i, f in enumerate(self._extractor.features) if not groups or f.group in groups]
        if not self._columns:
            raise SettingError(f"boosting.groups = {groups} names no group of features.groups")
        self._windows = [max(1, round(seconds * fps)) for seconds in recipe.boosting.windows_s]
        self._arena, self._causal = recipe.arena, recipe.model.causal
        self.lookahead = recipe.model.lookahead_frames

    def rows(self, example: Example) -> F32:
        """(T - lookahead, columns), NaN where nothing is known."""
        features = self._extractor.run(example.keypoints, example.confidence, self._arena)[:, self._columns]
        return window_statistics(features, self._windows, self._causal)[self.lookahead :]

    def sample(self, examples: Sequence[Example], limit: int) -> tuple[F32, NDArray[np.int16], NDArray[np.int32]]:
        """Rows, labels (N, H) and the example (N,) of every n-th labelled frame, n such that about `limit` are left."""
        labelled = sum(int((e.labels != IGNORE).any(axis=1).sum()) for e in examples)
        every = max(1, -(-labelled // limit))
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


@dataclass
class Trees:
    """One booster per head; None where no training frame carries a label of the head, which is then undecided."""

    heads: tuple[Head, ...]
    table: WindowTable
    boosters: list[Any]
    score: float = float("nan")
    seconds: float = 0.0
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
        answers = np.full((len(example), sum(len(h.classes) for h in self.heads)), np.nan, np.float32)
        first = 0
        for head, booster in zip(self.heads, self.boosters, strict=True):
            mine = answers[: len(rows), first : first + len(head.classes)]
            mine[:] = 1 / len(head.classes)
            if booster and len(rows):
                said = booster.inplace_predict(rows)
                mine[:] = said if said.ndim == 2 else np.stack((1 - said, said), axis=1)
            first += len(head.classes)
        return answers


def train_trees(
    recipe: Recipe,
    skeleton: Skeleton,
    fps: float,
    heads: Sequence[Head],
    training: Sequence[Example],
    validation: Sequence[Example],
    report: Report = lambda event: None,
) -> Trees:
    """Boost one set of trees per head, stopped early on the validation recordings; the same seed, the same trees.

    Validation recordings that stand among the training ones too choose the number of rounds only: they are left out
    while it is looked for, and the trees are then boosted anew, so many rounds, on all training recordings.
    """
    held = {e.name for e in validation}
    is_apart = np.array([e.name not in held for e in training], np.bool_)
    if not is_apart.any() or not validation:
        raise SettingError("training needs at least one training and one validation recording")
    started = time.monotonic()
    table = WindowTable(recipe, skeleton, fps)
    rows, labels, owners = table.sample(training, recipe.boosting.frames)
    held_rows, held_labels, _ = table.sample(validation, max(1, recipe.boosting.frames // 4))
    apart = is_apart[owners]
    trees = Trees(tuple(heads), table, [])
    weights = class_weights([e.labels for e in training], heads, recipe.train.class_weight_power)
    for column, head in enumerate(heads):
        weight = weights[column].numpy().astype(np.float32)
        booster, entry = _boost(
            recipe, head, (rows[apart], labels[apart, column]), (held_rows, held_labels[:, column]), weight
        )
        if booster is not None and not apart.all():
            booster, _ = _boost(recipe, head, (rows, labels[:, column]), None, weight, entry["rounds"])
        trees.boosters.append(booster)
        trees.history.append(entry)
        report({"epoch": column + 1, "step": column + 1, "steps": len(heads), "loss": entry["loss"]})
    trees.seconds = time.monotonic() - started
    scores = score(heads, validation, [trees.predict(e) for e in validation], fps)
    trees.score = overall(scores, recipe.train.select, recipe.train.select_group)
    return trees


def _boost(
    recipe: Recipe,
    head: Head,
    training: tuple[F32, NDArray[np.int16]],
    validation: tuple[F32, NDArray[np.int16]] | None,
    weight: F32,
    most: int | None = None,
) -> tuple[Any, dict[str, Any]]:
    """The best rounds of one head's booster, and what the history says of them. validation None: `most` rounds."""
    try:
        import xgboost
    except ImportError:
        raise needs_extra("xgboost", "train", "gradient boosting") from None

    def matrix(rows: F32, labels: NDArray[np.int16], ref: Any = None) -> Any:
        kept = labels != IGNORE
        return xgboost.QuantileDMatrix(
            rows[kept], labels[kept], weight=weight[labels[kept]], max_bin=b.bins, nthread=recipe.train.threads, ref=ref
        )

    b = recipe.boosting
    entry: dict[str, Any] = {"head": head.name, "rounds": 0, "loss": float("nan")}
    if not (training[1] != IGNORE).any():
        return None, entry
    two = len(head.classes) == 2
    data = matrix(*training)
    # A class that training never had weighs nothing; a validation of such frames only can't stop anything.
    held = None if validation is None else validation[1][validation[1] != IGNORE]
    stops = held is not None and bool(weight[held].sum() > 0)
    losses: dict[str, Any] = {}
    booster = xgboost.train(
        {
            "objective": "binary:logistic" if two else "multi:softprob",
            **({} if two else {"num_class": len(head.classes)}),
            "tree_method": "hist",
            "max_bin": b.bins,
            "max_depth": b.depth,
            "eta": b.learning_rate,
            "min_child_weight": b.min_child_weight,
            "subsample": b.row_share,
            "colsample_bytree": b.column_share,
            "seed": recipe.train.seed,
            "nthread": recipe.train.threads,
        },
        data,
        num_boost_round=most or b.trees,
        evals=[(matrix(*validation, ref=data), "validation")] if validation is not None and stops else [],
        early_stopping_rounds=b.early_stopping if stops else None,
        evals_result=losses,
        verbose_eval=False,
    )
    rounds = booster.best_iteration + 1 if stops else most or b.trees
    if losses:
        entry["loss"] = float(next(iter(losses["validation"].values()))[rounds - 1])
    entry["rounds"] = rounds
    return booster[:rounds], entry
