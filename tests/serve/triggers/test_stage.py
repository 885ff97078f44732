"""The trigger stage between answers and sinks: whatever comes between frames, the recording tells it all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rtseg.config import ArmSettings, ConditionSettings, SinkSettings, TriggerFile, TriggerSettings
from rtseg.errors import ServeError
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Prediction, PredictionBatch, Quality
from rtseg.playback.verify_triggers import TriggerCheck
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.resume import ResumableStream
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.triggers import sink_watch
from rtseg.serve.triggers.live_events import NEVER_NS
from rtseg.serve.triggers.sink_watch import LOOK_AFTER_NS
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.sinks.base import OFF, ON, RENEW
from rtseg.sinks.link import IS_READY
from rtseg.system.machine import suspended_ns
from rtseg.triggers.arms import arm_names, arm_of, arm_tables, seed_of
from rtseg.wire.messages import Hello
from tests.live import HELLO
from tests.serve.triggers.sink import TestedSink

Sockets = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]
ATTACK = ConditionSettings("task1", ("attack",))


def trigger(**changes: Any) -> TriggerSettings:
    plain: dict[str, Any] = {"conditions": (ATTACK,), "refractory_s": 0.1, "pulse_s": 0.2, "grace_s": 60.0}
    return TriggerSettings(**(plain | {"sinks": ("laser",), "window_s": 1.0} | changes))


SHAM = ArmSettings({"real": 0.5, "sham": 0.5}, seed=3)
FILE = TriggerFile(
    {
        "pulse": trigger(),
        "bout": trigger(pulse_s=0.0, max_on_s=0.3, refractory_s=0.0, arms=SHAM, streams=("*1", "*2")),
        "noted": trigger(sinks=(), min_duration_s=0.1, never_on=("late", "unsure")),
    },
    {"laser": SinkSettings(kind="tested")},
)


class Recorder:
    """What is recorded, in its order: records of triggers, and answers."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any] | Prediction] = []
        self.has_room = True

    def record_trigger(self, data: bytes, now_ns: int) -> bool:
        if self.has_room:
            self.entries.append(msgpack.unpackb(data))
        return self.has_room

    record_trigger_end = record_trigger


class Laboratory:
    """A stage with a sink, and streams that the test answers itself."""

    def __init__(self, classifier: Classifier, sockets: Sockets, file: TriggerFile = FILE, n: int = 3) -> None:
        self.file, self.recorded, self.sink = file, Recorder(), TestedSink()
        outlet = Outlet(*sockets)
        outlet.recording = cast(Any, self.recorded)
        self.streams = Streams(ServedModel(classifier, ""))
        self.stage = TriggerStage(file, cast(Any, {"laser": self.sink}), self.streams, outlet)
        self.open = [self.open_stream(f"cage{i}") for i in range(n)]
        self.seq = dict.fromkeys((stream.name for stream in self.open), 0)

    def open_stream(self, name: str) -> Stream:
        hello = Hello.from_message(HELLO | {"stream": name})
        stream = self.streams.open_stream(b"me", hello, None, 0)
        self.stage.open_stream(stream)
        self.stage.stream_begins(stream)
        return stream

    def reopen(self, i: int) -> None:
        """A stream ends, and comes again under its name, counting from the beginning."""
        stream = self.open[i]
        self.stage.end_stream(stream, [])
        self.stage.close_stream(stream)
        self.streams.close_stream(stream)
        self.recorded.entries.clear()
        self.open[i], self.seq[stream.name] = self.open_stream(stream.name), 0

    def answer(self, *rows: tuple[int, float, int, int], late: bool = False) -> None:
        """A batch: of each row the stream's place, the attack's probability, flags, and frames that are skipped."""
        heads, n = self.streams.model.bundle.heads, len(rows)
        probs = np.zeros((n, 6), np.float32)
        probs[:, 0] = [value for _, value, _, _ in rows]
        none = np.zeros((n, 2), np.bool_)
        batch = PredictionBatch(probs, np.zeros((n, 2), np.int16), none, none, np.zeros(n, np.int32), heads)
        queued, answers = [], []
        for row, (i, _, flags, skipped) in enumerate(rows):
            stream = self.open[i]
            self.seq[stream.name] += 1 + skipped
            answers.append([Prediction(stream.name, self.seq[stream.name], 0, flags, batch, row)])
            queued.append((stream, cast(Any, None), time.monotonic_ns() - (10**9 if late else 0), 0, b""))
        has_more = self.stage.decide(queued, answers)
        self.recorded.entries += [answer for (answer,) in answers]
        if has_more:
            self.stage.finish_batch()

    def hear_sink(self) -> None:
        """The sink's reports are read."""
        self.stage.watch.reports_wait = True
        self.stage.run_due(time.monotonic_ns())

    def close(self) -> None:
        for stream in self.open:
            self.stage.close_stream(stream)
            self.streams.close_stream(stream)

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [entry for entry in self.recorded.entries if isinstance(entry, dict) and entry["type"] == kind]

    def check(self) -> None:
        """What is recorded is what a replay decides, stream by stream, and what is remembered is the same."""
        for stream in self.open:
            check = TriggerCheck(self.file, self.streams.model.bundle, stream, known=True)
            for entry in self.recorded.entries:
                if isinstance(entry, dict):
                    assert entry["stream"] != stream.name or not check.add(entry)
                elif entry.stream == stream.name:
                    assert check.step(entry) == ""
            assert check.end() == ""
            assert check.is_same_state(self.stage.snapshot(stream))


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle, capacity=8)


