"""Whether live features look like training's: ranges stored in a bundle, and a check that counts what leaves them.

The check changes no feature and no answer; it raises a flag and keeps a record of which features left their range, how
often and how far. State in arrays, one row per slot, like the features' own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.config import RangeSettings
from rtseg.errors import SettingError
from rtseg.features.spec import Feature

F32 = NDArray[np.float32]
UNWATCHED = ("missing", "absence")
"""Groups without ranges: that points are missing has a flag of its own."""
LISTED = 5
"""Features that a report names."""


@dataclass(frozen=True, eq=False)
class FeatureRanges:
    """What training's features reached: low and high (F,) float32, infinite where a feature is not watched.

    A frame is out of range where more than `share` of its known features are, or one lies further than `far` times its
    range's width beyond an end.
    """

    low: F32
    high: F32
    share: float
    far: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest; None for an end that is open."""
        low, high = ([None if math.isinf(v) else v for v in end.tolist()] for end in (self.low, self.high))
        return {"low": low, "high": high, "share": self.share, "far": self.far}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], n_features: int) -> FeatureRanges:
        """The inverse of `to_dict`. Raises SettingError where ends are too few, no numbers, or the wrong way round."""
        unknown = set(plain) - {"low", "high", "share", "far"}
        if unknown:
            raise SettingError(f"ranges: unknown key {', '.join(sorted(unknown))}; accepted: low, high, share, far")
        low, high = (
            np.array([open_end if v is None else float(v) for v in plain[key]], np.float32)
            for key, open_end in (("low", -math.inf), ("high", math.inf))
        )
        if len(low) != n_features or len(high) != n_features or not (low < high).all():
            raise SettingError(
                f"ranges: expected {n_features} features with low < high, got {len(low)} and {len(high)}"
            )
        return cls(low, high, float(plain["share"]), float(plain["far"]))


def fit_ranges(examples: Sequence[F32], features: Sequence[Feature], settings: RangeSettings) -> FeatureRanges:
    """Ranges of training features, list of (T, F) with NaN: two percentiles, widened by a share of their distance.

    Open for features that were never known or hardly varied (the scaler takes those out) and for UNWATCHED groups.
    """
    table = np.concatenate(examples)
    watched = np.array([f.group not in UNWATCHED for f in features]) & ~np.isnan(table).all(axis=0)
    low, high = np.full(table.shape[1], -np.inf), np.full(table.shape[1], np.inf)
    ends = np.nanpercentile(table[:, watched], (settings.percentile, 100 - settings.percentile), axis=0)
    margin = settings.margin * (ends[1] - ends[0])
    varied = ends[1] - ends[0] > 1e-6
    low[watched] = np.where(varied, ends[0] - margin, -np.inf)
    high[watched] = np.where(varied, ends[1] + margin, np.inf)
    return FeatureRanges(low.astype(np.float32), high.astype(np.float32), settings.share, settings.far)


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
    """One bundle's ranges as `check` wants them, and what has left them in words.

    plan: low and high (F,), and the rule's share and distance.
    """

    def __init__(self, ranges: FeatureRanges, features: Sequence[Feature]) -> None:
        self.plan = ranges.low, ranges.high, np.array([ranges.share, ranges.far], np.float32)
        self._names = [f"{f.group}: {f.name} [{f.unit}]" for f in features]

    def init_state(self, slots: int) -> DriftState:
        """Nothing seen yet, for S slots."""
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
        outside, farthest = state.outside[slot], state.farthest[slot]
        worst = [i for i in np.argsort(-outside, kind="stable")[:LISTED].tolist() if outside[i]]
        listed = [
            {"feature": self._names[i], "frames": int(outside[i]), "farthest": round(float(farthest[i]), 3)}
            for i in worst
        ]
        return {"frames": int(state.frames[slot]), "out_of_range": int(state.flagged[slot]), "features": listed}


@njit(cache=True)
def check(
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
    for n in range(len(slots)):
        slot = slots[n]
        state.frames[slot] += 1
        # Most frames lie within everything: told first, without a branch a feature.
        beyond_any = 0
        for f in range(len(low)):
            beyond_any += (features[n, f] < low[f]) | (features[n, f] > high[f])
        if beyond_any == 0:
            continue
        known, out, far = 0, 0, False
        for f in range(len(low)):
            value = features[n, f]
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
            distance = beyond / (high[f] - low[f])
            state.outside[slot, f] += 1
            if abs(distance) > abs(state.farthest[slot, f]):
                state.farthest[slot, f] = distance
            far = far or abs(distance) > rule[1]
        if far or out > rule[0] * known:
            state.flagged[slot] += 1
            quality[n] |= flag
