"""Which heads abstain from a frame: those whose highest probability lies below a threshold.

Thresholds come with the bundle. A head that abstains still has a label; its reader decides what to do with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.recordings.heads import Head


def thresholds(heads: Sequence[Head], below: Mapping[str, float]) -> NDArray[np.float32]:
    """(H,) the probability below which each head abstains; 0 for one that never does."""
    # No probability lies below 0, so a head without a threshold never abstains.
    return np.array([below.get(h.name, 0.0) for h in heads], np.float32)


@njit(cache=True)
def judge(
    probs: NDArray[np.float32],
    offsets: NDArray[np.int64],
    below: NDArray[np.float32],
    flag: int,
    unsure: NDArray[np.bool_],
    flags: NDArray[np.int32],
) -> None:
    """Probabilities (N, P) into unsure (N, H) and flags (N,): the flag where any head is unsure, else 0."""
    for n in range(len(probs)):
        flags[n] = 0
        for head in range(len(below)):
            # Of the probabilities, not of the decoded label: that one may be held by hysteresis.
            highest = np.float32(0.0)
            for c in range(offsets[head], offsets[head + 1]):
                highest = max(highest, probs[n, c])
            unsure[n, head] = highest < below[head]
            if unsure[n, head]:
                flags[n] = flag
