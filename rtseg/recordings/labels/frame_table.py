"""Tables with a row per frame, or per step of time: a column per track, beside a column that counts.

What no column says is not guessed: a table that counts neither frames nor time must have as many rows as frames, and
hold names or 0 and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, Row, has_minutes, is_clock
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.boris_events import VIDEO_COLUMNS, rows_of_video
from rtseg.recordings.labels.label_file import (
    BEYOND_END,
    MAX_DIFFERENCE_S,
    NO_LABEL,
    NumberedBout,
    Tracks,
    Video,
    check_reaches_end,
    paint,
    rate_differs,
    rate_kind,
)

OTHER = "other"
"""The class of 0 in a column of 0 and 1."""
SAY_FROM_ONE = "say first_frame = 1"
"""The mend of a table whose frames count from 1, as its error has it."""
_FRAME_NAMES = ("frame", "frames", "frameidx", "frameindex", "framenumber", "frameno")
_INDEX_NAMES = ("", "index", "unnamed:0")
_LABEL_NAMES = ("label", "labels", "syllable", "syllables", "motif", "motifs", "cluster", "state", "bsoidlabels")
"""Numbers in columns that are called so are labels (Keypoint-MoSeq, VAME, B-SOiD), a row a frame."""
_CODE_NAMES = ("behavior", "behaviour", "annotation", "annotations", "class", "classes", "code", "codes", "category")
"""Columns in which one number alone may be the code of what the animal does all through the video."""
_TIME_UNITS = {"": 1.0, "s": 1.0, "(s)": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "(ms)": 1e-3}
_TIMES = ("time", "times", "timestamp", "timestamps", "t")
_POSE_COLUMN = re.compile(r"[._](x|y|z|p|likelihood|score|confidence)$", re.IGNORECASE)
_RATES = ("fps", "framerate", "framespersecond", "samplerate", "samplingrate", "videofps")
"""Names of columns that say the frame rate."""
_NAMES = "name one 'frame', or, of bouts, call the columns start,stop,behaviour (start_s,stop_s if seconds)"
_MAX_CODES = 50
"""More different whole numbers or texts than this are a measurement or comments, no behaviours."""
_MAX_CLUSTERS = 1000
"""The same of columns whose name says that numbers are labels: clusterings have a hundred."""
_UNCOUNTED_DIFFERENCE = 0.1
"""Share of frames by which a table that counts nothing may differ from its video."""
_MAX_STEP_S = 2.0
"""A row at longer steps is a sample, or an event: nobody looked at what lies between."""
_STEP_TOLERANCE = 0.02
"""By which a step of time may differ from the others, as a share."""
_ROUNDING_S = 1.1e-3
"""Times are written with three decimals or more; this is their error."""


@dataclass(frozen=True)
class _Column:
    """A label column: the class of every row, or None where the cell is empty.

    repeats_name: whether a cell below is the name itself, as where the first line is no header.
    """

    track: str
    classes: tuple[str, ...]
    codes: list[int | None]
    repeats_name: bool


def tracks_of_frame_table(path: Path, table: DelimitedText, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video, one for each column of labels.

    A column holds the behaviour's name, or 0 and 1 (also 0.0 and 1.0, False and True) for a behaviour of its own, with
    the classes 'other' and the column's name; an empty cell is IGNORE. Classes are in the order of their first row.
    Rows are frames 0, 1, 2, ... where a column `frame` (or one without a name, as pandas writes its index) counts
    them or no column counts anything; where a column `time` counts in equal steps, a frame has the row in whose step it
    lies. Of a table of several videos, with a column that names them, the video's own rows are read. Columns of poses
    and measurements are left out with a warning. Raises RecordingError with the line where rows
    do not count so, where there is no label column, and where the rows end more than five seconds before or behind the
    video.
    """
    names = table.rows[0].cells
    if len(table.rows) < 2:
        raise RecordingError(path, "has a header and no rows; export the labels again", line=table.rows[0].line)
    frame, time = _counting_columns(names)
    of_videos = _video_column(names, table.rows[1:])
    rows, of_other_video = rows_of_video(path, table.rows[1:], of_videos, video)
    times = [] if time is None else [row.cells[time] for row in rows]
    longest_s = math.inf if video.open_ended else video.n_frames / video.fps + MAX_DIFFERENCE_S
    style = NumberStyle(path, table.delimiter, has_minutes=has_minutes(times, longest_s))
    warnings = [*table.warnings, *of_other_video]
    if frame is not None:
        _check_frames(path, rows, frame, style, video)
        warnings += [] if time is None else _rate_doubts(names[time], times, style, video)
    warnings += _said_rates(names, rows, style, video)
    _check_names(path, names, counting=[c for c in (frame, time) if c is not None], line=table.rows[0].line)
    columns, left_out = _label_columns(path, [table.rows[0], *rows], (frame, time), of_videos, style)
    warnings += left_out
    if frame is None and time is not None:
        row_of_frame, found = _rows_by_time(path, names, rows, time, style, video)
        warnings += found
    else:
        if frame is None:
            _check_header(path, columns, len(rows), video, line=table.rows[0].line)
        check_reaches_end(path, len(rows), video, line=rows[-1].line)
        # pandas counts the rows of any table, also of bouts under names that nobody knows.
        if (frame is None or _plain(names[frame]) in _INDEX_NAMES) and not video.open_ended:
            _check_row_per_frame(path, len(rows), video)
        row_of_frame = list(range(len(rows)))
    return _paint_columns(path, columns, rows, row_of_frame, video, warnings)


