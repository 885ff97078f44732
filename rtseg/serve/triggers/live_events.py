"""The events that run: begun, renewed frame by frame, ended; and what their sinks are told.

A line is on only while answers renew it: each command carries how long it may stay on without another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rtseg.inference.predictions import Prediction
from rtseg.serve.streams.stream import Stream
from rtseg.serve.triggers import records
from rtseg.serve.triggers.lines import Lines
from rtseg.serve.triggers.recorder import TriggerRecorder
from rtseg.serve.triggers.records import LiveEvent
from rtseg.sinks.base import OFF, ON, RENEW
from rtseg.sinks.link import SinkLink
from rtseg.triggers.arms import REAL
from rtseg.triggers.cuts import LOST_SINK, NOT_RECORDED, QUEUE_FULL, cut_event
from rtseg.triggers.rule import TriggerRule

LOG = logging.getLogger("rtseg.serve")
NEVER_NS = 1 << 62
MAX_TOLD = 4096
"""Of so many events it is remembered whose they were: their ends are acknowledged later."""


@dataclass(slots=True, eq=False)
class TriggeredStream:
    """An open stream with triggers.

    slot: in the rule. hold_ns: how long each trigger's line stays on without another answer. counts: how many events of
    each fired. live: the running ones, by trigger. is_armed, armed_until_ns: `arming` writes them; NEVER_NS = until it
    is disarmed. interrupted: ends, yet to be told, of events that ran when the daemon before this one was killed.
    carried: what it goes on from, yet to be recorded, where one of its name ended before.
    """

    stream: Stream
    slot: int
    hold_ns: list[int]
    counts: list[int]
    live: dict[int, LiveEvent] = field(default_factory=dict)
    is_armed: bool = False
    armed_until_ns: int = NEVER_NS
    interrupted: list[dict[str, Any]] = field(default_factory=list)
    carried: dict[str, Any] | None = None


class LiveEvents:
    """The running events of all open streams. names: of the triggers; arms: of each, its arms' names.

    rule: whose events they are. n: how many run. due_ns: no event is overdue before. failures: events that a sink did
    not take, or that could not be recorded, with the reason.
    """

    def __init__(
        self,
        rule: TriggerRule,
        arms: Sequence[Sequence[str]],
        lines: Lines,
        recorder: TriggerRecorder,
    ) -> None:
        self.rule, self._arms, self._lines, self._recorder = rule, arms, lines, recorder
        self.open: dict[int, TriggeredStream] = {}
        self.n, self.due_ns = 0, NEVER_NS
        self.failures: list[tuple[TriggeredStream, LiveEvent, str]] = []
        self._n_begun = 0
        self._told: dict[int, tuple[Stream, str]] = {}

    def begin(
        self, of: TriggeredStream, r: int, arm: int, prediction: Prediction, t_recv_ns: int, *, sending: bool
    ) -> None:
        """Trigger r fired at this answer. sending: whether its line may go on."""
        self._n_begun += 1
        self.n += 1
        hold_ns, seq, now_ns = of.hold_ns[r], prediction.seq, time.monotonic_ns()
        number, count, name = self._n_begun, of.counts[r], self.rule.names[r]
        event = LiveEvent(number, count, r, name, self._arms[r][arm], seq, seq, hold_ns, t_recv_ns + hold_ns)
        of.live[r] = event
        of.counts[r] += 1
        sinks = self._lines.sinks(r) if arm == REAL and sending else []
        # Recorded before it is sent: a process that is killed in between must not have done what it has not recorded.
        sent_ns = now_ns if sinks else None
        began = records.began(event, prediction.t_source_ns, t_recv_ns, now_ns, sent_ns)
        if not self._recorder.record_beginning(of.stream, began):
            self.failures.append((of, event, NOT_RECORDED))
            return
        self._recorder.counters["triggers fired"] += 1
        self.due_ns = min(self.due_ns, event.due_ns)
        if sinks:
            event.is_sent, event.waiting = True, tuple(link.name for link in sinks)
            event.ack_due_ns = now_ns + int(self._lines.answer_s(r) * 1e9)
            self.due_ns = min(self.due_ns, event.ack_due_ns)
            self._remember(event, of.stream)
            self._send(ON, of, event, now_ns)

    def end(self, of: TriggeredStream, event: LiveEvent, why: str) -> None:
        """An event ended; why: of `rule.ENDED` or `cuts.CUTS`."""
        now_ns, sent_ns = time.monotonic_ns(), None
        del of.live[event.r]
        self.n -= 1
        if event.is_sent:
            # Off first, and then recorded: should the process be killed in between, the line goes off all the same.
            sent_ns = now_ns
            self._send(OFF, of, event, now_ns, is_known=why in (LOST_SINK, QUEUE_FULL))
        self._recorder.record(of.stream, records.ended(event, why, now_ns, sent_ns))

    def cut(self, of: TriggeredStream, event: LiveEvent, why: str) -> None:
        """End an event between two frames. why: of `cuts.CUTS`."""
        cut_event(self.rule, of.slot, event.r)
        self.end(of, event, why)
        self._recorder.counters["triggers cut"] += 1
        LOG.warning("stream %r: trigger %r ends after seq %d: %s", of.stream.name, event.trigger, event.last_seq, why)

    def cut_all(self, of: TriggeredStream, why: str) -> None:
        """End all of a stream's events."""
        for event in list(of.live.values()):
            self.cut(of, event, why)

    def renew(self, answered: Iterable[tuple[TriggeredStream, int]]) -> None:
        """Streams were answered: their lines may stay on for another while, from when the frame came."""
        now_ns = time.monotonic_ns()
        for of, t_recv_ns in answered:
            for event in of.live.values():
                event.due_ns = t_recv_ns + event.hold_ns
                if event.is_sent and event.seq != event.last_seq:
                    self._send(RENEW, of, event, now_ns)

    def find(self, number: int) -> tuple[TriggeredStream, LiveEvent] | None:
        """The running event of this number."""
        told = self._told.get(number)
        of = None if told is None else self.open.get(told[0].trigger_slot)
        return next(((of, e) for e in of.live.values() if e.number == number), None) if of is not None else None

    def told(self, number: int) -> tuple[Stream, str] | None:
        """The stream and the trigger of an event that sinks were told of; None for one of long ago."""
        return self._told.get(number)

    def using(self, links: Sequence[SinkLink]) -> Iterator[tuple[TriggeredStream, LiveEvent]]:
        """The events whose lines these sinks drive."""
        for of in self.open.values():
            for event in list(of.live.values()):
                if event.is_sent and any(link in links for link in self._lines.sinks(event.r)):
                    yield of, event

    def _send(self, kind: int, of: TriggeredStream, event: LiveEvent, now_ns: int, *, is_known: bool = False) -> None:
        """is_known: whether somebody has been told already that the sink is in trouble."""
        # Not below 1: what was held up for too long reaches the sink too late, which then says so.
        hold_ns = 0 if kind == OFF else max(event.due_ns - now_ns, 1)
        failed = self._lines.send(kind, event.number, event.r, hold_ns, now_ns, event.last_seq, of.stream.name)
        if failed and not is_known:
            self.failures.append((of, event, failed))

    def _remember(self, event: LiveEvent, stream: Stream) -> None:
        if len(self._told) >= MAX_TOLD:
            del self._told[next(iter(self._told))]
        self._told[event.number] = stream, event.trigger
