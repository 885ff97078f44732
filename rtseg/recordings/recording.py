"""A recording in memory: keypoints of consecutive camera frames, and frame labels beside it.

Every reader returns a `Recording`; every label reader returns a `Labels` track. Neither holds a clock or a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, SkeletonError
from rtseg.frames.skeleton import Skeleton, match_names, matches
from rtseg.recordings.files.reading_warnings import ReadingWarning

IGNORE = -1
"""The label of a frame that is neither trained on nor scored."""
UNIQUE_LEFT_OUT = "unique bodyparts that are no animal are left out"
"""The beginning of the warning where nobody asked for the points of no animal."""
_NEVER_SEEN = -1


@dataclass(frozen=True, eq=False)
class Recording:
    """T consecutive frames.

    name: unique in its dataset. keypoints: (T, A, K, 2) float32, px, NaN = missing. confidence: (T, A, K) float32 in
    [0, 1], 0 where missing. fps: frames per second. source: where it came from. warnings: what the reader tolerated,
    counted. simulated: made by `rtseg simulate`. listed_animals: all animals that the file names, in its order, also
    those that it never shows and the skeleton leaves out; () = those of the skeleton. unique: points of no animal, as
    a recording of one animal with a name of its own (DeepLabCut's 'single'): only who asks for it by name gets it.
    """

    name: str
    skeleton: Skeleton
    keypoints: NDArray[np.float32]
    confidence: NDArray[np.float32]
    fps: float
    source: str = ""
    warnings: tuple[ReadingWarning, ...] = ()
    simulated: bool = False
    listed_animals: tuple[str, ...] = ()
    unique: Recording | None = None

    def __post_init__(self) -> None:
        a, k = self.skeleton.shape
        t = len(self.keypoints)
        if self.keypoints.shape != (t, a, k, 2) or self.confidence.shape != (t, a, k):
            raise RecordingError(
                self.source or self.name,
                f"expected keypoints {(t, a, k, 2)} and confidence {(t, a, k)}, "
                f"got {self.keypoints.shape} and {self.confidence.shape}",
            )
        if not self.fps > 0:
            raise RecordingError(self.source or self.name, f"fps must be positive, got {self.fps}")

    def __len__(self) -> int:
        return len(self.keypoints)

    def part(self, name: str, start: int, stop: int) -> Recording:
        """Frames start <= t < stop as a recording of its own, as of a camera that is switched on at `start`."""
        unique = None if self.unique is None else self.unique.part(name, start, stop)
        keypoints, confidence = self.keypoints[start:stop].copy(), self.confidence[start:stop].copy()
        return replace(self, name=name, keypoints=keypoints, confidence=confidence, unique=unique)

    def select(self, skeleton: Skeleton) -> Recording:
        """The same recording with the animals and keypoints of `skeleton`, in its order.

        Keypoints are matched by name. Animals are matched by name where the names match, else by order if there are as
        many: of the recording, of all that its file lists, or of those that are ever seen. An animal that the file
        lists and never shows is missing in every frame. A file with one point for each animal may name the animals as
        keypoints of one. Raises SkeletonError, which names the file, where a point or an animal has no counterpart.
        """
        try:
            return self._select(skeleton)
        except SkeletonError as error:
            # A stream's hello asks here as well, and has no file.
            if not self.source:
                raise
            raise SkeletonError(f"{self.source}: {error}") from error

    def _select(self, skeleton: Skeleton) -> Recording:
        if self.unique is not None and any(matches(a, self.unique.skeleton.animals[0]) for a in skeleton.animals):
            return self.with_unique_points()._select(skeleton)
        if self._has_points_for_animals(skeleton):
            return self._points_as_animals(skeleton.keypoints[0])._select(skeleton)
        animals = self._animals_of(skeleton)
        points = match_names(skeleton.keypoints, self.skeleton.keypoints, "keypoints")
        keypoints = np.ascontiguousarray(self.keypoints[:, animals][:, :, points])
        confidence = np.ascontiguousarray(self.confidence[:, animals][:, :, points])
        never_seen = [a for a, source in enumerate(animals) if source == _NEVER_SEEN]
        # Index -1 has copied the last animal; these columns are to be empty.
        keypoints[:, never_seen] = np.nan
        confidence[:, never_seen] = 0.0
        return replace(
            self, skeleton=skeleton, keypoints=keypoints, confidence=confidence, listed_animals=(), unique=None
        )

    def with_unique_points(self) -> Recording:
        """With the unique points as one more animal; points that only it has, or only the others, are missing there."""
        if self.unique is None:
            return self
        own, more = self.skeleton, self.unique.skeleton
        names = tuple(dict.fromkeys((*own.keypoints, *more.keypoints)))
        skeleton = Skeleton((*own.animals, *more.animals), names)
        keypoints = np.full((len(self), *skeleton.shape, 2), np.nan, np.float32)
        confidence = np.zeros(keypoints.shape[:-1], np.float32)
        (n_animals, n_points), places = own.shape, [names.index(name) for name in more.keypoints]
        keypoints[:, :n_animals, :n_points], confidence[:, :n_animals, :n_points] = self.keypoints, self.confidence
        keypoints[:, n_animals, places] = self.unique.keypoints[:, 0]
        confidence[:, n_animals, places] = self.unique.confidence[:, 0]
        return replace(
            self,
            skeleton=skeleton,
            keypoints=keypoints,
            confidence=confidence,
            listed_animals=(*self.listed_animals, *more.animals) if self.listed_animals else (),
            unique=None,
            warnings=tuple(w for w in self.warnings if not w.kind.startswith(UNIQUE_LEFT_OUT)),
        )

    def _has_points_for_animals(self, skeleton: Skeleton) -> bool:
        """Whether the keypoints of the only animal here are the animals of `skeleton`, which have one point each."""
        if len(skeleton.keypoints) != 1 or len(self.skeleton.animals) != 1 or len(skeleton.animals) < 2:
            return False
        own = self.skeleton.keypoints
        return all(any(matches(animal, point) for point in own) for animal in skeleton.animals)

    def _points_as_animals(self, keypoint: str) -> Recording:
        return replace(
            self,
            skeleton=Skeleton(self.skeleton.keypoints, (keypoint,)),
            keypoints=self.keypoints.transpose(0, 2, 1, 3),
            confidence=self.confidence.transpose(0, 2, 1),
            listed_animals=(),
        )

    def _animals_of(self, skeleton: Skeleton) -> list[int]:
        """For every animal of `skeleton` its index here, or _NEVER_SEEN."""
        own = self.skeleton.animals
        listed = self.listed_animals or own
        index = [own.index(name) if name in own else _NEVER_SEEN for name in listed]
        try:
            return [index[i] for i in match_names(skeleton.animals, listed, "animals")]
        except SkeletonError:
            # Names that have nothing in common say nothing about which animal is which; a partial match would.
            if any(matches(a, b) for a in skeleton.animals for b in listed):
                raise
            ever_seen = np.flatnonzero(np.isfinite(self.keypoints).any(axis=(0, 2, 3))).tolist()
            # An animal that never appears counts only where the number does not fit without it.
            for by_order in (list(range(len(own))), index, ever_seen):
                if len(by_order) == len(skeleton.animals):
                    return by_order
            raise


@dataclass(frozen=True, eq=False)
class Labels:
    """One label track beside a recording.

    track: its name. classes: names, index = label. frames: (T,) int16, `IGNORE` where not to be trained on or scored.
    """

    track: str
    classes: tuple[str, ...]
    frames: NDArray[np.int16]
    warnings: tuple[ReadingWarning, ...] = field(default=())


def clean(
    keypoints: NDArray[np.floating], confidence: NDArray[np.floating] | None, *, zero_is_missing: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Keypoints (T, A, K, 2) and confidence (T, A, K) as a Recording wants them.

    A point is missing where a coordinate is not finite, or where both coordinates and the confidence are exactly 0 (as
    DeepLabCut's multi-animal files write it). Confidence is clipped to [0, 1], 1 where none is given, 0 where missing.
    """
    points = np.ascontiguousarray(keypoints, dtype=np.float32)
    if points is keypoints:
        points = points.copy()
    missing = ~np.isfinite(points).all(axis=-1)
    if confidence is None:
        scores = np.ones(points.shape[:-1], np.float32)
    else:
        scores = np.clip(np.nan_to_num(np.asarray(confidence, np.float32), nan=0.0), 0.0, 1.0)
        if zero_is_missing:
            missing |= (points == 0).all(axis=-1) & (scores == 0)
    points[missing] = np.nan
    scores[missing] = 0.0
    return points, np.ascontiguousarray(scores)
