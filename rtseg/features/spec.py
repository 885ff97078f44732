"""Which features a model sees: groups, their names and units, and what a skeleton makes of them.

A `FeatureSpec` is chosen in the recipe and recorded in the bundle. The order of groups and of the features in each is
fixed here and followed by `kernels`; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations, permutations, product
from typing import Any, NamedTuple

from rtseg.errors import SettingError
from rtseg.frames.skeleton import Skeleton


class Feature(NamedTuple):
    """One column of the feature matrix.

    orbit: columns of a group with the same orbit trade places when the animals do. about: the animals and points that
    it is about, whatever the order in which they are named; a signed angle names its animals in order.
    """

    name: str
    group: str
    unit: str
    orbit: str
    about: Hashable


@dataclass(frozen=True)
class FeatureSpec:
    """Groups and their parameters.

    groups: names from `GROUPS`; their order here does not matter. lags: in frames, for speeds and accelerations over
    causal differences. horizons_s: time constants of the exponential averages. hold_frames: how long a missing point
    stands where it was last seen; beyond that it is NaN. absence_cap_s: where the time since a point was seen stops
    counting. animal_order: `kept`, or `sorted` where a tracker's identities can't be trusted: the columns that trade
    places when the animals do are then sorted by value, largest first, NaN last, so that no answer depends on who is
    called first (and a signed angle between two animals becomes its magnitude). identities: `tracker` takes the
    tracker's, `relinked` gives every animal the name of the one that was last seen nearest to it: a tracker that swaps
    names leaves the speeds alone then. Links change where that brings the points nearer by relink_margin_px on average,
    a single point counting for relink_cap_px at most.
    """

    groups: tuple[str, ...] = ()
    lags: tuple[int, ...] = (1, 3, 9)
    horizons_s: tuple[float, ...] = (0.5, 2.0, 8.0)
    hold_frames: int = 15
    absence_cap_s: float = 4.0
    animal_order: str = "kept"
    identities: str = "tracker"
    relink_margin_px: float = 5.0
    relink_cap_px: float = 200.0

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
        if self.animal_order not in ("kept", "sorted"):
            raise SettingError(f"features.animal_order must be 'kept' or 'sorted', got {self.animal_order!r}")
        if self.identities not in ("tracker", "relinked"):
            raise SettingError(f"features.identities must be 'tracker' or 'relinked', got {self.identities!r}")
        if self.relink_margin_px < 0 or self.relink_cap_px <= 0:
            raise SettingError("features.relink_cap_px must be positive, relink_margin_px not negative")

    def features(self, skeleton: Skeleton) -> tuple[Feature, ...]:
        """Every column, in order. Length F."""
        return tuple(
            Feature(name, group, unit, orbit, about)
            for group, (unit, names) in GROUPS.items()
            if group in self.groups
            for name, orbit, about in names(skeleton, self)
        )

    def orbits(self, skeleton: Skeleton) -> list[list[int]]:
        """The columns that trade places when the animals do: index lists of two or more."""
        found: dict[tuple[str, str], list[int]] = {}
        for column, feature in enumerate(self.features(skeleton)):
            found.setdefault((feature.group, feature.orbit), []).append(column)
        return [columns for columns in found.values() if len(columns) > 1]

    def views(self, skeleton: Skeleton) -> tuple[tuple[int, ...], ...]:
        """For every way to call the animals the column whose value each column would have then.

        Columns count from 1; negative where the value's sign turns. The first view is the features as they are. Raises
        SettingError for more than four animals: five can be called in 120 ways.
        """
        if len(skeleton.animals) > 4:
            raise SettingError(
                f"model.forget_order looks at every way to call the animals, too many for {len(skeleton.animals)}; "
                "set features.animal_order = 'sorted' instead"
            )
        features = self.features(skeleton)
        place = {(f.group, f.orbit, f.about): column for column, f in enumerate(features, 1)}
        views = []
        for animals in permutations(skeleton.animals):
            view = []
            for f in self.features(replace(skeleton, animals=animals)):
                column = place.get((f.group, f.orbit, f.about))
                # Only a signed angle is about its animals in order: the other order has the other sign.
                view.append(-place[f.group, f.orbit, f.about[::-1]] if column is None else column)  # type: ignore[index]
            views.append(tuple(view))
        return tuple(views)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest."""
        return {
            "groups": [g for g in GROUPS if g in self.groups],
            "lags": list(self.lags),
            "horizons_s": list(self.horizons_s),
            "hold_frames": self.hold_frames,
            "absence_cap_s": self.absence_cap_s,
            "animal_order": self.animal_order,
            "identities": self.identities,
            "relink_margin_px": self.relink_margin_px,
            "relink_cap_px": self.relink_cap_px,
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> FeatureSpec:
        """The inverse of `to_dict`; unknown fields are refused."""
        known = {f.name for f in fields(cls)}
        if set(plain) - known:
            raise SettingError(
                f"unknown feature setting {', '.join(sorted(set(plain) - known))}; known: {sorted(known)}"
            )
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return cls(**values)


Columns = Iterator[tuple[str, str, Hashable]]
Names = Callable[[Skeleton, FeatureSpec], Columns]
"""The columns of a group: (name, orbit, about)."""


def _per_animal(whats: Callable[[Skeleton, FeatureSpec], Iterator[str]]) -> Names:
    return lambda s, spec: ((f"{a}.{x}", x, a) for a in s.animals for x in whats(s, spec))


def _per_pair(whats: Callable[[Skeleton, FeatureSpec], Iterator[str]]) -> Names:
    return lambda s, spec: (
        (f"{a}-{b}.{x}", x, frozenset((a, b))) for a, b in combinations(s.animals, 2) for x in whats(s, spec)
    )


def _per_ordered_pair(whats: Callable[[Skeleton, FeatureSpec], Iterator[str]]) -> Names:
    return lambda s, spec: ((f"{a}>{b}.{x}", x, (a, b)) for a, b in permutations(s.animals, 2) for x in whats(s, spec))


def _points(*suffixes: str) -> Callable[[Skeleton, FeatureSpec], Iterator[str]]:
    return lambda s, _: (f"{k}.{x}" for k, x in product(s.keypoints, suffixes))


def _fixed(*names: str) -> Callable[[Skeleton, FeatureSpec], Iterator[str]]:
    return lambda _s, _spec: iter(names)


def _lagged(*names: str) -> Callable[[Skeleton, FeatureSpec], Iterator[str]]:
    return lambda _, spec: (f"{x}_{n}" for n, x in product(spec.lags, names))


def _between(s: Skeleton, _: FeatureSpec) -> Columns:
    for a, b in combinations(s.animals, 2):
        for i, j in product(s.keypoints, repeat=2):
            yield f"{a}.{i}-{b}.{j}", "-".join(sorted((i, j))), frozenset(((a, i), (b, j)))


def _relative_angle(s: Skeleton, spec: FeatureSpec) -> Columns:
    yield from _per_ordered_pair(_fixed("bearing_sin", "bearing_cos"))(s, spec)
    for a, b in combinations(s.animals, 2):
        yield f"{a}-{b}.turn_sin", "turn_sin", (a, b)
        yield f"{a}-{b}.turn_cos", "turn_cos", frozenset((a, b))


def _averages(s: Skeleton, spec: FeatureSpec) -> Columns:
    def means(*signals: str) -> Callable[[Skeleton, FeatureSpec], Iterator[str]]:
        return lambda _s, _spec: (f"{x}.mean_{h:g}s" for x, h in product(signals, spec.horizons_s))

    yield from _per_animal(means("speed", "extension"))(s, spec)
    yield from _per_pair(means("distance", "overlap"))(s, spec)
    yield from _per_ordered_pair(means("approach"))(s, spec)


GROUPS: dict[str, tuple[str, Names]] = {
    # The paper's (section III.A, C, D, F, G).
    "position": ("px", _per_animal(_points("x", "y"))),
    "within_distance": ("px", _per_animal(lambda s, _: (f"{i}-{j}" for i, j in combinations(s.keypoints, 2)))),
    "between_distance": ("px", _between),
    "speed": (
        "px/s",
        _per_animal(lambda s, spec: (f"{k}.speed_{n}" for k, n in product(s.keypoints, spec.lags))),
    ),
    "box_overlap": ("px^2", _per_pair(_fixed("overlap"))),
    "center": ("px", _per_animal(_fixed("center.x", "center.y"))),
    "extension": ("px", _per_animal(_fixed("extension"))),
    # What the field found to matter beside them.
    "egocentric_self": ("px", _per_animal(_points("along", "across"))),
    "egocentric_other": ("px", _per_ordered_pair(_points("along", "across"))),
    "heading": ("1", _per_animal(_fixed("heading_sin", "heading_cos"))),
    "relative_angle": ("1", _relative_angle),
    "body_velocity": ("px/s", _per_animal(_lagged("v_along", "v_across"))),
    "approach": ("px/s", _per_ordered_pair(_lagged("approach"))),
    "acceleration": ("px/s^2", _per_animal(_lagged("a_along", "a_across"))),
    "averages": ("px, px/s, px^2", _averages),
    "confidence": ("1", _per_animal(_points("confidence"))),
    "missing": ("1", _per_animal(_points("missing"))),
    "absence": ("s", _per_animal(_points("absence"))),
}
"""Group name -> (unit, its columns for a skeleton and a spec)."""
