"""Where a dataset's recordings come from: what all sources have in common, and CalMS21's JSON. `pairs` is the other.

Sources have the same three methods, each about one split: the ids of its recordings, the files that are missing, and
the items themselves, one at a time. Nothing of another split is ever opened, so that test data cannot leak into
training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.heads import HeadLabels, HeadRule, apply_rules
from rtseg.recordings.recording import Recording


@dataclass(frozen=True, eq=False)
class Item:
    """A recording matched to the dataset's skeleton, and labels (T,) for every head of the dataset."""

    recording: Recording
    labels: dict[str, HeadLabels]

    @property
    def warnings(self) -> tuple[ReadingWarning, ...]:
        """What the readers of both tolerated, each once."""
        labels = (warning for track in self.labels.values() for warning in track.warnings)
        return tuple(dict.fromkeys((*self.recording.warnings, *labels)))


@dataclass(frozen=True)
class Context:
    """The dataset of a source: its root folder, skeleton, frame rate, rules, and px for a mm (None = not known)."""

    root: Path
    skeleton: Skeleton
    fps: float
    rules: tuple[HeadRule, ...]
    px_per_mm: float | None = None

    def brought_to_scale(self, recording: Recording, own: float | None = None) -> Recording:
        """A recording at the dataset's scale. own: its px for a mm; None = what its file says, or the dataset's."""
        px_per_mm = own or recording.px_per_mm or self.px_per_mm
        return replace(recording, px_per_mm=px_per_mm).at_scale(self.px_per_mm)


@dataclass(frozen=True)
class Calms21Source:
    """One JSON file in CalMS21's layout: `[[calms21]]`.

    heads: the head that every group labels, or None where each group labels the head of its own name. only, without:
    patterns (as in a shell) of sequence names to read and to leave out.
    """

    file: str
    split: str
    heads: str | None
    only: tuple[str, ...] = ("*",)
    without: tuple[str, ...] = ()

    def wants(self, name: str) -> bool:
        """Whether the sequence belongs to this source."""
        from fnmatch import fnmatchcase

        return any(fnmatchcase(name, p) for p in self.only) and not any(fnmatchcase(name, p) for p in self.without)

    def ids(self, split: str, context: Context) -> tuple[str, ...]:
        """The names of the split's sequences; scans the file."""
        from rtseg.recordings.calms21 import index_calms21

        if split != self.split:
            return ()
        return tuple(name for _, name in index_calms21(context.root / self.file) if self.wants(name))

    def cut_from(self, split: str, context: Context) -> dict[str, str]:
        """Nothing: a sequence is a recording."""
        return {}

    def separately(self, split: str) -> list[Calms21Source]:
        """The source itself: its sequences stand in one file, which is read as a whole or not at all."""
        return [self]

    def missing(self, split: str, context: Context) -> list[str]:
        """The file, if it is not there and the split needs it."""
        path = context.root / self.file
        return [str(path)] if split == self.split and not path.is_file() else []

    def items(self, split: str, context: Context) -> Iterator[Item]:
        """The split's sequences, one in memory at a time."""
        from rtseg.recordings.calms21 import read_calms21

        if split != self.split:
            return
        path = context.root / self.file
        n_items = 0
        for sequence in read_calms21(path, fps=context.fps, wants=lambda _, name: self.wants(name)):
            head = self.heads or sequence.group
            # A sequence is labelled for one head only; the others are masked there.
            rules = tuple(replace(r, missing_ok=True) for r in context.rules)
            heads = {r.head.name: r for r in rules}
            if head not in heads:
                problem = (
                    f"group {sequence.group!r} has no head of its name among {', '.join(heads)}; add it to [heads]"
                )
                raise RecordingError(path, problem)
            tracks = {}
            if sequence.labels is not None:
                tracks[heads[head].track or head] = sequence.labels
            recording = context.brought_to_scale(sequence.recording).select(context.skeleton)
            yield Item(recording, apply_rules(rules, tracks, len(recording), f"{path}, sequence {recording.name}"))
            n_items += 1
        if n_items == 0:
            problem = f"no sequence matches only = {list(self.only)}, without = {list(self.without)}; correct the names"
            raise RecordingError(path, problem)
