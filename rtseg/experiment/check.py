"""The whole chain on this machine: frames into a real daemon, its triggers, every sink of the file, and back.

The model's answers do not matter here: each trigger that has sinks is replaced by a yoked one, which fires at given
frames, with the same sinks, lines, pulse trains and grace. Then the chain is broken twice while all lines are on: the
camera stops, and the daemon is halted (SIGSTOP), so that each sink must let go by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.bundle import Bundle
from rtseg.client import Publisher, Subscriber
from rtseg.client.connection import ask_arm, ask_status
from rtseg.config import ArmSettings, ServeSettings, TriggerFile, TriggerSettings, to_plain
from rtseg.config.toml_text import toml_text
from rtseg.errors import ServeError, SettingError
from rtseg.experiment.daemon_process import DaemonProcess
from rtseg.experiment.session_folder import TRIGGER_FILE
from rtseg.recorder.reading import MALFORMED, RecordingFile, unpacked
from rtseg.system.files import write_atomically
from rtseg.wire.messages import PredictionMessage

STREAM = "check"
ON_FRAMES, EVERY_FRAMES, LEAD_FRAMES, MIN_BREAK_S = 2, 4, 10, 0.5
"""Events of two frames, every four; before the first and between the breaks; how long a break is beside two leases."""
READY_S, ANSWER_S = 30.0, 10.0
FREE_PORT = "tcp://127.0.0.1:*"
CAMERA_STOPS, DAEMON_HANGS = "the camera stops", "the daemon hangs"
WAYS = ("frame sent to line on", "frame sent to decision", "decision to line on", "end decided to line off")
"""What is measured of an event at a sink; the line as the sink acknowledges it."""


@dataclass(eq=False)
class SinkCheck:
    """One sink. ways_ms: by `WAYS`, an entry an event. unanswered: events that it never acknowledged. off_after_ms: by
    break, from the last renewal to the line's end, NaN where nobody told of it. restarts: of its process.
    """

    name: str
    kind: str
    lines: tuple[str, ...]
    ways_ms: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    unanswered: int = 0
    off_after_ms: dict[str, float] = field(default_factory=dict)
    leases_ms: dict[str, float] = field(default_factory=dict)
    restarts: int = 0
    acknowledges: bool = True


@dataclass(frozen=True, eq=False)
class Checked:
    """What came of a check. lease_ms: how long a line stays on that nobody renews, the shortest of all triggers'.
    outcomes: what ended the short events. late_ms: how much later than a frame's interval answers came, (frames,).
    """

    sinks: tuple[SinkCheck, ...]
    fps: float
    lease_ms: float
    outcomes: Counter[str]
    late_ms: Sequence[float]

    @property
    def problems(self) -> list[str]:
        """What should not be, in words; [] where everything is as it should."""
        found = [f"{n} events ended as '{what}'" for what, n in self.outcomes.items() if what != _AS_PLANNED]
        for sink in self.sinks:
            if sink.unanswered:
                found.append(f"sink {sink.name}: {sink.unanswered} events were never acknowledged")
            if sink.restarts:
                found.append(f"sink {sink.name}: its process was started again {sink.restarts} times")
            for what, after_ms in sink.off_after_ms.items():
                lease_ms = sink.leases_ms.get(what, self.lease_ms)
                if after_ms <= lease_ms + ALLOWED_MS:
                    continue
                never = np.isnan(after_ms)
                off = "its line was not on, or nobody told of its end" if never else f"off after {after_ms:.1f} ms"
                found.append(f"sink {sink.name}, {what}: {off}; the lease is {lease_ms:.1f} ms")
        return found

    @property
    def notes(self) -> list[str]:
        """What the numbers do not say."""
        return [
            f"sink {sink.name} acknowledges nothing: its times end where an event was handed over, and whether a line "
            "went on or off at the far end, or anybody was there, is not known"
            for sink in self.sinks
            if not sink.acknowledges
        ]

    @property
    def verdict(self) -> str:
        """In words, where there is no problem."""
        return "everything was as it should be" + (", as far as the sinks tell" if self.notes else "")


ALLOWED_MS = 5.0
"""Beyond the lease."""
_AS_PLANNED = "pulse over"


def checked_lines(file: TriggerFile, bundle: Bundle, events: int) -> TriggerFile:
    """The file's triggers that have sinks, firing at given frames. Raises SettingError where none has."""
    starts = [LEAD_FRAMES + i * EVERY_FRAMES for i in range(events)]
    # Each is answered, and has been on for a while, before it is broken.
    apart = 2 * LEAD_FRAMES + bundle.lookahead_frames
    breaks = [starts[-1] + EVERY_FRAMES + apart * (i + 1) for i in range(2)]
    # Longer than a break, so that it is the break that ends it.
    rows = [(start, ON_FRAMES) for start in starts] + [(start, round(60 * bundle.fps)) for start in breaks]
    with_sinks = {name: trigger for name, trigger in file.triggers.items() if trigger.sinks}
    if not with_sinks:
        raise SettingError("no trigger of the file names sinks; there is no line to check")
    return TriggerFile({name: _fired(trigger, rows) for name, trigger in with_sinks.items()}, file.sinks)


