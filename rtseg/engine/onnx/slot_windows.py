"""Which rows to run for a batch of slots, where a backend has fixed batch sizes and every slot its own row of memory.

A window is a run of neighbouring slots, as long as one of the batch sizes. Slots in it that have no frame are run too
and lose nothing (`onnx_graph` says why), so no state is ever copied: a few slots far apart take a small window each,
many close together take a large one. Pure bookkeeping, which knows no backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

Window = tuple[int, int]
"""First slot and number of slots."""


def rows_for(capacity: int, sizes: Sequence[int]) -> int:
    """Rows of memory for `capacity` slots: whole windows of the second size, so that the last slots can use one too."""
    unit = 1 if capacity == 1 or len(sizes) == 1 else sizes[1]
    return -(-capacity // unit) * unit


def cover_slots(slots: Sequence[int], sizes: Sequence[int], rows: int, call_rows: float) -> list[Window]:
    """The cheapest windows that hold all of these slots, each once. slots: ascending.

    sizes: ascending from 1, each divides the next (`config.OnnxSettings`). rows: of memory; no window reaches beyond.
    call_rows: what a call costs in addition to its rows, in rows.
    """
    return _cheapest(slots, tuple(size for size in sizes if size <= rows), rows, call_rows)[1]


def _cheapest(slots: Sequence[int], sizes: tuple[int, ...], rows: int, call_rows: float) -> tuple[float, list[Window]]:
    """The cost in rows of the cheapest windows of these sizes, and the windows."""
    # Sizes divide one another, so the cheapest windows of a block are one window or the cheapest smaller ones.
    if len(sizes) == 1:
        return len(slots) * (call_rows + 1), [(slot, 1) for slot in slots]
    size, cost, windows = sizes[-1], 0.0, list[Window]()
    # Windows begin at multiples of their size only, so the same windows come again and stay bound.
    for block, members in groupby(slots, lambda slot: slot // size):
        cheapest, smaller = _cheapest(list(members), sizes[:-1], rows, call_rows)
        as_one = call_rows + size
        # A call costs as much as several rows, so rows without a frame may well be cheaper than another call.
        if as_one < cheapest and (block + 1) * size <= rows:
            cheapest, smaller = as_one, [(block * size, size)]
        cost += cheapest
        windows += smaller
    return cost, windows
