"""The step of boosted trees: a frame's row, the leaf it comes to in every tree, and calibrated probabilities.

The arithmetic is `bundle.trees`'. Comparisons and sums are XGBoost's: float32, leaves in the order of the rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.bundle import trees
from rtseg.bundle.trees import COLUMN, LEFT, UNKNOWN
from rtseg.compiled import array_tables, cache_stamps, lanes, products
from rtseg.compiled.array_tables import TableRows, field_indices
from rtseg.engine.cpu import elementwise, window_statistics
from rtseg.engine.cpu.elementwise import softmax
from rtseg.engine.cpu.window_statistics import add_frame, fill_row

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
VALUE = 3
"""Of a node, behind its branch: the same 32 bits, read as float32."""
OUTPUT, FIRST, ROUNDS = range(3)
"""Of a boosted class: its place among the outputs, its first root, how many."""


class TreeArrays(NamedTuple):
    """What a step works with.

    plan: of the windows (`window_statistics`). offsets: (H + 1,) of the heads' outputs. classes: (G, 3), see OUTPUT.
    base: (G,). roots: nodes, class by class. branches: (nodes, 4), children as places among all heads' nodes; values:
    the same memory as float32. scale, shift: (P,). memory: (S, floats), a slot's ring and padding. frames: (S,) since a
    slot's reset. sums: scratch of `fill_row`. row: (columns,). scratch: (2, padded P + LANES) flat: logits,
    probabilities.
    """

    plan: I64
    offsets: I64
    classes: I64
    base: F32
    roots: I64
    branches: I32
    values: F32
    scale: F32
    shift: F32
    memory: F32
    frames: I64
    sums: NDArray[np.float64]
    row: F32
    scratch: F32


TREE = field_indices(*TreeArrays._fields)


@njit(cache=False, error_model="numpy")
def leaf_of(row: F32, branches: I32, values: F32, root: Any) -> Any:
    """What the leaf adds that a row comes to from a root."""
    node = np.uintp(root)
    left = np.uintp(branches[node, LEFT])
    while left > 0:
        value = row[np.uintp(branches[node, COLUMN])]
        # Chosen without a branch: which way a walk goes no processor foresees.
        known = left if value < values[node, VALUE] else left + np.uintp(1)
        node = known if value == value else np.uintp(branches[node, UNKNOWN])
        left = np.uintp(branches[node, LEFT])
    return values[node, VALUE]


@njit(cache=False, error_model="numpy")
def _add_leaves(rows: TableRows, row: F32, scratch: F32) -> None:
    """The logits of all heads, to scratch; of two classes the first one's is 0."""
    classes, base = array_tables.int64s_2d(rows, TREE.classes), array_tables.float32s(rows, TREE.base)
    roots, branches = array_tables.int64s(rows, TREE.roots), array_tables.int32s_2d(rows, TREE.branches)
    values, offsets = array_tables.float32s_2d(rows, TREE.values), array_tables.int64s(rows, TREE.offsets)
    for i in range(offsets[-1]):
        scratch[i] = np.float32(0.0)
    for boosted in range(len(classes)):
        total, first = base[boosted], classes[boosted, FIRST]
        for number in range(first, first + classes[boosted, ROUNDS]):
            total += leaf_of(row, branches, values, roots[number])
        scratch[classes[boosted, OUTPUT]] = total


@njit(cache=False, error_model="numpy")
def _answer(rows: TableRows, scratch: F32, out: F32) -> None:
    """Calibrated probabilities (P,) of all heads."""
    offsets = array_tables.int64s(rows, TREE.offsets)
    scale, shift = array_tables.float32s(rows, TREE.scale), array_tables.float32s(rows, TREE.shift)
    to = np.uintp(len(scratch) // 2)
    for i in range(offsets[-1]):
        scratch[i] = scratch[i] * scale[i] + shift[i]
    for head in range(len(offsets) - 1):
        lo, n = np.uintp(offsets[head]), np.uintp(offsets[head + 1] - offsets[head])
        softmax(scratch, lo, n, to, n)
        for c in range(n):
            out[lo + c] = scratch[to + c]


def _compiled(stamp: int) -> Callable[[F32, I32, TableRows, F32], None]:
    @njit(cache=True, error_model="numpy")
    def advance(features: F32, slots: I32, rows: TableRows, out: F32) -> None:
        _ = stamp
        plan, memory = array_tables.int64s_2d(rows, TREE.plan), array_tables.float32s_2d(rows, TREE.memory)
        frames, sums = array_tables.int64s(rows, TREE.frames), array_tables.float64s(rows, TREE.sums)
        row, scratch = array_tables.float32s(rows, TREE.row), array_tables.float32s(rows, TREE.scratch)
        remembered = plan[-1, window_statistics.LENGTH] * features.shape[1] if len(plan) else 0
        for n in range(len(slots)):
            slot = slots[n]
            ring = memory[slot, :remembered]
            add_frame(features[n], ring, frames[slot])
            fill_row(features[n], plan, ring, frames[slot], sums, row)
            frames[slot] += 1
            _add_leaves(rows, row, scratch)
            _answer(rows, scratch, out[n])

    compiled: Callable[[F32, I32, TableRows, F32], None] = advance
    return compiled


advance = _compiled(cache_stamps.source_stamp(array_tables, lanes, products, elementwise, window_statistics, trees))
"""features (N, F) raw, slots (N,) -> out (N, P) probabilities; the slots' memory and frame counts move on in place.

rows: of the table of a `TreeArrays`.
"""
