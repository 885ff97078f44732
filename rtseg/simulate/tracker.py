"""A simulated pose estimator: noise, occlusion, lost points, swapped identities, scores.

It sees true points only, no plan and no labels. Like CalMS21's tracker it always gives a position: a point that it
cannot see gets a wrong place and a low score; `drop_unsure` makes such points missing where that is wanted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.simulate.body import ARENA_PX, FPS

Float64 = NDArray[np.float64]

UNSURE = 0.2
"""A score below this marks a guess of the tracker."""
POINT_NOISE = np.array([1.5, 1.1, 1.1, 1.2, 1.6, 1.6, 1.7])
"""Standard deviation in px of a visible point of a resting animal, in MICE7's order."""
BODY_RADIUS_PX = 19.0
LOSS_PER_FRAME = 0.0006
"""Chance that a visible point is lost for a few frames."""
SWAP_PER_S_NEAR, SWAP_PER_S_FAR = 0.04, 0.001
"""Chance per second that identities are swapped, within NEAR_PX and beyond."""
NEAR_PX = 60.0


class Tracks(NamedTuple):
    """keypoints: (T, 2, 7, 2) float32 px inside the arena. scores: (T, 2, 7) float32 in [0, 1]. swapped: (T,) bool."""

    keypoints: NDArray[np.float32]
    scores: NDArray[np.float32]
    swapped: NDArray[np.bool_]


def track_points(rng: np.random.Generator, true_points: Float64) -> Tracks:
    """Tracked points of true points (T, 2, 7, 2). Positions are rounded to 0.01 px, scores to 0.001."""
    n_frames = len(true_points)
    normals = rng.standard_normal((n_frames, 2, 7, 2))
    uniforms = rng.random((n_frames, 2, 7))
    chances = rng.random((n_frames, 3))
    sharpness = rng.uniform(0.8, 1.5)  # light and contrast of a video
    seen = np.empty_like(true_points)
    scores = np.empty(true_points.shape[:-1])
    swapped = np.zeros(n_frames, np.bool_)
    observe_points(true_points, normals, uniforms, chances, sharpness, seen, scores, swapped)
    keypoints = np.clip(np.round(seen, 2), 0.0, np.array(ARENA_PX) - 1.0).astype(np.float32)
    return Tracks(keypoints, np.round(scores, 3).astype(np.float32), swapped)


def drop_unsure(tracks: Tracks) -> Tracks:
    """The same tracks with guessed points missing: NaN with score 0."""
    unsure = tracks.scores < UNSURE
    keypoints, scores = tracks.keypoints.copy(), tracks.scores.copy()
    keypoints[unsure], scores[unsure] = np.nan, 0.0
    return Tracks(keypoints, scores, tracks.swapped)


@njit(cache=True)
def observe_points(
    true_points: Float64,
    normals: Float64,
    uniforms: Float64,
    chances: Float64,
    sharpness: float,
    seen: Float64,
    scores: Float64,
    swapped: NDArray[np.bool_],
) -> None:
    """Fill seen (T, 2, 7, 2), scores (T, 2, 7) and swapped (T,), frame after frame.

    normals (T, 2, 7, 2), uniforms (T, 2, 7), chances (T, 3): the random numbers. sharpness: scales the noise.
    """
    error = np.zeros((2, 7, 2))
    lost_until = np.zeros((2, 7), np.int64)
    hidden = np.zeros((2, 7), np.bool_)
    mistaken = np.zeros((2, 7), np.bool_)
    lower, swap_until = 1, 0
    for t in range(len(true_points)):
        now = true_points[t]
        # The first frame has no frame before it: its speeds are 0.
        before = true_points[max(0, t - 1)]
        gap = math.hypot(now[0, 3, 0] - now[1, 3, 0], now[0, 3, 1] - now[1, 3, 1])
        gap = min(gap, math.hypot(now[0, 3, 0] - now[1, 6, 0], now[0, 3, 1] - now[1, 6, 1]))
        if chances[t, 0] < 0.01:  # which animal is covered by the other: mostly the intruder
            lower = 1 if chances[t, 1] < 0.7 else 0
        swap_rate = SWAP_PER_S_NEAR if gap < NEAR_PX else SWAP_PER_S_FAR
        if t >= swap_until and chances[t, 2] < swap_rate / FPS:
            swap_until = t + int((0.3 + 2.7 * chances[t, 1] ** 2) * FPS)
        swapped[t] = t < swap_until
        for i in range(2):
            out = 1 - i if swapped[t] else i
            for k in range(7):
                speed = FPS * math.hypot(now[i, k, 0] - before[i, k, 0], now[i, k, 1] - before[i, k, 1])
                u = uniforms[t, i, k]
                if t >= lost_until[i, k] and u < LOSS_PER_FRAME:
                    lost_until[i, k] = t + 1 + int(u / LOSS_PER_FRAME * 8)
                    error[i, k, 0] += 45 * normals[t, i, k, 0]
                    error[i, k, 1] += 45 * normals[t, i, k, 1]
                lost = t < lost_until[i, k]
                covered = i == lower and _lies_under_body(now[i, k], now[1 - i])
                if covered != hidden[i, k] and u > 0.4:  # flickers for a frame or two at the edge of a body
                    hidden[i, k] = covered
                    mistaken[i, k] = covered and u > 0.85
                spread = sharpness * POINT_NOISE[k] * (1 + 0.004 * speed)
                if hidden[i, k]:
                    spread *= 4.0
                # The error is a first-order autoregression, scaled so that its variance stays spread squared: errors
                # of real trackers persist over frames, and a filter would remove white noise too easily.
                keep = 0.97 if lost else (0.85 if hidden[i, k] else 0.55)
                fresh = spread * math.sqrt(1 - keep * keep)
                for axis in range(2):
                    error[i, k, axis] = keep * error[i, k, axis] + fresh * normals[t, i, k, axis]
                    place = now[i, k, axis]
                    if hidden[i, k] and mistaken[i, k]:  # it took the other animal's point for this one's
                        place = now[1 - i, k, axis]
                    seen[t, out, k, axis] = place + error[i, k, axis]
                scores[t, out, k] = _score(lost, hidden[i, k], spread, normals[t, i, k, 0], u)


@njit(cache=True)
def _lies_under_body(point: Float64, body: Float64) -> bool:
    """Does a point lie under the trunk (neck to tail base) of the other body (7, 2)?"""
    ax, ay = body[6, 0], body[6, 1]
    bx, by = body[3, 0] - ax, body[3, 1] - ay
    along = ((point[0] - ax) * bx + (point[1] - ay) * by) / (bx * bx + by * by + 1e-9)
    along = min(1.0, max(0.0, along))
    return math.hypot(point[0] - ax - along * bx, point[1] - ay - along * by) < BODY_RADIUS_PX


@njit(cache=True)
def _score(lost: bool, hidden: bool, spread: float, normal: float, u: float) -> float:
    """A score that reflects only in part how wrong a point is, as those of real estimators do."""
    if lost:
        return 0.02 + 0.25 * u
    if hidden:
        return 0.08 + 0.55 * u
    return max(0.3, min(1.0, 1.0 - 0.015 * spread - 0.02 * abs(normal) * spread - 0.1 * u * u * u))
