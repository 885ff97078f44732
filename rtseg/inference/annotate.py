"""Offline annotation: recordings through the very Session that serves, into files.

No torch. What is written here is bit for bit what a live stream of the same frames publishes. Many files over several
processes are the business of `rtseg.annotation`, which calls `annotate_source` for each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import RecordingError, RtsegError
from rtseg.features.body_size import describe_size
from rtseg.inference.classifier import Classifier
from rtseg.inference.predictions import Predictions, Quality, write_bouts, write_predictions
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.naming import NameMap
from rtseg.recordings.open import holds_several, read_recordings
from rtseg.recordings.recording import Recording
from rtseg.system.files import FileNames, as_file_name, write_json_atomically

EXISTING = ("refuse", "overwrite", "skip")
"""What is done where a recording's files are there already. skip: only what comes from the same file and model."""


@dataclass(frozen=True)
class Annotated:
    """One recording's answers and the two files they were written to."""

    name: str
    predictions: Predictions
    frames_file: Path
    bouts_file: Path
    warnings: tuple[ReadingWarning, ...]

    @property
    def size_warnings(self) -> tuple[str, ...]:
        """What is to be said of animals that appear larger or smaller than in training; empty where they don't."""
        told = describe_size(self.predictions.drift.get("body_size", {}))
        return (told,) if told else ()

    def describe_range(self) -> str:
        """The share of frames unlike training's, to end a line with; '' for a model that does not know these."""
        flagged = np.count_nonzero(self.predictions.quality & Quality.OUT_OF_RANGE) / max(len(self.predictions), 1)
        return f"; {100 * flagged:.1f} % of frames out of range" if self.predictions.drift else ""


@dataclass(frozen=True)
class Reading:
    """How recordings are read, whichever file they come from.

    fps: frames per second, for files that carry none. resample: take recordings of another frame rate than the model's
    (`rtseg.frames.resampling`). names: the files' animals and keypoints, as the model calls them. px_per_mm: of all
    recordings; None = what a file says.
    """

    fps: float | None = None
    resample: bool = False
    names: NameMap = field(default_factory=NameMap)
    px_per_mm: float | None = None

    def adapt(self, recording: Recording) -> Recording:
        """A recording of a file, as the model is to get it."""
        scaled = recording if self.px_per_mm is None else replace(recording, px_per_mm=self.px_per_mm)
        return self.names.rename(scaled)


@dataclass(frozen=True)
class Source:
    """A file of poses, and where the answers about it go. folder: made when they are written. stem: '' = the file's."""

    path: Path
    folder: Path
    stem: str = ""


@dataclass(frozen=True)
class Skipped:
    """A recording whose files were there already, from the same file, model and options."""

    name: str
    frames_file: Path
    bouts_file: Path


def annotate(
    classifier: Classifier,
    paths: Sequence[Path],
    out: Path,
    *,
    fps: float | None = None,
    overwrite: bool = False,
    resample: bool = False,
    names: NameMap | None = None,
    px_per_mm: float | None = None,
) -> Iterator[Annotated]:
    """Annotate every recording in the files; `NAME.predictions.csv` and `NAME.bouts.csv` under `out`, one by one.

    fps, resample, names, px_per_mm: see `Reading`. Files of one name go into different folders (`plan_sources`).
    Raises as `annotate_source`.
    """
    out.mkdir(parents=True, exist_ok=True)
    reading = Reading(fps, resample, names or NameMap(), px_per_mm)
    for source in plan_sources(paths, out):
        for done in annotate_source(classifier, source, reading, "overwrite" if overwrite else "refuse"):
            assert isinstance(done, Annotated), "nothing is skipped unless it is asked for"
            yield done


def annotate_source(
    classifier: Classifier, source: Source, reading: Reading, existing: str = "refuse"
) -> Iterator[Annotated | Skipped]:
    """Annotate the recordings of one file, one by one.

    existing: what is done where a recording's files are there already: one of EXISTING. Beside them a third one,
    `NAME.annotation.json`, says which file, model and options they come from; only what it says tells whether they may
    be skipped. Recordings whose names differ in case or in signs alone that no file's may have are numbered. Raises
    RtsegError before anything is computed for a recording whose files are not to be replaced.
    """
    origin = _origin(classifier, source, reading)
    names = FileNames()
    for recording in read_recordings(source.path, fps=reading.fps):
        files = Files.of(source, recording.name, names)
        own = origin | {"recording": recording.name}
        if files.are_done(own, existing):
            yield Skipped(recording.name, files.frames, files.bouts)
            continue
        adapted = reading.adapt(recording)
        predictions = classifier.run(adapted, resample=reading.resample)
        files.write(predictions, recording.fps, own)
        # One by one: the answers of many recordings need not lie in memory together.
        doubts = adapted.order_doubts(classifier.bundle.skeleton)
        warnings = (*recording.warnings, *doubts, *_tracker_warnings(predictions, source.path))
        yield Annotated(recording.name, predictions, files.frames, files.bouts, warnings)


def _tracker_warnings(predictions: Predictions, path: Path) -> list[ReadingWarning]:
    """What only stepping shows of the tracker."""
    frozen = int(np.count_nonzero(predictions.quality & Quality.FROZEN))
    kind = "the tracker repeats one frame: answers that are flagged 'frozen'"
    return [ReadingWarning(kind, frozen, file=str(path))] if frozen else []


