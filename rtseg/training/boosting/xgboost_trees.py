"""XGBoost's trees as a bundle has them (`bundle.trees`), and whether they say what XGBoost says.

Read from the booster's own JSON (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html), which has every
float32 exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.trees import COLUMN, LEFT, MAX_DEPTH, UNKNOWN, Trees, boosted, longest_walk
from rtseg.errors import RtsegError
from rtseg.recordings.heads import Head

F32 = NDArray[np.float32]
CHECKED_ROWS = 1000
"""Of a recording, evenly spread: a version of XGBoost that writes its trees otherwise differs at once."""
MOST_DIFFERENCE = 1e-6


@dataclass(frozen=True, eq=False)
class HeadTrees:
    """One head's trees. base: (G,). roots: (G, rounds). branches: (nodes, 3). values: (nodes,). G: boosted classes."""

    head: Head
    base: F32
    roots: NDArray[np.int32]
    branches: NDArray[np.int32]
    values: F32

    @property
    def sizes(self) -> Trees:
        """For the bundle's architecture."""
        depth = longest_walk(self.roots, self.branches, MAX_DEPTH)
        return Trees(rounds=self.roots.shape[1], nodes=len(self.branches), depth=depth)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """By their names in a bundle, with a calibration that changes nothing."""
        name, n = f"head.{self.head.name}", len(self.head.classes)
        return {
            f"{name}.trees.base": self.base,
            f"{name}.trees.roots": self.roots,
            f"{name}.trees.branches": self.branches,
            f"{name}.trees.values": self.values,
            f"{name}.calibration.scale": np.ones(n, np.float32),
            f"{name}.calibration.shift": np.zeros(n, np.float32),
        }

    def logits(self, rows: F32) -> F32:
        """(N, classes) of rows (N, columns), in numpy and step by step: what the engine's kernel computes."""
        logits = np.zeros((len(rows), len(self.head.classes)), np.float32)
        every = np.arange(len(rows))
        for number, (base, roots) in enumerate(zip(self.base, self.roots, strict=True)):
            total = np.full(len(rows), base, np.float32)
            for root in roots:
                node = np.full(len(rows), root)
                while (is_branch := self.branches[node, LEFT] > 0).any():
                    column, left, unknown = (self.branches[node, part] for part in (COLUMN, LEFT, UNKNOWN))
                    value = rows[every, column]
                    following = np.where(value < self.values[node], left, left + 1)
                    node = np.where(is_branch, np.where(np.isnan(value), unknown, following), node)
                total += self.values[node]
            logits[:, number if len(self.base) > 1 else 1] = total
        return logits


def trees_of(head: Head, booster: Any) -> HeadTrees:
    """A head's trees out of its booster; None: nothing was labelled, and all classes are as probable."""
    n = boosted(head)
    if booster is None:
        none = np.zeros((n, 0), np.int32), np.zeros((0, 3), np.int32)
        return HeadTrees(head, np.zeros(n, np.float32), *none, np.zeros(0, np.float32))
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    model = learner["gradient_booster"]["model"]
    roots: list[list[int]] = [[] for _ in range(n)]
    branches, values = [], []
    n_nodes = 0
    for tree, number in zip(model["trees"], model["tree_info"], strict=True):
        roots[number].append(n_nodes)
        of_tree = _nodes(tree)
        children = of_tree[0][:, LEFT] > 0
        of_tree[0][children, LEFT] += n_nodes
        of_tree[0][children, UNKNOWN] += n_nodes
        branches.append(of_tree[0])
        values.append(of_tree[1])
        n_nodes += len(of_tree[1])
    base = _base(learner["learner_model_param"]["base_score"], n)
    return HeadTrees(head, base, np.array(roots, np.int32), np.concatenate(branches), np.concatenate(values))


def check_same(trees: HeadTrees, booster: Any, rows: F32) -> None:
    """Raise RtsegError unless the trees give the probabilities that XGBoost gives for some of the rows."""
    some = rows[:: max(1, len(rows) // CHECKED_ROWS)]
    if not len(some):
        return
    predicted = booster.inplace_predict(some)
    if predicted.ndim == 1:
        # Of two classes XGBoost gives the second one's probability alone.
        predicted = np.stack((1 - predicted, predicted), axis=1)
    logits = trees.logits(some).astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    worst = np.abs(exponentials / exponentials.sum(axis=1, keepdims=True) - predicted).max()
    if not worst <= MOST_DIFFERENCE:
        import xgboost

        raise RtsegError(
            f"head {trees.head.name!r}: the trees as a bundle has them differ by {worst:.1g} from what XGBoost "
            f"{xgboost.__version__} answers; at most {MOST_DIFFERENCE:g} is rounding. It writes its trees otherwise "
            "than rtseg reads them: install another version of it and train again"
        )


def _nodes(tree: Mapping[str, Any]) -> tuple[NDArray[np.int32], F32]:
    """Branches (nodes, 3) and values (nodes,) of one tree, breadth first, so that right children follow left ones."""
    left, right = tree["left_children"], tree["right_children"]
    order = [0]
    branches = []
    # The list grows while it is gone through.
    for node in order:
        if left[node] < 0:
            branches.append((0, 0, 0))
            continue
        child = len(order)
        order += [left[node], right[node]]
        branches.append((tree["split_indices"][node], child, child if tree["default_left"][node] else child + 1))
    # A leaf has what it adds where a branch has its threshold.
    values = np.array(tree["split_conditions"], np.float64)[order].astype(np.float32)
    return np.array(branches, np.int32), values


def _base(said: str, n: int) -> F32:
    """Where the sums begin, (n,): what XGBoost says as one number or a list, of two classes as a probability."""
    scores = np.array(said.strip("[]").split(","), np.float64)
    if n == 1:
        scores = np.log(scores) - np.log1p(-scores)
    return np.broadcast_to(scores, n).astype(np.float32)
