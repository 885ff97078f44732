"""Whether a tracker has mixed up two animals from one frame to the next: told by the cost of the other assignment.

The same comparison as relinking makes (`features.kernels`), on the animals as they are named by the source. What
follows from it is a session's affair: a flag, a trade back, or a new start. Nothing here allocates or reads a clock.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.features.kernels import F32, _mean_apart


class IdentityState(NamedTuple):
    """For S slots.

    held: (S, A, K, 2) where each point was last seen. links: (S, A) which of the source's animals each is; they change
    only where animals are traded back.
    """

    held: F32
    links: NDArray[np.int32]


def init_state(slots: int, shape: tuple[int, int]) -> IdentityState:
    """Nobody seen yet. shape: (A, K)."""
    state = IdentityState(np.empty((slots, *shape, 2), np.float32), np.empty((slots, shape[0]), np.int32))
    for slot in range(slots):
        reset(state, slot)
    return state


@njit(cache=True)
def reset(state: IdentityState, slot: int) -> None:
    """Forget one slot."""
    state.held[slot] = np.nan
    for a in range(state.links.shape[1]):
        state.links[slot, a] = a


@njit(cache=True)
def advance(
    keypoints: F32,
    confidence: F32,
    slots: NDArray[np.int32],
    state: IdentityState,
    rule: NDArray[np.float64],
    trade: bool,
    flag: int,
    quality: NDArray[np.int32],
) -> None:
    """N frames (N, A, K, 2) and (N, A, K) of the slots (N,), in order.

    Adds the flag to quality (N,) where the animals of a pair lie nearer to where the other one was than to where they
    were themselves. rule: by how many px in the mean, and what a single point counts at most. trade: such a pair is
    traded back, in place, here and in the frames that follow, until the source trades it again.
    """
    n_animals, n_points = confidence.shape[1], confidence.shape[2]
    points = np.empty((n_animals, n_points, 2), np.float32)
    scores = np.empty((n_animals, n_points), np.float32)
    for n in range(len(slots)):
        slot = slots[n]
        held, links = state.held[slot], state.links[slot]
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                kept = _mean_apart(keypoints[n], links[a], links[b], held, a, b, rule[1])
                traded = _mean_apart(keypoints[n], links[b], links[a], held, a, b, rule[1])
                if traded + rule[0] < kept:
                    quality[n] |= flag
                    if trade:
                        links[a], links[b] = links[b], links[a]
        if trade:
            for a in range(n_animals):
                points[a], scores[a] = keypoints[n, links[a]], confidence[n, links[a]]
            keypoints[n], confidence[n] = points, scores
        for a in range(n_animals):
            for k in range(n_points):
                if not math.isnan(keypoints[n, a, k, 0]):
                    held[a, k] = keypoints[n, a, k]
