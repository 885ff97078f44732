"""What the numbers of a source's message mean: animals and keypoints that are declared, and arrays made of the values.

For sources whose messages carry no names (flat numbers), names in a map (JSON) or names of channels (LSL). Judges no
coordinate: that is the daemon's, by the one rule for frames (`frames.frame`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import FrameError, SkeletonError
from rtseg.frames.skeleton import Skeleton, matches

ONE_ANIMAL = "animal"
"""The name of the animal where none is named."""
MAX_FRAME = 2**63 - 1
_COORDS = {"x": 0, "y": 1, "likelihood": 2, "score": 2, "confidence": 2, "p": 2}
_LABEL = re.compile(r"^(?:(?P<animal>[^./]+)[./])?(?P<keypoint>[^./]+?)[._/](?P<coord>[a-z]+)$", re.IGNORECASE)

Pose = NDArray[np.float32]
"""(A, K, 3): x, y in px and likelihood, or (A, K, 2) without it; NaN = missing."""


class DeclaredPoints:
    """Animals and keypoints in the order in which a source sends their values, animal by animal.

    has_likelihood: whether each point has three values, x, y, likelihood, or two. Raises SkeletonError for names that
    are empty or come twice.
    """

    def __init__(self, animals: Sequence[str], keypoints: Sequence[str], *, has_likelihood: bool = True) -> None:
        for name in (*animals, *keypoints):
            if not name.strip():
                raise SkeletonError("names of animals and points: expected NAME,NAME,... without empty names")
        self.skeleton = Skeleton(tuple(animals), tuple(keypoints))
        self.shape = (*self.skeleton.shape, 3 if has_likelihood else 2)
        self.n_values = int(np.prod(self.shape))

    def from_flat(self, values: Sequence[object] | NDArray[Any]) -> Pose:
        """The values of one frame, animal by animal and point by point. Raises FrameError for another count."""
        if len(values) != self.n_values:
            raise FrameError(f"expected {self._expected()}, got {len(values)} values")
        if not isinstance(values, np.ndarray):
            # numpy would read texts as numbers, and True as 1.
            wrong = [value for value in values if type(value) not in (int, float)]
            if wrong:
                raise FrameError(f"expected {self._expected()}, got {str(wrong[0])[:40]!r}")
        with np.errstate(over="ignore"):  # infinite, which the daemon refuses
            return np.array(values, np.float32).reshape(self.shape)

    def from_nested(self, pose: object) -> Pose:
        """One frame as JSON has it: arrays (A, K, 3) or (A, K, 2), of one animal also without the first axis; or maps
        of names, animal -> keypoint -> values, of one animal also keypoint -> values.

        null is missing, as a value or as a point, and so is a point that a map leaves out. Raises FrameError for names
        that are not declared or come twice, and for other shapes.
        """
        if isinstance(pose, Mapping):
            return self._from_names(pose)
        if not isinstance(pose, list):
            raise FrameError(f"expected {self._expected()}, as a list or a map, got {type(pose).__name__}")
        animals = [pose] if self.shape[0] == 1 and _depth(pose) < 3 else pose
        if len(animals) != self.shape[0]:
            raise FrameError(f"expected {self._expected()}, got {len(animals)} animals")
        out = self._missing()
        for a, points in enumerate(animals):
            if points is None:  # an animal that is not seen
                continue
            if not isinstance(points, list) or len(points) != self.shape[1]:
                got = f"{len(points)} points" if isinstance(points, list) else type(points).__name__
                raise FrameError(f"expected {self._expected()}, got {got} for animal {self.skeleton.animals[a]!r}")
            for k, values in enumerate(points):
                self._set_point(out, a, k, values)
        return out

    def _from_names(self, pose: Mapping[Any, Any]) -> Pose:
        out, seen = self._missing(), set[tuple[int, int]]()
        by_animal = pose
        # One animal without its name; one that is named like a point would be read as a point's owner.
        if self.shape[0] == 1 and not any(isinstance(value, Mapping) for value in pose.values()):
            by_animal = {self.skeleton.animals[0]: pose}
        for animal, points in by_animal.items():
            a = _index_of(animal, self.skeleton.animals, "animal")
            # Names match by more than their letters, so that two of them may mean one.
            if any(other == a for other, _ in seen):
                raise FrameError(f"animal {self.skeleton.animals[a]!r} comes twice, the second time as {animal!r}")
            seen.add((a, -1))
            if points is None:
                continue
            if not isinstance(points, Mapping):
                raise FrameError(f"animal {animal!r}: expected a map of its points, got {type(points).__name__}")
            for keypoint, values in points.items():
                k = _index_of(keypoint, self.skeleton.keypoints, "point")
                if (a, k) in seen:
                    raise FrameError(
                        f"point {self.skeleton.keypoints[k]!r} comes twice, the second time as {keypoint!r}"
                    )
                seen.add((a, k))
                self._set_point(out, a, k, values)
        return out

    def _set_point(self, out: Pose, a: int, k: int, values: object) -> None:
        if values is None:
            return
        if not isinstance(values, list) or len(values) != self.shape[2]:
            got = f"{len(values)} values" if isinstance(values, list) else type(values).__name__
            raise FrameError(f"point {self.skeleton.keypoints[k]!r}: expected {self._values_of_point()}, got {got}")
        for c, value in enumerate(values):
            # bool is an int to Python.
            if value is not None and type(value) not in (int, float):
                raise FrameError(f"point {self.skeleton.keypoints[k]!r}: expected numbers, got {str(value)[:40]!r}")
            with np.errstate(over="ignore"):
                try:
                    out[a, k, c] = np.nan if value is None else value
                except OverflowError:  # an int beyond float64
                    raise FrameError(
                        f"point {self.skeleton.keypoints[k]!r}: expected px, got a number beyond any"
                    ) from None

    def _missing(self) -> Pose:
        return np.full(self.shape, np.nan, np.float32)

    def _values_of_point(self) -> str:
        return "x, y, likelihood" if self.shape[2] == 3 else "x, y"

    def _expected(self) -> str:
        a, k, c = self.shape
        return f"{a * k * c} values ({a} x {k} points of {self._values_of_point()})"


class ChannelPoints:
    """Channels that carry the coordinates of points, by their labels; others are left out.

    Labels: `nose_x`, `nose_y`, `nose_likelihood` (or score, confidence, p), with an animal before them
    `resident.nose_x` or `resident/nose_x`; dots may stand for the underscore. A channel `frame` or `seq` carries the
    camera's number.
    Raises SkeletonError where no channel is a point's, or one has x without y, or a point comes twice.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        columns: dict[str, dict[str, dict[int, int]]] = {}
        self.left_out: list[str] = []
        self.frame_channel: int | None = None
        for i, label in enumerate(labels):
            found = _LABEL.match(label.strip())
            coord = _COORDS.get(found["coord"].lower()) if found else None
            if label.strip().lower() in ("frame", "seq"):
                self.frame_channel = i
            elif found is None or coord is None:
                self.left_out.append(label)
            elif columns.setdefault(found["animal"] or "", {}).setdefault(found["keypoint"], {}).setdefault(
                coord, i
            ) != i:  # fmt: skip
                raise SkeletonError(f"channel {label!r} comes twice: rename one of them")
        if not columns:
            shown = ", ".join(map(repr, labels[:8])) or "none"
            raise SkeletonError(f"expected channels named like nose_x, nose_y, nose_likelihood; got {shown}")
        if "" in columns and len(columns) > 1:
            raise SkeletonError(
                "some channels name an animal (resident.nose_x) and some do not: name it in all of them"
            )
        animals, keypoints = list(columns), list(dict.fromkeys(k for points in columns.values() for k in points))
        where = np.full((len(animals), len(keypoints), 3), -1, np.intp)
        for a, animal in enumerate(animals):
            for k, keypoint in enumerate(keypoints):
                for coord, i in columns[animal].get(keypoint, {}).items():
                    where[a, k, coord] = i
        half = np.argwhere((where[..., 0] < 0) != (where[..., 1] < 0))
        if len(half):
            raise SkeletonError(f"point {keypoints[half[0][1]]!r}: expected channels for x and y, got one of them")
        if (where[..., 0] < 0).all(axis=0).any():
            raise SkeletonError("a point has a likelihood, and neither x nor y")
        self.skeleton = Skeleton(tuple(animal or ONE_ANIMAL for animal in animals), tuple(keypoints))
        self._where, self._without = where, where < 0
        # A point whose likelihood nobody sends has confidence 1 where it is seen, as in files.
        self._without_likelihood = self._without[..., 2] & ~self._without[..., 0]
        self._any_likelihood = bool((~self._without[..., 2]).any())

    def pose_of(self, sample: Sequence[float]) -> Pose:
        """(A, K, 3), or (A, K, 2) where no channel carries a likelihood, of one sample."""
        values = np.asarray(sample, np.float32)[self._where]
        values[self._without] = np.nan
        if not self._any_likelihood:
            return values[..., :2]
        if self._without_likelihood.any():
            unseen = (values[..., :2] == 0).all(axis=-1) | (values[..., :2] == -1).all(axis=-1)
            values[..., 2][self._without_likelihood] = np.where(unseen, 0, 1)[self._without_likelihood]
        return values

    def number_of(self, sample: Sequence[float]) -> int | None:
        """The camera's number of this frame, None where no channel carries it. Raises FrameError for none."""
        return None if self.frame_channel is None else frame_number(sample[self.frame_channel])


def frame_number(value: object) -> int:
    """A frame's number as a source sent it. Raises FrameError for what is none."""
    if type(value) is int and 0 <= value <= MAX_FRAME:
        return value
    # float64 holds every whole number up to here; above, two frames would get one number.
    if isinstance(value, float) and value.is_integer() and 0 <= value <= 2**53:
        return int(value)
    raise FrameError(f"expected a frame's number, a whole number from 0 on, got {str(value)[:40]!r}")


def _index_of(name: object, names: Sequence[str], what: str) -> int:
    found = [i for i, known in enumerate(names) if name == known] or [
        i for i, known in enumerate(names) if isinstance(name, str) and matches(name, known)
    ]
    if len(found) != 1:
        raise FrameError(f"{what} {str(name)[:40]!r} is not declared; declared are: {', '.join(names)}")
    return found[0]


def _depth(values: object) -> int:
    """How many lists stand inside one another, by the first one that is not null."""
    depth = 0
    while isinstance(values, list):
        depth += 1
        values = next((value for value in values if value is not None), None)
    return depth
