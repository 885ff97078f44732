"""What a recording's poses look like: missing points, likelihoods, body length, jumps, and what seems wrong."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rtseg.frames.scale import body_length
from rtseg.recordings.recording import Recording

_JUMP_LENGTHS = 1.0
"""A step of a point from one frame to the next of more than so many body lengths is no movement."""
_JUMP_DEVIATIONS = 20.0
"""Of animals without a length: so many times the usual step."""
_FROZEN_S = 2.0
_ON_TOP = 0.1
"""Two animals whose points lie nearer than this share of a body length are one animal, found twice."""
_LOW = 0.3
_SWAP_SHARE = 0.5


@dataclass(frozen=True)
class PointReport:
    """One keypoint of one animal. missing: share of frames. likelihood: median where seen; low: share below 0.3."""

    animal: str
    keypoint: str
    missing: float
    likelihood: float | None
    low: float


@dataclass(frozen=True)
class PoseReport:
    """One recording. body_length_px: the median largest distance between two points of an animal; None with one point.

    jumps: steps of a point that no animal makes. swaps: frames in which the animals seem to trade names. box: x0, y0,
    x1, y1 in px that holds all points; None where there are none.
    """

    name: str
    frames: int
    fps: float
    animals: tuple[str, ...]
    keypoints: tuple[str, ...]
    points: tuple[PointReport, ...]
    body_length_px: float | None
    jumps: int
    swaps: int
    box: tuple[float, float, float, float] | None
    odd: tuple[str, ...]


def examine_poses(recording: Recording) -> PoseReport:
    """Look at a recording (T, A, K)."""
    keypoints, skeleton = recording.keypoints, recording.skeleton
    known = np.isfinite(keypoints[..., 0])
    points = tuple(
        _point(recording, known, a, k) for a in range(len(skeleton.animals)) for k in range(len(skeleton.keypoints))
    )
    length = body_length(keypoints)
    jumps = _count_jumps(keypoints, length)
    swaps = _count_swaps(keypoints)
    report = PoseReport(
        name=recording.name,
        frames=len(recording),
        fps=recording.fps,
        animals=skeleton.animals,
        keypoints=skeleton.keypoints,
        points=points,
        body_length_px=length,
        jumps=jumps,
        swaps=swaps,
        box=_box(keypoints[known]),
        odd=(),
    )
    odd = (*map(str, recording.warnings), *_oddities(report, recording, known))
    return replace(report, odd=odd)


def _box(seen: NDArray[np.float32]) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 of points (N, 2); None without any."""
    if not len(seen):
        return None
    (x0, y0), (x1, y1) = seen.min(axis=0).tolist(), seen.max(axis=0).tolist()
    return x0, y0, x1, y1


def _point(recording: Recording, known: NDArray[np.bool_], a: int, k: int) -> PointReport:
    scores = recording.confidence[:, a, k][known[:, a, k]]
    return PointReport(
        animal=recording.skeleton.animals[a],
        keypoint=recording.skeleton.keypoints[k],
        missing=float(1 - known[:, a, k].mean()) if len(recording) else 1.0,
        likelihood=float(np.median(scores)) if len(scores) else None,
        low=float((scores < _LOW).mean()) if len(scores) else 0.0,
    )


def _count_jumps(keypoints: NDArray[np.float32], length: float | None) -> int:
    """Steps between neighbouring frames that are no movement."""
    steps = np.linalg.norm(np.diff(keypoints, axis=0), axis=-1)
    steps = steps[np.isfinite(steps)]
    if not len(steps):
        return 0
    usual = float(np.median(steps))
    return int((steps > (_JUMP_LENGTHS * length if length else max(_JUMP_DEVIATIONS * usual, 1.0))).sum())


def _count_swaps(keypoints: NDArray[np.float32]) -> int:
    """Frames in which two animals come much nearer to where they were if they trade names."""
    n_animals, swaps = keypoints.shape[1], 0
    for a in range(n_animals):
        for b in range(a + 1, n_animals):
            kept = _apart(keypoints, a, a) + _apart(keypoints, b, b)
            traded = _apart(keypoints, a, b) + _apart(keypoints, b, a)
            with np.errstate(invalid="ignore"):
                swaps += int((traded < _SWAP_SHARE * kept).sum())
    return swaps


def _apart(keypoints: NDArray[np.float32], before: int, after: int) -> NDArray[np.float64]:
    """Mean distance (T - 1,) between the points of one animal and those of another one frame later; NaN unknown."""
    steps = np.linalg.norm(keypoints[1:, after] - keypoints[:-1, before], axis=-1)
    known = np.isfinite(steps)
    total = np.where(known, steps, 0).sum(axis=-1)
    return np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan)


def _oddities(report: PoseReport, recording: Recording, known: NDArray[np.bool_]) -> list[str]:
    """What a person would want to look at before training on it."""
    odd = []
    often = [f"{p.animal} {p.keypoint} {p.missing:.0%}" for p in report.points if p.missing > 0.5]
    if often:
        odd.append(f"missing in more than half of the frames: {', '.join(often)}")
    unsure = [f"{p.animal} {p.keypoint} {p.low:.0%}" for p in report.points if p.low > 0.2]
    if unsure:
        odd.append(f"a likelihood below {_LOW} in more than a fifth of the frames: {', '.join(unsure)}")
    absent = (~known.any(axis=2)).mean(axis=0) if len(recording) else np.ones(len(report.animals))
    gone = [f"{name} {share:.0%}" for name, share in zip(report.animals, absent, strict=True) if share > 0.05]
    if gone and len(report.keypoints) > 1:
        odd.append(f"the whole animal is missing: {', '.join(gone)} of the frames")
    minutes = max(report.frames / report.fps / 60, 1e-9)
    if report.jumps / minutes > 1:
        odd.append(f"{report.jumps} jumps of a point, {report.jumps / minutes:.1f} a minute")
    if report.swaps:
        odd.append(f"{report.swaps} frames in which the animals seem to trade names")
    odd += _frozen(recording, known) + _on_top(recording, report.body_length_px)
    return odd


def _frozen(recording: Recording, known: NDArray[np.bool_]) -> list[str]:
    """Stretches in which every known point stays exactly where it is: a tracker that repeats a frame."""
    points = recording.keypoints.reshape(len(recording), -1)
    if len(points) < 2:
        return []
    # Compared as bits, since a missing point that stays missing is no change either.
    same = (points[1:].view(np.uint32) == points[:-1].view(np.uint32)).all(axis=1)
    same &= np.asarray(known.any(axis=(1, 2)))[1:]
    edges = np.diff(np.concatenate(([0], same.view(np.int8), [0])))
    lengths = np.flatnonzero(edges < 0) - np.flatnonzero(edges > 0)
    n_long = int((lengths > _FROZEN_S * recording.fps).sum())
    if not n_long:
        return []
    longest_s = lengths.max() / recording.fps
    return [f"no point moves at all for more than {_FROZEN_S:g} s, {n_long} times, for {longest_s:.1f} s at most"]


def _on_top(recording: Recording, length: float | None) -> list[str]:
    if length is None:
        return []
    odd = []
    names = recording.skeleton.animals
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            apart = np.linalg.norm(recording.keypoints[:, a] - recording.keypoints[:, b], axis=-1)
            known = np.isfinite(apart)
            total = np.where(known, apart, 0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
            share = float((known.any(axis=-1) & (total < _ON_TOP * length)).mean()) if len(apart) else 0.0
            if share > 0.01:
                odd.append(f"{names[a]} and {names[b]} lie on top of each other in {share:.0%} of the frames")
    return odd
