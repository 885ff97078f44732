"""How large training's animals appear: what a bundle says of it, and what a stream's animals are compared with.

Compiles nothing: code that only reads a bundle needs no numba. The measure itself is `rtseg.features.scale`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from rtseg.errors import SettingError
from rtseg.frames.skeleton import Skeleton

_KEYS = ("pairs", "lengths_px", "low", "high", "horizon_s", "frames")


@dataclass(frozen=True)
class BodySize:
    """The distances between an animal's points in training, and between what sizes its recordings lay.

    pairs: keypoint names, of points of one animal. lengths_px: mean distance of each pair in training. A recording's
    size is the sum of the distances seen in it over the sum of the same pairs' lengths here: 1 = as in training. low,
    high: the sizes that count as training's. horizon_s: time constant of the running measure. frames: with a measured
    animal, after which a stream is judged.
    """

    pairs: tuple[tuple[str, str], ...]
    lengths_px: tuple[float, ...]
    low: float
    high: float
    horizon_s: float
    frames: int

    def __post_init__(self) -> None:
        # One by one, since NaN is neither the least nor the largest of several.
        is_measured = all(0 < length < math.inf for length in self.lengths_px)
        if not self.pairs or len(self.pairs) != len(self.lengths_px) or not is_measured:
            raise SettingError(f"body_size: expected a length above 0 for every pair, got {self}")
        if not (0 < self.low < self.high and self.horizon_s > 0 and self.frames >= 1):
            raise SettingError(f"body_size: expected 0 < low < high, horizon_s above 0, frames above 0, got {self}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a manifest."""
        plain: dict[str, Any] = {key: getattr(self, key) for key in _KEYS}
        return plain | {"pairs": [list(pair) for pair in self.pairs], "lengths_px": list(self.lengths_px)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], skeleton: Skeleton) -> BodySize:
        """The inverse of `to_dict`. Raises SettingError for other keys, and for points that the skeleton lacks."""
        if set(plain) != set(_KEYS):
            raise SettingError(f"body_size: expected the keys {', '.join(_KEYS)}, got {', '.join(sorted(plain))}")
        pairs = tuple((str(one), str(two)) for one, two in plain["pairs"])
        strangers = sorted({name for pair in pairs for name in pair} - set(skeleton.keypoints))
        if strangers:
            raise SettingError(f"body_size: not in the skeleton: {', '.join(strangers)}")
        lengths = tuple(map(float, plain["lengths_px"]))
        low, high, horizon_s = (float(plain[key]) for key in ("low", "high", "horizon_s"))
        return cls(pairs, lengths, low, high, horizon_s, int(plain["frames"]))


def measured_pairs(skeleton: Skeleton) -> tuple[tuple[str, str], ...]:
    """The pairs of points whose distances tell how large an animal appears: the skeleton's edges, else all pairs.

    Empty where an animal has one point.
    """
    # Edges join neighbours on the body, whose distance changes least as the animal bends.
    return skeleton.edges or tuple(combinations(skeleton.keypoints, 2))


def describe_size(report: Mapping[str, Any]) -> str:
    """What a person is told of a stream whose animals' size is not training's; '' where it is, or is not judged.

    report: `SizeMeter.report`, or {}.
    """
    ratio, low, high = (report.get(key) for key in ("ratio", "low", "high"))
    if ratio is None or low is None or high is None or low <= ratio <= high:
        return ""
    seen = f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.1g}"  # of fractions of a picture nothing would be left
    return (
        f"animals appear {seen} x as large as in training (there {low:.2f} to {high:.2f} x): give px_per_mm where "
        "the model has one, take poses in the resolution of training, or train with features.scale = 'body'"
    )
