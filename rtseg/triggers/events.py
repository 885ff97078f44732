"""What triggers decided, event by event, and the log that a laboratory keeps.

The log holds frames and names and no time of a clock, so that a live run, its replay and the pose file give the same
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.system.files import write_atomically
from rtseg.triggers.arms import arm_names
from rtseg.triggers.rule import ARM, BEGAN, ENDED, ENDED_AT, WITHHELD, TriggerRule

FIRED = "fired"
COLUMNS = ("stream", "trigger", "seq", "decision", "arm", "last_seq", "ended")


@dataclass(frozen=True)
class TriggerEvent:
    """An event that fired, or was withheld.

    seq: its first frame. decision: `fired`, or why it was withheld (`rule.WITHHELD`). arm: what it belongs to; a
    withheld one leaves it to the next. last_seq: its last answered frame, that of the recording where it still runs at
    the end; None where nothing fired. ended: why it ended (`rule.ENDED`), "" where it still runs or never fired.
    """

    stream: str
    trigger: str
    seq: int
    decision: str
    arm: str
    last_seq: int | None = None
    ended: str = ""

    @property
    def fired(self) -> bool:
        """Whether it ran, be it as a control."""
        return self.decision == FIRED


CLOSED = "closed"
"""Why an event ends that still runs when its stream ends."""


def events_of(
    rule: TriggerRule, stream: str, seq: NDArray[np.int64], decided: NDArray[np.uint8], ended: str = ""
) -> list[TriggerEvent]:
    """All events of one stream, from what was decided (T, R, 4) about its answers to frames seq (T,); by first frame,
    then by trigger as in the file. ended: why those ended that still run after the last frame.
    """
    found: list[TriggerEvent] = []
    for r, (name, trigger) in enumerate(zip(rule.names, rule.settings, strict=True)):
        arms, running = arm_names(trigger.arms), None
        for t in np.flatnonzero(decided[:, r, [BEGAN, ENDED_AT]].any(axis=1)).tolist():
            if decided[t, r, ENDED_AT]:
                assert running is not None, "an event ended that never began"
                why = ENDED[decided[t, r, ENDED_AT]]
                found[running] = replace(found[running], last_seq=int(seq[t - 1]), ended=why)
                running = None
            if decided[t, r, BEGAN]:
                decision = WITHHELD[decided[t, r, BEGAN]]
                found.append(TriggerEvent(stream, name, int(seq[t]), decision, arms[decided[t, r, ARM]]))
                running = len(found) - 1 if decision == FIRED else running
        if running is not None:
            found[running] = replace(found[running], last_seq=int(seq[-1]), ended=ended)
    return sorted(found, key=lambda event: (event.seq, rule.names.index(event.trigger)))


def write_events(events: Sequence[TriggerEvent] | Iterable[TriggerEvent], path: Path | str) -> None:
    """CSV, a row an event; see `TriggerEvent`. Raises OSError."""
    lines = [",".join(COLUMNS)]
    for event in events:
        last = "" if event.last_seq is None else event.last_seq
        values = (event.stream, event.trigger, event.seq, event.decision, event.arm, last, event.ended)
        lines.append(",".join(cell(str(value)) for value in values))
    write_atomically(Path(path), "\n".join(lines) + "\n")


def cell(text: str) -> str:
    """A cell of CSV: names of streams and triggers are anybody's."""
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\n\r') else text
