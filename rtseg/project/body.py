"""What the poses say about the animals: names, left and right, the body's axis, what to draw, and where they move.

Names are looked at first, then the poses themselves: an animal moves forwards far more often than backwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, SkeletonError
from rtseg.frames.skeleton import Skeleton, matches
from rtseg.recordings.recording import Recording

ONE_POINT = "center"
"""The keypoint of animals that have one."""
_REAR = ("tailbase", "basetail", "tailroot", "tail", "rump", "butt", "hips", "hip", "spine2", "pelvis", "abdomen")
_FRONT = (
    *("neck", "nape", "withers", "shoulders", "spine1", "thorax", "body", "bodycenter", "center", "centre", "midback"),
    *("back", "head", "headcenter", "nose", "snout", "top"),
)
_BODY_PARTS = re.compile(
    r"nose|snout|ear|eye|neck|head|tail|spine|hip|paw|leg|foot|hand|body|back|fin|wing|point|kp|node|cent|joint|limb"
)
_SIDES = (
    (re.compile(r"left", re.IGNORECASE), ("right",)),
    (re.compile(r"^l(?=[_\-. ])|(?<=[_\-. ])l$", re.IGNORECASE), ("r",)),
    (re.compile(r"^L(?=[A-Z])|(?<=[a-z0-9])L$"), ("R",)),
)
_MOSTLY_SEEN = 0.7
"""Share of frames in which a point of the axis should be seen."""
_MOVING = 0.5
"""Only the faster half of the frames tells where an animal's front is."""
_MARGIN = 0.05
_ROUND_PX = 10.0


@dataclass(frozen=True)
class Body:
    """A skeleton, the box x0, y0, x1, y1 in px in which its animals moved, and what was noticed on the way."""

    skeleton: Skeleton
    arena: tuple[float, float, float, float]
    notes: tuple[str, ...] = ()


def propose_body(recordings: Sequence[Recording]) -> Body:
    """Skeleton and arena of recordings of the same animals. Raises RecordingError where their points differ."""
    first = recordings[0]
    notes: list[str] = []
    points, animals = first.skeleton.keypoints, first.listed_animals or first.skeleton.animals
    if is_point_per_animal(first.skeleton):
        skeleton = Skeleton(points, (ONE_POINT,))
        notes.append(f"one point for each animal: {', '.join(points)} are taken as animals")
    else:
        skeleton = Skeleton(animals, points)
        notes += _several_in_one(skeleton)
    matched = [_matched(recording, skeleton) for recording in recordings]
    if len(skeleton.keypoints) > 1:
        seen = np.mean([r.seen for r in matched], axis=0)
        axis = _axis_by_name(points, seen) or _axis_by_motion(points, matched)
        skeleton = Skeleton(
            skeleton.animals, points, axis=axis, pairs=mirror_pairs(points), edges=_edges(points, matched)
        )
        notes += _doubts(skeleton, matched)
    return Body(skeleton, _arena(matched), tuple(notes))


def is_point_per_animal(skeleton: Skeleton) -> bool:
    """Whether the keypoints of a file's only animal are numbered animals, as Fish0 and Fish1, and no body parts."""
    stem = numbered_stem(skeleton.keypoints)
    alone = len(skeleton.animals) == 1 and len(skeleton.keypoints) > 1
    return alone and stem is not None and not _BODY_PARTS.search(stem)


def numbered_stem(names: Sequence[str]) -> str | None:
    """What all names have before their numbers, in small letters; None where not a number alone tells them apart."""
    stems = {re.sub(r"[_\-. ]*\d+$", "", name.lower()) for name in names}
    return stems.pop() if len(stems) == 1 and all(name[-1:].isdecimal() for name in names) else None


def _several_in_one(skeleton: Skeleton) -> list[str]:
    """A note where the keypoints of one animal seem to be those of several, as Nose_1, Tail_1, Nose_2 and Tail_2."""
    numbered = [re.fullmatch(r"(.*\D)(\d+)", name) for name in skeleton.keypoints]
    if len(skeleton.animals) > 1 or not all(numbered):
        return []
    numbers: dict[str, set[str]] = {}
    for found in numbered:
        if found:
            numbers.setdefault(found[1], set()).add(found[2])
    first = next(iter(numbers.values()))
    if len(numbers) < 2 or len(first) < 2 or any(some != first for some in numbers.values()):
        return []
    said = f"{len(first)} animals seem to stand in the names of one's keypoints ({', '.join(skeleton.keypoints[:4])})"
    return [f"{said}; to have them apart, name the columns ANIMAL.keypoint.x, ANIMAL.keypoint.y (docs/formats.md)"]


