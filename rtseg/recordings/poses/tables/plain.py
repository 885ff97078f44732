"""Plain tables of poses, for trackers whose own format is not read here, and SLEAP's CSV.

Two layouts with one header row: wide (one row per frame) and long (one row per frame and track, as SLEAP exports it).
What the columns are, by their names, says `columns`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.files.column_names import counts_frames, is_rate, time_unit
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, delimiter_of, read_delimited, wrong_width
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.naming import natural_order
from rtseg.recordings.poses.layout import SINGLE_ANIMAL, Column
from rtseg.recordings.poses.pose_file import (
    DEFAULT_FPS,
    MAX_RATE,
    MIN_RATE,
    RATE_TOLERANCE,
    PoseReader,
    assumed_rate,
    check_rate,
    float32_of,
    recording_from_columns,
    whole_rate,
)
from rtseg.recordings.poses.sleap import RUN_TRACKING, TWICE, UNTRACKED, pieces_of_tracks
from rtseg.recordings.poses.tables.columns import (
    frame_column,
    is_depth,
    is_place,
    is_unclear,
    is_whose,
    points_of,
)
from rtseg.recordings.recording import Recording

LAYOUTS = (
    "'frame,animal.keypoint.x,animal.keypoint.y,animal.keypoint.score,...' "
    "or 'track,frame_idx,keypoint.x,keypoint.y,keypoint.score,...'"
)
_TRACK, _INSTANCE_SCORE = "track", "instance.score"
_NO_TRACK = re.compile(r"^(nan|none|null|na|<na>|n/a|-\d+(\.0*)?)$", re.IGNORECASE)
"""How programs other than SLEAP write that an instance has no track: an empty cell, or -1, as many trackers count."""
_MAX_FRAME = 10**9


@dataclass(frozen=True)
class Header:
    """Which column of a table is which.

    names: all columns, as written. frame: the column that counts frames. track, instance_score: None where there is no
    such column. points: column number -> (animal or '', keypoint, coordinate). others: the columns that are none of
    these, save those of SLEAP's instances.
    """

    names: list[str]
    frame: int
    track: int | None
    instance_score: int | None
    points: dict[int, Column]
    others: list[int]


@dataclass(frozen=True)
class PoseTable:
    """Columns (C), frame numbers (T,), values (T, C) and warnings of a table. rate: fps, where a column says it."""

    columns: list[Column]
    index: NDArray[np.int64]
    values: NDArray[np.float32]
    warnings: list[ReadingWarning]
    rate: float | None


@dataclass(frozen=True)
class _Values:
    """The points of one track in one frame. line: of the file. score: the instance's, where SLEAP wrote one."""

    line: int
    numbers: list[float]
    score: float


def is_poses_csv(probe: FileProbe) -> bool:
    """Whether the first line is the header of such a table."""
    # Excel's own first line, where there is one, says the delimiter.
    lines = probe.lines[1:] if probe.lines[0].strip(' "').startswith("sep=") else probe.lines
    delimiter = delimiter_of(lines)
    return bool(lines) and is_header([cell.strip(' "') for cell in lines[0].split(delimiter)])


def is_header(names: Sequence[str]) -> bool:
    """Whether these are the names of the columns of such a table."""
    return frame_column(names) is not None and bool(points_of(names).columns)


def read_poses_csv(path: Path, *, fps: float | None = None, name: str | None = None) -> Recording:
    """A Recording from a plain CSV.

    wide: `frame` and, for every animal and keypoint, `animal.keypoint.x`, `.y` and, optionally, `.score`; without
    `animal.` there is one animal, as with `keypoint_x`, `keypoint_y`, unless the names tell several (`Nose_1_x`,
    `Nose_2_x`, as SimBA's, or `mouse1_nose_x`, `mouse2_nose_x`; see `columns.points_of`). long: `track`, `frame_idx`
    and `keypoint.x`, `.y`, `.score`; SLEAP's `instance.score` chooses between two instances on one track. Tracks
    are in the order of their names, which is that of SLEAP's own list, so that it does not matter which one is seen
    first. Frames count from 0; empty cells are missing points; skipped frames are filled, with a count. Semicolons,
    tabs, quotes and decimal commas are read as well. fps: None = that of a column `fps`, or of a column of times, else
    30 with a warning; further columns are left out with one. Raises RecordingError with the line for wrong column
    counts, cells that are no numbers, frames out of order, several instances in a frame without tracks, columns that
    tell rows of several animals or videos apart, and a rate that is not `fps`.
    """
    return recording_of_table(path, read_delimited(path), fps=fps, name=name)


