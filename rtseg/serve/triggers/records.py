"""The messages about triggers, as they are published and recorded (docs/wire.md), and the events that they tell of.

The order in the recording is the order in which things happened, answers included: so whoever goes through it decides
the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rtseg.triggers.arms import RECORDS_LOST
from rtseg.triggers.cuts import CUTS
from rtseg.triggers.events import FIRED, TriggerEvent
from rtseg.triggers.rule import ENDED, WITHHELD

BEGAN, ENDS, ACKNOWLEDGED, ARMING, LATE = "trigger", "trigger_end", "trigger_ack", "arming", "trigger_late"
CARRIED = "trigger_carried"


@dataclass(slots=True, eq=False)
class LiveEvent:
    """An event that fired and has not ended.

    number: of all events of the daemon's run. count: of its stream and trigger, from 0, over restarts. r: its trigger's
    place in the file. seq, last_seq: its first and its last answered frame. due_ns: when it is cut unless a frame
    renews it. is_sent: whether sinks were told; waiting: names of those that have not acknowledged it, until
    ack_due_ns.
    """

    number: int
    count: int
    r: int
    trigger: str
    arm: str
    seq: int
    last_seq: int
    hold_ns: int
    due_ns: int
    is_sent: bool = False
    waiting: tuple[str, ...] = ()
    ack_due_ns: int = 0


def began(event: LiveEvent, t_source_ns: int, t_recv_ns: int, t_decided_ns: int, sent_ns: int | None) -> dict[str, Any]:
    """An event fired. sent_ns: when sinks were told, None for a control; times of the daemon's monotonic clock."""
    return {
        "type": BEGAN,
        **{"trigger": event.trigger, "seq": event.seq, "decision": FIRED, "arm": event.arm},
        **{"count": event.count, "event": event.number, "t_source_ns": t_source_ns, "t_recv_ns": t_recv_ns},
        **{"t_decided_ns": t_decided_ns, "t_sent_ns": sent_ns},
    }


def withheld(
    trigger: str, seq: int, decision: str, arm: str, t_source_ns: int, t_recv_ns: int, t_decided_ns: int
) -> dict[str, Any]:
    """An event might have begun and was withheld; decision says why."""
    return {
        "type": BEGAN,
        **{"trigger": trigger, "seq": seq, "decision": decision, "arm": arm},
        **{"t_source_ns": t_source_ns, "t_recv_ns": t_recv_ns, "t_decided_ns": t_decided_ns},
    }


def ended(event: LiveEvent, why: str, t_decided_ns: int, sent_ns: int | None) -> dict[str, Any]:
    """An event ended; `why` one of `rule.ENDED`, or of `cuts.CUTS` where it was between two frames."""
    return {
        "type": ENDS,
        **{"trigger": event.trigger, "seq": event.seq, "arm": event.arm, "count": event.count, "event": event.number},
        **{"last_seq": event.last_seq, "ended": why, "t_decided_ns": t_decided_ns, "t_sent_ns": sent_ns},
    }


def acknowledged(event: int, trigger: str, sink: str, report: str, t_sink_ns: int, text: str) -> dict[str, Any]:
    """A sink reported of an event: `on`, `off`, `expired` or `error`."""
    about = {"event": event, "trigger": trigger, "sink": sink, "report": report}
    return {"type": ACKNOWLEDGED, **about, "t_sink_ns": t_sink_ns, "text": text}


def arming(seq: int, reason: str, *, armed: bool, for_s: float | None) -> dict[str, Any]:
    """A stream is armed or disarmed after its answered frame seq. for_s: for so long, None = until it is disarmed."""
    return {"type": ARMING, "armed": armed, "seq": seq, "reason": reason, "for_s": for_s}


def late(seqs: list[int]) -> dict[str, Any]:
    """Answers that the triggers took for late, whatever became of them until they were published."""
    return {"type": LATE, "seqs": seqs}


def carried(memory: bytes, frames: int) -> dict[str, Any]:
    """A stream was opened again, and its triggers go on from this memory, so many frames later (`cuts.carry_memory`).

    For whoever steps the recording again; subscribers are not told.
    """
    return {"type": CARRIED, "memory": memory, "frames": frames}


def is_cut(record: Mapping[str, Any]) -> bool:
    """Whether it is an input between two frames: an event's end that no frame decided."""
    return record["type"] == ENDS and record["ended"] in CUTS