def _fired(trigger: TriggerSettings, rows: Sequence[tuple[int, int]]) -> TriggerSettings:
    return replace(
        trigger,
        conditions=(),
        refractory_s=0.0,
        max_on_s=max(trigger.max_on_s, 5.0),
        max_events=0,
        max_duty=1.0,
        never_on=(),
        max_missing=1.0,
        streams=(STREAM,),
        arms=ArmSettings(yoked="check", yoked_events=tuple(rows)),
    )


def check_sinks(
    file: TriggerFile, bundle_folder: str, bundle: Bundle, events: int, say: Callable[[str], None] = lambda _: None
) -> Checked:
    """Drive every sink of the file: `events` short events, then both breaks. **Lines really go on.**

    Raises SettingError for a file without sinks, ServeError where a sink is not ready in time.
    """
    lines = checked_lines(file, bundle, events)
    with tempfile.TemporaryDirectory(prefix="rtseg-check-") as name:
        folder = Path(name)
        write_atomically(folder / TRIGGER_FILE, toml_text(to_plain(lines)))
        settings = ServeSettings(
            frames=FREE_PORT, predictions=FREE_PORT, record=name, triggers=str(folder / TRIGGER_FILE)
        )
        say("starting the daemon and the sinks")
        with DaemonProcess(bundle_folder, settings, folder / "daemon.log") as daemon:
            daemon.wait_ready()
            _wait_for_sinks(daemon, say)
            sent_ns = _send_frames(daemon, bundle, lines, say)
            status = ask_status(daemon.frames)["triggers"]["sinks"]
        (recording,) = folder.glob("rtseg-*.mcap")
        return _evaluate(recording, lines, bundle, sent_ns, status)


def _wait_for_sinks(daemon: DaemonProcess, say: Callable[[str], None]) -> None:
    """Until all sinks are ready and the triggers are armed."""
    deadline_s = time.monotonic() + READY_S
    while True:
        try:
            ask_arm(daemon.frames)
            break
        except ServeError:
            if time.monotonic() > deadline_s or not daemon.is_running:
                raise
            time.sleep(0.1)
    for name, sink in ask_status(daemon.frames)["triggers"]["sinks"].items():
        say(f"sink {name}: {sink['state']} {sink['text']}".rstrip())


def _send_frames(
    daemon: DaemonProcess, bundle: Bundle, lines: TriggerFile, say: Callable[[str], None]
) -> dict[int, int]:
    """Frames as a camera sends them, with the breaks; when each was sent."""
    (*shorts, first, second) = next(iter(lines.triggers.values())).arms.yoked_events
    rng, shape = np.random.default_rng(0), bundle.skeleton.shape
    x0, y0, x1, y1 = bundle.arena
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    body = middle + rng.normal(0, 20, (*shape, 2))
    on_frames = LEAD_FRAMES + bundle.lookahead_frames
    breaks = {first[0] + on_frames: CAMERA_STOPS, second[0] + on_frames: DAEMON_HANGS}
    say(f"{len(shorts)} events of {ON_FRAMES} frames at each sink, then a camera that stops and a daemon that hangs")
    sent_ns: dict[int, int] = {}
    with (
        Subscriber(daemon.predictions, STREAM) as subscriber,
        Publisher(daemon.frames, STREAM, bundle.skeleton, bundle.fps, clock="monotonic") as publisher,
    ):
        due_s = time.monotonic()
        for seq in range(max(breaks) + LEAD_FRAMES):
            if (wait_s := due_s - time.monotonic()) > 0:
                time.sleep(wait_s)
            sent_ns[seq] = time.monotonic_ns()
            publisher.send(body + rng.normal(0, 0.5, body.shape), seq=seq, t_source_ns=sent_ns[seq])
            due_s += 1 / bundle.fps
            if seq in breaks:
                _wait_for_answer(subscriber, seq - bundle.lookahead_frames)
                _break(daemon, breaks[seq], MIN_BREAK_S + 2 * max(_leases_s(lines, bundle).values()))
                # The breaks are over for the camera as well: it does not send what it missed.
                due_s = time.monotonic()
    return sent_ns


def _wait_for_answer(subscriber: Subscriber, seq: int) -> None:
    """Until the line was renewed by this frame."""
    deadline_s = time.monotonic() + ANSWER_S
    while (message := subscriber.receive(max(deadline_s - time.monotonic(), 0.0))) is not None:
        if isinstance(message, PredictionMessage) and message.seq >= seq:
            return
    raise ServeError(f"no answer to frame {seq} within {ANSWER_S:g} s")


def _leases_s(lines: TriggerFile, bundle: Bundle) -> dict[str, float]:
    """How long each trigger's line stays on that nobody renews."""
    return {name: 1 / bundle.fps + trigger.grace_s for name, trigger in lines.triggers.items()}


def _break(daemon: DaemonProcess, what: str, break_s: float) -> None:
    if what == DAEMON_HANGS:
        os.kill(daemon.pid, signal.SIGSTOP)
    try:
        time.sleep(break_s)
    finally:
        if what == DAEMON_HANGS:
            os.kill(daemon.pid, signal.SIGCONT)