def recording_of_table(path: Path, table: DelimitedText, *, fps: float | None, name: str | None) -> Recording:
    """The same from the rows of such a table, wherever they come from."""
    header = read_header(path, table)
    poses = poses_of_table(path, table)
    rate, warnings = poses.rate, [*table.warnings, *poses.warnings]
    if rate is None:
        rate, doubts = _rate_by_times(path, table, header)
        warnings += doubts
    check_rate(path, rate, fps)
    if fps is None and rate is None:
        warnings.append(assumed_rate())
    own_rate = fps or rate or DEFAULT_FPS
    recording = recording_from_columns(
        path, poses.columns, poses.index, poses.values, warnings, fps=own_rate, name=name
    )
    if header.track is None:
        return recording
    return replace(recording, warnings=(*recording.warnings, *pieces_of_tracks(recording.keypoints)))


def poses_of_table(path: Path, table: DelimitedText) -> PoseTable:
    """What such a table holds; raises as `read_poses_csv`."""
    header = read_header(path, table)
    # First, because rows of several animals repeat their frames, and the column says why.
    rate, left_out = _other_columns(path, table, header)
    by_track, warnings = _values_by_track(path, table, header)
    if not by_track:
        raise RecordingError(path, "has a header and no frames; export it again", line=table.rows[0].line)
    # In the order of appearance, whoever is seen first would be the resident.
    tracks = sorted(by_track, key=natural_order)
    points = list(header.points.values())
    animals = dict.fromkeys(animal for animal, _, _ in points)
    if len(animals) > 1 and not all(f"{animal}." in "".join(header.names) for animal in animals):
        kind = f"points with an animal's name or number beside their own are taken as those of {', '.join(animals)}"
        warnings.append(ReadingWarning(kind, len(points), "columns"))
    columns = [
        (track if header.track is not None else animal or SINGLE_ANIMAL, keypoint, coord)
        for track in tracks
        for animal, keypoint, coord in points
    ]
    index, values = _join([by_track[track] for track in tracks], len(points))
    return PoseTable(columns, index, values, [*warnings, *left_out], rate)


def read_header(path: Path, table: DelimitedText) -> Header:
    """The columns by a table's first row. Raises RecordingError for three dimensions, and without frames or points."""
    names, line = table.rows[0].cells, table.rows[0].line
    lower = [name.lower() for name in names]
    frame = frame_column(names)
    found = points_of(names)
    points = found.columns
    if frame is None or not points:
        raise RecordingError(
            path, f"expected the header {LAYOUTS}, got {table.delimiter.join(names)[:60]!r}", line=line
        )
    track = lower.index(_TRACK) if _TRACK in lower else None
    if track is not None and any(animal for animal, _, _ in points.values()):
        raise RecordingError(path, "has a column 'track' and animals in the column names; keep one of them", line=line)
    if found.mixed:
        problem = f"{found.mixed[0]!r} seems to have an animal's name before its own, and {found.mixed[1]!r} has none"
        raise RecordingError(path, f"{problem}; write it before all of them, or no dot within a name", line=line)
    known = {frame, track, *points}
    others = [i for i, name in enumerate(lower) if i not in known and not name.startswith("instance.")]
    # Leaving z out would be a projection that nobody asked for.
    if depth := next((names[i] for i in others if is_depth(names[i])), None):
        raise RecordingError(path, f"column {depth!r}: expected x and y; only 2-D tracks are read", line=line)
    own = [names[i] for i in points]
    if unclear := next((names[i] for i in others if is_unclear(names[i], own)), None):
        problem = f"column {unclear!r} is of a point and neither x, y nor score"
        raise RecordingError(path, f"{problem}; call it score if it is a likelihood, else remove it", line=line)
    if mixed := next((names[i] for i in others if is_place(names[i]) and names[i] not in found.no_places), None):
        problem = (
            f"column {mixed!r} has its coordinate behind another sign than {own[0]!r}; write one of both everywhere"
        )
        raise RecordingError(path, problem, line=line)
    if again := next((names[i] for i in others if counts_frames(names[i])), None):
        problem = f"columns {names[frame]!r} and {again!r} both count frames; keep the one of the video's"
        raise RecordingError(path, problem, line=line)
    score = lower.index(_INSTANCE_SCORE) if _INSTANCE_SCORE in lower else None
    return Header(names, frame, track, score, points, others)


