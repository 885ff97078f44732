"""A batch cut into rounds within which no slot comes twice: what an engine may hand to a device at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]


def rounds(slots: I32) -> Iterator[I32 | slice]:
    """The rows of a batch in rounds within which no slot comes twice, each slot's rows in their order."""
    n = len(slots)
    if n == 0:
        return
    # As a daemon steps them: one frame of each stream. A slice is a view, and nothing is sorted.
    if n == 1 or len(np.unique(slots)) == n:
        yield slice(0, n)
        return
    # A row's round is its rank among the rows of its slot; stable sorts keep each slot's rows in their order.
    order = np.argsort(slots, kind="stable")
    # Where another slot begins in the sorted rows; any number but the first slot marks the first row as well.
    starts = np.flatnonzero(np.diff(slots[order], prepend=slots[order[0]] - 1))
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n) - np.repeat(starts, np.diff(starts, append=n))
    # Rows of rank 0, then of rank 1, and so on; bincount tells how many rows each round has.
    by_round = np.argsort(rank, kind="stable").astype(np.int32)
    yield from np.split(by_round, np.cumsum(np.bincount(rank))[:-1])
