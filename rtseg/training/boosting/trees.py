"""Gradient-boosted trees (XGBoost) on window statistics: what laboratories use today, one booster per head.

Each frame is a row of its own, so nothing of the networks' loop applies: no crops, no augmentation, no checkpoints.
Causal ones become a bundle, which serves without XGBoost (`xgboost_trees`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.trees import TreesSpec
from rtseg.config import Recipe
from rtseg.errors import SettingError, needs_extra
from rtseg.recordings.heads import Head, output_offsets
from rtseg.recordings.recording import IGNORE
from rtseg.training.boosting.rounds import fewest_losses, time_folds
from rtseg.training.boosting.window_table import WindowTable
from rtseg.training.boosting.xgboost_trees import check_same, trees_of
from rtseg.training.losses import class_weights
from rtseg.training.selection import score_held_out
from rtseg.training.task import F32, EventCallback, Example, TrainingTask

ROW_SHARE, COLUMN_SHARE = 0.4, 0.3
"""Drawn anew for every tree, so that the trees differ."""
BINS = 64
EARLY_STOPPING_ROUNDS = 15
"""Rounds without a lower weighted validation loss before boosting stops."""


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
    def epoch(self) -> int:
        """Rounds of boosting of all heads: what stands in the place of a network's epoch."""
        return sum(entry["rounds"] for entry in self.history)

    @property
    def nodes(self) -> int:
        """Branchings and leaves of all trees."""
        return sum(tree.count("\n") for booster in self.boosters if booster for tree in booster.get_dump())

    def bundle_parts(self, example: Example) -> tuple[TreesSpec, dict[str, NDArray[Any]]]:
        """Sizes and tensors for a bundle. Raises RtsegError unless these trees say what XGBoost says of an example."""
        heads = [trees_of(head, booster) for head, booster in zip(self.heads, self.boosters, strict=True)]
        rows = self.table.rows(example)
        for head, booster in zip(heads, self.boosters, strict=True):
            if booster:
                check_same(head, booster, rows)
        tensors = {name: tensor for head in heads for name, tensor in head.tensors().items()}
        return self.table.spec([head.sizes for head in heads]), tensors

    def predict(self, example: Example) -> F32:
        """Probabilities (T, P), row t about frame t; the last `lookahead` rows, never answered, are NaN."""
        rows = self.table.rows(example)
        probs = np.full((len(example), output_offsets(self.heads)[-1]), np.nan, np.float32)
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
    """Boost one set of trees per head, as many rounds as held-out frames say; the same seed, the same trees.

    Held out are the validation recordings, where boosting stops. Those that are among the training ones too choose the
    number of rounds only: the trees are then boosted anew, with that number, on all training recordings. Where
    `train.select` is "last", stretches of the training recordings choose it in turn (`rounds`), and no validation
    recording does.
    """
    task = task.in_pieces()
    recipe = task.recipe
    by_folds = recipe.train.select == "last"
    held_out = set() if by_folds else {e.name for e in task.validation}
    is_training_only = np.array([e.name not in held_out for e in task.training], np.bool_)
    if not is_training_only.any() or not (by_folds or task.validation):
        raise SettingError("training needs at least one training and one validation recording")
    started, cpu_started = time.monotonic(), time.process_time()
    table = WindowTable(task)
    known = table.sample(task.training, recipe.boosting.frames)
    chosen_on = is_training_only[known.owners]  # the rows that may be learned from while the rounds are chosen
    # They only decide when to stop, for which a quarter of the rows is enough.
    held = None if by_folds else table.sample(task.validation, max(1, recipe.boosting.frames // 4))
    trees = TrainedTrees(task.heads, table, [])
    weights = class_weights([e.labels for e in task.training], task.heads, recipe.train.class_weight_power)
    for column, head in enumerate(task.heads):
        labels, learner = known.labels[:, column], _Learner(recipe, head, weights[column].numpy().astype(np.float32))
        if held is None:
            booster, entry = learner.boost_by_folds(known.rows, labels, time_folds(*known[2:], table.longest))
        else:
            stopping = held.rows, held.labels[:, column]
            booster, entry = learner.boost((known.rows[chosen_on], labels[chosen_on]), stopping)
            if booster is not None and not chosen_on.all():
                booster, _ = learner.boost((known.rows, labels), None, entry["rounds"])
        trees.boosters.append(booster)
        trees.history.append(entry)
        report({"epoch": column + 1, "step": column + 1, "steps": len(task.heads), "loss": entry["loss"]})
    trees.seconds, trees.cpu_seconds = time.monotonic() - started, time.process_time() - cpu_started
    # On all frames of the validation recordings, as networks are scored, not on the sampled rows.
    _, trees.score = score_held_out(task, [trees.predict(e) for e in task.validation])
    return trees


Labelled = tuple[F32, NDArray[np.int16]]
"""Rows (N, columns) and labels (N,), some of them IGNORE."""


@dataclass(frozen=True, eq=False)
class _Learner:
    """One head's boosting. weight: (classes,)."""

    recipe: Recipe
    head: Head
    weight: F32

    def boost(
        self, training: Labelled, validation: Labelled | None, most_rounds: int | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """The best rounds of a booster, and its entry of the history. validation None: `most_rounds` rounds."""
        entry: dict[str, Any] = {"head": self.head.name, "rounds": 0, "loss": float("nan")}
        if not (training[1] != IGNORE).any():
            return None, entry
        # A class that training never had weighs nothing; validation recordings of such frames only can't stop anything.
        can_stop = validation is not None and self._weight_of(validation[1]) > 0
        most = most_rounds or self.recipe.boosting.trees
        booster, losses = self._train(training, validation if can_stop else None, most, stops=True)
        rounds = booster.best_iteration + 1 if can_stop else most
        if losses:
            entry["loss"] = float(losses[rounds - 1])
        entry["rounds"] = rounds
        return booster[:rounds], entry

    def boost_by_folds(
        self, rows: F32, labels: NDArray[np.int16], folds: Iterable[tuple[NDArray[np.bool_], NDArray[np.bool_]]]
    ) -> tuple[Any, dict[str, Any]]:
        """The same on all rows, of as many rounds as cost the least over the folds (which rows are learnt, held)."""
        most, curves = self.recipe.boosting.trees, []
        for learnt, held in folds:
            weight = self._weight_of(labels[held])
            if weight > 0 and (labels[learnt] != IGNORE).any():
                _, losses = self._train((rows[learnt], labels[learnt]), (rows[held], labels[held]), most, stops=False)
                curves.append((weight, losses))
        rounds = fewest_losses(curves, most)
        booster, entry = self.boost((rows, labels), None, rounds)
        if booster is not None and curves:
            entry["loss"] = sum(weight * losses[rounds - 1] for weight, losses in curves) / sum(w for w, _ in curves)
        return booster, entry

    def _weight_of(self, labels: NDArray[np.int16]) -> float:
        return float(self.weight[labels[labels != IGNORE]].sum())

    def _train(
        self, training: Labelled, validation: Labelled | None, rounds: int, *, stops: bool
    ) -> tuple[Any, list[float]]:
        """A booster of so many rounds at most, and its loss on the validation rows after each."""
        try:
            import xgboost
        except ImportError:
            raise needs_extra("xgboost", "train", "gradient boosting") from None

        def matrix(rows: F32, labels: NDArray[np.int16], ref: Any = None) -> Any:
            labelled = labels != IGNORE
            classes = labels[labelled]
            threads = self.recipe.train.threads
            return xgboost.QuantileDMatrix(
                rows[labelled], classes, weight=self.weight[classes], max_bin=BINS, nthread=threads, ref=ref
            )

        data = matrix(*training)
        losses: dict[str, Any] = {}
        booster = xgboost.train(
            _xgboost_parameters(self.recipe, len(self.head.classes)),
            data,
            num_boost_round=rounds,
            evals=[] if validation is None else [(matrix(*validation, ref=data), "validation")],
            early_stopping_rounds=EARLY_STOPPING_ROUNDS if stops and validation is not None else None,
            evals_result=losses,
            verbose_eval=False,
        )
        return booster, next(iter(losses["validation"].values())) if losses else []


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
