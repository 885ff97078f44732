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
class _Part:
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
        parts = _parts(path, file, session["model"])
    heads = {name: tuple(classes) for name, classes in json.loads(session["heads"]).items()}
    out.mkdir(parents=True, exist_ok=True)
    for part in parts:
        stem = part.name.replace("/", "_")
        files = out / f"{stem}.predictions.csv", out / f"{stem}.bouts.csv"
        for target in files:
            if target.exists() and not overwrite:
                raise RtsegError(f"{target} exists already; name another folder with --out, or add --overwrite")
        predictions, _ = predictions_from_messages(heads, part.answers.values())
        write_predictions(predictions, files[0])
        write_bouts(predictions, files[1], float(session["fps"]))
        yield Exported(part.name, predictions, *files, part.other)


def _parts(path: Path, file: RecordingFile, model: str) -> list[_Part]:
    parts: list[_Part] = []
    at: dict[str, _Part] = {}
    opened: dict[str, int] = {}
    for told in file.messages():
        if told.topic == "events":
            event = unpacked(path, told.data)
            if event["type"] in ("hello", "closed"):
                at.pop(event["stream"], None)
        elif told.topic == "predictions":
            answer = parse_published(unpacked(path, told.data))
            assert isinstance(answer, PredictionMessage)
            name = answer.stream
            if name not in at:
                opened[name] = opened.get(name, 0) + 1
                at[name] = _Part(name if opened[name] == 1 else f"{name}#{opened[name]}")
                parts.append(at[name])
            if answer.model == model:
                at[name].answers[answer.seq] = answer
            else:
                at[name].other += 1
    return parts
