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
def _is_coarse(keypoints: NDArray[np.float32]) -> bool:
    """Whether a frame (A, K, 2) gives one point an animal in whole pixels."""
    if keypoints.shape[1] != 1:
        return False
    for a in range(keypoints.shape[0]):
        x, y = keypoints[a, 0, 0], keypoints[a, 0, 1]
        if not math.isnan(x) and not (x == math.floor(x) and y == math.floor(y)):
            return False
    return True


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
    _, animals, points, _ = keypoints.shape
    for n in range(len(slots)):
        slot = slots[n]
        is_seen, is_same = False, True
        for a in range(animals):
            for k in range(points):
                x, y = keypoints[n, a, k, 0], keypoints[n, a, k, 1]
                was_x, was_y = state.shown[slot, a, k, 0], state.shown[slot, a, k, 1]
                is_missing = math.isnan(x)
                is_seen |= not is_missing
                # NaN is unequal to itself, and a point that is missing again is the same.
                is_same &= math.isnan(was_x) if is_missing else (x == was_x and y == was_y)
                # The first point of nearly every frame says it all.
                if is_seen and not is_same:
                    break
            if is_seen and not is_same:
                break
        if not is_seen:
            continue
        if not is_same:
            state.repeats[slot] = 0
            for a in range(animals):
                for k in range(points):
                    for axis in range(2):
                        state.shown[slot, a, k, axis] = keypoints[n, a, k, axis]
            continue
        state.repeats[slot] += 1
        if state.repeats[slot] >= (WHOLE_PIXELS * limit if _is_coarse(keypoints[n]) else limit):
            quality[n] |= flag
