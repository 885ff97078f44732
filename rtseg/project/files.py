"""Which files of a folder hold poses and which hold labels, by what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import RecordingError, SettingError
from rtseg.recordings.files.unread_formats import LABEL_SUFFIXES as UNREAD
from rtseg.recordings.files.unread_formats import why_unread_kind
from rtseg.recordings.files.workbook import SUFFIXES as WORKBOOKS
from rtseg.recordings.open import POSE_READERS, find_label_reader, find_pose_reader

_LABEL_SUFFIXES = (".csv", ".tsv", ".txt", ".annot", ".boris", ".eaf", ".mat", *WORKBOOKS)
_HIDDEN = (".", "~$")
"""How names begin of what programs keep beside files, such as Excel's note of who has a workbook open."""


@dataclass(frozen=True)
class FoundFiles:
    """Files below one root folder, sorted. others: those that look like data and are neither, each with the reason."""

    root: Path
    poses: tuple[Path, ...]
    labels: tuple[Path, ...]
    others: tuple[tuple[Path, str], ...] = ()


def find_files(paths: Sequence[Path]) -> FoundFiles:
    """The pose and label files that are named, or below the folders that are named.

    root: the deepest folder that holds them all. Raises SettingError where a path does not exist and where no poses are
    found.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise SettingError(f"no such file or folder: {', '.join(missing)}")
    # Not resolved: a link stands for its file under the name that the lab gave the link.
    files = sorted({_absolute(file) for path in paths for file in _files_below(path)})
    poses, labels, others = [], [], []
    for file in files:
        kind, reason = _kind_of(file)
        if kind == "poses":
            poses.append(file)
        elif kind == "labels":
            labels.append(file)
        elif reason:
            others.append((file, reason))
    where = ", ".join(map(str, paths))
    if not poses:
        listed = "".join(f"\n  {file}: {reason}" for file, reason in others)
        raise SettingError(f"{where}: no file there holds poses that are read (docs/formats.md lists them){listed}")
    return FoundFiles(_root_of([*poses, *labels], paths), tuple(poses), tuple(labels), tuple(others))


def _files_below(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    suffixes = {suffix for reader in POSE_READERS for suffix in reader.suffixes} | {*_LABEL_SUFFIXES, *UNREAD}
    below = (file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    return (f for f in below if not any(p.startswith(_HIDDEN) for p in f.relative_to(path).parts))


def _kind_of(file: Path) -> tuple[str, str]:
    """'poses', 'labels' or '', and for '' why a file is neither."""
    if file.suffix.lower() in UNREAD:
        return "", why_unread_kind(file.suffix.lower())
    try:
        find_pose_reader(file)
        return "poses", ""
    except RecordingError as error:
        reason = str(error).removeprefix(f"{file}").lstrip(":, ")
    if file.suffix.lower() not in _LABEL_SUFFIXES:
        return "", reason
    try:
        find_label_reader(file)
        return "labels", ""
    except RecordingError as error:
        return "", str(error).removeprefix(f"{file}").lstrip(":, ")


def _root_of(files: Sequence[Path], paths: Sequence[Path]) -> Path:
    """The folder that was named, or the deepest one that holds all files."""
    if len(paths) == 1 and paths[0].is_dir():
        return _absolute(paths[0])
    folders = [set(file.parents) for file in files]
    return max(set.intersection(*folders), key=lambda folder: len(folder.parts))


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))  # resolve() would follow links
