"""DeepLabCut's CSV, one animal or many.

Columns carry (individual, bodypart, coordinate); rows are video frames, named by their index in the video.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import RecordingError, needs_extra
from rtseg.recordings.files.delimited import plain_lines
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.layout import SINGLE_ANIMAL, Column
from rtseg.recordings.poses.pose_file import PoseReader, one_recording, recording_from_columns
from rtseg.recordings.recording import Recording

HEADER = ("scorer", "individuals", "bodyparts", "coords")
_MISSING = ["", "nan", "NaN", "NAN", "NA", "N/A", "#N/A", "none", "None", "null", "NULL"]
_AGAIN = "export the file again (deeplabcut.analyze_videos(..., save_as_csv=True)) or remove the line"


def is_dlc_csv(probe: FileProbe) -> bool:
    """Whether the first lines are a DeepLabCut header."""
    return is_dlc_header(list(map(first_cell, probe.lines[:5])))


def is_dlc_header(first_cells: Sequence[str]) -> bool:
    """Whether the first cells of a table's rows are those of a DeepLabCut header."""
    return {"bodyparts", "coords"} <= set(first_cells[:5])


def first_cell(line: str) -> str:
    """The text before a line's first comma, semicolon or tab, which tells what the row is."""
    return re.split("[,;\t]", line, maxsplit=1)[0].strip(' "')


def read_dlc_csv(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a DeepLabCut CSV, single animal (three header rows) or multi-animal (four).

    Read as well: semicolons or tabs, decimal commas, quoted cells, rows and columns without anything at the end (all as
    spreadsheets write them), and further columns beside x, y and likelihood. Frame indices that start late or skip
    leave missing frames, with a warning that counts them. Raises RecordingError with the line for wrong column counts,
    cells that are no numbers, and frame indices that repeat or run backwards.
    """
    return recording_of_lines(path, *plain_lines(path), fps=fps, name=name)


def recording_of_lines(
    path: Path, lines: Sequence[str], warnings: Sequence[ReadingWarning], *, fps: float, name: str | None
) -> Recording:
    """The same from plain lines, wherever they come from. Raises RecordingError with the line's place among them."""
    try:
        import pandas as pd
    except ImportError as error:
        raise needs_extra("pandas", "io", "Reading DeepLabCut CSV files") from error
    columns, n_header = csv_header(path, lines)
    if len(lines) > n_header and not lines[n_header].strip(","):
        n_header += 1  # a workbook's row for the name of the index, which has none
    # Counted before parsing: pandas fills short rows, and a file that was cut would be read as missing points.
    n_commas = len(columns)
    body = lines[n_header:]
    if not body:
        raise RecordingError(path, "has a header and no frames; export it again", line=n_header)
    for i, line in enumerate(body):
        if line.count(",") != n_commas:
            _refuse_row(path, line, n_header + i + 1, n_commas + 1, last=i == len(body) - 1)
    dtype: dict[int, Any] = {0: np.int64} | dict.fromkeys(range(1, n_commas + 1), np.float32)
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as too large
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
        # Only now, because looking at every cell takes longer than reading them.
        _refuse_cells(path, body, n_header)
        raise RecordingError(path, f"is no table of numbers: {error}") from error
    index = table[0].to_numpy(np.int64)
    values = table.iloc[:, 1:].to_numpy(np.float32)
    return recording_from_columns(path, columns, index, values, warnings, fps=fps, name=name, first_line=n_header + 1)


def csv_row(path: Path, line: str, n_columns: int, number: int) -> tuple[int, list[float]]:
    """Frame index and values (C) of one plain row, line `number` of the file; raises as `read_dlc_csv`.

    For rows that come one at a time, of which each would take pandas milliseconds. Numbers of up to 15 digits become
    the same float32 as there; longer ones are rounded rightly here, and by pandas but for the last bit of few.
    """
    if line.count(",") != n_columns:
        _refuse_row(path, line, number, n_columns + 1, last=False)
    index, *cells = line.split(",")
    try:
        # Python's own numbers may have underscores, and be longer than any index.
        if index.isdecimal() and len(index) < 19 and "_" not in line:
            return int(index), [float("nan") if cell in _MISSING else float(cell) for cell in cells]
    except ValueError:
        pass
    _refuse_cells(path, [line], number - 1)
    raise RecordingError(path, "is no row of numbers; " + _AGAIN, line=number)


def csv_header(path: Path, lines: Sequence[str]) -> tuple[list[Column], int]:
    """The columns behind the index column, and how many lines the header takes."""
    rows: dict[str, list[str]] = {}
    for row in csv.reader(lines[:4]):
        if row and row[0].strip() in HEADER:
            rows[row[0].strip()] = _filled([cell.strip() for cell in row[1:]], row[0].strip() != "coords")
        else:
            break
    if "bodyparts" not in rows or "coords" not in rows:
        came = [line.split(",")[0][:40] for line in lines[:4]]
        problem = (
            f"expected the header rows {', '.join(HEADER)}, the first lines begin with {', '.join(map(repr, came))}"
        )
        mend = (
            "remove lines before and between them" if set(came) & set(HEADER) else "bring the CSV that DeepLabCut wrote"
        )
        raise RecordingError(path, f"{problem}; {mend}", line=1)
    n_columns = len(rows["coords"])
    for i, (key, cells) in enumerate(rows.items()):
        if len(cells) != n_columns:
            problem = f"header row {key!r} has {len(cells)} columns and 'coords' has {n_columns}; export the file again"
            raise RecordingError(path, problem, line=i + 1)
    animals = rows.get("individuals", [SINGLE_ANIMAL] * n_columns)
    return list(zip(animals, rows["bodyparts"], rows["coords"], strict=True)), len(rows)


def _filled(cells: list[str], is_joined: bool) -> list[str]:
    """A header row with every cell's own name: a spreadsheet's joined cells have it once, and are empty behind it."""
    for i in range(1, len(cells) if is_joined else 0):
        cells[i] = cells[i] or cells[i - 1]
    return cells


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
                    float(cell if "_" not in cell else "x")  # which Python takes for a number and nobody else does
            except ValueError:
                problem = f"expected a number in column {j + 1}, got {cell[:60]!r}; {_AGAIN}"
                raise RecordingError(path, problem, line=n_header + i + 1) from None


READER = PoseReader("DeepLabCut .csv", (".csv", ".tsv"), is_dlc_csv, one_recording(read_dlc_csv))
