"""Which features a model sees: groups, their names and units, and what a skeleton makes of them.

A `FeatureSpec` is chosen in the recipe and recorded in the bundle. The order of groups and of the features in each is
fixed here and followed by `kernels`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

from rtseg.errors import SettingError
from rtseg.skeleton import Skeleton


class Feature(NamedTuple):
    """One column of the feature matrix."""

    name: str
    group: str
    unit: str


@dataclass(frozen=True)
class FeatureSpec:
    """Groups and their parameters.

    groups: names from `GROUPS`; their order here does not matter. lags: in frames, for speeds and accelerations over
    causal differences. horizons_s: time constants of the exponential averages. hold_frames: how long a missing point
    stands where it was last seen; beyond that it is NaN. absence_cap_s: where the time since a point was seen stops
    counting.
    """

    groups: tuple[str, ...] = ()
    lags: tuple[int, ...] = (1, 3, 9)
    horizons_s: tuple[float, ...] = (0.5, 2.0, 8.0)
    hold_frames: int = 15
    absence_cap_s: float = 4.0

    def __post_init__(self) -> None:
        if not self.groups:
            object.__setattr__(self, "groups", tuple(GROUPS))
        unknown = [g for g in self.groups if g not in GROUPS]
        if unknown:
            raise SettingError(f"unknown feature group {', '.join(unknown)}; there are: {', '.join(GROUPS)}")
        if not self.lags or any(lag < 1 for lag in self.lags) or list(self.lags) != sorted(set(self.lags)):
            raise SettingError(f"features.lags must be rising positive frame counts, got {self.lags}")
        if any(h <= 0 for h in self.horizons_s) or self.hold_frames < 0 or self.absence_cap_s <= 0:
            raise SettingError("features.horizons_s and absence_cap_s must be positive, hold_frames not negative")

    def features(self, skeleton: Skeleton) -> tuple[Feature, ...]:
        """Every column, in order. Length F."""
        return tuple(
            Feature(name, group, unit)
            for group, (unit, names) in GROUPS.items()
            if group in self.groups
            for name in names(skeleton, self)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {
            "groups": [g for g in GROUPS if g in self.groups],
            "lags": list(self.lags),
            "horizons_s": list(self.horizons_s),
            "hold_frames": self.hold_frames,
            "absence_cap_s": self.absence_cap_s,
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> FeatureSpec:
        """The inverse of `to_dict`; unknown fields are refused."""
        known = {"groups", "lags", "horizons_s", "hold_frames", "absence_cap_s"}
        if set(plain) - known:
            raise SettingError(f"unknown feature setting {', '.join(sorted(set(plain) - known))}; known: {sorted(known)}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})


Names = Callable[[Skeleton, FeatureSpec], Iterator[str]]


def _per_point(suffixes: tuple[str, ...]) -> Names:
    return lambda s, _: (f"{a}.{k}{x}" for a, k, x in product(s.animals, s.keypoints, suffixes))


def _per_animal(suffixes: tuple[str, ...]) -> Names:
    return lambda s, _: (f"{a}.{x}" for a, x in product(s.animals, suffixes))


def _relative_angle(s: Skeleton, _: FeatureSpec) -> Iterator[str]:
    for a, b in permutations(s.animals, 2):
        yield from (f"{a}>{b}.bearing_sin", f"{a}>{b}.bearing_cos")
    for a, b in combinations(s.animals, 2):
        yield from (f"{a}-{b}.turn_sin", f"{a}-{b}.turn_cos")


def _averages(s: Skeleton, spec: FeatureSpec) -> Iterator[str]:
    signals = [f"{a}.{x}" for a in s.animals for x in ("speed", "extension")]
    signals += [f"{a}-{b}.{x}" for a, b in combinations(s.animals, 2) for x in ("distance", "overlap")]
    signals += [f"{a}>{b}.approach" for a, b in permutations(s.animals, 2)]
    return (f"{x}.mean_{h:g}s" for x, h in product(signals, spec.horizons_s))


GROUPS: dict[str, tuple[str, Names]] = {
    # The paper's (section III.A, C, D, F, G).
    "position": ("px", _per_point((".x", ".y"))),
    "within_distance": (
        "px",
        lambda s, _: (f"{a}.{i}-{j}" for a in s.animals for i, j in combinations(s.keypoints, 2)),
    ),
    "between_distance": (
        "px",
        lambda s, _: (
            f"{a}.{i}-{b}.{j}" for a, b in combinations(s.animals, 2) for i, j in product(s.keypoints, repeat=2)
        ),
    ),
    "speed": (
        "px/s",
        lambda s, spec: (f"{a}.{k}.speed_{n}" for a, k, n in product(s.animals, s.keypoints, spec.lags)),
    ),
    "box_overlap": ("px^2", lambda s, _: (f"{a}-{b}.overlap" for a, b in combinations(s.animals, 2))),
    "center": ("px", _per_animal(("center.x", "center.y"))),
    "extension": ("px", _per_animal(("extension",))),
    # What the field found to matter beside them.
    "egocentric_self": ("px", _per_point((".along", ".across"))),
    "egocentric_other": (
        "px",
        lambda s, _: (
            f"{a}>{b}.{k}.{x}" for (a, b), k, x in product(permutations(s.animals, 2), s.keypoints, ("along", "across"))
        ),
    ),
    "heading": ("1", _per_animal(("heading_sin", "heading_cos"))),
    "relative_angle": ("1", _relative_angle),
    "body_velocity": (
        "px/s",
        lambda s, spec: (f"{a}.v_{x}_{n}" for a, n, x in product(s.animals, spec.lags, ("along", "across"))),
    ),
    "approach": (
        "px/s",
        lambda s, spec: (f"{a}>{b}.approach_{n}" for (a, b), n in product(permutations(s.animals, 2), spec.lags)),
    ),
    "acceleration": (
        "px/s^2",
        lambda s, spec: (f"{a}.a_{x}_{n}" for a, n, x in product(s.animals, spec.lags, ("along", "across"))),
    ),
    "averages": ("px, px/s", _averages),
    "confidence": ("1", _per_point((".confidence",))),
    "missing": ("1", _per_point((".missing",))),
    "absence": ("s", _per_point((".absence",))),
}
"""Group name -> (unit, names of its features for a skeleton and a spec)."""
