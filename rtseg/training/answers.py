"""What a trained system said about one recording, in a file: probabilities, and which recordings it was trained on.

One .npz a recording, no pickle. Cross-validation writes them; a teacher's soft labels are read from them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RtsegError
from rtseg.recordings.heads import Head
from rtseg.system.files import replace_atomically

ENDING = ".npz"


@dataclass(frozen=True, eq=False)
class Answers:
    """recording: its name. columns: head.class of every column of probs (T, P) float32, NaN = never answered.

    seen: the names of all recordings that the system was trained on, or its checkpoint chosen by.
    """

    recording: str
    columns: tuple[str, ...]
    probs: NDArray[np.float32]
    seen: tuple[str, ...]


def columns_of(heads: Sequence[Head]) -> tuple[str, ...]:
    """The names of all outputs, heads side by side."""
    return tuple(f"{head.name}.{name}" for head in heads for name in head.classes)


def file_name(recording: str) -> str:
    """The file of a recording, whose name may hold slashes."""
    return recording.replace("/", "_") + ENDING


def save_answers(answers: Answers, folder: Path) -> Path:
    """Write one recording's file into `folder`, made if need be, by a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / file_name(answers.recording)
    with replace_atomically(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            recording=np.array(answers.recording),
            columns=np.array(answers.columns),
            probs=answers.probs,
            seen=np.array(answers.seen),
        )
    return path


def load_answers(path: Path) -> Answers:
    """What `save_answers` wrote. Raises RtsegError for a file that is none."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            columns, seen = (tuple(map(str, file[key].tolist())) for key in ("columns", "seen"))
            probs = np.ascontiguousarray(file["probs"], np.float32)
            recording = str(file["recording"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise RtsegError(
            f"{path}: no answers of a trained system, as 'rtseg crossvalidate' writes them: {error}"
        ) from None
    if probs.ndim != 2 or probs.shape[1] != len(columns):
        raise RtsegError(f"{path}: {len(columns)} columns are named, the probabilities are {probs.shape}")
    return Answers(recording, columns, probs, seen)
