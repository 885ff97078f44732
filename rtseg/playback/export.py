"""The predictions in a recording, as tables: what the daemon published, stream by stream, not computed again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rtseg.errors import RtsegError
from rtseg.inference.predictions import Predictions, write_bouts, write_predictions
from rtseg.playback.replay import predictions_from_messages
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.wire.messages import PredictionMessage, parse_published


@dataclass(frozen=True)
class Exported:
    """One stream's answers and the two files they were written to. other: answers of another model, left out."""

    name: str
    predictions: Predictions
    frames_file: Path
    bouts_file: Path
    other: int


@dataclass(eq=False)
class _PublishedStream:
    """What was published of one stream, from its hello to its end."""

    name: str
    answers: dict[int, PredictionMessage] = field(default_factory=dict)  # a restart may publish one again
    other: int = 0


def export_recording(path: Path, out: Path, *, overwrite: bool = False) -> Iterator[Exported]:
    """Write what was published about every stream of a recording: `NAME.predictions.csv` and `NAME.bouts.csv`.

    A stream that was opened again in the same file is NAME#2. Raises RecordingError where the file is no recording,
    RtsegError for a file that exists already, unless `overwrite`.
    """
    with RecordingFile(path) as file:
        session = file.session
        streams = _published_streams(path, file, session["model"])
    heads = {name: tuple(classes) for name, classes in json.loads(session["heads"]).items()}
    out.mkdir(parents=True, exist_ok=True)
    for stream in streams:
        stem = stream.name.replace("/", "_")
        files = out / f"{stem}.predictions.csv", out / f"{stem}.bouts.csv"
        for target in files:
            if target.exists() and not overwrite:
                raise RtsegError(f"{target} exists already; name another folder with --out, or add --overwrite")
        predictions, _ = predictions_from_messages(heads, stream.answers.values())
        write_predictions(predictions, files[0])
        write_bouts(predictions, files[1], float(session["fps"]))
        yield Exported(stream.name, predictions, *files, stream.other)


def _published_streams(path: Path, file: RecordingFile, model: str) -> list[_PublishedStream]:
    streams: list[_PublishedStream] = []
    current: dict[str, _PublishedStream] = {}
    times_opened: dict[str, int] = {}
    for message in file.messages():
        if message.topic == "events":
            event = unpacked(path, message.data)
            if event["type"] in ("hello", "closed"):
                current.pop(event["stream"], None)
        elif message.topic == "predictions":
            answer = parse_published(unpacked(path, message.data))
            assert isinstance(answer, PredictionMessage)
            name = answer.stream
            if name not in current:
                times_opened[name] = times_opened.get(name, 0) + 1
                current[name] = _PublishedStream(name if times_opened[name] == 1 else f"{name}#{times_opened[name]}")
                streams.append(current[name])
            if answer.model == model:
                current[name].answers[answer.seq] = answer
            else:
                current[name].other += 1
    return streams
