"""Stretches of the training recordings that choose the number of rounds, so that held-out recordings choose nothing.

Networks take the last epoch where `train.select` is "last"; trees of too many rounds learn single frames by heart. Each
recording's labelled frames are cut into as many stretches of time as there are folds, one for each fold: of few
recordings, whole ones would hold too few behaviours to choose by.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


def time_folds(
    owners: NDArray[np.int32], frames: NDArray[np.int64], margin: int
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Per fold, which rows (N,) are learnt from and which are held out.

    owners: the recording of every row. frames: its frame, rising within a recording. margin: frames on each side of a
    stretch that is held out whose rows belong to neither, since their windows overlap with its.
    """
    for fold in range(FOLDS):
        held, near = np.zeros((2, len(frames)), np.bool_)
        for owner in np.unique(owners):
            rows = np.flatnonzero(owners == owner)
            stretch = rows[np.arange(len(rows)) * FOLDS // len(rows) == fold]
            if len(stretch):
                held[stretch] = True
                first, last = frames[stretch[[0, -1]]]
                near[rows] |= (frames[rows] > first - margin) & (frames[rows] < last + margin)
        yield ~near, held


def fewest_losses(curves: list[tuple[float, list[Any]]], most: int) -> int:
    """The number of rounds with the least loss over all folds: (weight, losses after every round). None: `most`."""
    if not curves:
        return most
    total = np.sum([weight * np.array(losses, np.float64) for weight, losses in curves], axis=0)
    return int(np.argmin(total)) + 1
