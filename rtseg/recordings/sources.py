"""Where a dataset's recordings come from: pairs of pose and label files, or CalMS21's JSON.

Both have the same three methods, each about one split: the ids of its recordings, the files that are missing, and the
items themselves, one at a time. Nothing of another split is ever opened, so that test data cannot leak into training.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from rtseg.errors import RecordingError, SettingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.reading_warnings import ReadingWarning, with_file
from rtseg.recordings.heads import HeadRule, apply_rules
from rtseg.recordings.recording import Labels, Recording


@dataclass(frozen=True, eq=False)
class Item:
    """A recording matched to the dataset's skeleton, and labels (T,) for every head of the dataset."""

    recording: Recording
    labels: dict[str, Labels]

    @property
    def warnings(self) -> tuple[ReadingWarning, ...]:
        """What the readers of both tolerated, each once."""
        labels = (warning for track in self.labels.values() for warning in track.warnings)
        return tuple(dict.fromkeys((*self.recording.warnings, *labels)))


@dataclass(frozen=True)
class Context:
    """The dataset of a source: its root folder, skeleton, frame rate and rules."""

    root: Path
    skeleton: Skeleton
    fps: float
    rules: tuple[HeadRule, ...]


@dataclass(frozen=True)
class PairSource:
    """Pose files beside label files: `[[recordings]]`.

    poses, labels: paths under the root, with {id} for the recording's id and * for any other part. splits: split
    -> ids. keypoint_names, animal_names: the file's name -> the dataset's. observation: of a BORIS file with several,
    the one to read, with {id}; '' = the one that is named like the poses. first_frame, last_included: how label tables
    count frames.
    """

    poses: str
    labels: str
    splits: Mapping[str, tuple[str, ...]]
    keypoint_names: Mapping[str, str] = field(default_factory=dict)
    animal_names: Mapping[str, str] = field(default_factory=dict)
    observation: str = ""
    first_frame: int = 0
    last_included: bool = False

    def ids(self, split: str, context: Context) -> tuple[str, ...]:
        """The ids of the split's recordings, in order."""
        return self.splits.get(split, ())

    def missing(self, split: str, context: Context) -> list[str]:
        """The files of the split that are not there, as paths."""
        patterns = [(p, i) for i in self.ids(split, context) for p in (self.poses, self.labels)]
        return [str(context.root / p.replace("{id}", i)) for p, i in patterns if not _find(context.root, p, i)]

    def items(self, split: str, context: Context) -> Iterator[Item]:
        """The split's items, each read when asked for."""
        from rtseg.recordings.labels.label_file import Video
        from rtseg.recordings.open import read_recording, read_video_labels

        for name in self.ids(split, context):
            poses = _one(context.root, self.poses, name)
            labels = _one(context.root, self.labels, name)
            # The poses first: their length and name are what the labels must fit.
            recording = read_recording(poses, fps=context.fps, name=name)
            recording = self._renamed(recording).select(context.skeleton)
            observation = self.observation.replace("{id}", name)
            names = poses.name, name
            video = Video(len(recording), context.fps, names, observation, self.first_frame, self.last_included)
            tracks = read_video_labels(labels, video)
            heads = apply_rules(context.rules, tracks, len(recording), str(labels))
            heads = {head: replace(one, warnings=with_file(one.warnings, labels)) for head, one in heads.items()}
            yield Item(recording, heads)

    def _renamed(self, recording: Recording) -> Recording:
        own = recording.skeleton
        skeleton = Skeleton(
            tuple(self.animal_names.get(a, a) for a in own.animals),
            tuple(self.keypoint_names.get(k, k) for k in own.keypoints),
        )
        listed = tuple(self.animal_names.get(a, a) for a in recording.listed_animals)
        return replace(recording, skeleton=skeleton, listed_animals=listed)


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
            recording = sequence.recording.select(context.skeleton)
            yield Item(recording, apply_rules(rules, tracks, len(recording), f"{path}, sequence {recording.name}"))
            n_items += 1
        if n_items == 0:
            problem = f"no sequence matches only = {list(self.only)}, without = {list(self.without)}; correct the names"
            raise RecordingError(path, problem)


def found_ids(root: Path, poses: str, labels: str) -> tuple[str, ...]:
    """The ids of the files that match two patterns with {id}, sorted.

    Ids come from the pattern of the poses. Where a * stands beside its {id}, as for DeepLabCut's file names, nothing
    says where the id ends, and they come from the pattern of the labels. Raises SettingError where that is no better,
    and where no file matches.
    """
    telling = [pattern for pattern in (poses, labels) if "{id}*" not in pattern and "*{id}" not in pattern]
    if not telling:
        problem = f"{poses!r} and {labels!r} have a * beside {{id}}, so that nothing says where an id ends"
        raise SettingError(f"recordings: {problem}; list the ids (ids = [...])")
    pattern = telling[0]
    matches = re.compile(_regex(pattern, "(?P<id>[^/]+?)")).fullmatch
    names = (p.relative_to(root).as_posix() for p in root.glob(pattern.replace("{id}", "*")))
    ids = sorted({m["id"] for m in map(matches, names) if m})
    if not ids:
        raise SettingError(f"recordings: no file under {root} matches {pattern!r}; correct the pattern or the root")
    return tuple(ids)


def _regex(pattern: str, name: str) -> str:
    """A path pattern as a regular expression, `name` standing for {id}."""
    parts = re.split(r"(\{id\}|\*)", pattern)
    return "".join(name if p == "{id}" else "[^/]*" if p == "*" else re.escape(p) for p in parts)


def check_pattern(where: str, pattern: str) -> None:
    """Raise SettingError unless {id} stands in the pattern once and it stays under the root."""
    if pattern.count("{id}") != 1:
        raise SettingError(f"{where}: expected {{id}} once, as in 'poses/{{id}}.csv', got {pattern!r}")
    if set(pattern) & set("?[]") or "**" in pattern:
        raise SettingError(f"{where}: only {{id}} and single * stand for something, got {pattern!r}")
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
        raise SettingError(f"{where}: expected a path under the root folder, got {pattern!r}; set 'root' instead")


def _find(root: Path, pattern: str, name: str) -> list[Path]:
    """The files of a recording. Beside a *, id 'v1' is not taken for the beginning of 'v10'."""
    # Ids that end in a digit are numbers: 1 is not the beginning of 10, while "a" may well be that of "a_left".
    start, end = ("(?<![0-9])" if name[:1].isdecimal() else ""), ("(?![0-9])" if name[-1:].isdecimal() else "")
    matches = re.compile(_regex(pattern, f"{start}{re.escape(name)}{end}")).fullmatch
    found = root.glob(pattern.replace("{id}", "*").replace("**", "*"))
    return sorted(path for path in found if matches(path.relative_to(root).as_posix()))


def _one(root: Path, pattern: str, name: str) -> Path:
    found = _find(root, pattern, name)
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        problem = f"expected one file for {pattern.replace('{id}', name)!r}, found {names}; make the pattern stricter"
        raise RecordingError(root, problem)
    return found[0]
