"""Changes of training keypoints that leave the animals' behaviour as it is, each a switch (paper, III.B and III.E).

Keypoints in, keypoints out; never used on validation recordings nor when serving.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.config import AugmentSettings
from rtseg.frames import resampling
from rtseg.frames.skeleton import Skeleton

F32 = NDArray[np.float32]
Places = NDArray[np.floating[Any]]
Tracked = tuple[int, int | slice]
"""An animal, and one of its points or all."""
Pairs = list[tuple[Tracked, Tracked]]
COPY_SHIFT_PX, COPY_NOISE_PX = 20.0, 1.0
"""Standard deviations for copies that balance the tasks; the paper names the changes and not their size."""
DROPPED_FRAMES = 15
"""Mean length of a stretch without a point or an animal, or with two of them taken for each other."""
FASTEST = 2.0
"""Time runs in no crop faster than this, nor slower than its inverse."""


def augment(
    keypoints: F32,
    confidence: F32,
    settings: AugmentSettings,
    skeleton: Skeleton,
    arena: tuple[float, float, float, float],
    rng: np.random.Generator,
) -> tuple[F32, F32]:
    """A changed copy of keypoints (T, A, K, 2) px and confidence (T, A, K).

    NaN stays NaN, but where points trade places, or a slower camera shows a neighbouring frame in its place.
    arena: box x0, y0, x1, y1 in px. All random numbers come from `rng`.
    """
    # A switch that is off draws no random number, so that it cannot change what the others draw.
    points, scores = keypoints.copy(), confidence.copy()
    center = np.array([(arena[0] + arena[2]) / 2, (arena[1] + arena[3]) / 2], np.float32)
    if settings.mirror and rng.random() < 0.5:
        points, scores = mirrored(points, scores, skeleton, arena)
    points -= center  # rotation and scale are about the arena's middle, which they leave where it is
    if settings.rotate:
        angle = rng.uniform(0, 2 * np.pi)
        c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        points = points @ np.array([[c, s], [-s, c]], np.float32)
    if settings.scale:
        points *= np.float32(np.exp(rng.normal(0, settings.scale)))
    points += center
    if settings.shift_px:
        points += rng.normal(0, settings.shift_px, 2).astype(np.float32)
    # Independent for every point and frame, unlike the shift, which moves the whole crop.
    if settings.noise_px:
        points += rng.normal(0, settings.noise_px, points.shape).astype(np.float32)
    if settings.swap_points:
        _swap(points, scores, rng, settings.swap_points, _left_and_right(skeleton, points.shape[1]))
    if settings.swap_animals:
        _swap(points, scores, rng, settings.swap_animals, _animals(points.shape[1]))
    if settings.drop_points:
        _drop(points, scores, rng, settings.drop_points, per_animal=False)
    if settings.drop_animal:
        _drop(points, scores, rng, settings.drop_animal, per_animal=True)
    # Last of all: what a tracker gets wrong, it gets wrong in the frames that the camera took.
    if settings.camera_rate < 1:
        share = np.exp(rng.uniform(np.log(settings.camera_rate), 0))
        points, scores = film_slower(points, scores, share, rng.random())
    return np.ascontiguousarray(points), np.ascontiguousarray(scores)


def augment_settings_of_copies(settings: AugmentSettings) -> AugmentSettings:
    """What a copy that balances the tasks goes through: the paper's four changes (III.E), and the recipe's others."""
    return replace(
        settings,
        rotate=True,
        mirror=True,
        shift_px=max(settings.shift_px, COPY_SHIFT_PX),
        noise_px=max(settings.noise_px, COPY_NOISE_PX),
    )


def mirrored(
    keypoints: F32, confidence: F32, skeleton: Skeleton, arena: tuple[float, float, float, float]
) -> tuple[F32, F32]:
    """Keypoints (T, A, K, 2) px and confidence (T, A, K) as in a mirror upright in the middle of the arena."""
    # In the mirror a left ear is a right one: left and right points trade places, or the mirrored animal would be one
    # whose body is twisted.
    points, scores = keypoints[:, :, skeleton.mirror].copy(), confidence[:, :, skeleton.mirror]
    points[..., 0] = np.float32(arena[0] + arena[2]) - points[..., 0]
    return points, np.ascontiguousarray(scores)


def _drop(points: F32, scores: F32, rng: np.random.Generator, share: float, *, per_animal: bool) -> None:
    """Make about `share` of all (T, A, K) points missing in stretches of half a second or so, in place."""
    t, a, k = scores.shape
    targets = [(i, slice(None)) for i in range(a)] if per_animal else [(i, j) for i in range(a) for j in range(k)]
    for animal, point in targets:
        for start in rng.integers(0, t, rng.poisson(share * t / DROPPED_FRAMES)):
            stop = start + 1 + rng.geometric(1 / DROPPED_FRAMES)
            points[start:stop, animal, point] = np.nan
            scores[start:stop, animal, point] = 0.0


def _left_and_right(skeleton: Skeleton, n_animals: int) -> Pairs:
    pairs = [(k, other) for k, other in enumerate(skeleton.mirror) if k < other]
    return [((i, k), (i, other)) for i in range(n_animals) for k, other in pairs]


def _animals(n_animals: int) -> Pairs:
    return [((i, slice(None)), (j, slice(None))) for i in range(n_animals) for j in range(i + 1, n_animals)]


def _swap(
    points: F32, scores: F32, rng: np.random.Generator, share: float, pairs: list[tuple[Tracked, Tracked]]
) -> None:
    """Let the two of each pair be taken for each other in about `share` of all frames, in stretches, in place."""
    t = len(points)
    for one, other in pairs:
        swapped = np.zeros(t, np.bool_)
        for start in rng.integers(0, t, rng.poisson(share * t / DROPPED_FRAMES)):
            # Stretches that overlap are one, as they are of missing points.
            swapped[start : start + 1 + rng.geometric(1 / DROPPED_FRAMES)] = True
        for values in (points, scores):
            first, second = values[swapped, *one].copy(), values[swapped, *other].copy()
            values[swapped, *one], values[swapped, *other] = second, first


def draw_rate(settings: AugmentSettings, rng: np.random.Generator) -> float:
    """How many frames of the recording pass in one frame of a crop."""
    if not settings.rate:
        return 1.0
    return float(np.clip(np.exp(rng.normal(0, settings.rate)), 1 / FASTEST, FASTEST))


def frames_at(n_frames: int, rate: float) -> int:
    """How many frames a recording of n frames has where time runs `rate` times as fast."""
    return n_frames if rate == 1 else int((n_frames - 1) / rate) + 1


def poses_at(keypoints: F32, confidence: F32, at: Places) -> tuple[F32, F32]:
    """Keypoints (N, A, K, 2) and confidence (N, A, K) at the places `at` (N,) in [0, T - 1] between T frames.

    By the rule of `frames.resampling`.
    """
    early, late, weight = _neighbours(at, len(keypoints))
    before, after = (keypoints[early], confidence[early]), (keypoints[late], confidence[late])
    return resampling.poses_between(before, after, weight)


def labels_between(labels: NDArray[np.int16], at: Places) -> NDArray[np.int16]:
    """Labels (N, ...) at the places `at` (N,) between T frames: those of the nearer frame."""
    early, late, weight = _neighbours(at, len(labels))
    return labels[np.where(weight >= 0.5, late, early)]


def film_slower(keypoints: F32, confidence: F32, share: float, phase: float) -> tuple[F32, F32]:
    """The same frames as a slower camera would have shown them, brought back to their rate as when serving.

    share: frames of the camera for one of these, in (0, 1]. phase: in [0, 1), how far within a camera frame the first
    one lies.
    """
    t = len(keypoints)
    back = np.arange(t) * share + phase  # where each frame lies among those of the camera
    camera = (np.arange(int(np.ceil(back[-1])) + 1) - phase) / share
    return poses_at(*poses_at(keypoints, confidence, np.clip(camera, 0, t - 1)), back)


def _neighbours(at: Places, n_frames: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Places]:
    early = np.floor(at).astype(np.intp)
    return early, np.minimum(early + 1, n_frames - 1), at - early


def interpolate(keypoints: F32, confidence: F32, factor: int) -> tuple[F32, F32]:
    """Up-sample (T, A, K, 2) to ((T - 1) * factor + 1, A, K, 2) by the parabola through each frame and its neighbours.

    The paper's quadratic interpolation (III.B). A new frame is missing where either of its neighbours is, and straight
    where the third point of the parabola is missing.
    """
    if factor == 1 or len(keypoints) < 2:
        return keypoints, confidence
    t = len(keypoints)
    points = np.empty(((t - 1) * factor + 1, *keypoints.shape[1:]), np.float32)
    scores = np.empty(((t - 1) * factor + 1, *confidence.shape[1:]), np.float32)
    points[::factor], scores[::factor] = keypoints, confidence
    left, right = keypoints[:-1], keypoints[1:]
    third = np.concatenate((keypoints[2:], keypoints[-3:-2] if t > 2 else keypoints[:1] * np.nan))  # (T-1, A, K, 2)
    bend = right + right - left - third
    bend[-1] = (left + left - right - third)[-1]  # the last stretch bends with the frame before it
    bend = np.nan_to_num(bend, nan=0.0)
    for step in range(1, factor):
        x = np.float32(step / factor)
        points[step::factor] = left + (right - left) * x + bend * (x * (1 - x) / 2)
        # A new frame is no more certain than the less certain of its two neighbours.
        scores[step::factor] = np.minimum(confidence[:-1], confidence[1:])
    scores[np.isnan(points).any(-1)] = 0.0
    return points, scores


def interpolate_labels(labels: NDArray[np.int16], factor: int) -> NDArray[np.int16]:
    """Labels (T,) for the up-sampled frames: a new frame takes the next true frame's label (paper, III.B)."""
    return labels if factor == 1 else np.concatenate((labels[:1], np.repeat(labels[1:], factor)))
