"""A recording in memory: keypoints of consecutive camera frames, and frame labels beside it.

Every reader returns a `Recording`; every label reader returns a `Labels` track. Neither holds a clock or a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, SkeletonError
from rtseg.frames import scale
from rtseg.frames.frame import PERCENT, clean_frames
from rtseg.frames.gaps import Stretch, filled_time_ns, stretches_of
from rtseg.frames.skeleton import Skeleton, match_names, matches
from rtseg.recordings.files.reading_warnings import ReadingWarning

IGNORE = -1
"""The label of a frame that is neither trained on nor scored."""
UNIQUE_LEFT_OUT = "unique bodyparts that are no animal are left out"
"""The beginning of the warning where nobody asked for the points of no animal."""
_NEVER_SEEN = -1
_LAST_NS = 2.0**63 - 1024
"""The largest number of nanoseconds that float64 and the wire can hold."""


@dataclass(frozen=True, eq=False)
class Recording:
    """T consecutive frames.

    name: unique in its dataset. keypoints: (T, A, K, 2) float32, px, NaN = missing. confidence: (T, A, K) float32 in
    [0, 1], 0 where missing. fps: frames per second. source: where it came from. warnings: what the reader tolerated,
    counted. simulated: made by `rtseg simulate`. listed_animals: all animals that the file names, in its order, also
    those that it never shows and the skeleton leaves out; () = those of the skeleton. unique: points of no animal, as
    a recording of one animal with a name of its own (DeepLabCut's 'single'): only who asks for it by name gets it.

    absent: (T,) where the file has no row for a frame, as when a camera dropped it; None = nowhere. Such a frame has no
    point, but it isn't a frame without points: a live stream would never have sent it, so the gap rule applies.
    first_seq: the sequence number of frame 0, other than 0 in recordings of a stream that began earlier. t_source_ns:
    (T,) int64, when its source says that each frame was; None where only the number tells. px_per_mm: how many px are a
    mm; None = not known.
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
    absent: NDArray[np.bool_] | None = None
    first_seq: int = 0
    t_source_ns: NDArray[np.int64] | None = None
    px_per_mm: float | None = None

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
        if self.absent is not None and (self.absent.shape != (t,) or np.isfinite(self.keypoints[self.absent]).any()):
            raise RecordingError(
                self.source or self.name,
                f"expected absent {(t,)}, true for frames without points only, got {self.absent.shape}",
            )
        if self.px_per_mm is not None and not scale.is_px_per_mm(self.px_per_mm):
            raise RecordingError(self.source or self.name, f"px_per_mm: {scale.EXPECTED}, got {self.px_per_mm}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def came(self) -> NDArray[np.intp]:
        """The frames for which the file has a row, in order: what a camera would have sent."""
        return np.arange(len(self)) if self.absent is None else np.flatnonzero(~self.absent)

    def stretches(self, fill_frames: int) -> list[Stretch]:
        """The frames that a stream steps without a restart in between (`frames.gaps`)."""
        absent = np.zeros(len(self), np.bool_) if self.absent is None else self.absent
        return stretches_of(absent, fill_frames)

    def source_times(self) -> NDArray[np.int64]:
        """When each frame was, (T,), in ns of its source; of absent frames as for those that a live stream fills."""
        times = self.t_source_ns
        if times is None:
            seqs = (self.first_seq + np.arange(len(self))).astype(np.float64)
            # Numbers may be so large that their times do not fit.
            times = np.minimum(np.rint(seqs * 1e9 / self.fps), _LAST_NS).astype(np.int64)
        if self.absent is None:
            return times
        times = times.copy()
        for before, after in pairwise(self.came.tolist()):
            for t in range(before + 1, after):
                around = int(times[before]), int(times[after])
                times[t] = filled_time_ns(*around, t - before, after - before - 1)
        return times

    def between(self, start: int, stop: int) -> Recording:
        """Frames start <= t < stop, which keep their sequence numbers; views of the same arrays."""
        return replace(
            self,
            keypoints=self.keypoints[start:stop],
            confidence=self.confidence[start:stop],
            unique=None if self.unique is None else self.unique.between(start, stop),
            absent=None if self.absent is None else self.absent[start:stop],
            first_seq=self.first_seq + start,
            t_source_ns=None if self.t_source_ns is None else self.t_source_ns[start:stop],
        )

    def part(self, name: str, start: int, stop: int) -> Recording:
        """Frames start <= t < stop as a recording of its own, as of a camera that is switched on at `start`."""
        here = self.between(start, stop)
        unique = None if self.unique is None else self.unique.part(name, start, stop)
        return replace(
            here, name=name, keypoints=here.keypoints.copy(), confidence=here.confidence.copy(), unique=unique
        )

    def at_scale(self, px_per_mm: float | None) -> Recording:
        """The same recording with so many px for a mm; as it is where either is not known."""
        if px_per_mm is None or self.px_per_mm is None or px_per_mm == self.px_per_mm:
            return self
        factor = np.float32(px_per_mm / self.px_per_mm)
        unique = None if self.unique is None else replace(self.unique, keypoints=self.unique.keypoints * factor)
        return replace(self, keypoints=self.keypoints * factor, unique=unique, px_per_mm=px_per_mm)

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
        warnings = (*self.warnings, *self.order_doubts(skeleton))
        return replace(
            self,
            skeleton=skeleton,
            keypoints=keypoints,
            confidence=confidence,
            listed_animals=(),
            unique=None,
            warnings=warnings,
        )

    def order_doubts(self, skeleton: Skeleton) -> tuple[ReadingWarning, ...]:
        """A warning where several animals of `skeleton` are matched to a file's by nothing but their order."""
        listed = self.listed_animals or self.skeleton.animals
        alone = len(skeleton.animals) < 2 or self._has_points_for_animals(skeleton)
        # A stream's hello asks here as well, and has no file.
        if alone or not self.source or any(matches(a, b) for a in skeleton.animals for b in listed):
            return ()
        kind = f"animals are matched in the order of the file, {', '.join(listed)} as {', '.join(skeleton.animals)}"
        return (ReadingWarning(f"{kind}; map their names if it is another", 1, "file", file=self.source),)

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
    keypoints: NDArray[np.floating], confidence: NDArray[np.floating] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Copies of keypoints (T, A, K, 2) and confidence (T, A, K) as a Recording wants them, by the rule for frames.

    confidence: None = 1 wherever a point is. What a frame would be refused for stays as it is (`clean_frames`).
    """
    points = np.array(keypoints, np.float32, order="C")
    scores = np.ones(points.shape[:-1], np.float32) if confidence is None else np.array(confidence, np.float32)
    clean_frames(points, scores, *np.zeros((2, PERCENT + 1), np.int64))
    return points, scores
