"""The engine of boosted trees: `engine.base.Engine` for bundles of `bundle.trees`, on the CPU.

Lays a bundle's trees out once at load; the computing is in `tree_kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.trees import LEFT, UNKNOWN, TreesSpec, boosted
from rtseg.compiled.ahead import Kernel
from rtseg.compiled.array_tables import ArrayTable
from rtseg.compiled.lanes import LANES
from rtseg.engine.cpu import tree_kernels as kernels
from rtseg.engine.cpu.slot_memory import SlotMemoryEngine, aligned, laid, padded
from rtseg.engine.cpu.tree_kernels import VALUE, TreeArrays
from rtseg.engine.cpu.window_statistics import SUMS, window_plan

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
NODE_BYTES = 16
ADVANCE = Kernel(kernels.__name__, "advance", "float32[:,::1], int32[::1], int64[:,::1], float32[:,::1]")


class TreeEngine(SlotMemoryEngine):
    """A stream's bits depend on nothing but its own frames, whatever the batch; training's rows are the same bits.

    tensors: checked by `TreesSpec.check_tensors`, since nothing here is checked again.
    """

    kernels = (ADVANCE,)
    spec: TreesSpec

    def __init__(self, spec: TreesSpec, tensors: Mapping[str, NDArray[Any]], capacity: int) -> None:
        super().__init__(spec, capacity)
        classes, roots, branches = _laid_out(spec, tensors)
        nodes = laid(branches)
        scale, shift = (
            np.concatenate([tensors[f"head.{h.name}.calibration.{part}"] for h in spec.heads]).astype(np.float32)
            for part in ("scale", "shift")
        )
        self._table = ArrayTable(
            TreeArrays(
                plan=window_plan(spec.windows),
                offsets=np.array(spec.offsets, np.int64),
                classes=classes,
                base=np.concatenate([tensors[f"head.{h.name}.trees.base"] for h in spec.heads]).astype(np.float32),
                roots=roots,
                branches=nodes,
                values=nodes.view(np.float32),
                scale=scale,
                shift=shift,
                memory=self._memory,
                frames=self._frames,
                sums=aligned((SUMS * spec.n_features,), np.float64),
                row=aligned((spec.n_columns,), np.float32),
                # A loop over whole LANES may read and write past the last output.
                scratch=aligned((2 * (padded(spec.n_outputs) + LANES),), np.float32),
            )
        )
        self._rows = self._table.rows

    @property
    def weight_bytes(self) -> int:
        """Bytes that a step reads: a node for each comparison, and what its windows look back at."""
        return NODE_BYTES * self.spec.comparisons + 4 * self.spec.state_floats

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        kernels.advance(features, slots, self._rows, out)


def _laid_out(spec: TreesSpec, tensors: Mapping[str, NDArray[Any]]) -> tuple[I64, I64, NDArray[np.int32]]:
    """The boosted classes, roots and nodes of all heads one after the other, as `TreeArrays` has them."""
    classes, roots, nodes = [], [], []
    n_roots = n_nodes = 0
    for head, trees, offset in zip(spec.heads, spec.trees, spec.offsets, strict=False):
        name, n = f"head.{head.name}.trees", boosted(head)
        for number in range(n):
            # Of two classes the second one's logit.
            output = offset + (number if n > 1 else 1)
            classes.append((output, n_roots + number * trees.rounds, trees.rounds))
        roots.append(tensors[f"{name}.roots"].astype(np.int64).ravel() + n_nodes)
        branches = tensors[f"{name}.branches"].astype(np.int32)
        is_branch = branches[:, LEFT] > 0
        # Four numbers a node, of which no two lie in different cache lines.
        of_head = np.zeros((len(branches), 4), np.int32)
        of_head[:, :VALUE] = branches
        of_head[is_branch, LEFT] += n_nodes
        of_head[is_branch, UNKNOWN] += n_nodes
        of_head[:, VALUE] = tensors[f"{name}.values"].astype(np.float32).view(np.int32)
        nodes.append(of_head)
        n_roots, n_nodes = n_roots + n * trees.rounds, n_nodes + len(branches)
    return np.array(classes, np.int64), np.concatenate(roots), np.concatenate(nodes)
