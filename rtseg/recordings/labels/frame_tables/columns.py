"""The columns of a table of frames: which count frames or time, and which hold labels, by name and by value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.files.column_names import is_rate, plain_name
from rtseg.recordings.files.delimited import NumberStyle, Row, is_clock
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.label_file import NO_LABEL

OTHER = "other"
"""The class of 0 in a column of 0 and 1."""
_LABEL_NAMES = ("label", "labels", "syllable", "syllables", "motif", "motifs", "cluster", "state", "bsoidlabels")
"""Numbers in columns that are called so are labels (Keypoint-MoSeq, VAME, B-SOiD), a row a frame."""
_CODE_NAMES = ("behavior", "behaviour", "annotation", "annotations", "class", "classes", "code", "codes", "category")
"""Columns in which one number alone may be the code of what the animal does all through the video."""
_POSE_COLUMN = re.compile(r"[._](x|y|z|p|likelihood|score|confidence)$", re.IGNORECASE)
_NAMES = "name one 'frame', or, of bouts, call the columns start,stop,behaviour (start_s,stop_s if seconds)"
_EDGE = re.compile(r"start|stop|onset|offset|begin|end$", re.IGNORECASE)
"""Within the names of columns of numbers that are edges of bouts, or nobody knows what."""
_MAX_CODES = 50
"""More different whole numbers or texts than this are a measurement or comments, no behaviours."""
_MAX_CLUSTERS = 1000
"""The same of columns whose name says that numbers are labels: clusterings have a hundred."""


@dataclass(frozen=True)
class LabelColumn:
    """A label column: the class of every row, or None where the cell is empty.

    repeats_name: whether a cell below is the name itself, as where the first line is no header.
    """

    track: str
    classes: tuple[str, ...]
    codes: list[int | None]
    repeats_name: bool


def is_count(cell: str) -> bool:
    return is_clock(cell) or number_in(cell.replace(",", ".")) is not None


def number_in(cell: str) -> float | None:
    """A finite number, with True and False as 1 and 0; None for any other cell."""
    truth = {"true": 1.0, "false": 0.0}.get(cell.lower())
    if truth is not None:
        return truth
    return float(cell) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell) else None


def label_columns(
    path: Path,
    header_and_rows: Sequence[Row],
    counting: Sequence[int],
    of_videos: int | None,
    style: NumberStyle,
) -> tuple[list[LabelColumn], list[ReadingWarning]]:
    """The columns of labels, and a warning about the others.

    counting: the columns of frames, of times and of pandas' index. of_videos: the one that says whose a row is.
    """
    (line, names), rows = header_and_rows[0], header_and_rows[1:]
    counted = bool(counting)
    has_label_name = any(plain_name(name) in _LABEL_NAMES for name in names)
    columns = []
    n_left_out = 0
    own = {i: [style.with_point(row.cells[i], row.line) for row in rows] for i in range(len(names))}
    own = {i: cells for i, cells in own.items() if i not in (*counting, of_videos)}
    unlabelled = _mask_unlabelled(names, own)
    n_rows = len(rows)
    for i, cells in own.items():
        name = names[i]
        if unlabelled and not any(cells) and any(row.cells[i] for row in rows):  # nobody labelled it in this video
            columns.append(LabelColumn(name, (OTHER, name), [None] * n_rows, False))
            continue
        # By name before by value: a likelihood that is 1.0 throughout looks like a behaviour.
        is_said = bool(_POSE_COLUMN.search(name)) or is_rate(name)
        column = None if is_said else _read_column(path, name, cells, counted, has_label_name, line)
        if column is None:
            n_left_out += 1
        else:
            columns.append(column)
    if not columns:
        problem = "has no column of labels; expected one per track beside 'frame' or 'time', or start,stop,behaviour"
        raise RecordingError(path, problem, line=line)
    kind = "columns of poses and measurements are no labels and are left out"
    return columns, [*unlabelled, *([ReadingWarning(kind, n_left_out, "columns")] if n_left_out else [])]


def _mask_unlabelled(names: Sequence[str], own: dict[int, list[str]]) -> list[ReadingWarning]:
    """Empty the cells -1 of columns of 0 and 1, where DeepEthogram writes them for frames that nobody labelled."""
    values = {i: {number_in(cell) for cell in cells if cell} for i, cells in own.items()}
    marked = [i for i, some in values.items() if some <= {-1.0, 0.0, 1.0} and plain_name(names[i]) not in _LABEL_NAMES]
    # Of -1 and 1 alone either may be the behaviour's absence.
    if not any({-1.0, 0.0} <= values[i] for i in marked):
        return []
    n_masked = 0
    for i in marked:
        n_masked = max(n_masked, sum(number_in(cell) == -1.0 for cell in own[i]))
        own[i] = ["" if number_in(cell) == -1.0 else cell for cell in own[i]]
    kind = "-1 beside 0 and 1 is taken for frames that nobody labelled; masked"
    return [ReadingWarning(kind, n_masked, "rows")]


def _read_column(
    path: Path, name: str, cells: Sequence[str], counted: bool, beside_labels: bool, line: int
) -> LabelColumn | None:
    """A column of labels; None for one of measurements. line: of the header.

    counted: whether the table counts frames or time. Where it does not, numbers that are not 0 and 1 may as well be the
    starts and stops of bouts under names that nobody knows, so that such a table is refused, unless the column's name
    says what they are. beside_labels: whether that of a column does; others are measurements then.
    """
    is_called_label = plain_name(name) in _LABEL_NAMES
    most_codes = _MAX_CLUSTERS if is_called_label else _MAX_CODES
    distinct = dict.fromkeys(cell for cell in cells if cell.lower() not in NO_LABEL)
    if not distinct:
        raise RecordingError(path, f"column {name!r} is empty; fill or remove it", line=line)
    values = {cell: number_in(cell) for cell in distinct}
    # Under a name that says so, 0 and 1 are numbers of clusters as well, in a video that has no others.
    if not is_called_label and all(value in (0.0, 1.0) for value in values.values()):
        classes: tuple[str, ...] = (OTHER, name)
        code = {cell: int(value or 0) for cell, value in values.items()}
    elif all(value is not None for value in values.values()):
        if beside_labels and not counted and not is_called_label and _EDGE.search(plain_name(name)):
            problem = f"column {name!r} holds numbers beside labels, as the edges of bouts"
            raise RecordingError(path, f"{problem}, and no column counts frames or time; {_NAMES}", line=line)
        # One number all through is a setting, such as a temperature; codes of behaviours have a name that says so.
        is_setting = len(distinct) == 1 and counted and not (is_called_label or plain_name(name) in _CODE_NAMES)
        is_whole = all(value.is_integer() for value in values.values() if value is not None)
        if is_setting or len(distinct) > most_codes or not is_whole:
            if counted or (beside_labels and not is_called_label):
                return None
            problem = f"column {name!r} holds numbers, neither names of behaviours nor 0 and 1"
            raise RecordingError(path, f"{problem}, and no column counts frames or time; {_NAMES}", line=line)
        if not counted and not is_called_label:
            if beside_labels:
                return None
            problem = f"column {name!r} holds numbers that are not 0 and 1, and no column counts frames or time"
            raise RecordingError(path, f"{problem}; {_NAMES}", line=line)
        numbers = dict.fromkeys(f"{value:g}" for value in values.values())
        classes = tuple(numbers)
        code = {cell: classes.index(f"{value:g}") for cell, value in values.items()}
    elif len(distinct) > _MAX_CODES:
        if counted:
            return None
        problem = f"column {name!r} holds {len(distinct)} different texts, which are no behaviours"
        raise RecordingError(path, f"{problem}; are its columns apart by commas, semicolons or tabs?", line=line)
    else:
        classes = tuple(distinct)
        code = {cell: i for i, cell in enumerate(classes)}
    return LabelColumn(name, classes, [code.get(cell) for cell in cells], name in distinct)
