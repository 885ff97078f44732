"""Whether live features look like training's: a check that counts what leaves the ranges of a bundle.

The check changes no feature and no answer; it raises a flag and keeps a record of which features left their range, how
often and how far. State in arrays, one row per slot, like the features' own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.features.ranges import FeatureRanges
from rtseg.features.spec import Feature

F32 = NDArray[np.float32]
LISTED = 5
"""Features that a report names."""
SHARE, FAR = range(2)
"""Places in the rule's array; `FeatureRanges` says what they mean."""


class DriftState(NamedTuple):
    """What left its range, for S slots.

    frames: (S,) int64 checked. flagged: (S,) int64. outside: (S, F) int64, frames in which a feature was out of its
    range. farthest: (S, F) float32, how far at most, in widths of the range, below it negative.
    """

    frames: NDArray[np.int64]
    flagged: NDArray[np.int64]
    outside: NDArray[np.int64]
    farthest: F32


class RangeCheck:
    """One bundle's ranges in the form that `check_ranges` takes, and a report of what has left them.

    plan: low and high (F,), and the rule's share and distance.
    """

    def __init__(self, ranges: FeatureRanges, features: Sequence[Feature]) -> None:
        self.plan = ranges.low, ranges.high, np.array([ranges.share, ranges.far], np.float32)
        self._names = [f"{f.group}: {f.name} [{f.unit}]" for f in features]

    def init_state(self, slots: int) -> DriftState:
        """A fresh record for S slots."""
        shape = (slots, len(self.plan[0]))
        frames, flagged = np.zeros((2, slots), np.int64)
        return DriftState(frames, flagged, np.zeros(shape, np.int64), np.zeros(shape, np.float32))

    def reset(self, state: DriftState, slot: int) -> None:
        """Forget one slot's record."""
        for part in state:
            part[slot] = 0

    def report(self, state: DriftState, slot: int) -> dict[str, Any]:
        """One slot's record in plain values: frames checked, frames out of range, and which features were out most.

        features: up to LISTED of {feature, frames, farthest}; farthest in widths of the range, below it negative.
        """
        # Stable: of features that were out equally often the first ones are listed, on every machine.
        outside, farthest = state.outside[slot], state.farthest[slot]
        worst = [i for i in np.argsort(-outside, kind="stable")[:LISTED].tolist() if outside[i]]
        listed = [
            {"feature": self._names[i], "frames": int(outside[i]), "farthest": round(float(farthest[i]), 3)}
            for i in worst
        ]
        return {"frames": int(state.frames[slot]), "out_of_range": int(state.flagged[slot]), "features": listed}


# What a bundle without ranges has in their place: arrays of nothing, which `check_ranges` is never called with.
NO_PLAN = (np.empty(0, np.float32),) * 3
_NO_FRAMES = np.empty(0, np.int64)
NO_STATE = DriftState(_NO_FRAMES, _NO_FRAMES, np.empty((0, 0), np.int64), np.empty((0, 0), np.float32))


@njit(cache=True)
def check_ranges(
    features: F32,
    slots: NDArray[np.int32],
    low: F32,
    high: F32,
    rule: F32,
    state: DriftState,
    flag: int,
    quality: NDArray[np.int32],
) -> None:
    """Features (N, F) of the slots (N,), in order; adds the flag to quality (N,) where a frame is out of range.

    rule: `FeatureRanges` has it. NaN is never out of range.
    """
    # Each row has a slot, as in every kernel: one frame of many streams live, many frames of one offline.
    for n in range(len(slots)):
        slot = slots[n]
        state.frames[slot] += 1
        # The flag is there already where the animals' size is not training's (`features.scale`).
        is_flagged = quality[n] & flag != 0
        state.flagged[slot] += is_flagged
        # Most frames are within all ranges: found first by a loop without branches, which the compiler vectorises.
        beyond_any = 0
        for f in range(len(low)):
            beyond_any += (features[n, f] < low[f]) | (features[n, f] > high[f])
        if beyond_any == 0:
            continue
        # Only now feature by feature: which one was out, and how far, is wanted of few frames.
        known, out, far = 0, 0, False
        for f in range(len(low)):
            value = features[n, f]
            # NaN is counted neither as known nor as out of range: that points are missing has a flag of its own.
            if math.isnan(value):
                continue
            known += 1
            beyond = np.float32(0.0)
            if value < low[f]:
                beyond = value - low[f]
            elif value > high[f]:
                beyond = value - high[f]
            else:
                continue
            out += 1
            # In widths of the range, so that one rule serves px, px/s and angles. With one end open it is 0: out, never
            # far.
            distance = beyond / (high[f] - low[f])
            state.outside[slot, f] += 1
            # The sign stays: negative is below the range.
            if abs(distance) > abs(state.farthest[slot, f]):
                state.farthest[slot, f] = distance
            far = far or abs(distance) > rule[FAR]
        # Of the known features: a frame with few points would else pass however odd these are.
        if far or out > rule[SHARE] * known:
            state.flagged[slot] += not is_flagged
            quality[n] |= flag
