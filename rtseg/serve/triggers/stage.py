"""The daemon's trigger stage: answers in, lines on and off, everything recorded (docs/triggers.md).

It decides once a batch, in one compiled call, before the answers are published; where nothing begins, ends or runs,
that is all. Between two frames come the inputs that the rule knows nothing of: arming, leases that nobody renewed,
sinks that are lost, streams that end. Each ends events at once and is recorded in its place, so that whoever steps the
recording again decides the same.
"""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtseg.config import QUALITY_FLAGS, TriggerFile
from rtseg.errors import ServeError
from rtseg.frames.frame import Frame
from rtseg.inference.predictions import Prediction, PredictionBatch, Quality
from rtseg.recorder.reading import MALFORMED
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.resume import ResumableStream
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.triggers import records
from rtseg.serve.triggers.arming import Arming
from rtseg.serve.triggers.lines import Lines
from rtseg.serve.triggers.live_events import LiveEvents, TriggeredStream
from rtseg.serve.triggers.recorder import TriggerRecorder
from rtseg.serve.triggers.records import LiveEvent
from rtseg.serve.triggers.rule_replay import RuleReplay
from rtseg.serve.triggers.sink_watch import SinkWatch
from rtseg.sinks.link import SinkLink
from rtseg.triggers import cuts
from rtseg.triggers.arms import arm_names
from rtseg.triggers.cuts import cut_event, pack_memory, restore_memory
from rtseg.triggers.events import CLOSED, FIRED
from rtseg.triggers.rows import ROWS, DecisionRows
from rtseg.triggers.rule import ENDED, WITHHELD, TriggerRule

LOG = logging.getLogger("rtseg.serve")
_LATE = int(Quality.LATE)
_FIRED = WITHHELD.index(FIRED)
MOST_ENDED = 256
"""Streams whose triggers are remembered when they have ended; the oldest are forgotten first."""
QueuedRow = tuple[Stream, Frame, int, int, bytes]
"""A frame of the queue (`loop.frame_queue.QueuedFrame`): stream, frame, when it came, when it was decoded, message."""


