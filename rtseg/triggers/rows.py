"""The rule for the rows of a live batch: one compiled call, from arrays that are written into and used again.

Where nothing begins and nothing ends, as for nearly every frame, that is all that triggers cost.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps
from rtseg.compiled.array_tables import ArrayTable, TableRows, field_indices
from rtseg.inference.predictions import PredictionBatch
from rtseg.triggers import arms, conditions, plan, rule, yoked
from rtseg.triggers.rule import BEGAN, ENDED_AT, SlotMemory, TriggerArrays, TriggerRule
from rtseg.triggers.rule import _advance as advance

ROWS = 256
"""Answers that are decided in one call at most."""
_ROW_FIELDS = struct.Struct("=4q")
_SLOT, _ROW, _SEQ, _QUALITY = range(4)


class RowArrays(NamedTuple):
    """rows (N, 4): slot, place among the batch's answers, seq, flags. slots, seq, armed (N,), quality (N,
    2) and decided (N, R, 4): as the rule's kernel has them. armed_slots: (S,) whether a slot's stream is armed. rule:
    its table.
    """

    rows: NDArray[np.int64]
    slots: NDArray[np.int32]
    seq: NDArray[np.int64]
    quality: NDArray[np.int32]
    armed: NDArray[np.bool_]
    decided: NDArray[np.uint8]
    armed_slots: NDArray[np.bool_]
    rule: TableRows


_A, _RULE, _S = (field_indices(*kind._fields) for kind in (RowArrays, TriggerArrays, SlotMemory))


class DecisionRows:
    """Answers on their way through a rule. armed_slots: (S,) bool, to be written by whoever arms."""

    def __init__(self, trigger_rule: TriggerRule, slots: int) -> None:
        n_triggers = len(trigger_rule.names)
        self._arrays = RowArrays(
            rows=np.zeros((ROWS, 4), np.int64),
            slots=np.zeros(ROWS, np.int32),
            seq=np.zeros(ROWS, np.int64),
            quality=np.zeros((ROWS, 2), np.int32),
            armed=np.zeros(ROWS, np.bool_),
            decided=np.zeros((ROWS, n_triggers, 4), np.uint8),
            armed_slots=np.zeros(slots, np.bool_),
            rule=trigger_rule.table_rows,
        )
        self.armed_slots = self._arrays.armed_slots
        self._put = partial(_ROW_FIELDS.pack_into, self._arrays.rows.data.cast("B"))
        self.follow_rule(trigger_rule)

    def follow_rule(self, trigger_rule: TriggerRule) -> None:
        """Decide by this rule from now on; it has the same triggers."""
        # One table for all: each array that is handed over costs the call.
        self._arrays = self._arrays._replace(rule=trigger_rule.table_rows)
        self._table, self._rule = ArrayTable(self._arrays), trigger_rule
        self._table_rows = self._table.rows

    def add(self, n: int, slot: int, row: int, seq: int, quality: int) -> None:
        """Write the n-th answer of a call. row: its place in the arrays that `decide` gets."""
        self._put(n * _ROW_FIELDS.size, slot, row, seq, quality)

    def decide(self, n: int, answers: PredictionBatch) -> list[list[list[int]]]:
        """Decide about the first n that were added; (n, R, 4) as `TriggerRule.step` gives it, [] where nothing begins
        or ends. answers: that they stand in.

        An answer whose frame was decided about before, as after a restart, decides nothing.
        """
        if not _decide_rows(n, self._table_rows, answers.probs, answers.labels, answers.missing):
            return []
        decided: list[list[list[int]]] = self._arrays.decided[:n].tolist()
        return decided

    def decide_one(
        self, slot: int, row: int, seq: int, quality: int, answers: PredictionBatch
    ) -> list[list[list[int]]]:
        """The same about one answer, without `add`: a lone frame finds all of this code out of the caches."""
        outputs = answers.probs, answers.labels, answers.missing
        if not _decide_one(slot, row, seq, quality, self._table_rows, *outputs):
            return []
        decided: list[list[list[int]]] = self._arrays.decided[:1].tolist()
        return decided


def _compiled(stamp: int) -> tuple[Callable[..., int], Callable[..., int]]:
    """Both calls. stamp: of the other files that are compiled into them (`cache_stamps`)."""

    @njit(cache=True)
    def decide_rows(
        n: int,
        table: TableRows,
        probs: NDArray[np.float32],
        labels: NDArray[np.int16],
        missing: NDArray[np.int32],
    ) -> int:
        """How many of n rows have something that begins or ends."""
        _ = stamp
        rows, rule_rows = array_tables.int64s_2d(table, _A.rows), array_tables.int64s_2d(table, _A.rule)
        per_slot = array_tables.int64s_2d(rule_rows, _RULE.slots)
        slots, seq = array_tables.int32s(table, _A.slots), array_tables.int64s(table, _A.seq)
        quality, armed = array_tables.int32s_2d(table, _A.quality), array_tables.bools(table, _A.armed)
        decided, armed_slots = array_tables.uint8s_3d(table, _A.decided), array_tables.bools(table, _A.armed_slots)
        found = 0
        for i in range(n):
            decided[i, :, :] = 0
            slot, place = rows[i, _SLOT], rows[i, _ROW]
            newest = per_slot[slot, _S.last_seq]
            # A resampled camera's number may come again (`cuts.is_old`).
            if rows[i, _SEQ] < newest or (rows[i, _SEQ] == newest and not per_slot[slot, _S.camera]):
                continue
            slots[i], seq[i], armed[i] = slot, rows[i, _SEQ], armed_slots[slot]
            quality[i, 0], quality[i, 1] = rows[i, _QUALITY], missing[place]
            # Row by row: with a lookahead, or beside other streams' answers, they do not stand one after another.
            here, there = slice(i, i + 1), slice(place, place + 1)
            outputs = probs[there], labels[there]
            advance(slots[here], seq[here], *outputs, quality[here], armed[here], rule_rows, decided[here])
            for r in range(decided.shape[1]):
                found += decided[i, r, BEGAN] != 0 or decided[i, r, ENDED_AT] != 0
        return found

    @njit(cache=True)
    def decide_one(
        slot: int,
        row: int,
        seq: int,
        quality: int,
        table: TableRows,
        probs: NDArray[np.float32],
        labels: NDArray[np.int16],
        missing: NDArray[np.int32],
    ) -> int:
        _ = stamp
        rows = array_tables.int64s_2d(table, _A.rows)
        rows[0, _SLOT], rows[0, _ROW], rows[0, _SEQ], rows[0, _QUALITY] = slot, row, seq, quality
        return decide_rows(1, table, probs, labels, missing)

    return decide_rows, decide_one


_decide_rows, _decide_one = _compiled(cache_stamps.source_stamp(rule, conditions, plan, arms, yoked, array_tables))