@pytest.fixture(scope="module")
def sockets() -> Iterator[Sockets]:
    context: zmq.Context[Any] = zmq.Context()
    yield context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
    context.destroy(linger=0)


@pytest.fixture
def laboratory(classifier: Classifier, sockets: Sockets) -> Iterator[Laboratory]:
    laboratory = Laboratory(classifier, sockets, n=1)
    yield laboratory
    laboratory.close()


VALUES = st.sampled_from([0.0, 0.5, 0.7, 0.9, 1.0])
FLAGS = st.sampled_from([0, 0, 0, 0, int(Quality.UNSURE), int(Quality.RESET)])
ROWS = st.lists(st.tuples(st.integers(0, 2), VALUES, FLAGS, st.sampled_from([0, 0, 0, 2])), min_size=1, max_size=6)
INPUTS = st.one_of(
    *(ROWS, ROWS, ROWS, ROWS),
    st.tuples(st.just("arm"), st.sampled_from([None, 0, 1])),
    st.tuples(st.just("disarm"), st.sampled_from([None, 0, 1])),
    st.tuples(st.sampled_from(["overload", "full", "empty", "expire", "lose", "ready", "stale", "hear"]), st.just(0)),
    st.tuples(st.just("late"), ROWS),
)


def do(laboratory: Laboratory, kind: str, what: Any) -> None:
    stage, sink = laboratory.stage, laboratory.sink
    name = None if what is None or not isinstance(what, int) else f"cage{what}"
    if kind == "arm":
        if sink.state == IS_READY:
            stage.arming.arm(name, None, "")
    elif kind == "disarm":
        stage.arming.disarm(name, "")
    elif kind == "overload":
        stage.cut_stream(laboratory.open[0], "overload")
    elif kind in ("full", "empty"):
        sink.is_full = kind == "full"
    elif kind in ("expire", "lose"):
        sink.expire() if kind == "expire" else sink.lose()
        laboratory.hear_sink()
    elif kind == "ready":
        sink.state = IS_READY
    elif kind == "stale":
        stage.watch.end_overdue(time.monotonic_ns() + 10**12)
        stage.finish_batch()
    elif kind == "late":
        laboratory.answer(*what, late=True)
    else:
        laboratory.hear_sink()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(inputs=[[(0, 0.0, 0, 0)], [(0, 0.9, 0, 0)], ("full", 0), [(0, 0.0, 0, 0)], ("empty", 0)])
@given(inputs=st.lists(INPUTS, min_size=5, max_size=40))
def test_whatever_comes_between_frames_a_replay_decides_the_same(
    classifier: Classifier, sockets: Sockets, inputs: list[Any]
) -> None:
    laboratory = Laboratory(classifier, sockets)
    stage, sink = laboratory.stage, laboratory.sink
    stage.arming.arm(None, None, "")
    try:
        for given_ in inputs:
            if isinstance(given_, list):
                laboratory.answer(*given_)
            else:
                do(laboratory, *given_)
            # What is on belongs to an event that runs and is no control, of a stream that is armed; or nobody could
            # tell the sink that it ended, and its lease ends it.
            running = {n for n, of in ((e.number, of) for of in stage._open.values() for e in of.live.values())}
            assert sink.on <= running | sink.untold
            assert all(of.is_armed or not of.live for of in stage._open.values())
        laboratory.check()
        sent = [record["event"] for record in laboratory.records("trigger") if record.get("t_sent_ns")]
        assert sink.begun == [event for event in sent if event in sink.begun]
        assert {r["event"] for r in laboratory.records("trigger") if r["arm"] == "sham" and "event" in r}.isdisjoint(
            sink.begun
        )
        sink.is_full, sink.state = False, IS_READY
        stage.stop()
        assert all(not of.live for of in stage._open.values())
        laboratory.check()
    finally:
        laboratory.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.lists(ROWS, max_size=12), after=st.lists(ROWS, max_size=12), arms=st.integers(0, 12))
