"""Which animal is which: the cost of calling two of them by each other's name, against where they were last seen.

The one rule of assignment: features relink by it (`kernels`), and mixed-up animals are noticed by it (`identity`).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

F32 = NDArray[np.float32]
UNDECIDED = math.nan
"""What is not known is no reason to swap: before the second animal is first seen, no jump is noticed."""
AS_NEAR = 0.0
"""An assignment of which nothing is known counts as the nearest. Relinked features are computed so, for networks are
trained on them: where one animal was never seen the two are swapped once, and then something is known of both."""


@njit(cache=True)
def distance(one: F32, two: F32) -> float:
    """Between two points (2,); NaN where one is missing."""
    return math.sqrt((one[0] - two[0]) ** 2 + (one[1] - two[1]) ** 2)


@njit(cache=True)
def relink(
    points: F32, held: F32, links: NDArray[np.int32], margin: float, cap: float, swap: bool, unknown: float
) -> bool:
    """Whether the points (A, K, 2) lie nearer to where the animals were last seen, held (A, K, 2), if two are swapped.

    links: (A,) which of the source's animals each is. margin: by how many px nearer, in the mean. cap: what a single
    point counts at most. swap: such a pair swaps its links, in place. unknown: the mean distance in an assignment of
    which nothing is known, UNDECIDED or AS_NEAR.
    """
    found = False
    # Pair by pair, not the best of all assignments: of those there are A!, and a tracker that errs swaps two.
    for a in range(points.shape[0]):
        for b in range(a + 1, points.shape[0]):
            as_is = _mean_distance(points, links[a], links[b], held, a, b, cap, unknown)
            swapped = _mean_distance(points, links[b], links[a], held, a, b, cap, unknown)
            # Without the margin noise alone would swap two animals that lie side by side. NaN compares as false.
            if swapped + margin < as_is:
                found = True
                # The pairs that follow are compared with these new links.
                if swap:
                    links[a], links[b] = links[b], links[a]
    return found


@njit(cache=True)
def _mean_distance(points: F32, i: int, j: int, held: F32, a: int, b: int, cap: float, unknown: float) -> float:
    """Mean distance of points[i] from held[a] and points[j] from held[b], a point `cap` at most."""
    # Capped, or one keypoint that jumps across the arena would outweigh all the others.
    total, known = 0.0, 0
    for k in range(points.shape[1]):
        for apart in (distance(points[i, k], held[a, k]), distance(points[j, k], held[b, k])):
            if not math.isnan(apart):
                total += min(apart, cap)
                known += 1
    return total / known if known else unknown