def is_frame_header(names: Sequence[str], below: Sequence[str]) -> bool:
    """Whether a row names a column frame or time, with others beside it, and the row below counts in it."""
    plain = [_plain(name) for name in names]
    counting = [i for i, name in enumerate(plain) if name in _FRAME_NAMES or _time_unit(name) is not None]
    others = [name for i, name in enumerate(names) if name and i not in counting]
    if not counting or not others or any(_is_count(name) for name in others):
        return False
    return all(i < len(below) and _is_count(below[i]) for i in counting)


def _is_count(cell: str) -> bool:
    return is_clock(cell) or _number(cell.replace(",", ".")) is not None


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name).lower()


def _counting_columns(names: Sequence[str]) -> tuple[int | None, int | None]:
    """The columns that count frames and time; None where there is none."""
    plain = [_plain(name) for name in names]
    # A column of frames wins over one of times: it is exact, and both are there in many exports.
    frame = next((i for i, name in enumerate(plain) if name in _FRAME_NAMES), None)
    if frame is None and plain[0] in _INDEX_NAMES:
        frame = 0
    time = next((i for i, name in enumerate(plain) if _time_unit(name) is not None), None)
    return frame, time


def _video_column(names: Sequence[str], rows: Sequence[Row]) -> int | None:
    """The column that names videos; one of numbers alone may be a track, or say nothing of files."""
    for i, name in enumerate(names):
        if _plain(name) in VIDEO_COLUMNS and not all(_is_count(row.cells[i]) for row in rows if row.cells[i]):
            return i
    return None


def _time_unit(plain: str) -> float | None:
    """The seconds that 1 means in a column of that name; None where it is no time."""
    for word in _TIMES:
        unit = plain.removeprefix(word)
        if plain.startswith(word) and unit in _TIME_UNITS:
            return _TIME_UNITS[unit]
    return _TIME_UNITS["s"] if plain in ("seconds", "sec") else None


def _check_names(path: Path, names: Sequence[str], counting: Sequence[int], line: int) -> None:
    own = [name for i, name in enumerate(names) if i not in counting]
    if len(set(own)) != len(own) or "" in own:
        raise RecordingError(path, f"expected different column names, got {', '.join(names)[:120]!r}", line=line)


def _check_frames(path: Path, rows: Sequence[Row], column: int, style: NumberStyle, video: Video) -> None:
    for t, row in enumerate(rows, start=video.first_frame):
        number = style.parse_number(row.cells[column], row.line, f"frame {t}")
        if number != t:
            problem = f"expected frame {t}, got {row.cells[column][:40]!r}; frames count from {video.first_frame}"
            if number == t + 1:
                problem += f"; {SAY_FROM_ONE} in the dataset file where they count from 1"
            raise RecordingError(path, problem, line=row.line)


def _rate_doubts(name: str, times: Sequence[str], style: NumberStyle, video: Video) -> list[ReadingWarning]:
    """A warning where times beside frames are of another rate; none where they are no times of a video."""
    unit = _time_unit(_plain(name)) or 1.0
    try:
        seconds = [style.parse_time(cell, 0) * unit for cell in times]
    except RecordingError:
        return []  # such as the time of day, of which nothing is taken
    return rate_differs(range(len(seconds)), seconds, video)


