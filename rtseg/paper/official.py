"""A folder with CalMS21's official files as a dataset: an ordinary dataset file is written for them.

Heads and classes come from the files themselves. Numbers are parsed of the first sequence of each group only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import MICE7
from rtseg.recordings.calms21 import calms21_file_name, index_calms21, read_calms21
from rtseg.recordings.poses.pose_file import DEFAULT_FPS

TASKS = (1, 2, 3)
SPLITS = ("train", "test")
ARENA = (0.0, 0.0, 1024.0, 570.0)
"""CalMS21's video frame, px; the cage fills it."""
UNSCORED = "other"


@dataclass
class _Group:
    """One annotator or behaviour: its classes, in the order of the file's vocab."""

    name: str
    classes: tuple[str, ...]


@dataclass
class OfficialFiles:
    """What a folder holds. files: (task, split) -> path. absent: task -> why it cannot be used."""

    folder: Path
    files: dict[tuple[int, str], Path]
    absent: dict[int, str] = field(default_factory=dict)

    @property
    def tasks(self) -> list[int]:
        """The tasks that have both files."""
        return [task for task in TASKS if task not in self.absent]


def find_official(folder: Path) -> OfficialFiles:
    """CalMS21's files in a folder or below it, as its archives unpack.

    Raises RecordingError where no task has both of its files, or where one file is there twice.
    """
    found: dict[tuple[int, str], Path] = {}
    for task in TASKS:
        for split in SPLITS:
            places = sorted(folder.rglob(calms21_file_name(task, split)))
            if len(places) > 1:
                where = ", ".join(str(p.relative_to(folder)) for p in places)
                raise RecordingError(
                    folder, f"holds {calms21_file_name(task, split)} more than once ({where}); keep one"
                )
            if places:
                found[task, split] = places[0]
    absent = {}
    for task in TASKS:
        missing = [calms21_file_name(task, split) for split in SPLITS if (task, split) not in found]
        if missing:
            absent[task] = f"no {' and no '.join(missing)} in the folder"
    if len(absent) == len(TASKS):
        wanted = ", ".join(calms21_file_name(task, split) for task in TASKS for split in SPLITS)
        raise RecordingError(
            folder,
            "holds neither dataset.toml (rtseg simulate writes it) nor both files of any of CalMS21's tasks "
            f"({wanted}); name their folder, or a dataset file (.toml)",
        )
    return OfficialFiles(folder, found, absent)


def dataset_toml(official: OfficialFiles) -> str:
    """The dataset file for these files, with the splits train and test.

    Task 1 is one head; of Tasks 2 and 3 every annotator and every behaviour is a head of its own. Every class but
    `other` is scored.
    """
    simulated = False
    heads: list[str] = []
    sources: list[str] = []
    for task in official.tasks:
        groups: dict[str, _Group] = {}
        for split in SPLITS:
            path = official.files[task, split]
            file_simulated, of_file = _groups(path)
            simulated |= file_simulated
            for group in of_file:
                groups.setdefault(group.name, group)
            place = path.relative_to(official.folder).as_posix()
            whose = "task1" if task == 1 else "per-group"
            sources += ["", "[[calms21]]", f"file = {_quoted(place)}", f'split = "{split}"', f'heads = "{whose}"']
        # Task 1 is one head, whoever annotated it.
        named = [_Group("task1", next(iter(groups.values())).classes)] if task == 1 else list(groups.values())
        for group in named:
            scored = [c for c in group.classes if c != UNSCORED]
            heads += ["", f"[heads.{_quoted(group.name)}]", f'group = "task{task}"']
            heads += [f"classes = {_quoted(list(group.classes))}", f"scored = {_quoted(scored)}"]
    # TOML has no null: a field without a value is left out.
    skeleton = {key: value for key, value in MICE7.to_dict().items() if value is not None}
    lines = [
        "# CalMS21's official files, described by `rtseg paper`.",
        f'name = "{"mice-sim" if simulated else "calms21"}"',
        f"root = {_quoted(str(official.folder.absolute()))}",
        f"simulated = {'true' if simulated else 'false'}",
        f"fps = {DEFAULT_FPS:g}",
        "",
        "[skeleton]",
        *(f"{key} = {_quoted(value)}" for key, value in skeleton.items()),
        *heads,
        *sources,
    ]
    return "\n".join(lines) + "\n"


def _groups(path: Path) -> tuple[bool, list[_Group]]:
    """Whether a file is marked as simulated, and its groups; one without annotations has no classes and no head."""
    first: dict[str, str] = {}
    # Names are found by a scan; the numbers of every sequence would take far longer to parse.
    for group, name in index_calms21(path):
        first.setdefault(group, name)
    simulated, groups = False, []
    for sequence in read_calms21(path, wants=lambda group, name: first[group] == name):
        simulated |= sequence.recording.simulated
        if sequence.labels is not None:
            groups.append(_Group(sequence.group, sequence.labels.classes))
    if not groups:
        raise RecordingError(path, "has no annotations: it is the challenge's file; use the one published with labels")
    return simulated, groups


def _quoted(value: object) -> str:
    """JSON's texts and lists are TOML's as well."""
    return json.dumps(value, ensure_ascii=False)