def test_after_a_crash_counts_go_on_and_nothing_runs(
    classifier: Classifier, sockets: Sockets, before: list[Any], after: list[Any], arms: int
) -> None:
    """From a snapshot, the answers after it and the records between them."""
    one, other = Laboratory(classifier, sockets), Laboratory(classifier, sockets)
    try:
        for i, rows in enumerate(before):
            if i == arms:
                one.stage.arming.arm(None, None, "")
            one.answer(*rows)
        states, begin = [one.stage.snapshot(stream) for stream in one.open], len(one.recorded.entries)
        for i, rows in enumerate(after, len(before)):
            if i == arms:
                one.stage.arming.arm(None, None, "")
            one.answer(*rows)
        for i, stream in enumerate(other.open):
            entries = [
                e for e in one.recorded.entries[begin:]
                if (e["stream"] if isinstance(e, dict) else e.stream) == stream.name
            ]  # fmt: skip
            answers = [entry for entry in entries if not isinstance(entry, dict)]
            resumable = ResumableStream(stream.hello, b"", triggers=states[i])
            n = 0
            for entry in entries:
                if isinstance(entry, dict):
                    # Records of a batch stand before its answers.
                    resumable.trigger_records.append((n, entry))
                else:
                    n += 1
            other.stage.restore(stream, resumable, answers)
            other.stage.stream_begins(stream)
            was, now = one.stage._open[one.open[i].trigger_slot], other.stage._open[stream.trigger_slot]
            assert now.counts == was.counts
            assert now.live == {}
            assert not now.is_armed
            ends = [r for r in other.records("trigger_end") if r["stream"] == stream.name]
            keys = ("trigger", "seq", "arm", "count", "last_seq")
            assert [tuple(r[k] for k in keys) for r in ends] == [
                tuple(getattr(was.live[r], k) for k in keys) for r in sorted(was.live)
            ]
            assert {r["ended"] for r in ends} <= {"restart"}
        assert other.sink.commands == []
    finally:
        one.close()
        other.close()


def kinds(sink: TestedSink) -> list[int]:
    return [command.kind for command in sink.commands]


def test_a_line_is_on_only_while_answers_renew_it(laboratory: Laboratory) -> None:
    laboratory.stage.arming.arm(None, None, "")
    for value in (0.0, 0.9, 0.9, 0.9):
        laboratory.answer((0, value, 0, 0))
    assert kinds(laboratory.sink) == [ON, RENEW, RENEW]
    on, *renewals = laboratory.sink.commands
    assert (on.event, on.line, on.seq, on.stream) == (1, 0, 2, "cage0")
    assert (1 / 30 + 59) * 1e9 < on.hold_ns <= (1 / 30 + 60) * 1e9  # from when its frame came
    assert [command.seq for command in renewals] == [3, 4]
    laboratory.hear_sink()
    laboratory.stage.watch.end_overdue(on.t_sent_ns + on.hold_ns - 10**9)
    assert laboratory.sink.on
    laboratory.stage.watch.end_overdue(renewals[-1].t_sent_ns + on.hold_ns + 10**9)
    assert kinds(laboratory.sink)[-1] == OFF
    assert [r["ended"] for r in laboratory.records("trigger_end") if r["trigger"] == "pulse"] == ["stale"]


def test_a_stream_that_is_opened_again_keeps_its_limits_and_the_next_arm(
    classifier: Classifier, sockets: Sockets
) -> None:
    limited = trigger(refractory_s=3600.0)
    file = TriggerFile({"limited": limited, "drawn": trigger(refractory_s=0.0, arms=SHAM)}, FILE.sinks)
    laboratory = Laboratory(classifier, sockets, file, n=1)
    laboratory.stage.arming.arm(None, None, "")
    decided, arms = [], []
    for _ in range(12):
        laboratory.reopen(0)
        laboratory.answer((0, 0.9, 0, 0))
        laboratory.check()
        of = {record["trigger"]: record for record in laboratory.records("trigger")}
        decided.append(of["limited"]["decision"])
        arms.append(of["drawn"]["arm"])
    assert decided == ["fired"] + ["refractory"] * 11
    shares, order = arm_tables([SHAM])
    seed = seed_of(SHAM.seed, "cage0", "drawn")
    assert arms == [arm_names(SHAM)[arm_of(seed, n, shares[0], order[0], 2, 0)] for n in range(12)]
    assert set(arms) == {"real", "sham"}
    laboratory.close()