def _said_rates(names: Sequence[str], rows: Sequence[Row], style: NumberStyle, video: Video) -> list[ReadingWarning]:
    """Warnings about columns that say another frame rate than the recording's."""
    rates = {row.cells[i] for i, name in enumerate(names) if _plain(name) in _RATES for row in rows}
    said = sorted(rate for cell in rates if (rate := _number(style.with_point(cell, rows[0].line))))
    kinds = [rate_kind("a column of the labels", f"{rate:g}", video) for rate in said if rate != video.fps]
    return [ReadingWarning(f"{kind}; the frames are taken", 1, "file") for kind in kinds]


def _check_header(path: Path, columns: Sequence[_Column], n_rows: int, video: Video, line: int) -> None:
    """Raise where the first line may be the labels of the first frame: all others would then be a frame early."""
    for column in columns:
        # With a row for every frame besides, the first line can only be a header.
        is_value = column.repeats_name and n_rows != video.n_frames and not video.open_ended
        if is_value or _number(column.track) is not None:
            problem = f"{column.track!r} stands in the first line and in others below, so that it may be no header"
            raise RecordingError(path, f"{problem}; put the names of the columns above, 'frame' among them", line=line)


def _check_row_per_frame(path: Path, n_rows: int, video: Video) -> None:
    """Raise unless a table that counts nothing has about a row per frame: that number is all that says what it is."""
    difference = abs(n_rows - video.n_frames)
    beyond = n_rows - video.n_frames > MAX_DIFFERENCE_S * video.fps  # which painting refuses, with the line
    if difference > max(1, _UNCOUNTED_DIFFERENCE * video.n_frames) and not beyond:
        problem = f"no column counts frames or time, and {n_rows} rows are not the {video.n_frames} frames of the video"
        raise RecordingError(path, f"{problem}; name a column 'frame' or 'time', or the columns start,stop,behaviour")


def _label_columns(
    path: Path,
    header_and_rows: Sequence[Row],
    counting: tuple[int | None, int | None],
    of_videos: int | None,
    style: NumberStyle,
) -> tuple[list[_Column], list[ReadingWarning]]:
    """The columns of labels, and a warning about the others.

    counting: the columns of frames and of times. of_videos: the one that says which video a row is of.
    """
    (line, names), rows = header_and_rows[0], header_and_rows[1:]
    counted = counting != (None, None)
    has_label_name = any(_plain(name) in _LABEL_NAMES for name in names)
    columns = []
    n_left_out = 0
    for i, name in enumerate(names):
        if i in (*counting, of_videos):
            continue
        cells = [style.with_point(row.cells[i], row.line) for row in rows]
        # By name before by value: a likelihood that is 1.0 throughout looks like a behaviour.
        is_said = bool(_POSE_COLUMN.search(name)) or _plain(name) in _RATES
        column = None if is_said else _read_column(path, name, cells, counted, has_label_name, line)
        if column is None:
            n_left_out += 1
        else:
            columns.append(column)
    if not columns:
        problem = "has no column of labels; expected one per track beside 'frame' or 'time', or start,stop,behaviour"
        raise RecordingError(path, problem, line=line)
    kind = "columns of poses and measurements are no labels and are left out"
    return columns, [ReadingWarning(kind, n_left_out, "columns")] if n_left_out else []


def _read_column(
    path: Path, name: str, cells: Sequence[str], counted: bool, beside_labels: bool, line: int
) -> _Column | None:
    """A column of labels; None for one of measurements. line: of the header.

    counted: whether the table counts frames or time. Where it does not, numbers that are not 0 and 1 may as well be the
    starts and stops of bouts under names that nobody knows, so that such a table is refused, unless the column's name
    says what they are. beside_labels: whether that of a column does; others are measurements then.
    """
    is_called_label = _plain(name) in _LABEL_NAMES
    most_codes = _MAX_CLUSTERS if is_called_label else _MAX_CODES
    distinct = dict.fromkeys(cell for cell in cells if cell.lower() not in NO_LABEL)
    if not distinct:
        raise RecordingError(path, f"column {name!r} is empty; fill or remove it", line=line)
    values = {cell: _number(cell) for cell in distinct}
    # Under a name that says so, 0 and 1 are numbers of clusters as well, in a video that has no others.
    if not is_called_label and all(value in (0.0, 1.0) for value in values.values()):
        classes: tuple[str, ...] = (OTHER, name)
        code = {cell: int(value or 0) for cell, value in values.items()}
    elif all(value is not None for value in values.values()):
        # One number all through is a setting, such as a temperature; codes of behaviours have a name that says so.
        is_setting = len(distinct) == 1 and counted and not (is_called_label or _plain(name) in _CODE_NAMES)
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
    return _Column(name, classes, [code.get(cell) for cell in cells], name in distinct)


