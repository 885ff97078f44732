"""What a step's gates are written with: the errors of the exponential, the sigmoid and tanh."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import lanes
from rtseg.compiled.lanes import LANES, load, store

F32 = NDArray[np.float32]


@njit
def applied(x: F32, which: int, y: F32) -> None:
    for at in range(0, len(x), LANES):
        value = load(x, at)
        if which == 0:
            store(y, at, lanes.exponential(value))
        elif which == 1:
            store(y, at, lanes.sigmoid(value))
        else:
            store(y, at, lanes.tanh(value))


def test_the_exponential_and_the_gates_are_within_their_stated_errors() -> None:
    x = np.concatenate([np.linspace(-87, 88, 1 << 16), np.linspace(-2, 2, 1 << 16)]).astype(np.float32)
    y, exact = np.empty_like(x), x.astype(np.float64)
    applied(x, 0, y)
    assert np.abs(y / np.exp(exact) - 1).max() < 2e-7
    applied(x, 1, y)
    assert np.abs(y - 1 / (1 + np.exp(-exact))).max() < 2e-7
    applied(x, 2, y)
    assert np.abs(y - np.tanh(exact)).max() < 3e-7
