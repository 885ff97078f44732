"""Which missing frames are stepped as frames without any point, and where a stream restarts instead.

The one rule of it: `inference.gap_rule` applies it to frames as they come, readers and training to whole recordings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Stretch(NamedTuple):
    """Frames start <= t < stop that are stepped one after the other from a fresh state; the first and last came."""

    start: int
    stop: int


def is_filled(n_missing: int, fill_frames: int) -> bool:
    """Whether a gap of n_missing frames is filled; a longer one restarts the stream."""
    return n_missing <= fill_frames


def filled_time_ns(before_ns: int, after_ns: int, i: int, n_missing: int) -> int:
    """When the i-th of n_missing frames was, from 1 on: at even steps between the frames around the gap."""
    # In whole numbers: nanoseconds since an epoch do not fit into a float exactly.
    return before_ns + (after_ns - before_ns) * i // (n_missing + 1)


def stretches_of(absent: NDArray[np.bool_], fill_frames: int) -> list[Stretch]:
    """The stretches of a recording in which the frames where `absent` (T,) never came, in order; [] where none came.

    Frames before the first one and after the last one that came are in none of them, nor are those of a gap that is
    longer than fill_frames.
    """
    came = np.flatnonzero(~absent)
    if len(came) == 0:
        return []
    missing = np.diff(came) - 1
    restarts = np.flatnonzero([not is_filled(n, fill_frames) for n in missing.tolist()])
    starts = [came[0], *came[restarts + 1]]
    lasts = [*came[restarts], came[-1]]
    return [Stretch(int(start), int(last) + 1) for start, last in zip(starts, lasts, strict=True)]