class TriggerStage:
    """The triggers of one daemon. file: of triggers; links: to the sinks that they name. Raises SettingError where the
    model lacks a head or a behaviour.

    arming: who is armed. watch: what comes in between frames; the loop asks it when it is due.
    """

    def __init__(self, file: TriggerFile, links: Mapping[str, SinkLink], streams: Streams, outlet: Outlet) -> None:
        model = streams.model
        self._triggers, self._streams = dict(file.triggers), streams
        self._rule = self._make_rule(model, model.places)
        self._rows = DecisionRows(self._rule, model.places)
        self._names, settings = self._rule.names, self._triggers.values()
        self._arms = [arm_names(trigger.arms) for trigger in settings]
        self._minds_late = any(QUALITY_FLAGS[_LATE.bit_length() - 1] in trigger.never_on for trigger in settings)
        self._late_ns = int(1e9 / model.bundle.fps)
        self._free = list(range(model.places))
        self._lines, self._recorder = Lines(self._triggers, links), TriggerRecorder(outlet)
        self._events = LiveEvents(self._rule, self._arms, self._lines, self._recorder)
        self.arming = Arming(self._rows.armed_slots, self._events, self._lines, self._recorder)
        self.watch = SinkWatch(self._lines, self._events, self.arming, self._recorder)
        self._open, self._is_sending = self._events.open, True
        self._context: list[tuple[int, Prediction, int]] = []
        self._answered: dict[int, tuple[TriggeredStream, int]] = {}  # whose lines may stay on for another while
        self._takers = [link for link in links.values() if link.takes_probabilities]
        self._untold: list[tuple[TriggeredStream, Prediction, int]] = []  # answers that these get
        self._late: dict[int, list[int]] = {}
        self._ended: dict[str, tuple[bytes, int]] = {}  # what ended streams' triggers remember, and when that was

    @property
    def descriptors(self) -> list[int]:
        """Readable where sinks have something to report."""
        return [link.fileno() for link in self._lines.links.values()]

    def warm_up(self) -> None:
        """Compile the rule, on rows of its own."""
        model = self._streams.model
        rule = self._make_rule(model, 1)
        rule.open_slot(0, "warm-up")
        rows = DecisionRows(rule, 1)
        heads = model.bundle.heads
        probs, labels = (
            np.zeros((1, model.bundle.architecture.n_outputs), np.float32),
            np.zeros((1, len(heads)), np.int16),
        )
        events, unsure = np.zeros((2, 1, len(heads)), np.bool_)
        answers = PredictionBatch(probs, labels, events, unsure, np.zeros(1, np.int32), heads)
        rows.add(0, 0, 0, 1, 0)
        rows.decide(1, answers)
        rows.decide_one(0, 0, 2, 0, answers)

    def decide(self, batch: Sequence[QueuedRow], predictions: Sequence[list[Prediction]]) -> bool:
        """Decide about the answers that a batch has brought, before they are published; lines go on and off here.

        Returns whether `finish_batch` has anything to do afterwards.
        """
        now_ns, events = time.monotonic_ns(), self._events
        is_due = now_ns >= events.due_ns
        if is_due:
            self.watch.end_overdue(now_ns)  # first: what came too late renews nothing
        if len(batch) == 1 and len(predictions[0]) == 1:
            # A lone frame, as most are: it finds all of this out of the caches, so here is as little as can be.
            (stream, _, t_recv_ns, _, _), (answer,) = batch[0], predictions[0]
            slot = stream.trigger_slot
            if slot >= 0 and now_ns - t_recv_ns <= self._late_ns:
                decided = self._rows.decide_one(slot, answer.row, answer.seq, answer.quality, answer.batch)
                if not decided and not events.n and not self._takers:
                    return is_due
                self._follow_rows([(slot, answer, t_recv_ns)], decided)
                return True
        self._decide_batch(batch, predictions, now_ns)
        return True

    def _decide_batch(self, batch: Sequence[QueuedRow], predictions: Sequence[list[Prediction]], now_ns: int) -> None:
        """The general way of `decide`."""
        add, context, n = self._rows.add, self._context, 0
        late_before_ns = now_ns - self._late_ns
        answers: PredictionBatch | None = None
        for (stream, _, t_recv_ns, _, _), of_frame in zip(batch, predictions, strict=True):
            slot = stream.trigger_slot
            if slot < 0:
                continue
            for prediction in of_frame:
                if prediction.batch is not answers or n == ROWS:
                    if answers is not None:
                        self._decide_rows(n, answers)
                    answers, n = prediction.batch, 0
                quality = prediction.quality
                if t_recv_ns < late_before_ns and self._minds_late:
                    quality |= _LATE
                    self._late.setdefault(slot, []).append(prediction.seq)
                add(n, slot, prediction.row, prediction.seq, quality)
                context.append((slot, prediction, t_recv_ns))
                n += 1
        if answers is not None:
            self._decide_rows(n, answers)

    def finish_batch(self) -> None:
        """The answers are published: renew the lines that are on, tell subscribers what was decided, and end events
        that a sink did not take.
        """
        if self._answered:  # not before: what wakes a sink's process may hold this one up
            self._events.renew(self._answered.values())
            self._answered.clear()
        if self._untold:
            self._send_probabilities()
        if self._events.failures:
            self.watch.end_failed()
        if self._recorder.untold:
            self._recorder.tell()

    def run_due(self, now_ns: int) -> None:
        """What is due between two frames (`SinkWatch`)."""
        self.watch.run_due(now_ns)
        self.finish_batch()

    def cut_stream(self, stream: Stream, why: str) -> None:
        """End a stream's running events now. why: of `cuts.CUTS`."""
        of = self._open.get(stream.trigger_slot)
        if of is not None and of.live:
            self._events.cut_all(of, why)
            self.finish_batch()

    def open_stream(self, stream: Stream) -> None:
        """A stream is opened, disarmed: its triggers start afresh, or go on from one of its name that has ended."""
        if not any(trigger.applies_to(stream.name) for trigger in self._triggers.values()):
            return
        slot = stream.trigger_slot = heapq.heappop(self._free)
        camera_fps = stream.hello.fps if stream.session.is_resampled else None
        self._rule.open_slot(slot, stream.name, camera_fps)
        self._rows.armed_slots[slot] = False
        interval_ns = stream.interval_ns
        if camera_fps is not None:  # its answers come between the camera's frames
            interval_ns += int(1e9 / stream.model.bundle.fps)
        hold_ns = [interval_ns + int(trigger.grace_s * 1e9) for trigger in self._triggers.values()]
        of = self._open[slot] = TriggeredStream(stream, slot, hold_ns, [0] * len(self._names))
        if stream.name in self._ended:
            memory, ended_ns = self._ended.pop(stream.name)
            frames = int((time.monotonic_ns() - ended_ns) * 1e-9 * self._rule.fps)
            cuts.carry_memory(self._rule, slot, memory, frames)
            of.carried, of.counts = records.carried(memory, frames), self._fired_counts(slot)

    def stream_begins(self, stream: Stream) -> None:
        """Its hello is recorded: end what ran when the daemon before was killed, and arm it where all are."""
        of = self._open.get(stream.trigger_slot)
        if of is None:
            return
        if of.carried is not None:
            self._recorder.record_memory(stream, of.carried)
            of.carried = None
        for end in of.interrupted:
            self._recorder.record(stream, end)
        of.interrupted = []
        self.arming.arm_new(of)
        self.finish_batch()

    def end_stream(self, stream: Stream, owed: Sequence[Prediction]) -> None:
        """A stream ends. owed: the last answers, which its lookahead held back; no line goes on for them."""
        of = self._open.get(stream.trigger_slot)
        if of is None:
            return
        self._is_sending, now_ns = False, time.monotonic_ns()
        for prediction in owed:
            self.decide([(stream, prediction, now_ns, 0, b"")], [[prediction]])  # type: ignore[list-item]
        self._is_sending = True
        self._events.cut_all(of, CLOSED)
        self.finish_batch()

    def close_stream(self, stream: Stream) -> None:
        """A stream has ended: another one may have its place."""
        of = self._open.pop(stream.trigger_slot, None)
        if of is not None:
            self._rows.armed_slots[of.slot] = False
            if any(self._fired_counts(of.slot)):
                self._remember_ended(stream.name, of.slot)
            heapq.heappush(self._free, of.slot)
            stream.trigger_slot = -1

    def check_model(self, model: ServedModel, only: str | None) -> None:
        """Raise SettingError where a model lacks what the triggers watch, ServeError for a swap of one stream alone."""
        if only is not None:
            raise ServeError(f"stream {only!r}: a daemon with triggers swaps the bundle of all streams, or of none")
        self._make_rule(model, 1)

    def change_model(self, model: ServedModel) -> None:
        """All streams are answered by this model from their next frame on."""
        for of in self._open.values():
            self._events.cut_all(of, cuts.BUNDLE_CHANGED)
        self.finish_batch()
        before, self._rule = self._rule, self._make_rule(model, len(self._rows.armed_slots))
        cuts.move_memory(before, self._rule)
        self._rows.follow_rule(self._rule)
        self._events.rule = self._rule

    def stop(self) -> None:
        """The daemon stops: everything ends, and nothing begins any more."""
        for of in self._open.values():
            self.arming.disarm_stream(of, cuts.STOPPING, cuts.STOPPING)
        self.arming.all_until_ns = 0
        self.finish_batch()

    def snapshot(self, stream: Stream) -> bytes:
        """What a stream's triggers remember between two frames, for a recording; b"" where none applies."""
        of = self._open.get(stream.trigger_slot)
        if of is None:
            return b""
        begun = {r: event.seq for r, event in of.live.items()}
        return pack_memory(self._rule, of.slot, begun, armed=of.is_armed)

    def restore(self, stream: Stream, resumable: ResumableStream, answers: Sequence[Prediction]) -> None:
        """Go on where a stream stood when the daemon before this one was killed: nothing runs, and it is disarmed.

        answers: those since its last snapshot.
        """
        of = self._open.get(stream.trigger_slot)
        if of is None:
            return
        of.carried = None  # what is recorded of it says more
        replay = RuleReplay(self._rule, of.slot)
        try:
            if resumable.triggers:
                replay.armed, replay.begun = restore_memory(self._rule, of.slot, resumable.triggers)
            replay.go_through(answers, resumable.trigger_records)
        except MALFORMED as error:
            LOG.warning("stream %r: what its triggers remembered cannot be read: %s", stream.name, error)
        for r, name in enumerate(self._names):
            if found := replay.interrupted(r):
                seq, count, arm, last_seq = found
                event = LiveEvent(0, count, r, name, arm, seq, last_seq, 0, 0)
                of.interrupted.append(records.ended(event, cuts.RESTART, time.monotonic_ns(), None))
            of.counts[r] = cuts.fired_events(self._rule, of.slot, r)
            if cuts.running_arm(self._rule, of.slot, r) >= 0:
                cut_event(self._rule, of.slot, r)

    def status(self) -> dict[str, Any]:
        """For a status: the triggers, who is armed, what runs, how the sinks are."""
        running = {of.stream.name: [e.trigger for e in of.live.values()] for of in self._open.values() if of.live}
        sinks = {
            name: {"state": link.state, "text": link.text, "restarts": link.restarts, "acknowledges": link.acknowledges}
            for name, link in self._lines.links.items()
        }
        return {"triggers": list(self._names), **self.arming.summary(), "running": running, "sinks": sinks}

    def is_armed(self, stream: Stream) -> bool:
        """Whether a stream is armed."""
        of = self._open.get(stream.trigger_slot)
        return of is not None and of.is_armed

    def n_armed(self) -> int:
        """How many streams are armed."""
        return sum(of.is_armed for of in self._open.values())

    def _fired_counts(self, slot: int) -> list[int]:
        return [cuts.fired_events(self._rule, slot, r) for r in range(len(self._names))]

    def _remember_ended(self, name: str, slot: int) -> None:
        """A stream may be opened again at once: its animal is the same, and so are its limits and the next arm."""
        self._ended.pop(name, None)
        if len(self._ended) >= MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        self._ended[name] = pack_memory(self._rule, slot, {}, armed=False), time.monotonic_ns()

    def _make_rule(self, model: ServedModel, slots: int) -> TriggerRule:
        bundle = model.bundle
        points = math.prod(bundle.skeleton.shape)
        return TriggerRule(self._triggers, bundle.heads, bundle.fps, slots, points)

    def _decide_rows(self, n: int, answers: PredictionBatch) -> None:
        """Decide about the first n rows, which are all of one batch of answers."""
        if self._late:
            for slot, seqs in self._late.items():
                self._recorder.record_decision(self._open[slot].stream, records.late(seqs))
            self._late = {}
        decided, context = self._rows.decide(n, answers), self._context
        if decided or self._events.n or self._takers:
            self._follow_rows(context, decided)
        context.clear()

    def _follow_rows(self, rows: Sequence[tuple[int, Prediction, int]], decided: list[list[list[int]]]) -> None:
        """Where something begins, ends, or runs, or a sink shows every answer. rows: slot, answer, when its frame came.
        decided: of each, [] where nothing changes.
        """
        told = [(self._open[slot], prediction, t_recv_ns) for slot, prediction, t_recv_ns in rows]
        for i, (of, prediction, t_recv_ns) in enumerate(told):
            if decided:
                self._act(of, prediction, t_recv_ns, decided[i])
            for event in of.live.values():
                event.last_seq = max(event.last_seq, prediction.seq)
            if of.live:
                self._answered[of.slot] = of, t_recv_ns
        if self._takers:
            self._untold += told

    def _send_probabilities(self) -> None:
        """For sinks that show them; what has no room there is left out and counted."""
        untold, self._untold = self._untold, []
        for of, answer, t_recv_ns in untold:
            fps, probs = of.stream.hello.fps, answer.outputs.tobytes()
            for link in self._takers:
                link.send_probabilities(of.stream.name, answer.seq, t_recv_ns, fps, probs)

    def _act(self, of: TriggeredStream, prediction: Prediction, t_recv_ns: int, decided: list[list[int]]) -> None:
        """Do what was decided about one answer."""
        for r, (_, code, arm, end) in enumerate(decided):
            if end:
                self._events.end(of, of.live[r], ENDED[end])
            if code == _FIRED:
                self._events.begin(of, r, arm, prediction, t_recv_ns, sending=self._is_sending)
            elif code:
                about = (self._names[r], prediction.seq, WITHHELD[code], self._arms[r][arm])
                times = (prediction.t_source_ns, t_recv_ns, time.monotonic_ns())
                self._recorder.record_decision(of.stream, records.withheld(*about, *times))
                self._recorder.counters["triggers withheld"] += 1
