"""Changes of training keypoints that leave the animals' behaviour as it is, each a switch (paper, III.B and III.E).

Keypoints in, keypoints out; never used on validation recordings nor when serving.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rtseg.config import AugmentSettings
from rtseg.frames.skeleton import Skeleton

F32 = NDArray[np.float32]
COPY_SHIFT_PX, COPY_NOISE_PX = 20.0, 1.0
"""Standard deviations for copies that balance the tasks; the paper names the changes and not their size."""
DROPPED_FRAMES = 15
"""Mean length of a stretch without a point or an animal."""


def augment(
    keypoints: F32,
    confidence: F32,
    settings: AugmentSettings,
    skeleton: Skeleton,
    arena: tuple[float, float, float, float],
    rng: np.random.Generator,
) -> tuple[F32, F32]:
    """A changed copy of keypoints (T, A, K, 2) px and confidence (T, A, K); NaN stays NaN.

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
    if settings.drop_points:
        _drop(points, scores, rng, settings.drop_points, per_animal=False)
    if settings.drop_animal:
        _drop(points, scores, rng, settings.drop_animal, per_animal=True)
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
