"""Tables with a row per frame, or per step of time: a column per track, beside a column that counts.

What no column says is not guessed: a table that counts neither frames nor time must have as many rows as frames, and
hold names or 0 and 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.column_names import counts_frames, is_index, is_rate, plain_name, time_unit
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, Row, has_minutes, is_clock
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.boris_events import VIDEO_COLUMNS, rows_of_video
from rtseg.recordings.labels.frame_tables.columns import (
    LabelColumn,
    is_count,
    label_columns,
    number_in,
)
from rtseg.recordings.labels.frame_tables.time_steps import rows_by_time
from rtseg.recordings.labels.label_file import (
    MAX_DIFFERENCE_S,
    NumberedBout,
    Tracks,
    Video,
    check_reaches_end,
    counted_at_another_rate,
    paint,
    rate_differs,
    rate_kind,
)

SAY_FROM_ONE = "say first_frame = 1"
"""The mend of a table whose frames count from 1, as its error has it."""
FIRST_FRAMES = (
    "rows are fewer than frames, and are taken for the first ones; a program that looks at stretches of frames (VAME) "
    "leaves some out at the beginning: write a column frame then"
)
"""The kind of warning about a table that counts nothing and is short."""
_MARKS = frozenset({"start", "stop", "end", "begin", "point", "state start", "state stop", "state point"})
_UNCOUNTED_DIFFERENCE = 0.1
"""Share of frames by which a table that counts nothing may differ from its video."""


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
    frame, time = _counting_columns(names, table.rows[1].cells)
    index = 0 if frame != 0 and time != 0 and is_index(names[0]) else None
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
    counting = [column for column in (frame, time, index) if column is not None]
    _check_names(path, names, counting, line=table.rows[0].line)
    columns, left_out = label_columns(path, [table.rows[0], *rows], counting, of_videos, style)
    _check_no_events(path, columns, line=table.rows[0].line)
    warnings += left_out
    if frame is None and time is not None:
        row_of_frame, found = rows_by_time(path, names, rows, time, style, video)
        warnings += found
    else:
        if frame is None:
            _check_header(path, columns, len(rows), video, line=table.rows[0].line)
        check_reaches_end(path, len(rows), video, line=rows[-1].line)
        _check_not_rows_of_poses(path, len(rows), video)
        warnings += counted_at_another_rate(len(rows), video)
        # pandas counts the rows of any table, also of bouts under names that nobody knows.
        if (frame is None or is_index(names[frame])) and not video.open_ended:
            warnings += _check_row_per_frame(path, len(rows), video)
        row_of_frame = list(range(len(rows)))
    return _paint_columns(path, columns, rows, row_of_frame, video, warnings)


def is_frame_header(names: Sequence[str], below: Sequence[str]) -> bool:
    """Whether a row names a column frame or time, with others beside it, and the row below counts in it."""
    counting = [i for i, name in enumerate(names) if counts_frames(name) or time_unit(name) is not None]
    others = [name for i, name in enumerate(names) if name and i not in counting]
    if not counting or not others or any(is_count(name) for name in others):
        return False
    return all(i < len(below) and is_count(below[i]) for i in counting)


def _counting_columns(names: Sequence[str], below: Sequence[str]) -> tuple[int | None, int | None]:
    """The columns that count frames and time; None where there is none. below: the first row under the names."""
    # A column of frames wins over one of times: it is exact, and both are there in many exports.
    frame = next((i for i, name in enumerate(names) if counts_frames(name)), None)
    time = next((i for i, name in enumerate(names) if time_unit(name) is not None), None)
    if frame is None and is_index(names[0]):
        if time is None and below and is_clock(below[0]):  # DeepOF's index
            return None, 0
        frame = 0
    return frame, time


def _video_column(names: Sequence[str], rows: Sequence[Row]) -> int | None:
    """The column that names videos; one of numbers alone may be a track, or say nothing of files."""
    for i, name in enumerate(names):
        if plain_name(name) in VIDEO_COLUMNS and not all(is_count(row.cells[i]) for row in rows if row.cells[i]):
            return i
    return None


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
    unit = time_unit(name) or 1.0
    try:
        seconds = [style.parse_time(cell, 0) * unit for cell in times]
    except RecordingError:
        return []  # such as the time of day, of which nothing is taken
    return rate_differs(range(len(seconds)), seconds, video)


def _said_rates(names: Sequence[str], rows: Sequence[Row], style: NumberStyle, video: Video) -> list[ReadingWarning]:
    """Warnings about columns that say another frame rate than the recording's."""
    rates = {row.cells[i] for i, name in enumerate(names) if is_rate(name) for row in rows}
    said = sorted(rate for cell in rates if (rate := number_in(style.with_point(cell, rows[0].line))))
    kinds = [rate_kind("a column of the labels", f"{rate:g}", video) for rate in said if rate != video.fps]
    return [ReadingWarning(f"{kind}; the frames are taken", 1, "file") for kind in kinds]


def _check_no_events(path: Path, columns: Sequence[LabelColumn], line: int) -> None:
    """Raise for a list of starts and stops: what lies between two of them is none of its rows."""
    for column in columns:
        if {name.lower() for name in column.classes} <= _MARKS:
            problem = f"column {column.track!r} says starts and stops, so that its rows are events and no steps"
            raise RecordingError(path, f"{problem}; bring bouts with start_s,stop_s,behaviour", line=line)


def _check_header(path: Path, columns: Sequence[LabelColumn], n_rows: int, video: Video, line: int) -> None:
    """Raise where the first line may be the labels of the first frame: all others would then be a frame early."""
    for column in columns:
        # With a row for every frame besides, the first line can only be a header.
        is_value = column.repeats_name and n_rows != video.n_frames and not video.open_ended
        if is_value or number_in(column.track) is not None:
            problem = f"{column.track!r} stands in the first line and in others below, so that it may be no header"
            raise RecordingError(path, f"{problem}; put the names of the columns above, 'frame' among them", line=line)


def _check_row_per_frame(path: Path, n_rows: int, video: Video) -> list[ReadingWarning]:
    """Raise unless a table that counts nothing has about a row per frame: that number is all that says what it is.

    A warning where rows are fewer: which frames they leave out nothing says.
    """
    difference = abs(n_rows - video.n_frames)
    beyond = n_rows - video.n_frames > MAX_DIFFERENCE_S * video.fps  # which painting refuses, with the line
    if difference > max(1, _UNCOUNTED_DIFFERENCE * video.n_frames) and not beyond:
        problem = f"no column counts frames or time, and {n_rows} rows are not the {video.n_frames} frames of the video"
        raise RecordingError(path, f"{problem}; name a column 'frame' or 'time', or the columns start,stop,behaviour")
    fewer = video.n_frames - n_rows
    return [ReadingWarning(FIRST_FRAMES, fewer)] if fewer > 1 else []


def _check_not_rows_of_poses(path: Path, n_rows: int, video: Video) -> None:
    """Raise where poses lack frames and labels have as many rows as they: behind a gap all labels would be early."""
    if not video.open_ended and 0 < video.n_tracked < video.n_frames and n_rows == video.n_tracked:
        problem = (
            f"has {n_rows} rows, as many as the poses, which lack {video.n_frames - n_rows} of the video's "
            f"{video.n_frames} frames: nothing says which frames the rows are. Add a row for each frame that is lacking"
        )
        raise RecordingError(path, f"{problem}, or bring bouts with start,stop,behaviour")


def _paint_columns(
    path: Path,
    columns: Sequence[LabelColumn],
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
