"""The rule stepped over what is recorded of a stream: its answers, and between them the recorded inputs.

For a stream that goes on after a crash, and for `rtseg replay --verify`, which compares what comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtseg.inference.predictions import Prediction, Quality
from rtseg.serve.triggers.records import ARMING, BEGAN, CARRIED, ENDS, LATE, check_record, is_cut
from rtseg.triggers import cuts
from rtseg.triggers.arms import arm_names
from rtseg.triggers.events import FIRED
from rtseg.triggers.rule import ARM, ENDED, ENDED_AT, WITHHELD, TriggerRule
from rtseg.triggers.rule import BEGAN as BEGAN_AT

_LATE = int(Quality.LATE)
Decision = tuple[str, str, int, str, str]
"""Kind of record, trigger, first frame, decision or why it ended, arm."""


class RuleReplay:
    """One slot of a rule, stepped over a recording. armed: the stream is; begun: first frames of running events, by
    trigger.
    """

    def __init__(self, rule: TriggerRule, slot: int) -> None:
        self._rule, self._slot = rule, slot
        self._arms = [arm_names(trigger.arms) for trigger in rule.settings]
        self.armed, self.begun = False, dict[int, int]()
        self._late: set[int] = set()
        self._told: dict[int, Mapping[str, Any]] = {}  # of each trigger, an event that fired and whose end is not told
        self._ended: set[tuple[int, int]] = set()

    def step(self, answer: Prediction) -> list[Decision]:
        """What the rule decides about an answer; in the order of the records."""
        seq, batch, row = answer.seq, answer.batch, slice(answer.row, answer.row + 1)
        if cuts.is_old(self._rule, self._slot, seq):
            return []
        quality = answer.quality & ~_LATE | (_LATE if seq in self._late else 0)
        self._late.discard(seq)
        given = np.array([self._slot], np.int32), np.array([seq]), batch.probs[row], batch.labels[row]
        flags = np.array([quality], np.int32), batch.missing[row]
        decided = self._rule.step(*given, *flags, np.array([self.armed]))[0]
        found: list[Decision] = []
        for r in np.flatnonzero(decided[:, [BEGAN_AT, ENDED_AT]].any(axis=1)).tolist():
            name, arms = self._rule.names[r], self._arms[r]
            if decided[r, ENDED_AT]:
                first = self.begun.pop(r)
                found.append((ENDS, name, first, ENDED[decided[r, ENDED_AT]], ""))
            if decided[r, BEGAN_AT]:
                decision = WITHHELD[decided[r, BEGAN_AT]]
                found.append((BEGAN, name, seq, decision, arms[decided[r, ARM]]))
                if decision == FIRED:
                    self.begun[r] = seq
        return found

    def apply(self, record: Mapping[str, Any]) -> str:
        """Do what a record says came in between two frames; "" or, where it cannot have, why. Raises
        SnapshotError for a memory that is damaged.
        """
        kind = record["type"]
        if kind == ARMING:
            self.armed = record["armed"]
        elif kind == LATE:
            self._late.update(record["seqs"])
        elif kind == CARRIED:
            cuts.carry_memory(self._rule, self._slot, record["memory"], record["frames"])
        elif is_cut(record) and record["trigger"] in self._rule.names:
            r = self._rule.names.index(record["trigger"])
            first = self.begun.pop(r, None)
            if first is not None:
                cuts.cut_event(self._rule, self._slot, r)
            if record["ended"] == cuts.RESTART:
                return ""  # of an event that the answers before the crash may not tell of
            if first != record["seq"]:
                return f"ends ({record['ended']}) an event of seq {record['seq']}; here one of seq {first} runs"
        return ""

    def go_through(self, answers: Sequence[Prediction], inputs: Sequence[tuple[int, Mapping[str, Any]]]) -> None:
        """Step the answers since the last snapshot, with what was recorded between them: each with the number of
        answers before it. Raises MALFORMED.
        """
        waiting = deque(inputs)
        for n, answer in enumerate(answers):
            while waiting and waiting[0][0] <= n:
                self._go_on(waiting.popleft()[1])
            self.step(answer)
        for _, record in waiting:
            self._go_on(record)

    def interrupted(self, r: int) -> tuple[int, int, str, int] | None:
        """The event of trigger r that ran at the recording's end: first frame, count, arm and last frame; None = none.

        It may be one whose answer was not published any more.
        """
        told, newest = self._told.get(r), cuts.newest_seq(self._rule, self._slot)
        if told is not None and self.begun.get(r, told["seq"]) <= told["seq"]:
            cuts.count_event(self._rule, self._slot, r, told["count"])
            return told["seq"], told["count"], told["arm"], max(newest, told["seq"])
        # Recorded before it is published: an answer that ended it may be one that was not published any more.
        if r not in self.begun or (r, self.begun[r]) in self._ended:
            return None
        arm = self._arms[r][cuts.running_arm(self._rule, self._slot, r)]
        return self.begun[r], cuts.fired_events(self._rule, self._slot, r) - 1, arm, newest

    def _go_on(self, record: Mapping[str, Any]) -> None:
        check_record(record)
        self.apply(record)
        if record["type"] in (BEGAN, ENDS) and record["trigger"] in self._rule.names:
            r = self._rule.names.index(record["trigger"])
            if record["type"] == ENDS:
                self._told.pop(r, None)
                self._ended.add((r, record["seq"]))
            elif record["decision"] == FIRED:
                if type(record["count"]) is not int:
                    raise TypeError("an event whose count is no number")
                self._told[r] = record
