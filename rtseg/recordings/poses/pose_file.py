"""What pose readers share: the contract of a reader, and tables of columns turned into a Recording.

A new format is one file in this room that ends with its `READER`, and one line in `rtseg.recordings.open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.recording import Recording, clean

SINGLE_ANIMAL = "animal"
"""The name of the animal in a file that names none."""
DEFAULT_FPS = 30.0
"""For formats that carry no frame rate, where the caller names none."""
_COORDS = ("x", "y", "likelihood")

Column = tuple[str, str, str]
"""(animal, keypoint, coordinate)."""


class ReadPoses(Protocol):
    """Reads a file that the reader recognizes."""

    def __call__(self, path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
        """The file's recordings, one in memory at a time.

        fps: frames per second, for formats that carry none; None = the file's own, else DEFAULT_FPS. name: the
        recording's name, or of several the one to read; None = the file's own. Raises RecordingError, which names the
        file and, in text, the line, for whatever the file holds that cannot be read rightly.
        """


@dataclass(frozen=True)
class PoseReader:
    """One format of poses.

    format: its name, as errors list it. suffixes: ends of file names in lower case; no other file is looked at.
    recognizes: whether a file with such a name is of this format, by what it holds. At most one reader may recognize a
    file. read: see ReadPoses.
    """

    format: str
    suffixes: tuple[str, ...]
    recognizes: Callable[[FileProbe], bool]
    read: ReadPoses


def one_recording(read: Callable[..., Recording]) -> ReadPoses:
    """The contract of a reader whose files hold one recording each, from a function that returns it."""

    def read_all(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
        yield read(path, fps=DEFAULT_FPS if fps is None else fps, name=name)

    return read_all


def recording_from_columns(
    path: Path,
    columns: Sequence[Column],
    index: NDArray[np.int64],
    values: NDArray[np.float32],
    warnings: list[str],
    *,
    fps: float,
    name: str | None,
    first_line: int | None = None,
) -> Recording:
    """Columns (C), frame indices (T,) and values (T, C) as a Recording of max(index) + 1 frames."""
    skeleton, where, dropped = _layout(path, columns)
    if dropped:
        warnings.append(f"left out unique bodyparts that are no animal ({len(dropped)}): {', '.join(dropped)}")
    _check_index(path, index, first_line)
    n_frames = int(index[-1]) + 1
    if n_frames > len(index):
        n_filled = n_frames - len(index)
        if n_filled > len(index):
            gap = int(np.argmax(np.diff(index, prepend=-1)))
            line = None if first_line is None else first_line + gap
            problem = (
                f"frame indices skip more frames ({n_filled}) than there are rows ({len(index)}), "
                f"most of them before index {index[gap]}; check the index column, or cut the file there"
            )
            raise RecordingError(path, problem, line=line)
        warnings.append(f"frame indices skip frames; filled as missing ({n_filled} frames)")
        full = np.full((n_frames, values.shape[1]), np.nan, np.float32)
        full[index] = values
        values = full
    keypoints = np.stack([values[:, where[..., 0]], values[:, where[..., 1]]], axis=-1)
    if (where[..., 2] >= 0).all():
        confidence = values[:, where[..., 2]]
    else:  # without a likelihood, 0, 0 is how DeepLabCut writes a missing point
        confidence = (keypoints != 0).any(axis=-1).astype(np.float32)
        if (confidence == 0).any():
            n_zero = int((confidence == 0).sum())
            warnings.append(f"no likelihood: points at exactly 0, 0 are taken as missing ({n_zero} points)")
    points, scores = clean(keypoints, confidence)
    return Recording(
        name=name or path.stem,
        skeleton=skeleton,
        keypoints=points,
        confidence=scores,
        fps=fps,
        source=str(path),
        warnings=tuple(warnings),
    )


def _layout(path: Path, columns: Sequence[Column]) -> tuple[Skeleton, NDArray[np.intp], list[str]]:
    """The skeleton; (A, K, 3) column numbers of x, y and likelihood (-1 where absent); bodyparts left out.

    Multi-animal projects may carry unique bodyparts (cage corners) under the individual 'single'.
    """
    places: dict[str, dict[str, dict[str, int]]] = {}
    for i, (animal, keypoint, coord) in enumerate(columns):
        if coord not in _COORDS:
            mend = "only 2-D tracks are read" if coord == "z" else "export the file again"
            raise RecordingError(path, f"expected the coordinates {', '.join(_COORDS)}, got {coord!r}; {mend}")
        if places.setdefault(animal, {}).setdefault(keypoint, {}).setdefault(coord, i) != i:
            raise RecordingError(path, f"column {animal}/{keypoint}/{coord} comes twice; rename one of them")
    dropped = list(places.pop("single")) if len(places) > 1 and "single" in places else []
    animals = list(places)
    keypoints = list(places[animals[0]]) if animals else []
    if not keypoints:
        raise RecordingError(path, "holds no keypoints; export the file again")
    where = np.full((len(animals), len(keypoints), len(_COORDS)), -1, np.intp)
    for a, animal in enumerate(animals):
        if set(places[animal]) != set(keypoints):
            odd = sorted(set(places[animal]) ^ set(keypoints))
            problem = (
                f"animals {animals[0]!r} and {animal!r} differ in the keypoints {', '.join(odd)}; remove those columns"
            )
            raise RecordingError(path, problem)
        for k, keypoint in enumerate(keypoints):
            for c, coord in enumerate(_COORDS):
                if coord in places[animal][keypoint]:
                    where[a, k, c] = places[animal][keypoint][coord]
                elif coord != "likelihood":
                    problem = f"column {animal}/{keypoint}/{coord} is missing; export the file again"
                    raise RecordingError(path, problem)
    return Skeleton(tuple(animals), tuple(keypoints)), where, dropped


def _check_index(path: Path, index: NDArray[np.int64], first_line: int | None) -> None:
    """Raise unless the frame indices (T,) rise from 0 or later."""
    if len(index) == 0:
        raise RecordingError(path, "holds no frames; export the file again")
    steps = np.diff(index, prepend=-1)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        t = int(wrong[0])
        what = "repeats the one before it" if t and steps[t] == 0 else "runs backwards"
        line = None if first_line is None else first_line + t
        row = f"row {t + 1}: " if first_line is None else ""
        problem = f"{row}frame index {index[t]} {what} ({len(wrong)} such rows); sort the rows and remove doubles"
        raise RecordingError(path, problem, line=line)