def test_nothing_is_on_while_disarmed(laboratory: Laboratory) -> None:
    laboratory.answer((0, 0.9, 0, 0))
    assert [r["decision"] for r in laboratory.records("trigger") if r["trigger"] == "pulse"] == ["disarmed"]
    laboratory.answer((0, 0.0, 0, 0))
    laboratory.stage.arming.arm("cage0", 100.0, "")
    laboratory.answer((0, 0.9, 0, 0))
    assert laboratory.sink.on
    laboratory.stage.watch.end_overdue(time.monotonic_ns() + 101 * 10**9)
    assert not laboratory.sink.on
    assert [r["armed"] for r in laboratory.records("arming")] == [True, False]
    assert laboratory.stage.arming.summary()["armed"] == []


def test_a_sink_in_trouble_disarms(laboratory: Laboratory) -> None:
    arming = laboratory.stage.arming
    arming.arm(None, None, "")
    laboratory.answer((0, 0.9, 0, 0))
    laboratory.sink.lose()
    laboratory.hear_sink()
    assert {r["ended"] for r in laboratory.records("trigger_end") if r["trigger"] == "pulse"} == {"lost sink"}
    assert arming.summary() == {"armed": [], "all": False, "left_s": {}}
    with pytest.raises(ServeError, match="not armed: sink 'laser' is lost: unplugged"):
        arming.arm("cage0", None, "")
    with pytest.raises(ServeError, match="stream 'cage9' is not open, or no trigger is for it"):
        arming.arm("cage9", None, "")


def test_an_event_that_cannot_be_recorded_is_not_given_and_disarms(
    laboratory: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    laboratory.stage.arming.arm(None, None, "")
    laboratory.recorded.has_room = False
    laboratory.answer((0, 0.9, 0, 0))
    assert laboratory.sink.commands == []
    assert laboratory.stage.status()["running"] == {}
    assert (laboratory.stage.status()["armed"], laboratory.stage.status()["all"]) == ([], False)
    assert "stream 'cage0' is disarmed: the recording has no room" in caplog.text
    laboratory.recorded.has_room = True
    laboratory.answer((0, 0.1, 0, 20), (0, 0.9, 0, 0))
    assert [entry["decision"] for entry in laboratory.records("trigger")] == ["disarmed"]
    laboratory.stage.arming.arm(None, None, "")
    laboratory.answer((0, 0.1, 0, 20), (0, 0.9, 0, 0))
    assert [command.kind for command in laboratory.sink.commands] == [ON]


def test_a_machine_that_was_suspended_is_armed_no_more(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory.stage.arming.arm(None, 600.0, "")
    laboratory.answer((0, 0.9, 0, 0))
    laboratory.stage.run_due(time.monotonic_ns() + LOOK_AFTER_NS)
    assert laboratory.stage.status()["armed"] == ["cage0"]
    slept_ns = suspended_ns() + 8 * 3600 * 10**9
    monkeypatch.setattr(sink_watch, "suspended_ns", lambda: slept_ns)
    laboratory.stage.run_due(time.monotonic_ns() + 2 * LOOK_AFTER_NS)
    summary = laboratory.stage.arming.summary()
    assert (summary["armed"], summary["all"], laboratory.sink.on) == ([], False, set())
    assert laboratory.records("arming")[-1]["reason"] == "the machine was suspended for 28800 s"


def test_an_event_that_nobody_acknowledges_ends(laboratory: Laboratory) -> None:
    laboratory.stage.arming.arm(None, None, "")
    laboratory.answer((0, 0.9, 0, 0))
    sent_ns = laboratory.sink.commands[0].t_sent_ns
    laboratory.stage.watch.end_overdue(sent_ns + 10**8 + 1)
    ends = {r["trigger"]: r["ended"] for r in laboratory.records("trigger_end")}
    assert ends["pulse"] == "sink timeout"
    assert laboratory.stage.n_armed() == 0


def test_due_times_lie_in_the_future_only_where_something_is_due(laboratory: Laboratory) -> None:
    assert laboratory.stage._events.due_ns == NEVER_NS
    laboratory.stage.arming.arm(None, 5.0, "")
    assert laboratory.stage._events.due_ns < NEVER_NS
