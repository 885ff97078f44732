"""Which features a model sees: groups, their names and units, and the columns that they have for a skeleton.

A `FeatureSpec` comes from the recipe's section `[features]` and is recorded in the bundle. The order of groups and of
the features in each is fixed here and followed by `kernels`; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations, islice, permutations, product
from typing import Any, NamedTuple

from rtseg.config import FeatureSettings
from rtseg.errors import SettingError
from rtseg.frames.skeleton import Skeleton


class Feature(NamedTuple):
    """One column of the feature matrix.

    orbit: columns of a group with the same orbit trade places when the animals do. about: the animals and points that
    it describes, independent of the order in which they are named; only a signed angle names its animals in order.
    """

    name: str
    group: str
    unit: str
    orbit: str
    about: Hashable


@dataclass(frozen=True)
class FeatureSpec(FeatureSettings):
    """Feature settings with all groups named, and the columns that they make of a skeleton.

    Fields and defaults are those of `FeatureSettings`; without groups it has all of `GROUPS`. Raises SettingError for a
    group that does not exist.
    """

    def __post_init__(self) -> None:
        if not self.groups:
            # A manifest must name them: groups that a later version adds are none of this bundle's.
            every = tuple(g for g in GROUPS if self.scale == "px" or g not in PLACES)
            object.__setattr__(self, "groups", every)
        unknown = [g for g in self.groups if g not in GROUPS]
        if unknown:
            raise SettingError(f"unknown feature group {', '.join(unknown)}; there are: {', '.join(GROUPS)}")
        super().__post_init__()
        places = [g for g in self.groups if g in PLACES]
        if self.scale == "body" and places:
            raise SettingError(
                f"features.groups: {', '.join(places)} tell where in the arena an animal is, in px, and "
                "features.scale = 'body' is to forget what a px is; leave them out, or set features.scale = 'px'"
            )

    @classmethod
    def from_settings(cls, settings: FeatureSettings) -> FeatureSpec:
        """The features that a recipe's section `[features]` asks for."""
        return cls(**{f.name: getattr(settings, f.name) for f in fields(settings)})

    def features(self, skeleton: Skeleton) -> tuple[Feature, ...]:
        """Every column, in order. Length F."""
        return tuple(self._iterate_features(skeleton))

    def count_features(self, skeleton: Skeleton, at_most: int) -> int:
        """F, or `at_most` where there are more: a skeleton of some hundred keypoints has millions."""
        return sum(1 for _ in islice(self._iterate_features(skeleton), at_most))

    def _iterate_features(self, skeleton: Skeleton) -> Iterator[Feature]:
        return (
            Feature(name, group, unit, orbit, about)
            for group, (unit, columns_of) in GROUPS.items()
            if group in self.groups
            for name, orbit, about in columns_of(skeleton, self)
        )

    def orbits(self, skeleton: Skeleton) -> list[list[int]]:
        """The columns that trade places when the animals do: index lists of two or more."""
        found: dict[tuple[str, str], list[int]] = {}
        for column, feature in enumerate(self.features(skeleton)):
            found.setdefault((feature.group, feature.orbit), []).append(column)
        return [columns for columns in found.values() if len(columns) > 1]

    def views(self, skeleton: Skeleton) -> tuple[tuple[int, ...], ...]:
        """For every order in which the animals can be named, the column whose value each column would then have.

        Columns count from 1; negative where the value's sign turns. The first view is the features as they are. Raises
        SettingError for more than four animals: five can be named in 120 orders.
        """
        if len(skeleton.animals) > 4:
            raise SettingError(
                f"model.forget_order looks at every order of the animals' names, too many for {len(skeleton.animals)}; "
                "set features.animal_order = 'sorted' instead"
            )
        features = self.features(skeleton)
        # From 1, since column 0 could not carry a sign.
        place = {(f.group, f.orbit, f.about): column for column, f in enumerate(features, 1)}
        views = []
        # The identity comes first in `permutations`, which engines rely on (`NumbaEngine`).
        for animals in permutations(skeleton.animals):
            view = []
            for f in self.features(replace(skeleton, animals=animals)):
                column = place.get((f.group, f.orbit, f.about))
                # Only a signed angle is about its animals in order: the other order has the other sign.
                view.append(-place[f.group, f.orbit, f.about[::-1]] if column is None else column)  # type: ignore[index]
            views.append(tuple(view))
        return tuple(views)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest: every field in the order of `FeatureSettings`, groups in that of `GROUPS`."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        # Not in the recipe's order: the columns always come in the order of GROUPS.
        plain["groups"] = [g for g in GROUPS if g in self.groups]
        # Left out where it is as it always was, so that older bundles keep their hashes.
        if self.scale == "px":
            del plain["scale"]
        if self.motion == "linear":
            del plain["motion"]
        if not self.windows_s:
            del plain["windows_s"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> FeatureSpec:
        """The inverse of `to_dict`; unknown fields are refused."""
        known = {f.name for f in fields(cls)}
        # If it were ignored, the features would not be those that the bundle was trained on.
        if set(plain) - known:
            raise SettingError(
                f"unknown feature setting {', '.join(sorted(set(plain) - known))}; known: {sorted(known)}"
            )
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        return cls(**values)


def length_power(feature: Feature) -> int:
    """With which power of a length a feature grows: 1 for px, px/s and px/s^2, 2 for px^2, 0 for angles and times."""
    if feature.group == "averages":
        return 2 if feature.orbit.startswith("overlap.") else 1
    return {"px": 1, "px/s": 1, "px/s^2": 1, "px^2": 2, "1": 0, "s": 0}[feature.unit]


def has_long_tail(feature: Feature) -> bool:
    """Whether `features.motion = 'roots'` takes its fourth root: speeds, accelerations, areas, and averages of them."""
    if feature.group == "averages":
        return feature.orbit.startswith(("speed.", "approach.", "overlap."))
    return feature.unit in ("px/s", "px/s^2", "px^2")


Columns = Iterator[tuple[str, str, Hashable]]
"""The columns of a group: (name, orbit, about)."""
ColumnsOf = Callable[[Skeleton, FeatureSpec], Columns]
SuffixesOf = Callable[[Skeleton, FeatureSpec], Iterator[str]]
"""What follows an animal's or a pair's name in the names of its columns."""


def _per_animal(suffixes: SuffixesOf) -> ColumnsOf:
    return lambda s, spec: ((f"{a}.{x}", x, a) for a in s.animals for x in suffixes(s, spec))


def _per_pair(suffixes: SuffixesOf) -> ColumnsOf:
    return lambda s, spec: (
        (f"{a}-{b}.{x}", x, frozenset((a, b))) for a, b in combinations(s.animals, 2) for x in suffixes(s, spec)
    )


def _per_ordered_pair(suffixes: SuffixesOf) -> ColumnsOf:
    return lambda s, spec: (
        (f"{a}>{b}.{x}", x, (a, b)) for a, b in permutations(s.animals, 2) for x in suffixes(s, spec)
    )


def _points(*suffixes: str) -> SuffixesOf:
    return lambda s, _: (f"{k}.{x}" for k, x in product(s.keypoints, suffixes))


def _fixed(*names: str) -> SuffixesOf:
    return lambda _s, _spec: iter(names)


def _lagged(*names: str) -> SuffixesOf:
    return lambda _, spec: (f"{x}_{n}" for n, x in product(spec.lags, names))


def _speed(s: Skeleton, spec: FeatureSpec) -> Columns:
    def named(*windows: str) -> SuffixesOf:
        return lambda s, spec: (f"{k}.speed_{n}{w}" for k, n, w in product(s.keypoints, spec.lags, windows))

    yield from _per_animal(named(""))(s, spec)
    # Behind all speeds, each of which has as many: the kernel reads the speeds where it has just written them.
    windows = [f".{what}_{w:g}s" for w, what in product(spec.windows_s, ("mean", "max"))]
    yield from _per_animal(named(*windows))(s, spec)


def _between(s: Skeleton, _: FeatureSpec) -> Columns:
    for a, b in combinations(s.animals, 2):
        for i, j in product(s.keypoints, repeat=2):
            # Exchanging the animals makes of a's i and b's j the distance of a's j and b's i: one orbit.
            yield f"{a}.{i}-{b}.{j}", "-".join(sorted((i, j))), frozenset(((a, i), (b, j)))


def _relative_angle(s: Skeleton, spec: FeatureSpec) -> Columns:
    yield from _per_ordered_pair(_fixed("bearing_sin", "bearing_cos"))(s, spec)
    for a, b in combinations(s.animals, 2):
        # The sine changes its sign with the order of the animals, the cosine does not.
        yield f"{a}-{b}.turn_sin", "turn_sin", (a, b)
        yield f"{a}-{b}.turn_cos", "turn_cos", frozenset((a, b))


def _averages(s: Skeleton, spec: FeatureSpec) -> Columns:
    def means(*signals: str) -> SuffixesOf:
        return lambda _s, _spec: (f"{x}.mean_{h:g}s" for x, h in product(signals, spec.horizons_s))

    yield from _per_animal(means("speed", "extension"))(s, spec)
    yield from _per_pair(means("distance", "overlap"))(s, spec)
    yield from _per_ordered_pair(means("approach"))(s, spec)


GROUPS: dict[str, tuple[str, ColumnsOf]] = {
    # The paper's (section III.A, C, D, F, G): PAPER_GROUPS.
    "position": ("px", _per_animal(_points("x", "y"))),
    "within_distance": ("px", _per_animal(lambda s, _: (f"{i}-{j}" for i, j in combinations(s.keypoints, 2)))),
    "between_distance": ("px", _between),
    "speed": ("px/s", _speed),
    "box_overlap": ("px^2", _per_pair(_fixed("overlap"))),
    "center": ("px", _per_animal(_fixed("center.x", "center.y"))),
    "extension": ("px", _per_animal(_fixed("extension"))),
    # What other published systems found useful besides.
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
PLACES = ("position", "center")
"""Groups that are measured from the arena's middle, not from an animal."""
PAPER_GROUPS = ("position", "within_distance", "between_distance", "speed", "box_overlap", "center", "extension")
