"""The least that a step of the network can cost on this machine: its weights read once, its multiply-adds done.

Both are measured, on one thread, with the instructions that the numba engine uses; a step then reaches the share
limit / step of what is possible. For benchmarks only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled.lanes import LANES, add, load, muladd, store
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.engine.cpu.tree_engine import TreeEngine

F32 = NDArray[np.float32]
N = np.uintp(LANES)
SUMS = 6
"""Independent sums: on AVX2 twelve registers, enough to hide a multiply-add's latency."""
NEAR_BYTES = 192 * 1024
"""Fits the second-level cache beside other data, and not the first."""


# Not cached: numba would not see that `lanes`, whose functions are compiled into these, has changed.
@njit(cache=False, error_model="numpy")
def _multiply(s: F32, rounds: Any) -> None:
    """`rounds` times SUMS * LANES multiply-adds, on values that stay in registers."""
    w, x = load(s, np.uintp(0)), load(s, N)
    # Each sum depends on its own last value only, so the chains run side by side.
    a0 = a1 = a2 = a3 = a4 = a5 = w
    for _ in range(rounds):
        a0 = muladd(w, a0, x)
        a1 = muladd(w, a1, x)
        a2 = muladd(w, a2, x)
        a3 = muladd(w, a3, x)
        a4 = muladd(w, a4, x)
        a5 = muladd(w, a5, x)
    store(s, N + N, add(add(add(a0, a1), add(a2, a3)), add(a4, a5)))


@njit(cache=False, error_model="numpy")
def _read(values: F32, s: F32) -> None:
    """Every value once, four sums of LANES at a time; the length is a multiple of that."""
    a0 = a1 = a2 = a3 = load(s, np.uintp(0))
    for i in range(np.uintp(0), np.uintp(len(values)), np.uintp(4) * N):
        a0 = add(a0, load(values, i))
        a1 = add(a1, load(values, i + N))
        a2 = add(a2, load(values, i + N + N))
        a3 = add(a3, load(values, i + N + N + N))
    store(s, N + N, add(add(a0, a1), add(a2, a3)))


@dataclass(frozen=True)
class Work:
    """What one step must do: read weight_bytes once a batch, and compute multiply_adds for each stream."""

    weight_bytes: int
    multiply_adds: int

    @classmethod
    def of(cls, engine: NumbaEngine | TreeEngine) -> Work:
        """Of a loaded engine: weights that it stores as float16 count two bytes each."""
        return cls(engine.weight_bytes, engine.spec.multiply_adds)

    def floors(self, batch: int) -> dict[str, Callable[[], None]]:
        """Cases to be timed beside a step of `batch` streams: `read` and `multiply`, of its work alone."""
        far, room = _values(self.weight_bytes), _values(4 * 3 * LANES)
        # `_multiply` does SUMS * LANES of them a round.
        rounds = round(self.multiply_adds * batch / (SUMS * LANES))
        return {"read": lambda: _read(far, room), "multiply": lambda: _multiply(room, rounds)}


def near() -> tuple[int, Callable[[], None]]:
    """How many bytes, and a case that reads them repeatedly from the second-level cache."""
    values, room = _values(NEAR_BYTES), _values(4 * 3 * LANES)
    return values.nbytes, lambda: _read(values, room)


def _values(size: int) -> F32:
    """At least `size` bytes of small numbers, in whole turns of `_read`, aligned to a cache line."""
    n = -(-size // (16 * LANES)) * 4 * LANES
    room = np.full(n + LANES, 1e-3, np.float32)
    start = -room.ctypes.data // 4 % LANES
    return room[start : start + n]
