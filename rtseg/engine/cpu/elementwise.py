"""What a step does to single values of a row: scaling features, encoders' codes, gates, ReLU and softmax.

All work on the scratch `s`, in which a row's values begin at a place; loops over whole LANES may write past their end,
where the next region leaves room.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import lanes
from rtseg.compiled.lanes import load, store
from rtseg.compiled.products import N, padded

F32 = NDArray[np.float32]


@njit(cache=False, error_model="numpy")
def softmax(s: F32, logits: Any, n: Any, to: Any, room: Any) -> None:
    """s[logits:] (n,) to probabilities in s[to:], and zeros up to s[to + room]."""
    # Less the largest, so that no exponential overflows.
    top = s[logits]
    for i in range(n):
        top = max(top, s[logits + i])
    for i in range(np.uintp(0), padded(n), N):
        value = lanes.subtract(load(s, logits + i), lanes.spread(top))
        store(s, to + i, lanes.exponential(value))
    # One by one: few classes, and an order that no vector width changes.
    total = np.float32(0.0)
    for i in range(n):
        total += s[to + i]
    for i in range(n):
        s[to + i] /= total
    for i in range(n, room):
        s[to + i] = np.float32(0.0)


@njit(cache=False, error_model="numpy")
def relu(s: F32, at: Any, n: Any) -> None:
    for i in range(np.uintp(0), padded(n), N):
        store(s, at + i, lanes.larger(load(s, at + i), lanes.spread(np.float32(0.0))))


@njit(cache=False, error_model="numpy")
def scale_features(
    vectors: F32, features: F32, row: Any, views: Any, columns: NDArray[np.uintp], s: F32, z: Any
) -> None:
    """Raw features[row] (F,) to scaled and clipped ones in s[z:], in every view (V, F), each view padded.

    columns: for each view but the first the column whose value each place gets, and last the places within s[z:] where
    a value's sign turns.
    """
    n = np.uintp(features.shape[1])
    wide, first = padded(n), row * n
    shift = wide
    scale = shift + shift
    # Vectors lie as `packed_weights` puts them: fill, shift, scale, clip, each padded.
    clip = vectors[scale + shift]
    low, high = lanes.spread(-clip), lanes.spread(clip)
    whole = n // N * N
    for f in range(np.uintp(0), whole, N):
        value = lanes.known(load(features, first + f), load(vectors, f))
        value = lanes.multiply(lanes.subtract(value, load(vectors, shift + f)), load(vectors, scale + f))
        store(s, z + f, lanes.smaller(lanes.larger(value, low), high))
    # The rest one by one: a load of whole LANES would read the next row's features.
    for f in range(whole, n):
        # The same arithmetic in the same order as above: whole LANES and the rest round alike.
        one = features[row, f]
        if math.isnan(one):
            one = vectors[f]
        s[z + f] = min(max((one - vectors[shift + f]) * vectors[scale + f], -clip), clip)
    at, to = np.uintp(0), z
    for _ in range(np.uintp(1), max(views, np.uintp(1))):
        to += wide
        for f in range(n):
            s[to + f] = s[z + columns[at + f]]
        at += n
    # After all views are filled, since they are copied from the features with their own signs.
    for i in range(at, np.uintp(len(columns))):
        s[z + columns[i]] = -s[z + columns[i]]


@njit(cache=False, error_model="numpy")
def enter_cell(s: F32, codes: Any, view_stride: Any, views: Any, width: Any, to: Any) -> None:
    """Codes (V, E) of one row to what enters a cell: their mean, and the maximum less it; without views, the code.

    Neither depends on the order of the views. view_stride: from one view's code to the next one's.
    """
    zero = lanes.spread(np.float32(0.0))
    if views == 0:
        for e in range(np.uintp(0), width, N):
            store(s, to + e, lanes.larger(load(s, codes + e), zero))
        return
    share = lanes.spread(np.float32(1.0 / views))
    # Ends of the loops write past their part: hence first the mean, then what lies after it.
    for e in range(np.uintp(0), width, N):
        mean = lanes.multiply(lanes.larger(load(s, codes + e), zero), share)
        for v in range(np.uintp(1), views):
            value = lanes.larger(load(s, codes + v * view_stride + e), zero)
            mean = lanes.add(mean, lanes.multiply(value, share))
        store(s, to + e, mean)
    for e in range(np.uintp(0), width, N):
        top = lanes.larger(load(s, codes + e), zero)
        for v in range(np.uintp(1), views):
            top = lanes.larger(load(s, codes + v * view_stride + e), top)
        # Less the mean: beside it the maximum itself would say little new.
        store(s, to + width + e, lanes.subtract(top, load(s, to + e)))


@njit(cache=False, error_model="numpy")
def update_state(s: F32, gates_in: Any, gates_back: Any, opened: Any, state: Any, n: Any) -> None:
    """s[state:] (R,), what a cell was a period ago, to what it is now; gates (3R,) in the order reset, update, new.

    opened: room for two gates. Two passes, because each keeps the processor's pipelines fuller than one loop over
    both would.
    """
    both = n + n
    for i in range(np.uintp(0), both, N):
        store(s, opened + i, lanes.sigmoid(lanes.add(load(s, gates_in + i), load(s, gates_back + i))))
    for i in range(np.uintp(0), n, N):
        new = lanes.tanh(
            lanes.muladd(load(s, opened + i), load(s, gates_back + both + i), load(s, gates_in + both + i))
        )
        # Written so that one multiply-add gives the mixture of the old state and the new one.
        before = load(s, state + i)
        store(s, state + i, lanes.muladd(load(s, opened + n + i), lanes.subtract(before, new), new))
