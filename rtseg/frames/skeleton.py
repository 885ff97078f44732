"""Which animals and keypoints a model speaks of, and how a source's points are matched to them.

Any number of animals and keypoints. Names are matched exactly first, then without case, blanks, dots, dashes and
underscores; nothing is guessed beyond that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtseg.errors import SkeletonError


@dataclass(frozen=True)
class Skeleton:
    """Animals and keypoints, in the order of a frame's axes.

    animals: A names. keypoints: K names, the same for every animal. pairs: (left, right) keypoint names that trade
    places in a mirror. axis: (rear, front) keypoint names that give an animal's heading. edges: what to draw.
    """

    animals: tuple[str, ...]
    keypoints: tuple[str, ...]
    axis: tuple[str, str] | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    edges: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for what, names in (("animal", self.animals), ("keypoint", self.keypoints)):
            if not names:
                raise SkeletonError(f"a skeleton needs at least one {what}, got none")
            if len(set(names)) != len(names):
                raise SkeletonError(f"{what} names must differ, got {', '.join(names)}")
        used = [*(self.axis or ()), *(n for pair in (*self.pairs, *self.edges) for n in pair)]
        for name in used:
            if name not in self.keypoints:
                raise SkeletonError(f"keypoint {name!r} is not one of {', '.join(self.keypoints)}")
        # Otherwise a mirrored animal would get one point twice and another not at all.
        sides = [n for pair in self.pairs for n in pair]
        if len(set(sides)) != len(sides):
            raise SkeletonError(f"a keypoint has one mirror image: each stands in one pair, got {self.pairs}")
        if self.axis is not None and self.axis[0] == self.axis[1]:
            raise SkeletonError(f"the axis runs from one keypoint to another, got {self.axis[0]!r} twice")

    @property
    def shape(self) -> tuple[int, int]:
        """(A, K)."""
        return len(self.animals), len(self.keypoints)

    @property
    def axis_indices(self) -> tuple[int, int]:
        """(rear, front) keypoint indices; the last and the first keypoint where no axis is named."""
        rear, front = self.axis or (self.keypoints[-1], self.keypoints[0])
        return self.keypoints.index(rear), self.keypoints.index(front)

    @property
    def mirror(self) -> tuple[int, ...]:
        """For every keypoint the index of its mirror image. Length K."""
        # A point without a partner lies on the animal's axis and is its own mirror image.
        partner = dict(self.pairs) | {right: left for left, right in self.pairs}
        return tuple(self.keypoints.index(partner.get(name, name)) for name in self.keypoints)

    def to_dict(self) -> dict[str, Any]:
        """As plain lists, for a manifest or a hello."""
        return {
            "animals": list(self.animals),
            "keypoints": list(self.keypoints),
            "axis": list(self.axis) if self.axis else None,
            "pairs": [list(p) for p in self.pairs],
            "edges": [list(e) for e in self.edges],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Skeleton:
        """The inverse of `to_dict`; unknown fields are refused."""
        if not isinstance(plain, dict):
            raise SkeletonError(f"a skeleton is a table of animals and keypoints, got {plain!r}")
        for field in ("animals", "keypoints"):
            if not isinstance(plain.get(field), list | tuple):
                raise SkeletonError(f"a skeleton needs a list of {field}, got {plain.get(field)!r}")
        unknown = set(plain) - {"animals", "keypoints", "axis", "pairs", "edges"}
        if unknown:
            raise SkeletonError(f"unknown skeleton field: {', '.join(sorted(unknown))}")
        try:
            axis = plain.get("axis")
            return cls(
                animals=tuple(map(str, plain["animals"])),
                keypoints=tuple(map(str, plain["keypoints"])),
                axis=(str(axis[0]), str(axis[1])) if axis else None,
                pairs=tuple((str(a), str(b)) for a, b in plain.get("pairs", ())),
                edges=tuple((str(a), str(b)) for a, b in plain.get("edges", ())),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise SkeletonError(f"a skeleton needs lists named animals and keypoints: {error!r}") from error


def match_names(wanted: Sequence[str], offered: Sequence[str], what: str) -> list[int]:
    """Index into `offered` for every wanted name.

    Raises SkeletonError naming the missing ones when a name has no counterpart, or two.
    """
    # A name that is offered twice matches nothing: which one is meant would be a guess.
    exact = {name: i for i, name in enumerate(offered) if offered.count(name) == 1}
    folded: dict[str, list[int]] = {}
    for i, name in enumerate(offered):
        folded.setdefault(_fold(name), []).append(i)
    found, missing = [], []
    for name in wanted:
        near = folded.get(_fold(name), [])
        # Exact names come first: `Nose` and `nose` may be two points of one source.
        if name in exact:
            found.append(exact[name])
        elif len(near) == 1:
            found.append(near[0])
        else:
            missing.append(name)
    if missing:
        raise SkeletonError(
            f"{what} expected: {', '.join(wanted)}; the source has: {', '.join(offered)}; "
            f"without a counterpart: {', '.join(missing)}. Rename them in the source, or map them: keypoints and "
            "animals in the dataset file, --keypoint and --animal of a command, names of a hello"
        )
    return found


def renamed(offered: Sequence[str], names: Mapping[str, str], what: str) -> tuple[str, ...]:
    """What a source offers under the names that `names` gives it: {the source's name: another}, matched as names are.

    A name that the source does not have is a mistake unless it has the other one already: what is never renamed may be
    matched by order, and nothing would tell. Raises SkeletonError for that, and where two get one name.
    """
    result = list(offered)
    for own, other in names.items():
        # Of what the source offers, not of `result`: names may change places.
        if any(matches(own, name) for name in offered):
            result[match_names([own], offered, what)[0]] = other
        elif not any(matches(other, name) for name in offered):
            raise SkeletonError(f"{what} to rename: the source has no {own!r}; it has: {', '.join(offered)}")
    twice = sorted({name for name in result if result.count(name) > 1})
    if twice:
        raise SkeletonError(
            f"{what}: {', '.join(map(repr, twice))} would be the name of two; rename the other one, too"
        )
    return tuple(result)


def matches(one: str, other: str) -> bool:
    """Whether two names are the same except for case, blanks, dots, dashes and underscores."""
    return _fold(one) == _fold(other)


def _fold(name: str) -> str:
    return re.sub(r"[\s._-]+", "", name).lower()


MICE7 = Skeleton(
    animals=("resident", "intruder"),
    keypoints=("nose", "left_ear", "right_ear", "neck", "left_hip", "right_hip", "tail_base"),
    axis=("tail_base", "neck"),
    pairs=(("left_ear", "right_ear"), ("left_hip", "right_hip")),
    edges=(
        ("nose", "left_ear"),
        ("nose", "right_ear"),
        ("left_ear", "neck"),
        ("right_ear", "neck"),
        ("neck", "left_hip"),
        ("neck", "right_hip"),
        ("left_hip", "tail_base"),
        ("right_hip", "tail_base"),
    ),
)
"""CalMS21's two mice with seven keypoints each (resident first)."""
