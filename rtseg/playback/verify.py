"""`rtseg replay FILE.mcap --verify`: the recorded frames stepped again by the same Session, and every answer compared.

What a daemon published must come out again bit for bit: probabilities, labels, events, flags. The recorded states and
every decision of triggers (`verify_triggers`) are compared as well. The flag `late`, which depends on the daemon's
clock, is not, and neither are answers that are missing at the file's end.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.config import TriggerFile
from rtseg.errors import RecordingError, RtsegError
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Prediction, Quality
from rtseg.inference.snapshots import is_same_state, model_of
from rtseg.playback.trigger_log import recorded_settings
from rtseg.playback.verify_triggers import TriggerCheck
from rtseg.recorder.reading import LOST, MALFORMED, RecordedMessage, RecordingFile, unpacked
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.wire.messages import Hello, PredictionMessage, parse_frame, parse_published, unpack

CLOCKS = int(Quality.LATE)
"""Flags that depend on the time of an answer, not on its frames."""

MAX_CAPACITY = 4096
"""No daemon had more streams; a damaged number would take all memory."""


@dataclass
class Verified:
    """The result of a comparison.

    frames: stepped again. predictions, snapshots, decisions (of triggers): compared. differences: how many of those are
    not the same; first: the first of these, in words. unanswered: frames at the file's end whose answers it lacks.
    uncompared: predictions that cannot be compared, because frames before them are missing or another model gave them.
    damaged: messages whose content cannot be; damage: of the first of these. problem: what is wrong with the file, ""
    where it is whole.
    """

    frames: int = 0
    predictions: int = 0
    snapshots: int = 0
    decisions: int = 0
    differences: int = 0
    first: str = ""
    unanswered: int = 0
    uncompared: int = 0
    damaged: int = 0
    damage: str = ""
    problem: str = ""

    def count_difference(self, what: str) -> None:
        """Count a difference."""
        self.differences += 1
        self.first = self.first or what


@dataclass(eq=False)
class _StreamRun:
    """One stream, run again. known: whether its state is the one that the daemon had.

    triggers: the daemon's, None where it had none. computed, published: answers that wait for their counterpart. Frames
    are recorded before their answers, but a lookahead and other streams come in between.
    """

    stream: Stream
    known: bool
    triggers: TriggerCheck | None = None
    computed: deque[Prediction] = field(default_factory=deque)
    published: deque[PredictionMessage] = field(default_factory=deque)


def verify_recording(path: Path, bundle: Path | str | None = None, engine: str | None = None) -> Verified:
    """Run a recording's frames again and compare.

    bundle: the model's folder; None = the recorded bundle's name. engine: None = the recorded one. Raises
    RecordingError where the file is no recording, RtsegError where the model is not the one that was recorded.
    """
    with RecordingFile(path) as file:
        folder, backend = bundle or file.described("bundle"), engine or file.described("engine")
        # As the daemon was set: with other settings neither answers nor states would be the same.
        classifier = load(folder, backend, *_pool_settings(file))
        found, expected = classifier.bundle.hash, file.described("model")
        if found != expected:
            raise RtsegError(
                f"{path} was recorded with model {expected[:12]} ({file.session.get('bundle')}), and the bundle here "
                f"is {found[:12]}: name the folder of that very bundle with --bundle"
            )
        verifier = _Verifier(classifier, path, recorded_settings(file))
        for recorded in file.messages():
            verifier.compare_message(recorded)
        return verifier.end(file.problem)


class _Verifier:
    """Steps every stream of a recording again, and compares what it gives with what was published."""

    def __init__(self, classifier: Classifier, path: Path, triggers: TriggerFile | None) -> None:
        self._triggers, self._bundle = triggers, classifier.bundle
        self._streams = Streams(ServedModel(classifier, ""))
        self._heads = self._streams.model.heads
        self._model, self._path = classifier.bundle.hash, path
        self._runs: dict[str, _StreamRun] = {}
        self._result = Verified()

    def compare_message(self, recorded: RecordedMessage) -> None:
        """Step a frame, or compare an answer or a state; in the order of the recording."""
        try:
            self._compare_content(recorded)
        except MALFORMED as error:
            self._result.damaged += 1
            self._result.damage = self._result.damage or f"{recorded.topic}: {error!r}"[:300]
            # Of which stream it spoke is not certain: as where records are missing.
            self._forget_all()

    def _compare_content(self, recorded: RecordedMessage) -> None:
        message = unpacked(self._path, recorded.data)
        if recorded.topic == "frames":
            self._frame(recorded.data)
        elif recorded.topic == "predictions":
            self._prediction(message)
        elif recorded.topic == "snapshots":
            self._snapshot(message)
        elif recorded.topic == "events":
            self._event(message)
        elif recorded.topic == "triggers":
            run = self._runs.get(message["stream"])
            if run is not None and run.triggers is not None:
                self._count_decisions(run.triggers, run.triggers.add(message))

    def end(self, problem: str) -> Verified:
        """The result after the last message. problem: why the file ends early, or ""."""
        for run in self._runs.values():
            self._result.unanswered += len(run.computed)
            for extra in run.published:
                where = f"stream {run.stream.name!r}, seq {extra.seq}"
                self._result.count_difference(f"{where}: published, and not computed here")
        self._result.problem = problem
        return self._result

    def _frame(self, data: bytes) -> None:
        wire = parse_frame(unpack(data))
        run = self._runs.get(wire.stream)
        if run is not None and run.known:
            self._result.frames += 1
            run.computed += run.stream.session.step(run.stream.to_frame(wire))

    def _prediction(self, message: dict[str, Any]) -> None:
        published = parse_published(message)
        if not isinstance(published, PredictionMessage):
            raise ValueError("an event among the predictions")
        run = self._runs.get(published.stream)
        if run is not None and run.known and published.model != self._model:
            # Opened after a swap: no word was recorded of which model answers it before its first answer.
            self._forget(run)
        if run is None or not run.known:
            self._result.uncompared += 1
            return
        run.published.append(published)
        self._compare(run)

    def _compare(self, run: _StreamRun) -> None:
        while run.computed and run.published:
            published, computed = run.published.popleft(), run.computed.popleft()
            self._result.predictions += 1
            if run.triggers is not None:
                self._count_decisions(run.triggers, run.triggers.step(computed))
            for name, here, there in self._fields(computed, published):
                if here != there:
                    where = f"stream {run.stream.name!r}, seq {published.seq}"
                    self._result.count_difference(f"{where}: {name} was published as {there}, and is {here} here")
                    break

    def _count_decisions(self, triggers: TriggerCheck, difference: str) -> None:
        self._result.decisions += triggers.decisions
        triggers.decisions = 0
        if difference:
            self._result.count_difference(difference)
            triggers.forget()  # what follows differs as well

    def _fields(self, computed: Prediction, published: PredictionMessage) -> list[tuple[str, Any, Any]]:
        probs = computed.outputs.astype("<f4").tobytes()
        return [
            ("seq", computed.seq, published.seq),
            ("t_source_ns", computed.t_source_ns, published.t_source_ns),
            *((f"probs of {n}", _floats(probs[at]), _floats(published.probs[n].tobytes())) for n, _, at in self._heads),
            ("label", computed.label, published.label),
            ("event", computed.event, published.event),
            ("unsure", computed.unsure, published.unsure),
            ("quality", int(computed.quality) & ~CLOCKS, published.quality & ~CLOCKS),
        ]

    def _snapshot(self, message: dict[str, Any]) -> None:
        run = self._runs.get(message["stream"])
        if run is None:
            run = self._open(Hello.from_message(message["hello"]), known=False)
        if run is None:
            return
        if run.known and model_of(message["state"]) != self._model:
            self._forget(run)
            return
        if run.known:
            self._result.snapshots += 1
            if not is_same_state(message["state"], run.stream.session.snapshot()):
                where = f"stream {run.stream.name!r}, after seq {run.stream.session.last_seq}"
                self._result.count_difference(f"{where}: its state")
            self._trigger_state(run, message.get("triggers", b""))
            return
        try:
            run.stream.session.restore(message["state"])
        except RtsegError:  # of another model: its answers are not compared
            return
        run.known = True
        if run.triggers is not None:
            run.triggers.restore(message.get("triggers", b""))

    def _event(self, message: dict[str, Any]) -> None:
        kind, run = message["type"], self._runs.get(str(message.get("stream")))
        if kind == "hello":
            plain = {key: value for key, value in message.items() if key != "resumed"}
            self._open(Hello.from_message(plain), known=not message["resumed"])
        elif kind == LOST:  # of any stream: the marker does not say whose records are missing
            self._forget_all()
        elif kind in ("closed", "model") and run is not None:
            if run.known:
                run.computed += run.stream.session.finish()
                self._compare(run)
                if run.triggers is not None and kind == "closed":
                    self._count_decisions(run.triggers, run.triggers.end())
                for extra in run.computed:
                    where = f"stream {run.stream.name!r}, seq {extra.seq}"
                    self._result.count_difference(f"{where}: computed here, and not published")
            self._forget(run)
            if kind == "closed":
                self._streams.close_stream(self._runs.pop(run.stream.name).stream)

    def _trigger_state(self, run: _StreamRun, recorded: bytes) -> None:
        """Compare what a stream's triggers remember, or go on from it where that was not known."""
        triggers = run.triggers
        if triggers is None:
            return
        if not triggers.known:
            triggers.restore(recorded)
        elif not triggers.is_same_state(recorded):
            where = f"stream {run.stream.name!r}, after seq {run.stream.session.last_seq}"
            self._result.count_difference(f"{where}: what its triggers remember")
            triggers.restore(recorded)

    def _open(self, hello: Hello, *, known: bool) -> _StreamRun | None:
        """None where this model cannot answer such a stream: another one did, after a swap."""
        before = self._runs.pop(hello.stream, None)
        if before is not None:
            self._streams.close_stream(before.stream)
        try:
            points = self._streams.match_hello(hello)
        except RtsegError:
            return None
        stream = self._streams.open_stream(b"", hello, points, 0)
        triggers = None
        if self._triggers is not None:
            triggers = TriggerCheck(self._triggers, self._bundle, stream, known=known)
        run = self._runs[hello.stream] = _StreamRun(stream, known, triggers)
        return run

    def _forget_all(self) -> None:
        for run in self._runs.values():
            self._forget(run)

    def _forget(self, run: _StreamRun) -> None:
        """Compare nothing of a stream until its next snapshot: its state is not the daemon's any more."""
        run.known = False
        if run.triggers is not None:
            run.triggers.forget()
        run.computed.clear()
        run.published.clear()


def _pool_settings(file: RecordingFile) -> tuple[int, str, list[str]]:
    """As many streams at once as the daemon had, what it did about mixed-up animals, and the heads that it answered."""
    try:
        settings = json.loads(file.described("settings"))
        capacity = min(int(settings["capacity"]), MAX_CAPACITY)
        return capacity, str(settings.get("identity", "flag")), list(settings.get("heads", ()))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordingError(file.path, f"its beginning is damaged: the daemon's settings: {error!r}") from None


def _floats(data: bytes) -> list[str]:
    """Exactly, in the form that shows a last bit."""
    return [float(value).hex() for value in np.frombuffer(data, "<f4")]