def _evaluate(
    recording: Path,
    lines: TriggerFile,
    bundle: Bundle,
    sent_ns: Mapping[int, int],
    status: Mapping[str, Mapping[str, Any]],
) -> Checked:
    """From the daemon's recording to numbers. status: of its sinks."""
    begun, ends, told, answered_ns = _records(recording)
    (*_, first, second) = next(iter(lines.triggers.values())).arms.yoked_events
    breaks = {first[0]: CAMERA_STOPS, second[0]: DAEMON_HANGS}
    # The last frame that was answered before each, which renewed the line.
    broken_at = {seq: seq + LEAD_FRAMES for seq in breaks}
    sinks: dict[str, SinkCheck] = {}
    for name, settings in lines.sinks.items():
        named = tuple(n for n, trigger in lines.triggers.items() if name in trigger.sinks)
        if named:
            of = status[name]
            restarts, acknowledges = int(of["restarts"]), bool(of["acknowledges"])
            sinks[name] = SinkCheck(name, settings.kind, named, restarts=restarts, acknowledges=acknowledges)
    outcomes: Counter[str] = Counter()
    leases_ms = {name: lease_s * 1000 for name, lease_s in _leases_s(lines, bundle).items()}
    for number, event in begun.items():
        end, what = ends.get(number, {}), breaks.get(event["seq"], "")
        if not what:
            outcomes[str(end.get("ended", "nothing: it was still on"))] += 1
        for name in lines.triggers[event["trigger"]].sinks:
            sink, at = sinks[name], told.get((number, name), {})
            _count_ways(sink, event, end, at, sent_ns)
            if what:
                off_ns = min((at[kind] for kind in ("off", "expired") if kind in at), default=0)
                renewed_ns = answered_ns.get(broken_at[event["seq"]], 0)
                # An event that had ended before the break says nothing of it.
                after_ms = (off_ns - renewed_ns) / 1e6 if off_ns > renewed_ns > 0 else float("nan")
                _keep_worst(sink, what, after_ms, leases_ms[event["trigger"]])
    ns = np.array([answered_ns[seq] for seq in sorted(answered_ns) if seq < first[0]], float)
    late_ms = (np.diff(ns) / 1e6 - 1000 / bundle.fps).tolist()
    return Checked(tuple(sinks.values()), bundle.fps, min(leases_ms.values()), outcomes, late_ms)


def _keep_worst(sink: SinkCheck, what: str, after_ms: float, lease_ms: float) -> None:
    """Of a sink's lines the one that was on for longest beyond its own lease; NaN, which nobody knows, is worst."""
    before_ms = sink.off_after_ms.get(what, -np.inf) - sink.leases_ms.get(what, 0.0)
    if not (np.isnan(before_ms) or after_ms - lease_ms <= before_ms):
        sink.off_after_ms[what], sink.leases_ms[what] = after_ms, lease_ms


def _count_ways(
    sink: SinkCheck,
    event: Mapping[str, Any],
    end: Mapping[str, Any],
    at: Mapping[str, int],
    sent_ns: Mapping[int, int],
) -> None:
    """One event's times at one sink."""
    frame_ns, decided_ns = sent_ns[event["seq"]], int(event["t_decided_ns"])
    sink.ways_ms["frame sent to decision"].append((decided_ns - frame_ns) / 1e6)
    if "on" not in at:
        sink.unanswered += 1
        return
    sink.ways_ms["frame sent to line on"].append((at["on"] - frame_ns) / 1e6)
    sink.ways_ms["decision to line on"].append((at["on"] - decided_ns) / 1e6)
    if "off" in at and end.get("ended") == "pulse over":
        sink.ways_ms["end decided to line off"].append((at["off"] - int(end["t_decided_ns"])) / 1e6)


_Records = tuple[dict[int, Any], dict[int, Any], dict[tuple[int, str], dict[str, int]], dict[int, int]]


def _records(recording: Path) -> _Records:
    """Events that fired and their ends by number, what sinks told of them, and when each frame was answered."""
    records: _Records = {}, {}, {}, {}
    with RecordingFile(recording) as file:
        for message in file.messages():
            if message.topic in ("triggers", "predictions"):
                with contextlib.suppress(*MALFORMED):
                    _sort_in(records, message.topic, unpacked(recording, message.data))
    return records


def _sort_in(records: _Records, topic: str, record: dict[str, Any]) -> None:
    """Put a message where it belongs. Raises MALFORMED."""
    begun, ends, told, answered_ns = records
    if topic == "predictions":
        answered_ns[int(record["seq"])] = int(record["t_pub_ns"])
    elif record["type"] == "trigger" and record["decision"] == "fired":
        begun[record["event"]] = record
    elif record["type"] == "trigger_end":
        ends[record["event"]] = record
    elif record["type"] == "trigger_ack":
        of = told.setdefault((record["event"], record["sink"]), {})
        of.setdefault(record["report"], int(record["t_sink_ns"]))
