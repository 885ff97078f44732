"""Whether a tracker has mixed up two animals from one frame to the next, by the cost of the other assignment.

The same rule as relinking's (`features.relink`), on the animals as they are named by the source. A session decides what
follows from it: a flag, a swap back, or a new start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import cache_stamps
from rtseg.features import relink as relinking
from rtseg.features.relink import F32, UNDECIDED, relink
from rtseg.features.slot_state import check_values
from rtseg.features.slot_state import load_slot as load_arrays

MARGIN_PX, CAP_PX, SWAPS = range(3)


class IdentityState(NamedTuple):
    """What is remembered of the animals, for S slots.

    held: (S, A, K, 2) where each point was last seen. links: (S, A) which of the source's animals each is; they change
    only where animals are swapped back.
    """

    held: F32
    links: NDArray[np.int32]


def init_state(slots: int, shape: tuple[int, int]) -> IdentityState:
    """A fresh state: no animal has been seen. shape: (A, K)."""
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


def load_slot(state: IdentityState, data: object) -> IdentityState:
    """One slot as `slot_state.slot_bytes` gave it, (A, K, 2) and (A,). Raises SnapshotError."""
    loaded = IdentityState(*load_arrays(state, data, "identities"))
    check_values(sorted(loaded.links.tolist()) == list(range(len(loaded.links))), "identities")
    return loaded


@njit(cache=False)
def _rename(points: F32, scores: F32, links: NDArray[np.int32]) -> None:
    """Points (A, K, 2) and scores (A, K) in the order of the links (A,), in place."""
    # A copy of all animals, since names may move in a cycle (a gets b's, b gets c's, c gets a's).
    points_now, scores_now = points.copy(), scores.copy()
    # Number by number: numba checks a whole animal's shape first, and makes the message of that error in every kernel,
    # which takes longer to compile than all the rest of this file.
    for a in range(len(links)):
        for k in range(scores.shape[1]):
            scores[a, k] = scores_now[links[a], k]
            points[a, k, 0], points[a, k, 1] = points_now[links[a], k, 0], points_now[links[a], k, 1]


def _compiled(stamp: int) -> Callable[..., None]:
    """`advance`. stamp: of the file that holds the rule (`cache_stamps`)."""

    @njit(cache=True)
    def advance(
        keypoints: F32,
        confidence: F32,
        slots: NDArray[np.int32],
        state: IdentityState,
        rule: NDArray[np.float64],
        scales: NDArray[np.float64],
        flag: int,
        quality: NDArray[np.int32],
    ) -> None:
        _ = stamp
        swap = rule[SWAPS] > 0
        for n in range(len(slots)):
            # Views, so that both change in place.
            held, links = state.held[slots[n]], state.links[slots[n]]
            margin, cap = rule[MARGIN_PX] * scales[n], rule[CAP_PX] * scales[n]
            if relink(keypoints[n], held, links, margin, cap, swap, UNDECIDED):
                quality[n] |= flag
            if swap:
                _rename(keypoints[n], confidence[n], links)
            # After the renaming: where an animal was seen is remembered under the name that it has here.
            for a in range(keypoints.shape[1]):
                for k in range(keypoints.shape[2]):
                    # A missing point stays where it was last seen, however long ago.
                    if not math.isnan(keypoints[n, a, k, 0]):
                        held[a, k, 0], held[a, k, 1] = keypoints[n, a, k, 0], keypoints[n, a, k, 1]

    return advance


advance = _compiled(cache_stamps.source_stamp(relinking))
"""N frames (N, A, K, 2) and (N, A, K) of the slots (N,), in order.

Adds the flag to quality (N,) where the animals of a pair lie nearer to where the other one was than to where they were
themselves. rule: (MARGIN_PX) by how many px of training in the mean, (CAP_PX) what a single point counts at most, and
(SWAPS) 1 where such a pair is swapped back, in place, here and in the frames that follow, until the source swaps it
again. scales: (N,) px of the stream for one of training (`features.scale`).
"""
