"""What training's features reached: ranges that are fitted here, stored in a bundle and checked live (`drift`).

Compiles nothing: code that only reads a bundle needs no numba.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.config import RangeSettings
from rtseg.errors import SettingError
from rtseg.features.spec import Feature

F32 = NDArray[np.float32]
UNWATCHED = ("missing", "absence")
"""Groups without ranges: that points are missing has a flag of its own."""


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
    # Percentiles, not the extremes: a single jump of a tracker in training would widen a range for ever.
    ends = np.nanpercentile(table[:, watched], (settings.percentile, 100 - settings.percentile), axis=0)
    margin = settings.margin * (ends[1] - ends[0])
    # A range of no width would flag any change of a feature that the model does not see anyway.
    varied = ends[1] - ends[0] > 1e-6
    # Infinite ends, not a list of the watched features: the kernel then needs no extra case.
    low[watched] = np.where(varied, ends[0] - margin, -np.inf)
    high[watched] = np.where(varied, ends[1] + margin, np.inf)
    return FeatureRanges(low.astype(np.float32), high.astype(np.float32), settings.share, settings.far)
