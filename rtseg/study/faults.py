"""Faults of cameras and trackers, put into a recording on purpose and in a known amount.

Each takes a recording and gives a changed copy (for lost frames: which frames arrive); a generator in the same state
gives the same faults. Labels stay as they are, because a fault does not change what the animals did.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rtseg.recordings.recording import Recording

Mask = NDArray[np.bool_]
STRETCH_S = 0.5
"""Mean length of a stretch without a point or an animal."""
LOST_FRAMES = 3.0
"""Mean number of consecutive frames that are lost."""


def stretches(rng: np.random.Generator, n_frames: int, share: float, mean_frames: float) -> Mask:
    """A mask (T,) that is on for `share` of all frames in expectation, in stretches of `mean_frames` on average.

    Stretches and the times between them are geometric: an on-off Markov chain from its equilibrium. Where `share`
    leaves less than a frame between stretches they grow instead.
    """
    if not 0 < share < 1:
        return np.full(n_frames, share >= 1)
    on = max(mean_frames, share / (1 - share), 1.0)
    # The share of the time that the mask is on is on / (on + off).
    off = max(on * (1 - share) / share, 1.0)  # 1 or more anyhow, but for rounding
    mask = np.zeros(n_frames, np.bool_)
    at, state = 0, bool(rng.random() < share)
    while at < n_frames:
        length = int(rng.geometric(1 / (on if state else off)))
        mask[at : at + length] = state
        at, state = at + length, not state
    return mask


def drop_points(recording: Recording, share: float, rng: np.random.Generator) -> Recording:
    """Every point missing for `share` of the time, in stretches of its own, besides where it is missing already."""
    t, a, k = recording.confidence.shape
    gone = np.zeros((t, a, k), np.bool_)
    for i in range(a):
        for j in range(k):
            gone[:, i, j] = stretches(rng, t, share, STRETCH_S * recording.fps)
    return _without(recording, gone)


def drop_animal(recording: Recording, share: float, rng: np.random.Generator) -> Recording:
    """One animal, drawn anew for each stretch of two seconds or so, wholly missing for `share` of the time."""
    t, a, k = recording.confidence.shape
    off = stretches(rng, t, share, 4 * STRETCH_S * recording.fps)
    # Where each stretch begins; every frame then belongs to the last edge before it.
    edges = np.flatnonzero(np.diff(off, prepend=False) & off)
    who = rng.integers(0, a, max(len(edges), 1))
    gone = np.zeros((t, a, k), np.bool_)
    which = who[np.maximum(np.searchsorted(edges, np.arange(t), "right") - 1, 0)]
    gone[np.flatnonzero(off), which[off]] = True
    return _without(recording, gone)


def swap_identities(recording: Recording, per_10_minutes: float, rng: np.random.Generator) -> Recording:
    """Two animals exchange their names at this many random moments in ten minutes, and keep them until the next one."""
    t, a = recording.confidence.shape[:2]
    if a < 2:
        return recording
    swaps = np.flatnonzero(rng.random(t) < per_10_minutes / (600 * recording.fps))
    order = np.arange(a)  # of the animals' names; it stays until the next swap, as a tracker's mistake does
    points, scores = recording.keypoints.copy(), recording.confidence.copy()
    for start, stop in zip(swaps, np.append(swaps[1:], t), strict=False):
        one, other = rng.choice(a, 2, replace=False)
        order[[one, other]] = order[[other, one]]
        points[start:stop] = recording.keypoints[start:stop][:, order]
        scores[start:stop] = recording.confidence[start:stop][:, order]
    return replace(recording, keypoints=points, confidence=scores)


def jitter(recording: Recording, deviation_px: float, rng: np.random.Generator) -> Recording:
    """Every coordinate with independent Gaussian noise of that deviation."""
    noise = rng.normal(0.0, 1.0, recording.keypoints.shape).astype(np.float32) * np.float32(deviation_px)
    return replace(recording, keypoints=recording.keypoints + noise)


def frames_that_arrive(recording: Recording, share: float, rng: np.random.Generator) -> Mask:
    """Which frames (T,) reach the model when `share` of them is lost, some in a row; the first and last always do."""
    arrived = ~stretches(rng, len(recording), share, LOST_FRAMES)
    arrived[:1] = arrived[-1:] = True
    return arrived


def _without(recording: Recording, gone: Mask) -> Recording:
    points, scores = recording.keypoints.copy(), recording.confidence.copy()
    points[gone], scores[gone] = np.nan, 0.0
    return replace(recording, keypoints=points, confidence=scores)
