"""Offline annotation: recordings through the very Session that serves, into files.

No torch. What is written here is bit for bit what a live stream of the same frames publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import RtsegError
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions, write_bouts, write_predictions
from rtseg.recordings.open import read_recordings


@dataclass(frozen=True)
class Annotated:
    """One recording's answers and the two files they were written to."""

    name: str
    predictions: Predictions
    frames_file: Path
    bouts_file: Path
    warnings: tuple[str, ...]


def annotate(
    classifier: Classifier,
    paths: Sequence[Path],
    out: Path,
    *,
    fps: float | None = None,
    overwrite: bool = False,
    resample: bool = False,
) -> Iterator[Annotated]:
    """Annotate every recording in the files; `NAME.predictions.csv` and `NAME.bouts.csv` under `out`, one by one.

    resample: take recordings of another frame rate than the model's (`rtseg.frames.resampling`).

    Raises RtsegError before anything is computed for a recording whose files exist already, unless `overwrite`; and
    for a second recording of the same name, always.
    """
    out.mkdir(parents=True, exist_ok=True)
    written: dict[Path, str] = {}
    for path in paths:
        for recording in read_recordings(path, fps=fps):
            # A recording's name may hold slashes, its file's may not.
            stem = recording.name.replace("/", "_")
            frames_file, bouts_file = out / f"{stem}.predictions.csv", out / f"{stem}.bouts.csv"
            # Before `overwrite` is looked at: it is about earlier runs, not about two recordings of one.
            if frames_file in written:
                raise RtsegError(
                    f"{recording.source}: its file {frames_file} was just written for {written[frames_file]}; "
                    "annotate recordings of the same name into different folders"
                )
            for file in (frames_file, bouts_file):
                if file.exists() and not overwrite:
                    raise RtsegError(f"{file} exists already; name another folder with --out, or add --overwrite")
            predictions = classifier.run(recording, resample=resample)
            write_predictions(predictions, frames_file, recording.fps)
            write_bouts(predictions, bouts_file, recording.fps)
            written[frames_file] = recording.source
            # One by one: the answers of many recordings need not lie in memory together.
            yield Annotated(recording.name, predictions, frames_file, bouts_file, recording.warnings)
