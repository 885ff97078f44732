"""The predictions in a recording, as tables: what the daemon published, stream by stream, not computed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.errors import RecordingError, RtsegError
from rtseg.inference.predictions import Predictions, write_bouts, write_predictions
from rtseg.playback.replay import predictions_from_messages
from rtseg.playback.trigger_log import recorded_triggers, write_event_times
from rtseg.recorder.reading import LOST, MALFORMED, RecordingFile, unpacked
from rtseg.serve.triggers.records import EventLog, check_record
from rtseg.system.files import FileNames
from rtseg.triggers.events import write_events
from rtseg.wire.messages import MAX_INTEGER, Hello, PredictionMessage, parse_published


@dataclass(frozen=True)
class Exported:
    """One stream's answers and the two files they were written to. trigger_files: its triggers' log and times, where it
    has any. other: answers of another model, left out.
    damaged: messages of the whole file that cannot be read, left out.
    """

    name: str
    predictions: Predictions
    frames_file: Path
    bouts_file: Path
    trigger_files: tuple[Path, ...]
    other: int
    damaged: int


@dataclass(eq=False)
class _PublishedStream:
    """What was published of one stream, from its hello to its end. fps: of its frames' numbers."""

    name: str
    fps: float
    log: EventLog
    answers: dict[int, PredictionMessage] = field(default_factory=dict)  # a restart may publish one again
    other: int = 0


@dataclass(frozen=True)
class _Files:
    """The files of one stream. logs: of its triggers, or ()."""

    frames: Path
    bouts: Path
    logs: tuple[Path, ...]

    @classmethod
    def of(cls, out: Path, stem: str, has_triggers: bool) -> _Files:
        logs = (out / f"{stem}.triggers.csv", out / f"{stem}.trigger_times.csv") if has_triggers else ()
        return cls(out / f"{stem}.predictions.csv", out / f"{stem}.bouts.csv", logs)

    def all(self) -> tuple[Path, ...]:
        return (self.frames, self.bouts, *self.logs)


def export_recording(path: Path, out: Path, *, overwrite: bool = False) -> Iterator[Exported]:
    """Write what was published about every stream of a recording: `NAME.predictions.csv` and `NAME.bouts.csv`; and
    where there were triggers, `NAME.triggers.csv` (as of `rtseg trigger try`) and `NAME.trigger_times.csv`.

    A stream that was opened again in the same file is NAME#2; of streams whose names differ in case or in signs alone
    that no file's may have, the files of the later one are numbered. Raises RecordingError where the file is no
    recording, and, before anything is written, RtsegError for a file that exists already, unless `overwrite`.
    """
    with RecordingFile(path) as file:
        heads, fps = _described(file)
        has_triggers = "triggers" in file.session
        published = _Published(file, heads, fps)
    names = FileNames()
    files = [_Files.of(out, names.name(stream.name), has_triggers) for stream in published.streams]
    for target in (target for some in files for target in some.all()):
        if target.exists() and not overwrite:
            raise RtsegError(f"{target} exists already; name another folder with --out, or add --overwrite")
    out.mkdir(parents=True, exist_ok=True)
    for stream, own in zip(published.streams, files, strict=True):
        predictions, _ = predictions_from_messages(heads, stream.answers.values())
        write_predictions(predictions, own.frames, stream.fps)
        write_bouts(predictions, own.bouts, stream.fps)
        if own.logs:
            write_events(stream.log.events(), own.logs[0])
            write_event_times([stream.log], own.logs[1])
        yield Exported(stream.name, predictions, own.frames, own.bouts, own.logs, stream.other, published.damaged)


def _described(file: RecordingFile) -> tuple[dict[str, tuple[str, ...]], float]:
    """The model's heads with their classes, and its rate."""
    try:
        heads = {str(name): tuple(classes) for name, classes in json.loads(file.described("heads")).items()}
        return heads, float(file.described("fps"))
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordingError(file.path, f"its beginning is damaged: heads and rate: {error!r}") from None


