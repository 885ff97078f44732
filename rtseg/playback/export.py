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


def export_recording(path: Path, out: Path, *, overwrite: bool = False) -> Iterator[Exported]:
    """Write what was published about every stream of a recording: `NAME.predictions.csv` and `NAME.bouts.csv`; and
    where there were triggers, `NAME.triggers.csv` (as of `rtseg trigger try`) and `NAME.trigger_times.csv`.

    A stream that was opened again in the same file is NAME#2. Raises RecordingError where the file is no recording,
    RtsegError for a file that exists already, unless `overwrite`.
    """
    with RecordingFile(path) as file:
        heads, fps = _described(file)
        has_triggers = "triggers" in file.session
        streams, damaged = _published_streams(path, file, file.described("model"), heads, fps)
    out.mkdir(parents=True, exist_ok=True)
    for stream in streams:
        stem = stream.name.replace("/", "_")
        files = out / f"{stem}.predictions.csv", out / f"{stem}.bouts.csv"
        logs = (out / f"{stem}.triggers.csv", out / f"{stem}.trigger_times.csv") if has_triggers else ()
        for target in (*files, *logs):
            if target.exists() and not overwrite:
                raise RtsegError(f"{target} exists already; name another folder with --out, or add --overwrite")
        predictions, _ = predictions_from_messages(heads, stream.answers.values())
        write_predictions(predictions, files[0], stream.fps)
        write_bouts(predictions, files[1], stream.fps)
        if logs:
            write_events(stream.log.events(), logs[0])
            write_event_times([stream.log], logs[1])
        yield Exported(stream.name, predictions, *files, logs, stream.other, damaged)


def _described(file: RecordingFile) -> tuple[dict[str, tuple[str, ...]], float]:
    """The model's heads with their classes, and its rate."""
    try:
        heads = {str(name): tuple(classes) for name, classes in json.loads(file.described("heads")).items()}
        return heads, float(file.described("fps"))
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordingError(file.path, f"its beginning is damaged: heads and rate: {error!r}") from None


def _published_streams(
    path: Path, file: RecordingFile, model: str, heads: dict[str, tuple[str, ...]], model_fps: float
) -> tuple[list[_PublishedStream], int]:
    """What was published, and how many messages cannot be read."""
    streams: list[_PublishedStream] = []
    order = recorded_triggers(file)
    current: dict[str, _PublishedStream] = {}
    # A resampled stream's answers have its camera's numbers, which count at the camera's rate.
    rates: dict[str, float] = {}
    times_opened: dict[str, int] = {}
    damaged = 0
    for message in file.messages():
        try:
            if message.topic == "events":
                event = unpacked(path, message.data)
                # Not where it was closed: a sink's last acknowledgement may come after that.
                if event["type"] == LOST:
                    for stream in streams:
                        stream.log.lose_records()
                if event["type"] == "hello":
                    current.pop(event["stream"], None)
                    rates[event["stream"]] = _declared_rate(event)
            elif message.topic == "snapshots":
                snapshot = unpacked(path, message.data)
                rates.setdefault(snapshot["stream"], _declared_rate(snapshot["hello"]))
            elif message.topic in ("predictions", "triggers"):
                record = unpacked(path, message.data)
                answer = _checked_answer(record, model, heads) if message.topic == "predictions" else None
                if answer is None:
                    check_record(record)
                name = _stream_name(record)
                if name not in current:
                    times_opened[name] = n = times_opened.get(name, 0) + 1
                    opened = name if n == 1 else f"{name}#{n}"
                    current[name] = _PublishedStream(opened, rates.get(name, model_fps), EventLog(opened, order))
                    streams.append(current[name])
                if answer is None:
                    current[name].log.add(record)
                    continue
                current[name].log.add_answer(answer.seq)
                # The head columns are those of the session's model; another one, loaded meanwhile, may have others.
                if answer.model == model:
                    current[name].answers[answer.seq] = answer
                else:
                    current[name].other += 1
        except MALFORMED:
            damaged += 1
    return streams, damaged


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