def _number(cell: str) -> float | None:
    """A finite number, with True and False as 1 and 0; None for any other cell."""
    truth = {"true": 1.0, "false": 0.0}.get(cell.lower())
    if truth is not None:
        return truth
    return float(cell) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", cell) else None


def _rows_by_time(
    path: Path, names: Sequence[str], rows: Sequence[Row], column: int, style: NumberStyle, video: Video
) -> tuple[list[int | None], list[ReadingWarning]]:
    """For every frame of the video the row in whose step of time it lies, None before the first and behind the last."""
    is_written_out = any(is_clock(row.cells[column]) for row in rows)
    unit = 1.0 if is_written_out else _time_unit(_plain(names[column])) or 1.0
    times = [style.parse_time(row.cells[column], row.line) * unit for row in rows]
    if len(times) < 2:
        raise RecordingError(
            path, "has a column of times and one row, so that the step is not known", line=rows[0].line
        )
    step = (times[-1] - times[0]) / (len(times) - 1)
    for row, (before, after) in zip(rows[1:], pairwise(times), strict=True):
        if not abs(after - before - step) <= max(_STEP_TOLERANCE * step, 2 * _ROUNDING_S) or not step > 0:
            problem = f"expected times in equal steps of {step:.4g} s, got one of {after - before:.4g} s"
            raise RecordingError(path, f"{problem}; export every step, or bouts", line=row.line)
    if step > _MAX_STEP_S:
        problem = f"expected a row for every step of {_MAX_STEP_S:g} s or less, got steps of {step:.4g} s"
        problem = f"{problem}, between which nobody may have looked; bring bouts with start_s,stop_s,behaviour"
        raise RecordingError(path, problem, line=rows[0].line)
    _check_begins(path, times[0], step, rows, video)
    # Compared with the times as they stand, rounded, rather than with multiples of the step, whose error adds up.
    tolerance = min(_ROUNDING_S, 0.3 * step)
    end = round((times[-1] + step) * video.fps)
    n_frames = end if video.open_ended else video.n_frames
    frame_times = np.arange(n_frames) / video.fps + tolerance
    places = np.searchsorted(np.asarray(times), frame_times, side="right") - 1
    # The last row lasts one step, too.
    behind = frame_times >= times[-1] + step
    chosen = [int(row) if row >= 0 and not late else None for row, late in zip(places, behind, strict=True)]
    check_reaches_end(path, end, video, line=rows[-1].line)
    if end - n_frames > MAX_DIFFERENCE_S * video.fps:
        problem = f"goes on for {(end - n_frames) / video.fps:.1f} s behind the video; check that both belong together"
        raise RecordingError(path, problem, line=rows[-1].line)
    found = [ReadingWarning(BEYOND_END, end - n_frames)] if end > n_frames else []
    if times[0] > step + tolerance:
        kind = "times begin later than at 0, and frames before them have no label; subtract what the clock began with"
        found.append(ReadingWarning(kind, round(times[0] * video.fps)))
    return chosen, found


def _check_begins(path: Path, begin: float, step: float, rows: Sequence[Row], video: Video) -> None:
    """Raise where a table has a row for each frame and its clock began elsewhere: all labels would be late."""
    is_row_per_frame = not video.open_ended and abs(len(rows) - video.n_frames) <= 1 and step < 1.5 / video.fps
    if is_row_per_frame and begin > step + _ROUNDING_S:
        problem = f"has a row for each of the video's {video.n_frames} frames, and its times begin at {begin:.4g} s"
        raise RecordingError(path, f"{problem}; subtract that, or name a column 'frame'", line=rows[0].line)


def _paint_columns(
    path: Path,
    columns: Sequence[_Column],
    rows: Sequence[Row],
    row_of_frame: Sequence[int | None],
    video: Video,
    warnings: Sequence[ReadingWarning],
) -> Tracks:
    tracks = Tracks()
    for column in columns:
        bouts = [
            NumberedBout(Bout(t, t + 1, code), rows[row].line)
            for t, row in enumerate(row_of_frame)
            if row is not None and (code := column.codes[row]) is not None
        ]
        tracks[column.track] = paint(path, column.track, column.classes, bouts, video, warnings)
    return tracks