def _other_columns(path: Path, table: DelimitedText, header: Header) -> tuple[float | None, list[ReadingWarning]]:
    """The rate that a column says, and a warning about those that are left out.

    Raises RecordingError where one tells rows of several animals or videos apart: they would be taken for one's.
    """
    style = NumberStyle(path, table.delimiter)
    rows = [row for row in table.rows[1:] if len(row.cells) == len(header.names)]
    rate = None
    left_out = []
    for i in header.others:
        name, cells = header.names[i], list(dict.fromkeys(row.cells[i] for row in rows if row.cells[i]))
        # A value of its own in every row is a picture's name, or a row's number.
        if is_whose(name) and 1 < len(cells) < len(rows):
            problem = f"column {name!r} has several values ({', '.join(cells[:2])}, ...)"
            mend = "call it 'track' where it says which animal a row is of; rows of several videos need a file for each"
            raise RecordingError(path, f"{problem}; {mend}; else remove it", line=table.rows[0].line)
        if is_rate(name) and len(cells) == 1:
            own = style.parse_number(cells[0], rows[0].line, f"frames per second in column {name!r}")
            if own > 0:
                rate = own
                continue
        left_out.append(name)
    kind = f"columns that are no points are left out: {', '.join(left_out)}"
    return rate, [ReadingWarning(kind, len(left_out), "columns")] if left_out else []


def _rate_by_times(path: Path, table: DelimitedText, header: Header) -> tuple[float | None, list[ReadingWarning]]:
    """The rate by a column of times beside the frames, None where there is none of a video's, and a doubt about it."""
    column = next((i for i in header.others if time_unit(header.names[i]) is not None), None)
    if column is None:
        return None, []
    name, style = header.names[column], NumberStyle(path, table.delimiter)
    unit = time_unit(name) or 1.0
    try:
        pairs = [
            (_frame(path, row.cells[header.frame], style, row.line), style.parse_time(row.cells[column], row.line))
            for row in table.rows[1:]
        ]
    except RecordingError:
        return None, []  # such as a date, of which nothing is taken
    frames, times = np.array(pairs, np.float64).T * [[1.0], [unit]]
    apart = np.diff(frames) > 0  # a long layout has a frame several times
    steps = np.diff(times)[apart] / np.diff(frames)[apart]
    if not len(steps) or not np.isfinite(times).all() or not (steps > 0).all():
        return None, []
    rate = float((frames[-1] - frames[0]) / (times[-1] - times[0]))
    doubts = []
    if not MIN_RATE <= rate <= MAX_RATE and MIN_RATE <= 1000 * rate <= MAX_RATE:
        steps, rate = steps / 1000, 1000 * rate
        doubts = [ReadingWarning(f"times in column {name!r} are taken as milliseconds", 1, "file")]
    if not MIN_RATE <= rate <= MAX_RATE:
        kind = f"times in column {name!r} are {1 / rate:.4g} s apart, which no video's are, and say no frame rate"
        return None, [ReadingWarning(kind, 1, "file")]
    rate = float(whole_rate(rate))
    if abs(float(np.median(steps)) * rate - 1) <= RATE_TOLERANCE:
        return rate, doubts
    kind = f"times in column {name!r} keep no steady rate, and frames are taken as {1 / rate:.4g} s apart"
    return rate, [*doubts, ReadingWarning(f"{kind}; number the frames that the camera dropped", 1, "file")]


