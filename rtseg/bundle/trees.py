"""The shape of boosted trees in a bundle: windows, heads, sizes, and the name, type and shape of every tensor.

Training writes these tensors, the numba engine walks them; both follow this file. It computes nothing but checks.

One step, at frame t, with x the row of the frame (`engine.cpu.window_statistics`), F * (1 + 4 * windows) columns:

    x = features, then for every window their mean, deviation, minimum and maximum over its frames, up to t
    per head and boosted class: q = base + the leaf that x comes to in every tree, in the order of the rounds
    p = softmax(q * scale + shift)                                                   (scale, shift: the calibration)

A head of two classes boosts the second one's logit alone; the first one's is 0. A walk goes from a tree's root to
the left child where x[column] < value, to the right one, which follows it, where not, and to `unknown` where x[column]
is NaN. Both children lie behind their parent, so every walk ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.architecture import (
    Architecture,
    calibration_shapes,
    check_sizes,
    heads_from_list,
    heads_to_list,
)
from rtseg.errors import BundleError
from rtseg.recordings.heads import Head

STATISTICS = 4
"""Of a window: mean, deviation, minimum, maximum."""
COLUMN, LEFT, UNKNOWN = range(3)
"""Of a branch: the column that it looks at, its left child (0: a leaf), and the child for NaN."""
MAX_ROUNDS, MAX_NODES, MAX_DEPTH, MAX_WINDOWS, MAX_WINDOW_FRAMES = 10_000, 1 << 20, 64, 16, 1 << 20
MAX_COLUMNS = 1 << 17
COMPARISON, VALUE = 96, 16
"""Multiply-adds that take as long as a comparison of a walk, and as one value of a window."""


@dataclass(frozen=True)
class Trees:
    """Sizes of one head's trees. rounds: each adds a tree to every boosted class, 0 where nothing was labelled.

    nodes: of all of them. depth: comparisons on the longest way to a leaf.
    """

    rounds: int
    nodes: int
    depth: int


@dataclass(frozen=True)
class TreesSpec(Architecture):
    """Gradient-boosted trees on window statistics. windows: lengths in frames, each ends at the frame.

    trees: of every head, in the order of `heads`.
    """

    n_features: int
    windows: tuple[int, ...]
    heads: tuple[Head, ...]
    trees: tuple[Trees, ...]

    @property
    def n_columns(self) -> int:
        """Of a frame's row."""
        return self.n_features * (1 + STATISTICS * len(self.windows))

    @property
    def comparisons(self) -> int:
        """Of one step at most, for one frame of one stream."""
        return sum(boosted(h) * t.rounds * t.depth for h, t in zip(self.heads, self.trees, strict=True))

    @property
    def looks_back(self) -> str:
        return f"up to {self.receptive_field - 1} frames"

    @property
    def receptive_field(self) -> int:
        return max(self.windows, default=1)

    @property
    def multiply_adds(self) -> int:
        return 0

    @property
    def work(self) -> int:
        return COMPARISON * self.comparisons + VALUE * self.state_floats

    @property
    def size(self) -> str:
        rounds, nodes = sum(t.rounds for t in self.trees), sum(t.nodes for t in self.trees)
        return f"{rounds:,} rounds of boosting, {nodes:,} nodes, at most {self.comparisons:,} comparisons per frame"

    @property
    def state_floats(self) -> int:
        return self.n_features * max(self.windows, default=0)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {}
        for head, trees in zip(self.heads, self.trees, strict=True):
            name = f"head.{head.name}.trees"
            shapes |= {
                f"{name}.base": (boosted(head),),
                f"{name}.roots": (boosted(head), trees.rounds),
                f"{name}.branches": (trees.nodes, 3),
                f"{name}.values": (trees.nodes,),
                **calibration_shapes(head),
            }
        return shapes

    def dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(np.int32 if name.endswith((".trees.roots", ".trees.branches")) else np.float32)

    def check_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        super().check_tensors(tensors)
        for head, trees in zip(self.heads, self.trees, strict=True):
            name = f"head.{head.name}.trees"
            roots, branches = tensors[f"{name}.roots"], tensors[f"{name}.branches"]
            if not _inside(roots, trees.nodes):
                raise BundleError(f"weight '{name}.roots' names nodes that are not there: of {trees.nodes}")
            _check_branches(f"{name}.branches", branches, self.n_columns)
            if (found := longest_walk(roots, branches, trees.depth)) != trees.depth:
                more = "more" if found > trees.depth else str(found)
                raise BundleError(f"weight '{name}.branches': expected walks of {trees.depth} comparisons, got {more}")

    def _with_heads(self, places: Sequence[int]) -> Self:
        heads, trees = tuple(self.heads[place] for place in places), tuple(self.trees[place] for place in places)
        return replace(self, heads=heads, trees=trees)

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": "gradient-boosting",
            "n_features": self.n_features,
            "windows": list(self.windows),
            "heads": heads_to_list(self.heads),
            "trees": [asdict(trees) for trees in self.trees],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TreesSpec:
        """The inverse of `to_dict`. Raises BundleError for wrong fields and sizes."""
        try:
            spec = cls(
                plain["n_features"],
                tuple(plain["windows"]),
                heads_from_list(plain["heads"]),
                tuple(Trees(**trees) for trees in plain["trees"]),
            )
        except (KeyError, TypeError) as error:
            raise BundleError(f"the architecture in the manifest lacks or misnames a field: {error}") from error
        if unknown := set(plain) - set(spec.to_dict()):
            raise BundleError(f"the architecture in the manifest misnames a field: {', '.join(sorted(unknown))}")
        check_sizes([spec.n_features])
        check_sizes(spec.windows, most=MAX_WINDOW_FRAMES)
        check_sizes([trees.rounds for trees in spec.trees], 0, MAX_ROUNDS)
        check_sizes([trees.nodes for trees in spec.trees], 0, MAX_NODES)
        check_sizes([trees.depth for trees in spec.trees], 0, MAX_DEPTH)
        if len(spec.trees) != len(spec.heads):
            raise BundleError(f"the architecture has trees for {len(spec.trees)} of {len(spec.heads)} heads")
        return spec