def _origin(classifier: Classifier, source: Source, reading: Reading) -> dict[str, Any]:
    """What answers depend on: the file as it is now, the model, and the options."""
    from rtseg import __version__

    names = reading.names
    try:
        stat = source.path.stat()
    except OSError as error:
        raise RecordingError(source.path, f"cannot be read: {error.strerror or error}") from error
    return {
        "file": source.path.name,
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "bundle": classifier.bundle.name,
        "model": classifier.bundle.hash,
        "engine": classifier.pool.engine.name,
        "identity": classifier.pool.on_identity_jump,
        "fps": reading.fps,
        "resample": reading.resample,
        "keypoints": dict(names.keypoints),
        "animals": dict(names.animals) or list(names.chosen),
        "px_per_mm": reading.px_per_mm,
        "rtseg": __version__,
    }


@dataclass(frozen=True)
class Files:
    """The files of one recording: its frames, its bouts, and where both come from."""

    frames: Path
    bouts: Path
    origin: Path

    @classmethod
    def of(cls, source: Source, recording: str, names: FileNames) -> Files:
        """Those of a recording of the source. names: of the source's recordings before it."""
        if source.stem and recording.startswith(source.path.stem):
            recording = source.stem + recording.removeprefix(source.path.stem)
        stem = names.name(recording)
        return cls(*(source.folder / f"{stem}.{end}" for end in ("predictions.csv", "bouts.csv", "annotation.json")))

    def are_done(self, origin: Mapping[str, Any], existing: str) -> bool:
        """Whether there is nothing to do; RtsegError where there is, and files would be replaced that must not be."""
        there = [file for file in (self.frames, self.bouts) if file.exists()]
        if not there or existing == "overwrite":
            return False
        if existing == "skip":
            said = self._said()
            if said == origin:
                # Bouts are written last: without them the run was killed, and what is there is its own.
                return len(there) == 2
            differing = ", ".join(key for key in origin if said.get(key) != origin[key]) if said else ""
            why = f"differs in {differing}" if said else f"has no {self.origin.name} beside it"
            raise RtsegError(f"{there[0]} exists already and {why}; name another folder with --out, or add --overwrite")
        raise RtsegError(f"{there[0]} exists already; name another folder with --out, or add --overwrite")

    def write(self, predictions: Predictions, fps: float, origin: Mapping[str, Any]) -> None:
        """All three, each whole or not at all."""
        self.frames.parent.mkdir(parents=True, exist_ok=True)
        # First the end of what is there, last the end of what comes: at no time do bouts stand beside another origin.
        self.bouts.unlink(missing_ok=True)
        write_json_atomically(self.origin, dict(origin))
        write_predictions(predictions, self.frames, fps)
        write_bouts(predictions, self.bouts, fps)

    def _said(self) -> dict[str, Any]:
        """What the file of the origin says; {} where it says nothing."""
        try:
            said = json.loads(self.origin.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def plan_sources(paths: Sequence[Path], out: Path) -> list[Source]:
    """Where the answers about each file go, so that no two files' answers meet; a file that comes twice is one.

    Answers about `a/m1.csv` alone are `out/m1.*`; beside `b/m1.csv` they are `out/a/m1.*`, and beside `a/m1.h5` they
    are `out/m1.csv.*`. Files of several recordings, which have names of their own, have a folder each where they are
    not alone: `out/run1/cage1.*`. Nothing is opened: the same files give the same places.
    """
    unique = list({_absolute(path): path for path in reversed(paths)}.values())[::-1]
    if len(unique) == 1 and holds_several(unique[0]):
        return [Source(unique[0], out)]
    groups: dict[str, list[Path]] = {}
    for path in unique:
        # Without case, because not all file systems tell M1 from m1.
        groups.setdefault(path.stem.casefold(), []).append(path)
    places: dict[Path, tuple[tuple[str, ...], str]] = {}
    for some in groups.values():
        places |= _places(some)
    # A folder for the recordings of one file may not be that in which answers about other files lie.
    taken = {str(out.joinpath(*parents)).casefold() for path, (parents, _) in places.items() if not holds_several(path)}
    sources = []
    for path in unique:
        parents, stem = places[path]
        folder, several = out.joinpath(*parents), holds_several(path)
        # What differs in case alone, or meets by chance, is numbered.
        candidates = chain([stem], (f"{stem}-{n}" for n in count(2)))
        kind = "" if several else ".csv"
        stem = next(name for name in candidates if str(folder / name).casefold() + kind not in taken)
        taken.add(str(folder / stem).casefold() + kind)
        sources.append(Source(path, folder / stem) if several else Source(path, folder, stem))
    return sources


def _absolute(path: Path) -> Path:
    """Links are not followed: files that an archive keeps elsewhere have the names and folders of their links."""
    return Path(os.path.normpath(path.absolute()))


def _places(paths: Sequence[Path]) -> dict[Path, tuple[tuple[str, ...], str]]:
    """For files of one stem the folders and the stem that tell them apart: as few folders as possible."""
    parents = {path: tuple(as_file_name(part) for part in _absolute(path).parent.parts) for path in paths}
    beside = {path: [p for p in paths if parents[p] == parents[path]] for path in paths}
    stems = {path: path.stem if len(beside[path]) == 1 else path.name for path in paths}
    for depth in range(max(map(len, parents.values())) + 1):
        places = {path: (parents[path][len(parents[path]) - depth :], stems[path]) for path in paths}
        if len({(tuple(p.casefold() for p in some), stem.casefold()) for some, stem in places.values()}) == len(paths):
            return places
    return {path: (parents[path][-1:], stems[path]) for path in paths}
