"""Whether a tracker has stopped tracking: it repeats the last frame's positions, bit for bit, for ever.

A camera that hangs, a thread that died or a video at its end look like an animal that sits still, and are answered with
great confidence. A living animal, asleep too, moves a tracker's points by some hundredths of a pixel in every frame: in
real recordings the longest repeat was 17 frames. Only a tracker that gives one point an animal in whole pixels repeats
itself where animals sit still (two fish for 367 frames), and is given more time.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

WHOLE_PIXELS = 10
"""Times the limit for one point an animal in whole pixels."""


class FrozenState(NamedTuple):
    """What is remembered of the last frame that had any point, for S slots.

    shown: (S, A, K, 2) float32 its positions, NaN = missing. repeats: (S,) int64, how many frames have repeated it.
    """

    shown: NDArray[np.float32]
    repeats: NDArray[np.int64]


def init_state(slots: int, shape: tuple[int, int]) -> FrozenState:
    """A fresh state: no frame has been seen. shape: (A, K)."""
    return FrozenState(np.full((slots, *shape, 2), np.nan, np.float32), np.zeros(slots, np.int64))


def reset(state: FrozenState, slot: int) -> None:
    """Forget one slot."""
    state.shown[slot], state.repeats[slot] = np.nan, 0


@njit(cache=True)
def flag_frozen(
    keypoints: NDArray[np.float32],
    slots: NDArray[np.int32],
    state: FrozenState,
    limit: float,
    flag: int,
    quality: NDArray[np.int32],
) -> None:
    """Frames (N, A, K, 2) of the slots (N,), in order; adds the flag to quality (N,) from the limit-th repeat on.

    limit: inf = never. All animals' points must be the same, missing ones missing again. A frame without any point is
    neither a repeat nor a new one: it may be one that never came. One point an animal in whole pixels must be repeated
    WHOLE_PIXELS times as often.
    """
    for n in range(len(slots)):
        shown = state.shown[slots[n]]
        is_seen, is_same, is_coarse = False, True, keypoints.shape[2] == 1
        for a in range(keypoints.shape[1]):
            for k in range(keypoints.shape[2]):
                x, y = keypoints[n, a, k, 0], keypoints[n, a, k, 1]
                is_missing = math.isnan(x)
                is_seen |= not is_missing
                is_coarse &= is_missing or (x == math.floor(x) and y == math.floor(y))
                # NaN is unequal to itself, and a point that is missing again is the same.
                is_same &= math.isnan(shown[a, k, 0]) if is_missing else (x == shown[a, k, 0] and y == shown[a, k, 1])
        if not is_seen:
            continue
        if not is_same:
            state.repeats[slots[n]] = 0
            shown[:] = keypoints[n]
            continue
        state.repeats[slots[n]] += 1
        if state.repeats[slots[n]] >= (WHOLE_PIXELS * limit if is_coarse else limit):
            quality[n] |= flag
