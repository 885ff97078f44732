"""DeepLabCut's CSV, one animal or many, and what its CSV and its HDF5 (poses_dlc_h5) have in common.

Columns carry (individual, bodypart, coordinate); rows are video frames, named by their index in the video.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, needs_extra
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.recording import Recording, clean
from rtseg.recordings.text import read_lines

SINGLE_ANIMAL = "animal"
"""The name of the animal in a file that names none."""
HEADER = ("scorer", "individuals", "bodyparts", "coords")
_COORDS = ("x", "y", "likelihood")
_MISSING = ["", "nan", "NaN", "NA"]
_AGAIN = "export the file again (deeplabcut.analyze_videos(..., save_as_csv=True)) or remove the line"

Column = tuple[str, str, str]
"""(animal, keypoint, coordinate)."""


def is_dlc_csv(lines: Sequence[str]) -> bool:
    """Whether a file's first lines are a DeepLabCut header."""
    first = [line.split(",", 1)[0].split(";", 1)[0].strip('"') for line in lines[:4]]
    return "bodyparts" in first and "coords" in first


def read_dlc_csv(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a DeepLabCut CSV, single animal (three header rows) or multi-animal (four).

    Skipped frame indices become missing frames, with a warning that counts them. Raises RecordingError with the line
    for wrong column counts, cells that are no numbers, and frame indices that repeat or run backwards.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise needs_extra("pandas", "io", "Reading DeepLabCut CSV files") from error
    lines, warnings = read_lines(path)
    columns, n_header = _csv_header(path, lines)
    n_commas = len(columns)
    body = lines[n_header:]
    if not body:
        raise RecordingError(path, "has a header and no frames; export it again", line=n_header)
    for i, line in enumerate(body):
        if line.count(",") != n_commas:
            _refuse_row(path, line, n_header + i + 1, n_commas + 1, last=i == len(body) - 1)
    dtype: dict[int, Any] = {0: np.int64} | dict.fromkeys(range(1, n_commas + 1), np.float32)
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(body)),
            header=None,
            dtype=dtype,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=_MISSING,
        )
    except (ValueError, OverflowError) as error:  # pandas' ParserError is a ValueError
        _refuse_cells(path, body, n_header)
        raise RecordingError(path, f"is no table of numbers: {error}") from error
    index = table[0].to_numpy(np.int64)
    values = table.iloc[:, 1:].to_numpy(np.float32)
    return dlc_recording(path, columns, index, values, warnings, fps=fps, name=name, first_line=n_header + 1)


def _csv_header(path: Path, lines: Sequence[str]) -> tuple[list[Column], int]:
    """The columns behind the index column, and how many lines the header takes."""
    rows: dict[str, list[str]] = {}
    for row in csv.reader(lines[:4]):
        if row and row[0] in HEADER:
            rows[row[0]] = [cell.strip() for cell in row[1:]]
        else:
            break
    if "bodyparts" not in rows or "coords" not in rows:
        came = lines[0].split(",")[0][:40]
        mend = "save it with commas, not semicolons" if ";" in lines[0] else "bring the CSV that DeepLabCut wrote"
        raise RecordingError(
            path, f"expected the header rows {', '.join(HEADER)}, the first cell is {came!r}; {mend}", line=1
        )
    n_columns = len(rows["coords"])
    for i, (key, cells) in enumerate(rows.items()):
        if len(cells) != n_columns:
            problem = f"header row {key!r} has {len(cells)} columns and 'coords' has {n_columns}; export the file again"
            raise RecordingError(path, problem, line=i + 1)
    animals = rows.get("individuals", [SINGLE_ANIMAL] * n_columns)
    return list(zip(animals, rows["bodyparts"], rows["coords"], strict=True)), len(rows)


def _refuse_row(path: Path, line: str, number: int, n_expected: int, *, last: bool) -> None:
    n_cells = line.count(",") + 1 if line.strip() else 0
    hint = "the file was cut here; copy it again" if last and n_cells < n_expected else _AGAIN
    raise RecordingError(path, f"expected {n_expected} columns, got {n_cells}; {hint}", line=number)


def _refuse_cells(path: Path, body: Sequence[str], n_header: int) -> None:
    """Raise for the first cell that is no number; return if there is none."""
    for i, line in enumerate(body):
        for j, cell in enumerate(line.split(",")):
            if j == 0:
                if not cell.strip().isdecimal():
                    hint = "labelled training images are no recording" if "img" in cell else _AGAIN
                    problem = f"expected a frame index in column 1, got {cell[:60]!r}; {hint}"
                    raise RecordingError(path, problem, line=n_header + i + 1)
                continue
            try:
                if cell not in _MISSING:
                    float(cell)
            except ValueError:
                problem = f"expected a number in column {j + 1}, got {cell[:60]!r}; {_AGAIN}"
                raise RecordingError(path, problem, line=n_header + i + 1) from None


def dlc_recording(
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
