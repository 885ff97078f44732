"""Random boosted trees in the place of a bundle's network: the same features and heads, answers that move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.architecture import Architecture
from rtseg.bundle.bundle import Bundle
from rtseg.bundle.trees import Trees, TreesSpec, boosted, longest_walk

WINDOWS = (17, 5)
"""Not in rising order: columns follow this order, whatever a step begins with."""


def with_trees(bundle: Bundle, seed: int = 0, spread: float = 100.0, lookahead_frames: int | None = None) -> Bundle:
    """The bundle with random trees in the place of its network. spread: of the values that they compare with."""
    spec, tensors = random_trees(bundle.architecture, seed, spread)
    lookahead = bundle.lookahead_frames if lookahead_frames is None else lookahead_frames
    return replace(bundle, architecture=spec, weights=tensors, lookahead_frames=lookahead)


def random_trees(like: Architecture, seed: int = 0, spread: float = 30.0) -> tuple[TreesSpec, dict[str, NDArray[Any]]]:
    """Trees for the features and heads of another model, and a calibration that is not the identity."""
    rng = np.random.default_rng(seed)
    sizes, tensors = [], {}
    n_columns = like.n_features * (1 + 4 * len(WINDOWS))
    for head in like.heads:
        name, n, n_classes = f"head.{head.name}", boosted(head), len(head.classes)
        rounds = int(rng.integers(6, 10))
        branches: list[list[int]] = []
        values: list[float] = []
        roots = np.zeros((n, rounds), np.int32)
        for place in np.ndindex(n, rounds):
            roots[place] = len(branches)
            _grow(rng, branches, values, n_columns, spread)
        nodes = np.array(branches, np.int32)
        tensors |= {
            f"{name}.trees.base": rng.normal(0, 0.3, n).astype(np.float32),
            f"{name}.trees.roots": roots,
            f"{name}.trees.branches": nodes,
            f"{name}.trees.values": np.array(values, np.float32),
            f"{name}.calibration.scale": rng.uniform(0.5, 1.5, n_classes).astype(np.float32),
            f"{name}.calibration.shift": rng.normal(0, 0.3, n_classes).astype(np.float32),
        }
        sizes.append(Trees(rounds, len(nodes), longest_walk(roots, nodes, 64)))
    return TreesSpec(like.n_features, WINDOWS, like.heads, tuple(sizes)), tensors


def _grow(
    rng: np.random.Generator, branches: list[list[int]], values: list[float], n_columns: int, spread: float
) -> None:
    """One more tree, breadth first: up to four comparisons deep, some of its branches cut short."""
    level = [_node(branches, values)]
    for depth in range(4):
        below = []
        for node in level:
            if depth and rng.random() < 0.3:
                continue
            left, right = _node(branches, values), _node(branches, values)
            branches[node] = [int(rng.integers(n_columns)), left, int(rng.choice([left, right]))]
            values[node] = float(rng.normal(0, spread))
            below += [left, right]
        level = below
    for node, branch in enumerate(branches):
        if branch[1] == 0:
            values[node] = values[node] or float(rng.normal(0, 0.4))


def _node(branches: list[list[int]], values: list[float]) -> int:
    branches.append([0, 0, 0])
    values.append(0.0)
    return len(branches) - 1


def rows_of(features: NDArray[np.float32], windows: tuple[int, ...]) -> NDArray[np.float32]:
    """The rows that trees look at, by numpy on every window itself."""
    import warnings

    blocks = [features]
    for window in windows:
        cuts = [features[max(0, t + 1 - window) : t + 1].astype(np.float64) for t in range(len(features))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a window without a value
            blocks += [
                np.array([f(cut, axis=0) for cut in cuts]) for f in (np.nanmean, np.nanstd, np.nanmin, np.nanmax)
            ]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def walked(spec: TreesSpec, tensors: dict[str, NDArray[Any]], row: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities (P,) for one row, node by node."""
    answers = []
    for head in spec.heads:
        name = f"head.{head.name}"
        base, roots, branches, values = (
            tensors[f"{name}.trees.{part}"] for part in ("base", "roots", "branches", "values")
        )
        logits = []
        for total, of_class in zip(base, roots, strict=True):
            for root in of_class:
                node = int(root)
                while branches[node, 1]:
                    column, left, unknown = branches[node]
                    value = row[column]
                    node = int(unknown if np.isnan(value) else left if value < values[node] else left + 1)
                total = np.float32(total + values[node])
            logits.append(total)
        both = np.array(logits if len(head.classes) > 2 else [0.0, *logits], np.float64)
        both = both * tensors[f"{name}.calibration.scale"] + tensors[f"{name}.calibration.shift"]
        exponentials = np.exp(both - both.max())
        answers.append(exponentials / exponentials.sum())
    return np.concatenate(answers)
