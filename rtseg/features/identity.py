"""Whether a tracker has mixed up two animals from one frame to the next: told by the cost of the other assignment.

The same rule as relinking's (`features.relink`), on the animals as they are named by the source. What follows from it
is a session's affair: a flag, a trade back, or a new start.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.features.relink import F32, relink


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
    for n in range(len(slots)):
        held, links = state.held[slots[n]], state.links[slots[n]]
        if relink(keypoints[n], held, links, rule[0], rule[1], trade):
            quality[n] |= flag
        if trade:
            _rename(keypoints[n], confidence[n], links)
        for a in range(keypoints.shape[1]):
            for k in range(keypoints.shape[2]):
                if not math.isnan(keypoints[n, a, k, 0]):
                    held[a, k] = keypoints[n, a, k]


@njit(cache=True)
def _rename(points: F32, scores: F32, links: NDArray[np.int32]) -> None:
    """Points (A, K, 2) and scores (A, K) in the order of the links (A,), in place."""
    points_now, scores_now = points.copy(), scores.copy()
    for a in range(len(links)):
        points[a], scores[a] = points_now[links[a]], scores_now[links[a]]
