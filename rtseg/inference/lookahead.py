"""Which frame an answer is about: with a lookahead of k frames, the one k frames before the frame that was stepped.

The one rule for it, live and offline. The network's step knows nothing of it: a model with a lookahead was trained to
answer late, so only the names of frames move.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.errors import SnapshotError

Stepped = tuple[int, int, int]
"""Number, t_source_ns and flags of a frame that was stepped."""


class PendingFrames:
    """Frames of one stream that were stepped and are not answered yet, the oldest first; at most `lookahead`."""

    def __init__(self, lookahead: int) -> None:
        self.lookahead = lookahead
        self.frames: deque[Stepped] = deque()

    def exchange_frame(self, stepped: Stepped) -> Stepped | None:
        """The frame that the answer of this step is about; None as long as the lookahead fills."""
        # Once for every frame of a live batch, so there is nothing here but the exchange.
        frames = self.frames
        frames.append(stepped)
        return frames.popleft() if len(frames) > self.lookahead else None


class DelayedCounts(NamedTuple):
    """How many points were missing of the last frames of S slots, for a lookahead of k frames. counts: (S, k + 1), a
    ring. at: (S,), the newest one's place.
    """

    counts: NDArray[np.int32]
    at: NDArray[np.int64]


def init_counts(slots: int, lookahead: int) -> DelayedCounts:
    """No frame yet."""
    return DelayedCounts(np.zeros((slots, lookahead + 1), np.int32), np.zeros(slots, np.int64))


def reset_counts(state: DelayedCounts, slot: int) -> None:
    """Forget the frames of a slot."""
    state.counts[slot], state.at[slot] = 0, 0


def waiting_counts(state: DelayedCounts, slot: int) -> list[int]:
    """Those of the frames that a slot has stepped and that are not answered yet, the oldest first; k of them."""
    after: list[int] = np.roll(state.counts[slot], -int(state.at[slot]) - 1)[:-1].tolist()
    return after


def checked_counts(state: DelayedCounts, plain: object) -> list[int]:
    """What `waiting_counts` gave, checked, for `restore_counts`; None, which older recordings have, is that nothing was
    missing. Raises SnapshotError.
    """
    n = state.counts.shape[1] - 1
    if plain is None:
        return [0] * n
    if not isinstance(plain, list) or len(plain) != n or not all(type(c) is int and 0 <= c < 2**31 for c in plain):
        raise SnapshotError(f"the snapshot is damaged: it should have the missing points of {n} frames")
    return plain


def restore_counts(state: DelayedCounts, slot: int, waiting: list[int]) -> None:
    """Put what `waiting_counts` gave into a slot."""
    state.counts[slot], state.at[slot] = [*waiting, 0], len(waiting)


@njit(cache=False)
def delay_counts(slots: NDArray[np.int32], state: DelayedCounts, missing: NDArray[np.int32]) -> None:
    """Counts (N,) of the frames that the slots (N,) step, in order, into those of the frames that are answered.

    While the lookahead fills there is no answer, and the count is 0.
    """
    n_places = state.counts.shape[1]
    for n in range(len(slots)):
        slot = slots[n]
        # The place of the frame that is answered now is that of the next one.
        state.counts[slot, state.at[slot]] = missing[n]
        state.at[slot] = (state.at[slot] + 1) % n_places
        missing[n] = state.counts[slot, state.at[slot]]