def mirror_pairs(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(left, right) names that differ in the side alone."""
    pairs = []
    for name in names:
        for side, others in _SIDES:
            right = next((n for o in others for n in names if n != name and matches(side.sub(o, name), n)), None)
            if side.search(name) and right is not None:
                pairs.append((name, right))
                break
    return tuple(pairs)


@dataclass(frozen=True, eq=False)
class _Matched:
    """Points of a recording in the skeleton's order, thinned: (T, A, K, 2). seen: (K,) shares of frames."""

    points: NDArray[np.float32]
    steps: NDArray[np.float32]
    seen: NDArray[np.float64]


def _matched(recording: Recording, skeleton: Skeleton) -> _Matched:
    try:
        points = recording.select(skeleton).keypoints
    except SkeletonError as error:
        problem = f"{error}. All recordings of a dataset have the same points; leave this file out, or map its names"
        raise RecordingError(recording.source, problem) from error
    step = max(1, len(points) // 20_000)
    # An animal's displacement over a fifth of a second: longer than a tracker's tremble.
    lag = max(1, round(recording.fps / 5))
    steps = np.full_like(points, np.nan)
    steps[lag:] = points[lag:] - points[:-lag]
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(points[..., 0]).any(axis=1).mean(axis=0)
    return _Matched(points[::step], steps[::step], seen)


def _axis_by_name(names: Sequence[str], seen: NDArray[np.float64]) -> tuple[str, str] | None:
    plain = [re.sub(r"[\s._\-]+", "", name).lower() for name in names]

    def first(accepted: Sequence[str], taken: str = "") -> str | None:
        known = [plain.index(word) for word in accepted if word in plain and names[plain.index(word)] != taken]
        # A point that is often missing gives no heading; the next best word may.
        for least in (_MOSTLY_SEEN, 0.0):
            for at in known:
                if seen[at] >= least:
                    return names[at]
        return None

    rear = first(_REAR)
    front = first(_FRONT, rear or "")
    return (rear, front) if rear and front else None


def _axis_by_motion(names: Sequence[str], matched: Sequence[_Matched]) -> tuple[str, str] | None:
    """The two points whose line, from the second-named to the first, runs along the way that animals move."""
    best: tuple[float, tuple[str, str] | None] = 0.0, None
    for i, rear in enumerate(names):
        for j, front in enumerate(names):
            if i != j:
                alignment, share = _alignment(matched, i, j)
                # Far points that are seen often make a steady axis; the share keeps rare ones out.
                if alignment * share > best[0]:
                    best = alignment * share, (rear, front)
    return best[1]


def _alignment(matched: Sequence[_Matched], rear: int, front: int) -> tuple[float, float]:
    """Mean cosine between an axis and the movement, of the faster half of the frames; and how often both are seen."""
    cosines, weights, n_frames, n_seen = [], [], 0, 0
    for one in matched:
        axis = one.points[:, :, front] - one.points[:, :, rear]
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = _mean_of_points(one.steps)
            length, speed = np.linalg.norm(axis, axis=-1), np.linalg.norm(moved, axis=-1)
            cosine = (axis * moved).sum(axis=-1) / (length * speed)
        known = np.isfinite(cosine)
        n_frames, n_seen = n_frames + known.size, n_seen + int(np.isfinite(length).sum())
        cosines.append(cosine[known])
        weights.append(speed[known])
    speed, cosine = np.concatenate(weights), np.concatenate(cosines)
    if not len(speed):
        return 0.0, 0.0
    fast = speed >= np.quantile(speed, _MOVING)
    return float(cosine[fast].mean()), n_seen / max(n_frames, 1)


def _mean_of_points(steps: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean (T, A, 2) over the known points of steps (T, A, K, 2); NaN where none is known."""
    known = np.isfinite(steps)
    total = np.where(known, steps, 0).sum(axis=2)
    n_known = known.sum(axis=2)
    return np.where(n_known > 0, total / np.maximum(n_known, 1), np.nan)


def _edges(names: Sequence[str], matched: Sequence[_Matched]) -> tuple[tuple[str, str], ...]:
    """The shortest tree over all points, by their usual distances: what a person would draw."""
    k = len(names)
    distance = np.full((k, k), np.inf)
    every = np.concatenate([one.points.reshape(-1, k, 2) for one in matched])
    every = every[:: max(1, len(every) // 20_000)]
    for i in range(k):
        for j in range(i + 1, k):
            apart = np.linalg.norm(every[:, i] - every[:, j], axis=-1)
            apart = apart[np.isfinite(apart)]
            if len(apart):
                distance[i, j] = distance[j, i] = np.median(apart)
    joined, edges = {0}, []
    while len(joined) < k:
        near = [(distance[i, j], i, j) for i in joined for j in range(k) if j not in joined]
        length, i, j = min(near)
        if not np.isfinite(length):  # two points that are never seen together
            i, j = near[0][1:]
        joined.add(j)
        edges.append((names[min(i, j)], names[max(i, j)]))
    return tuple(edges)


def _doubts(skeleton: Skeleton, matched: Sequence[_Matched]) -> list[str]:
    if skeleton.axis is None:
        return ["nothing tells which end of the animals is the front: name the axis if features shall have a heading"]
    rear, front = skeleton.axis_indices
    alignment, _ = _alignment(matched, rear, front)
    if alignment < 0:
        return [f"the animals seem to move against the axis {skeleton.axis[0]} -> {skeleton.axis[1]}: is it reversed?"]
    return []


def _arena(matched: Sequence[_Matched]) -> tuple[float, float, float, float]:
    """The box of all points but the outermost in a thousand, a little wider, in whole tens of px."""
    every = np.concatenate([one.points.reshape(-1, 2) for one in matched])
    every = every[np.isfinite(every).all(axis=-1)]
    if not len(every):
        return 0.0, 0.0, 1.0, 1.0
    low, high = np.quantile(every, 0.001, axis=0), np.quantile(every, 0.999, axis=0)
    wider = np.maximum((high - low) * _MARGIN, 1.0)
    x0, y0 = np.floor((low - wider) / _ROUND_PX) * _ROUND_PX
    x1, y1 = np.ceil((high + wider) / _ROUND_PX) * _ROUND_PX
    return float(x0), float(y0), float(x1), float(y1)