def check_record(record: Mapping[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError for a record from a file that cannot be one of these."""
    kind = record["type"]
    if kind in (BEGAN, ENDS):
        texts = (record["trigger"], record["arm"], record["decision"] if kind == BEGAN else record["ended"])
        numbers = [record["seq"]] if kind == BEGAN else [record["seq"], record["last_seq"], record["count"]]
        allowed = WITHHELD[1:] if kind == BEGAN else (*ENDED[1:], *CUTS)
        if any(type(text) is not str for text in texts) or any(type(number) is not int for number in numbers):
            raise TypeError("a trigger's event with fields of the wrong kind")
        if texts[2] not in allowed:
            raise ValueError(f"a trigger's event with the reason {texts[2]!r}"[:100])
    elif kind == ARMING:
        if type(record["armed"]) is not bool:
            raise TypeError("arming that is neither true nor false")
    elif kind == LATE:
        if any(type(seq) is not int for seq in record["seqs"]):
            raise TypeError("late answers with numbers of the wrong kind")
    elif kind == CARRIED:
        if type(record["memory"]) is not bytes or type(record["frames"]) is not int or record["frames"] < 0:
            raise TypeError("what a stream's triggers go on from, with fields of the wrong kind")
    elif kind != ACKNOWLEDGED:
        raise ValueError(f"a record of triggers of type {kind!r}"[:100])


class EventLog:
    """The events of one stream, put together from its records in their order.

    order: the triggers as in their file. Other triggers, of a file that was damaged, come last.
    """

    def __init__(self, stream: str, order: Iterable[str]) -> None:
        self._stream, self._order = stream, {name: i for i, name in enumerate(order)}
        self._begun: dict[tuple[str, int], tuple[str, str]] = {}
        self._ends: dict[tuple[str, int], tuple[int, str]] = {}
        self._by_number: dict[int, tuple[str, int]] = {}
        self._times: dict[tuple[str, int], dict[str, Any]] = {}
        self._in_doubt: dict[tuple[str, int], tuple[int, str]] = {}
        self.newest_seq = -1

    def add_answer(self, seq: int) -> None:
        """A frame was answered."""
        self.newest_seq = max(self.newest_seq, seq)

    def add(self, record: Mapping[str, Any]) -> None:
        """Add a record that `check_record` let pass."""
        kind = record["type"]
        if kind == BEGAN:
            key = record["trigger"], record["seq"]
            if self._begun.get(key, ("", ""))[0] == FIRED:
                return  # it fired just before the daemon was killed, and the frame was answered again
            self._begun[key] = record["decision"], record["arm"]
            self._by_number[record.get("event", 0)] = key
            self._times[key] = {name: record.get(name) for name in ("event", "t_source_ns", "t_recv_ns")}
            self._times[key] |= {"t_decided_ns": record.get("t_decided_ns"), "t_sent_ns": record.get("t_sent_ns")}
        elif kind == ENDS:
            key = record["trigger"], record["seq"]
            # Where it began in an earlier recording, this tells all the same.
            self._begun.setdefault(key, (FIRED, record["arm"]))
            self._ends[key] = record["last_seq"], record["ended"]
            self._times.setdefault(key, {"event": record.get("event")})
            self._times[key] |= {"t_end_decided_ns": record.get("t_decided_ns"), "t_off_ns": record.get("t_sent_ns")}
        elif kind == ACKNOWLEDGED:
            its_key = self._by_number.get(record["event"])
            if its_key is not None:
                # Of several sinks the last one counts: only then is everything on, or off.
                times, name = self._times[its_key], f"t_sink_{record['report']}_ns"
                times[name] = max(times.get(name, 0), record["t_sink_ns"])

    def lose_records(self) -> None:
        """Records are missing here: the ends of events that run may be among them."""
        for key, (decision, _) in self._begun.items():
            if decision == FIRED and key not in self._ends:
                self._in_doubt.setdefault(key, (max(self.newest_seq, key[1]), RECORDS_LOST))

    def events(self) -> list[TriggerEvent]:
        """All of them, as `rtseg trigger try` lists them."""
        found = list(self._found())
        return sorted(found, key=lambda e: (e.seq, self._order.get(e.trigger, len(self._order)), e.trigger))

    def times_of(self, event: TriggerEvent) -> dict[str, Any]:
        """When what happened, in ns of the daemon's monotonic clock, by name; what did not is not there."""
        return {name: t for name, t in self._times.get((event.trigger, event.seq), {}).items() if t is not None}

    def _found(self) -> Iterator[TriggerEvent]:
        for (trigger, seq), (decision, arm) in self._begun.items():
            key = trigger, seq
            last_seq, why = self.newest_seq if decision == FIRED else None, ""
            if (end := self._ends.get(key) or self._in_doubt.get(key)) is not None:
                last_seq, why = end
            yield TriggerEvent(self._stream, trigger, seq, decision, arm, last_seq, why)
