"""Recordings that share frames: a file under two names, or two parts of one file that overlap.

Found by the positions themselves, so that names, folders and labels hide nothing. Memory: 8 bytes a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
WINDOW_FRAMES = 30
"""Recordings share frames where so many in a row are equal in every bit."""
ANCHOR_FRAMES = 150
"""One window hash in so many is an anchor, so that a model may carry those of hours of video."""
LEAST_CHANGES = 10
"""Steps of a window at which something moved: animals that sleep in two recordings are no shared frames."""


class SharedFrames(NamedTuple):
    """Two recordings, by their places in the sequence that was looked at, and how many frames both have at least."""

    first: int
    second: int
    frames: int


def window_hashes(keypoints: NDArray[np.float32]) -> U64:
    """The hashes of all windows of WINDOW_FRAMES frames of keypoints (T, A, K, 2) in which enough moves, in order.

    A recording that is shorter than a window is one.
    """
    window = min(WINDOW_FRAMES, len(keypoints))
    if window < 2:
        return np.zeros(0, np.uint64)
    # NaN has many bit patterns, and -0.0 equals 0.0.
    points = np.where(np.isnan(keypoints), np.float32(-1e30), keypoints) + np.float32(0)
    bits = points.reshape(len(points), -1).view(np.uint32)
    # Fixed random odd factors: a sum of products modulo 2**64 that two different frames hardly ever share.
    rng = np.random.default_rng(0)
    factors, powers = (
        rng.integers(0, 2**64, n, dtype=np.uint64, endpoint=False) | np.uint64(1) for n in (bits.shape[1], window)
    )
    frames = np.zeros(len(points), np.uint64)
    for column, factor in enumerate(factors):
        frames += bits[:, column] * factor
    n_windows = len(frames) - window + 1
    hashes = np.zeros(n_windows, np.uint64)
    for offset, power in enumerate(powers):
        hashes += frames[offset : offset + n_windows] * power
    changed = np.concatenate(([0], np.cumsum(frames[1:] != frames[:-1])))
    changes = changed[window - 1 :] - changed[:n_windows]
    return hashes[changes >= min(LEAST_CHANGES, window - 1)]


def anchors(keypoints: NDArray[np.float32]) -> U64:
    """The hashes of every ANCHOR_FRAMES-th moving window of keypoints (T, A, K, 2).

    Among all the `window_hashes` of a recording that shares so many moving windows is one of them, whatever the
    frame at which either recording begins.
    """
    return window_hashes(keypoints)[::ANCHOR_FRAMES]


def shared_frames(recordings: Sequence[U64]) -> list[SharedFrames]:
    """The pairs of recordings that have windows in common, from the `window_hashes` of each."""
    hashes = np.concatenate([np.unique(some) for some in recordings] or [np.zeros(0, np.uint64)])
    owners = np.repeat(np.arange(len(recordings)), [len(np.unique(some)) for some in recordings])
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    # Of one hash in three recordings, neighbours are compared: each recording is named at least once.
    same = np.flatnonzero(hashes[1:] == hashes[:-1])
    pairs, counts = np.unique(np.stack([owners[same], owners[same + 1]], -1), axis=0, return_counts=True)
    return [SharedFrames(int(a), int(b), int(n) + WINDOW_FRAMES - 1) for (a, b), n in zip(pairs, counts, strict=True)]