def _values_by_track(
    path: Path, table: DelimitedText, header: Header
) -> tuple[dict[str, dict[int, _Values]], list[ReadingWarning]]:
    """Track ('' where there is none) -> frame -> values, and warnings about rows that are left out."""
    style = NumberStyle(path, table.delimiter)
    by_track: dict[str, dict[int, _Values]] = {}
    n_untracked = n_twice = 0
    before: dict[str, int] = {}
    # Without any track the file may hold one animal, which needs none; SLEAP leaves the column empty then.
    has_tracks = header.track is not None and any(_track(row.cells, header.track) for row in table.rows[1:])
    for row in table.rows[1:]:
        if len(row.cells) != len(header.names):
            raise wrong_width(path, row, len(header.names), last=row is table.rows[-1])
        track = _track(row.cells, header.track)
        if has_tracks and not track:
            n_untracked += 1
            continue
        frame = _frame(path, row.cells[header.frame], style, row.line)
        numbers = [
            style.parse_number(row.cells[i], row.line, f"a number in column {header.names[i]!r}") for i in header.points
        ]
        style.look_for_thousands([row.cells[i] for i in header.points], row.line)
        score = _cell(row.cells, header.instance_score)
        values = _Values(row.line, numbers, style.parse_number(score, row.line) if score else 0.0)
        frames = by_track.setdefault(track or (SINGLE_ANIMAL if header.track is not None else ""), {})
        # The tracker put two instances on one track; the more certain one is the better guess, and is counted.
        if frame in frames and header.track is not None and has_tracks:
            n_twice += 1
            if values.score > frames[frame].score:
                frames[frame] = values
            continue
        _check_order(path, frame, before.get(track, -1), row.line, untracked=header.track is not None)
        frames[frame], before[track] = values, frame
    style.refuse_thousands()
    counts = ((UNTRACKED, n_untracked), (TWICE, n_twice))
    return by_track, [ReadingWarning(kind, n, "instances") for kind, n in counts if n]


def _check_order(path: Path, frame: int, before: int, line: int, *, untracked: bool) -> None:
    if frame > before:
        return
    if frame < before:
        problem = f"frame {frame} comes after frame {before}; sort the rows and remove doubles"
    elif untracked:
        problem = f"frame {frame} holds several instances without a track; {RUN_TRACKING}"
    else:
        problem = f"frame {frame} comes twice; sort the rows and remove doubles"
    raise RecordingError(path, problem, line=line)


def _join(tracks: Sequence[dict[int, _Values]], n_points: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Frame indices (T,) and values (T, tracks * n_points), NaN where a track has no row."""
    index = np.array(sorted({frame for track in tracks for frame in track}), np.int64)
    place = {int(frame): t for t, frame in enumerate(index)}
    values = np.full((len(index), len(tracks) * n_points), np.nan, np.float32)
    for a, track in enumerate(tracks):
        for frame, found in track.items():
            values[place[frame], a * n_points : (a + 1) * n_points] = float32_of(found.numbers)
    return index, values


def _cell(cells: Sequence[str], column: int | None) -> str:
    return cells[column] if column is not None and column < len(cells) else ""


def _track(cells: Sequence[str], column: int | None) -> str:
    """The track that a row names, '' where it names none."""
    cell = _cell(cells, column)
    return "" if _NO_TRACK.match(cell) else cell


def _frame(path: Path, cell: str, style: NumberStyle, line: int) -> int:
    number = style.parse_number(cell, line, "a frame number from 0 on")
    if not 0 <= number < _MAX_FRAME or number != int(number):
        raise RecordingError(path, f"expected a frame number from 0 on, got {cell[:60]!r}", line=line)
    return int(number)


def _read_recordings(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
    yield read_poses_csv(path, fps=fps, name=name)


READER = PoseReader(
    "plain .csv with the columns frame, animal.keypoint.x, animal.keypoint.y",
    (".csv", ".tsv"),
    is_poses_csv,
    _read_recordings,
    carries_rate=True,
)
