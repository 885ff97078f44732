"""A whole recording through a stream's slot: in chunks, by the calls and the gap rule of live frames.

Without a `Frame` and a `Prediction` for each frame, which would cost a fifth of the time.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rtseg.inference.gap_rule import GAP_FILLED, RESET, WARMING_UP, GapRule
from rtseg.inference.lookahead import PendingFrames
from rtseg.inference.model_slots import ModelSlots
from rtseg.inference.predictions import Predictions
from rtseg.inference.stages import FROZEN, IDENTITY_JUMP, OUT_OF_RANGE
from rtseg.recordings.recording import Recording, clean


class RecordingRun:
    """One recording through a fresh slot, whose stream's gap rule and lookahead it moves on."""

    def __init__(self, slots: ModelSlots, slot: int, gap_rule: GapRule, pending: PendingFrames) -> None:
        self._slots, self._slot, self._gap_rule, self._pending = slots, slot, gap_rule, pending

    def answer(self, recording: Recording, chunk_frames: int) -> Predictions:
        """All answers; frames that never came and are not filled get none."""
        bundle, parts = self._slots.bundle, list[Predictions]()
        times, behind = recording.source_times(), -1
        for start, stop in recording.stretches(bundle.gaps.fill_frames):
            missing = start - behind if behind >= 0 else 0
            parts += self._answer_stretch(recording.between(start, stop), times[start:stop], chunk_frames, missing)
            behind = stop
        return Predictions.join(bundle.heads, parts)

    def _answer_stretch(
        self, stretch: Recording, times: NDArray[np.int64], chunk_frames: int, missing_before: int
    ) -> list[Predictions]:
        """The answers about frames without a restart among them; missing_before: frames since the stretch before."""
        n, lookahead = len(stretch), self._slots.bundle.lookahead_frames
        came = np.ones(n, np.bool_) if stretch.absent is None else ~stretch.absent
        flags = np.where(came, 0, GAP_FILLED).astype(np.int32)
        if self._gap_rule.count_stretch(came, missing_before):
            flags[0] |= RESET
            self._slots.reset_slot(self._slot)
        seqs = stretch.first_seq + np.arange(n)
        parts = []
        # In chunks, to limit the memory for features; the bits do not depend on the chunk size.
        for start in range(0, n, chunk_frames):
            here = slice(start, start + chunk_frames)
            # Points from a file are clean already; those of a program's own arrays are judged as live ones are.
            points, scores = clean(stretch.keypoints[here], stretch.confidence[here])
            parts.append(self._answer_chunk(points, scores, seqs[here], times[here], flags[here]))
        if lookahead:  # what is still owed comes with frames without points, as `Session.finish` and `restart` give it
            shape, nothing = (lookahead, *self._slots.bundle.skeleton.shape), np.zeros(lookahead, np.int64)
            points, scores = np.full((*shape, 2), np.nan, np.float32), np.zeros(shape, np.float32)
            parts.append(self._answer_chunk(points, scores, nothing, nothing, nothing.astype(np.int32)))
            self._pending.frames.clear()
        return parts

    def _answer_chunk(
        self,
        keypoints: NDArray[np.float32],
        confidence: NDArray[np.float32],
        seqs: NDArray[np.int64],
        times: NDArray[np.int64],
        gap_flags: NDArray[np.int32],
    ) -> Predictions:
        """The answers that come with consecutive frames (N, A, K, 2) and (N, A, K), their numbers, times and flags.

        Points are changed in place where animals are swapped back.
        """
        slots, n, counters = self._slots, len(keypoints), self._gap_rule.counters
        features = np.empty((n, slots.stages.n_features), np.float32)
        batch, flags, unsure_flags = slots.compute_rows(
            keypoints, confidence, np.full(n, self._slot, np.int32), features
        )
        flags |= gap_flags
        flags[: self._gap_rule.count_steps(n)] |= WARMING_UP
        stepped = zip(seqs.tolist(), times.tolist(), flags.tolist(), strict=True)
        due = [frame for one in stepped if (frame := self._pending.exchange_frame(one)) is not None]
        first = n - len(due)  # the answers before that one fill the lookahead
        about = np.fromiter(chain.from_iterable(due), np.int64, 3 * len(due)).reshape(-1, 3)
        flags = about[:, 2].astype(np.int32) | unsure_flags[first:]
        counters.out_of_range += int(np.count_nonzero(flags & OUT_OF_RANGE))
        counters.identity_jumps += int(np.count_nonzero(flags & IDENTITY_JUMP))
        counters.frozen += int(np.count_nonzero(flags & FROZEN))
        return Predictions(
            slots.bundle.heads,
            about[:, 0],
            batch.probs[first:],
            batch.labels[first:],
            flags,
            batch.unsure[first:],
            about[:, 1],
            missing=batch.missing[first:],
        )