class _Published:
    """What was published of every stream of a recording, taken message by message in their order."""

    def __init__(self, file: RecordingFile, heads: dict[str, tuple[str, ...]], model_fps: float) -> None:
        self.streams: list[_PublishedStream] = []
        self.damaged = 0
        self._path, self._heads, self._model_fps = file.path, heads, model_fps
        self._model, self._order = file.described("model"), recorded_triggers(file)
        self._current: dict[str, _PublishedStream] = {}
        # A resampled stream's answers have its camera's numbers, which count at the camera's rate.
        self._rates: dict[str, float] = {}
        self._times_opened: dict[str, int] = {}
        take = {
            "events": self._take_event,
            "snapshots": self._take_snapshot,
            "predictions": self._take_answer,
            "triggers": self._take_trigger,
        }
        for message in file.messages():
            if message.topic not in take:
                continue
            try:
                take[message.topic](unpacked(self._path, message.data))
            except MALFORMED:
                self.damaged += 1

    def _take_event(self, event: dict[str, Any]) -> None:
        # Not where a stream was closed: a sink's last acknowledgement may come after that.
        if event["type"] == LOST:
            for stream in self.streams:
                stream.log.lose_records()
        if event["type"] == "hello":
            self._current.pop(event["stream"], None)
            self._rates[event["stream"]] = _declared_rate(event)

    def _take_snapshot(self, snapshot: dict[str, Any]) -> None:
        self._rates.setdefault(snapshot["stream"], _declared_rate(snapshot["hello"]))

    def _take_answer(self, record: dict[str, Any]) -> None:
        answer = _checked_answer(record, self._model, self._heads)
        stream = self._stream(record)
        stream.log.add_answer(answer.seq)
        # The head columns are those of the session's model; another one, loaded meanwhile, may have others.
        if answer.model == self._model:
            stream.answers[answer.seq] = answer
        else:
            stream.other += 1

    def _take_trigger(self, record: dict[str, Any]) -> None:
        check_record(record)
        self._stream(record).log.add(record)

    def _stream(self, record: dict[str, Any]) -> _PublishedStream:
        """The stream of a record, as it was opened last; a new one of the name is NAME#2."""
        name = _stream_name(record)
        if name not in self._current:
            self._times_opened[name] = n = self._times_opened.get(name, 0) + 1
            opened = name if n == 1 else f"{name}#{n}"
            stream = _PublishedStream(opened, self._rates.get(name, self._model_fps), EventLog(opened, self._order))
            self._current[name] = stream
            self.streams.append(stream)
        return self._current[name]


def _declared_rate(hello: dict[str, Any]) -> float:
    """Frames per second that a recorded hello declares. Raises MALFORMED."""
    # The daemon adds to what the sender wrote whether the stream was resumed.
    return Hello.from_message({key: value for key, value in hello.items() if key != "resumed"}).fps


def _stream_name(record: dict[str, Any]) -> str:
    name = record["stream"]
    if not isinstance(name, str) or "\0" in name:
        raise ValueError("a record of a stream without a name")
    return name


def _checked_answer(message: dict[str, Any], model: str, heads: dict[str, tuple[str, ...]]) -> PredictionMessage:
    """A prediction that a table can hold. Raises MALFORMED where a bit of it was turned."""
    answer = parse_published(message)
    if not isinstance(answer, PredictionMessage):
        raise ValueError("an event among the predictions")
    if not isinstance(answer.stream, str) or "\0" in answer.stream or not isinstance(answer.event, dict):
        raise ValueError("a prediction with fields of the wrong kind")
    numbers = (answer.seq, answer.t_source_ns, answer.t_recv_ns, answer.t_pub_ns)
    # As the columns of a table hold them: times in int64, flags in int32.
    fits = all(type(n) is int and 0 <= n <= MAX_INTEGER for n in numbers)
    if not fits or type(answer.quality) is not int or not 0 <= answer.quality < 2**31:
        raise ValueError("a prediction with numbers out of range")
    if answer.model == model and any(
        len(answer.probs[head]) != len(classes) or answer.label[head] not in classes for head, classes in heads.items()
    ):
        raise ValueError("a prediction with other classes than its model's")
    return answer
