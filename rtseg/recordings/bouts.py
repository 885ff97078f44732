"""Bouts and frames: the same labels in two forms.

A bout is a half-open stretch [start, stop) of 0-based frames with one label. Files with 1-based inclusive bouts are
converted by their readers, nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Bout(NamedTuple):
    """Frames start <= t < stop carry `label`."""

    start: int
    stop: int
    label: int


def bouts_of(frames: NDArray[np.integer], cuts: NDArray[np.integer] | None = None) -> list[Bout]:
    """The maximal constant stretches of a label array (T,), in order; [] for no frames.

    cuts: frames at which a bout ends and another one begins, even where the label stays.
    """
    if len(frames) == 0:
        return []
    edges = np.flatnonzero(np.diff(frames)) + 1
    if cuts is not None:
        edges = np.union1d(edges, cuts[cuts > 0])
    starts = np.concatenate(([0], edges))
    stops = np.concatenate((edges, [len(frames)]))
    return [Bout(int(a), int(b), int(frames[a])) for a, b in zip(starts, stops, strict=True)]


def frames_of(bouts: Iterable[Bout], n_frames: int, fill: int) -> NDArray[np.int16]:
    """Labels (T,) int16 from bouts; frames that no bout covers get `fill`, later bouts win, overruns are cut."""
    frames = np.full(n_frames, fill, np.int16)
    for start, stop, label in bouts:
        frames[max(start, 0) : max(stop, 0)] = label
    return frames
