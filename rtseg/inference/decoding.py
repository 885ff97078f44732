"""From probabilities to bouts: hysteresis that settles, minimum bout and merge gap, causally.

Written once, the same live and offline.

Per head: the label changes to a better one when that leads by `margin`, has led for `min_bout_frames` consecutive
frames, and the old label has been out of the lead for more than `merge_gap_frames` (a shorter interruption is part of
its bout). Right after a change the margin is larger by `settle_margin`, which fades linearly over `settle_frames`:
a bout does not flicker where it begins, and a settled one ends as early as without it. The first label of a stream has
no such margin, since its bout began before. A label is never changed afterwards: what was published stays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.config import DecodingSettings
from rtseg.errors import SnapshotError

NOT_STARTED = -1
MARGIN, MIN_BOUT_FRAMES, MERGE_GAP_FRAMES, SETTLE_FRAMES, FADE_PER_FRAME = range(5)
"""Places in the rule's array (float64)."""


class DecoderState(NamedTuple):
    """For S slots and H heads, all (S, H) int32.

    label: of the running bout, NOT_STARTED before the first frame. candidate: the label that leads it. lead: for how
    many consecutive frames. absent: frames since the running label last led. fresh: frames until it has settled.
    """

    label: NDArray[np.int32]
    candidate: NDArray[np.int32]
    lead: NDArray[np.int32]
    absent: NDArray[np.int32]
    fresh: NDArray[np.int32]


class Decoder:
    """Labels and bout changes of all heads of a model.

    plan: where the heads' outputs begin (H + 1,), and the rule's numbers (MARGIN ...), as `advance` takes them.
    """

    def __init__(self, offsets: tuple[int, ...], settings: DecodingSettings) -> None:
        self.n_heads = len(offsets) - 1
        rule = np.zeros(5)
        rule[MARGIN], rule[MIN_BOUT_FRAMES] = settings.margin, settings.min_bout_frames
        rule[MERGE_GAP_FRAMES], rule[SETTLE_FRAMES] = settings.merge_gap_frames, settings.settle_frames
        # Divided once, so that each frame costs a multiplication only.
        rule[FADE_PER_FRAME] = settings.settle_margin / max(settings.settle_frames, 1)
        self.plan = np.array(offsets, np.int64), rule

    def init_state(self, slots: int) -> DecoderState:
        """A fresh state for S slots."""
        shape = (slots, self.n_heads)
        return DecoderState(
            np.full(shape, NOT_STARTED, np.int32),
            np.full(shape, NOT_STARTED, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
            np.zeros(shape, np.int32),
        )

    def reset(self, state: DecoderState, slot: int) -> None:
        """Start one slot again."""
        for part, fresh in zip(state, (NOT_STARTED, NOT_STARTED, 0, 0, 0), strict=True):
            part[slot] = fresh

    def load_slot(self, plain: object) -> DecoderState:
        """One slot's part (H,) of every array, from the lists of a snapshot. Raises SnapshotError."""
        rows = plain if isinstance(plain, list) else []
        lengths = [len(row) if isinstance(row, list) else -1 for row in rows]
        numbers_only = all(type(n) is int and abs(n) < 2**31 for row in rows if isinstance(row, list) for n in row)
        if lengths != [self.n_heads] * len(DecoderState._fields) or not numbers_only:
            raise SnapshotError(f"the snapshot is damaged: its decoding is not that of {self.n_heads} heads")
        state = DecoderState(*np.array(rows, np.int32))
        # Counts that no stream can have are harmless; a label is an index.
        n_classes = np.diff(self.plan[0])
        # A label is looked up among its head's classes; the others only count.
        for label in (state.label, state.candidate):
            if (label < NOT_STARTED).any() or (label >= n_classes).any():
                raise SnapshotError(f"the snapshot is damaged: its decoding has labels {label.tolist()}")
        return state

    def step(
        self,
        probs: NDArray[np.float32],
        slots: NDArray[np.int32],
        state: DecoderState,
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
    ) -> None:
        """Probabilities (N, P) of the slots (N,), in order, into labels (N, H) and events (N, H): a new bout begins."""
        advance(probs, slots, *self.plan, state, labels, events)


@njit(cache=True)
def advance(
    probs: NDArray[np.float32],
    slots: NDArray[np.int32],
    offsets: NDArray[np.int64],
    rule: NDArray[np.float64],
    state: DecoderState,
    labels: NDArray[np.int16],
    events: NDArray[np.bool_],
) -> None:
    """One step for every row; see `Decoder.step` and the module's docstring for the rule."""
    for n in range(len(slots)):
        slot = slots[n]
        for head in range(len(offsets) - 1):
            # Heads are decoded apart: behaviours of two heads may overlap in time.
            lo = offsets[head]
            best = 0
            for c in range(1, offsets[head + 1] - lo):
                if probs[n, lo + c] > probs[n, lo + best]:
                    best = c
            # The first of equals wins, and NaN never does: the same label whatever the compiler makes of it.
            current = state.label[slot, head]
            events[n, head] = False
            # Counted down first: the frame after a change is one frame into its settling.
            state.fresh[slot, head] = max(state.fresh[slot, head] - 1, 0)
            margin = rule[MARGIN] + rule[FADE_PER_FRAME] * state.fresh[slot, head]
            # A first label needs no margin: there is nothing that it interrupts.
            if current == NOT_STARTED:
                state.label[slot, head] = best
                events[n, head] = True
            # A candidate that leads by less than the margin counts as no candidate: both counts start again.
            elif best == current or probs[n, lo + best] < probs[n, lo + current] + margin:
                state.lead[slot, head] = 0
                state.absent[slot, head] = 0
            else:
                # A lead counts for one candidate only; frames out of the lead count whichever label leads.
                if best == state.candidate[slot, head] and state.lead[slot, head] > 0:
                    state.lead[slot, head] += 1
                else:
                    state.lead[slot, head] = 1
                state.candidate[slot, head] = best
                state.absent[slot, head] += 1
                led_long = state.lead[slot, head] >= rule[MIN_BOUT_FRAMES]
                if led_long and state.absent[slot, head] > rule[MERGE_GAP_FRAMES]:
                    state.label[slot, head] = best
                    state.lead[slot, head] = 0
                    state.absent[slot, head] = 0
                    state.fresh[slot, head] = rule[SETTLE_FRAMES]
                    events[n, head] = True
            labels[n, head] = state.label[slot, head]
