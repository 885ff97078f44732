"""Which rows to run for a batch of slots, where a backend has fixed batch sizes and every slot its own place in memory.

A window is a run of neighbouring slots, as many as one of the sizes. Slots in it that have no frame are run along and
lose nothing (`onnx_graph`), so no state is ever copied: a few slots far apart take a small window each, many together
a large one. Pure bookkeeping; knows no backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

Window = tuple[int, int]
"""First slot and number of slots."""


def n_rows(capacity: int, sizes: Sequence[int]) -> int:
    """Rows of memory for so many slots: whole windows of the second size, so that few slots lie outside any."""
    unit = 1 if capacity == 1 or len(sizes) == 1 else sizes[1]
    return -(-capacity // unit) * unit


def cover(slots: Sequence[int], sizes: Sequence[int], rows: int, call_rows: float) -> list[Window]:
    """The cheapest windows that hold all of these slots, each once; slots ascending.

    sizes: ascending from 1, each divides the next (`config.OnnxSettings`). rows: of memory; no window reaches beyond.
    call_rows: what one call costs, in rows.
    """
    return _cheapest(slots, tuple(size for size in sizes if size <= rows), rows, call_rows)[1]


def _cheapest(slots: Sequence[int], sizes: tuple[int, ...], rows: int, call_rows: float) -> tuple[float, list[Window]]:
    if len(sizes) == 1:
        return len(slots) * (call_rows + 1), [(slot, 1) for slot in slots]
    size, cost, windows = sizes[-1], 0.0, list[Window]()
    for block, members in groupby(slots, lambda slot: slot // size):
        apart, finer = _cheapest(list(members), sizes[:-1], rows, call_rows)
        together = call_rows + size
        if together < apart and (block + 1) * size <= rows:
            apart, finer = together, [(block * size, size)]
        cost += apart
        windows += finer
    return cost, windows
