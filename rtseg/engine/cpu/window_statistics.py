"""A frame's row for boosted trees: its features and, for every window, their mean, deviation, minimum and maximum.

Training's rows and a stream's are made by the same compiled lines, `add_frame` and `fill_row`. A window is summed up
anew at every frame, newest frame first, so no sum drifts, and a shorter window's is the beginning of a longer one's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.bundle import trees
from rtseg.bundle.trees import STATISTICS
from rtseg.compiled import cache_stamps

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
LENGTH, PLACE = range(2)
"""Of a window in a plan."""
SUMS = 7
"""float64 of scratch for every feature: see `fill_row`."""


def window_plan(windows: Sequence[int]) -> I64:
    """(W, 2): lengths in frames, rising, and the place of each window among `windows`."""
    order = sorted(range(len(windows)), key=windows.__getitem__)
    return np.array([(windows[place], place) for place in order], np.int64).reshape(-1, 2)


def ring_frames(plan: I64) -> int:
    """How many frames a stream remembers."""
    return int(plan[-1, LENGTH]) if len(plan) else 0


def causal_statistics(features: F32, windows: Sequence[int]) -> F32:
    """Rows (T, F * (1 + 4 * windows)) of features (T, F), from a fresh state: as those of a stream.

    NaN is left out; a window without a value gives NaN. Windows are shorter where the recording begins.
    """
    plan, n_features = window_plan(windows), features.shape[1]
    rows = np.empty((len(features), n_features * (1 + STATISTICS * len(windows))), np.float32)
    ring, sums = np.zeros(ring_frames(plan) * n_features, np.float32), np.empty(SUMS * n_features)
    _fill_rows(np.ascontiguousarray(features, np.float32), plan, ring, sums, rows)
    return rows


@njit(cache=False, error_model="numpy")
def add_frame(features: F32, ring: F32, frame: Any) -> None:
    """Features (F,) of a stream's frame, counted from 0, into its ring (frames * F)."""
    n = np.uintp(len(features))
    if len(ring) == 0:  # no windows
        return
    # This order stays within the ring whatever the count is, which may come from a snapshot.
    start = np.uintp(frame) % (np.uintp(len(ring)) // n) * n
    for f in range(n):
        ring[start + f] = features[f]


@njit(cache=False, error_model="numpy")
def fill_row(features: F32, plan: I64, ring: F32, frame: Any, sums: F64, row: F32) -> None:
    """The row of the frame that was added last. sums: scratch.

    It holds for every feature the reference, which is its newest known value, sum and sum of squares of what values
    differ from it, the difference at hand, the number of known values, the smallest and the largest. From such a
    reference even the sum of squares of a still animal's positions keeps all its digits.
    """
    n = np.uintp(len(features))
    _begin(n, features, sums, row)
    place, back = np.uintp(frame) % max(np.uintp(len(ring)) // n, np.uintp(1)) * n, 0
    for window in range(len(plan)):
        stop = min(plan[window, LENGTH], np.int64(frame) + 1)
        while back < stop:
            _add_values(n, ring, place, sums)
            place = (place if place > 0 else np.uintp(len(ring))) - n
            back += 1
        _finish(n, sums, row, n * np.uintp(1 + STATISTICS * plan[window, PLACE]))


@njit(cache=False, error_model="numpy")
def _begin(n: Any, features: F32, sums: F64, row: F32) -> None:
    for f in range(n):
        row[f] = features[f]
        sums[f] = math.nan
    for f in range(n, np.uintp(5) * n):
        sums[f] = 0.0
    for f in range(np.uintp(5) * n, np.uintp(6) * n):
        sums[f] = math.inf
        sums[n + f] = -math.inf


@njit(cache=False, error_model="numpy")
def _add_values(n: Any, ring: F32, place: Any, sums: F64) -> None:
    """One frame of the ring, to all sums."""
    # Three loops over few arrays each: with all of them in one, LLVM gives up telling that they do not overlap.
    total, squares, difference = n, n + n, np.uintp(3) * n
    count, low, high = np.uintp(4) * n, np.uintp(5) * n, np.uintp(6) * n
    for f in range(n):
        value, reference = np.float64(ring[place + f]), sums[f]
        reference = value if reference != reference else reference
        sums[f] = reference
        sums[difference + f] = value - reference if value == value else 0.0
    for f in range(n):
        sums[total + f] += sums[difference + f]
        sums[squares + f] += sums[difference + f] * sums[difference + f]
    for f in range(n):
        value = np.float64(ring[place + f])
        sums[count + f] += 1.0 if value == value else 0.0
        # A NaN is neither smaller nor larger.
        sums[low + f] = value if value < sums[low + f] else sums[low + f]
        sums[high + f] = value if value > sums[high + f] else sums[high + f]


@njit(cache=False, error_model="numpy")
def _finish(n: Any, sums: F64, row: F32, at: Any) -> None:
    """Mean, deviation, minimum and maximum of the frames added so far, to row[at:]."""
    for f in range(n):
        count = sums[np.uintp(4) * n + f]
        known = count > 0
        count = count if known else 1.0
        mean = sums[n + f] / count
        variance = sums[n + n + f] / count - mean * mean
        # Rounding may leave a little less than nothing.
        variance = variance if variance > 0 else 0.0
        row[at + f] = np.float32(sums[f] + mean)  # NaN where nothing is known, as the reference is
        row[at + n + f] = np.float32(math.sqrt(variance) if known else math.nan)
        row[at + n + n + f] = np.float32(sums[np.uintp(5) * n + f] if known else math.nan)
        row[at + np.uintp(3) * n + f] = np.float32(sums[np.uintp(6) * n + f] if known else math.nan)


def _compiled(stamp: int) -> Callable[[F32, I64, F32, F64, F32], None]:
    @njit(cache=True, error_model="numpy")
    def fill_rows(features: F32, plan: I64, ring: F32, sums: F64, rows: F32) -> None:
        _ = stamp
        for frame in range(len(features)):
            add_frame(features[frame], ring, frame)
            fill_row(features[frame], plan, ring, frame, sums, rows[frame])

    compiled: Callable[[F32, I64, F32, F64, F32], None] = fill_rows
    return compiled


_fill_rows = _compiled(cache_stamps.source_stamp(trees))