def boosted(head: Head) -> int:
    """How many classes of a head have trees of their own: of two only the second one."""
    return len(head.classes) if len(head.classes) > 2 else 1


def longest_walk(roots: NDArray[np.int32], branches: NDArray[np.int32], most: int) -> int:
    """Comparisons on the longest way from a root to a leaf; `most` + 1 where there are more than `most`."""
    reached = np.zeros(len(branches), np.bool_)
    reached[roots] = True
    for walked in range(most + 2):
        left = branches[np.flatnonzero(reached & (branches[:, LEFT] > 0)), LEFT]
        if not len(left):
            return walked
        reached[:] = False
        reached[left] = reached[left + 1] = True
    return most + 1


def _check_branches(name: str, branches: NDArray[np.int32], n_columns: int) -> None:
    column, left, unknown = (branches[:, part].astype(np.int64) for part in (COLUMN, LEFT, UNKNOWN))
    is_leaf, places = left == 0, np.arange(len(branches))
    # Behind their parent, so that no walk goes in a circle.
    is_sound = is_leaf | ((left > places) & (left + 1 < len(branches)) & ((unknown == left) | (unknown == left + 1)))
    if not (is_sound.all() and _inside(column, n_columns)):
        wrong = int(np.argmin(is_sound & (column >= 0) & (column < n_columns)))
        raise BundleError(
            f"weight {name!r}: node {wrong} of {len(branches)} is {branches[wrong].tolist()}; expected a column below "
            f"{n_columns} and children behind it"
        )


def _inside(places: NDArray[Any], n: int) -> bool:
    return bool(((places >= 0) & (places < n)).all())
