"""Plain CSV of poses, for trackers whose own format is not read here, and SLEAP's CSV.

Two layouts with one header row: wide (one row per frame) and long (one row per frame and track, as SLEAP exports it).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, delimiter_of, read_delimited, wrong_width
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.naming import natural_order
from rtseg.recordings.poses.pose_file import (
    SINGLE_ANIMAL,
    Column,
    PoseReader,
    float32_of,
    one_recording,
    recording_from_columns,
)
from rtseg.recordings.poses.sleap import RUN_TRACKING, TWICE, UNTRACKED, pieces_of_tracks
from rtseg.recordings.recording import Recording

LAYOUTS = (
    "'frame,animal.keypoint.x,animal.keypoint.y,animal.keypoint.score,...' "
    "or 'track,frame_idx,keypoint.x,keypoint.y,keypoint.score,...'"
)
_FRAME = ("frame", "frame_idx", "frameindex", "frame_index")
_TRACK, _INSTANCE_SCORE = "track", "instance.score"
_POINT = re.compile(
    r"^(?:(?P<animal>[^.]+)\.)?(?P<keypoint>[^.]+)\.(?P<coord>x|y|score|confidence|likelihood)$", re.IGNORECASE
)
_INDEX = ("", "index", "unnamed: 0")
"""What pandas calls the index that it writes beside the points, as SimBA does."""
_POINT_WITH_UNDERSCORE = re.compile(r"^(?P<keypoint>.+)_(?P<coord>x|y|p|score|confidence|likelihood)$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?P<keypoint>.+)_(?P<animal>\d+)$")
_NAMED = re.compile(r"^(?P<animal>[^_]+)_(?P<keypoint>.+)$")
_ONCE_IN_AN_ANIMAL = frozenset({"nose", "snout", "head", "tailbase", "center", "centre", "centroid"})
_SIDES = frozenset({"left", "right", "l", "r", "upper", "lower", "top", "bottom", "front", "back", "rear", "hind"})
"""What stands before a keypoint and is no animal."""
_ONCE_IN_A_BODY = frozenset({"nose", "snout", "tailbase"})
"""The same of names that begin with a word: head_center and tail_center are points of one animal."""
_MAX_FRAME = 10**9


@dataclass(frozen=True)
class Header:
    """Which column of a table is which.

    names: all columns, as written. frame: the column that counts frames. track, instance_score: None where there is no
    such column. points: column number -> (animal or '', keypoint, coordinate).
    """

    names: list[str]
    frame: int
    track: int | None
    instance_score: int | None
    points: dict[int, Column]


@dataclass(frozen=True)
class _Values:
    """The points of one track in one frame. line: of the file. score: the instance's, where SLEAP wrote one."""

    line: int
    numbers: list[float]
    score: float


def is_poses_csv(probe: FileProbe) -> bool:
    """Whether the first line is the header of such a table."""
    delimiter = delimiter_of(probe.lines)
    cells = [cell.strip(' "') for cell in probe.lines[0].split(delimiter)]
    return _frame_column(cells) is not None and bool(_points_of(cells))


def read_poses_csv(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a plain CSV.

    wide: `frame` and, for every animal and keypoint, `animal.keypoint.x`, `.y` and, optionally, `.score`; without
    `animal.` there is one animal, as with `keypoint_x`, `keypoint_y`, unless the names tell several (`Nose_1_x`,
    `Nose_2_x`, as SimBA's, or `mouse1_nose_x`, `mouse2_nose_x`; see `_several_animals`). long: `track`, `frame_idx`
    and `keypoint.x`, `.y`, `.score`; SLEAP's `instance.score` chooses between two instances on one track. Tracks
    are in the order of their names, which is that of SLEAP's own list, so that it does not matter which one is seen
    first. Frames count from 0; empty cells are missing points; skipped frames are filled, with a count. Semicolons,
    tabs, quotes and decimal commas are read as well. Raises RecordingError with the line for wrong column counts,
    cells that are no numbers, frames out of order, and several instances in a frame without tracks.
    """
    table = read_delimited(path)
    columns, index, values, warnings = poses_of_table(path, table)
    warnings = [*table.warnings, *warnings]
    recording = recording_from_columns(path, columns, index, values, warnings, fps=fps, name=name)
    if _TRACK not in map(str.lower, table.rows[0].cells):
        return recording
    return replace(recording, warnings=(*recording.warnings, *pieces_of_tracks(recording.keypoints)))


def poses_of_table(
    path: Path, table: DelimitedText
) -> tuple[list[Column], NDArray[np.int64], NDArray[np.float32], list[ReadingWarning]]:
    """Columns (C), frame numbers (T,), values (T, C) and warnings of such a table; raises as `read_poses_csv`."""
    header = read_header(path, table)
    by_track, warnings = _values_by_track(path, table, header)
    if not by_track:
        raise RecordingError(path, "has a header and no frames; export it again", line=table.rows[0].line)
    # In the order of appearance, whoever is seen first would be the resident.
    tracks = sorted(by_track, key=natural_order)
    points = list(header.points.values())
    animals = dict.fromkeys(animal for animal, _, _ in points)
    if len(animals) > 1 and not any("." in name for name in header.names):
        kind = f"points with an animal's name or number beside their own are taken as those of {', '.join(animals)}"
        warnings.append(ReadingWarning(kind, len(points), "columns"))
    columns = [
        (track if header.track is not None else animal or SINGLE_ANIMAL, keypoint, coord)
        for track in tracks
        for animal, keypoint, coord in points
    ]
    index, values = _join([by_track[track] for track in tracks], len(points))
    return columns, index, values, warnings


def read_header(path: Path, table: DelimitedText) -> Header:
    """The columns by a table's first row. Raises RecordingError for columns that are not known, and without points."""
    names, line = table.rows[0].cells, table.rows[0].line
    lower = [name.lower() for name in names]
    frame = _frame_column(names)
    points = _points_of(names)
    if frame is None or not points:
        raise RecordingError(
            path, f"expected the header {LAYOUTS}, got {table.delimiter.join(names)[:60]!r}", line=line
        )
    track = lower.index(_TRACK) if _TRACK in lower else None
    if track is not None and any(animal for animal, _, _ in points.values()):
        raise RecordingError(path, "has a column 'track' and animals in the column names; keep one of them", line=line)
    known = {frame, track, *points}
    unknown = [n for i, n in enumerate(names) if i not in known and not n.startswith("instance.")]
    if unknown:
        raise RecordingError(path, f"unknown columns {', '.join(map(repr, unknown))}; expected {LAYOUTS}", line=line)
    score = names.index(_INSTANCE_SCORE) if _INSTANCE_SCORE in names else None
    return Header(names, frame, track, score, points)


def _frame_column(names: Sequence[str]) -> int | None:
    """The column that counts frames; None where there is none."""
    frame = next((i for i, name in enumerate(names) if name.lower() in _FRAME), None)
    # An index without a name counts frames where all else are points: SimBA's labels have other columns as well.
    points = _points_of(names)
    is_index = names[0].lower() in _INDEX and len(points) == len(names) - 1
    has_places = any(coord == "x" for _, _, coord in points.values())
    return 0 if frame is None and is_index and has_places else frame


def _points_of(names: Sequence[str]) -> dict[int, Column]:
    """Column number -> (animal or '', keypoint, coordinate) of the columns that hold points."""
    found = {i: m for i, name in enumerate(names) if (m := _POINT.match(name)) and m["keypoint"] != "instance"}
    if found:
        return {i: (m["animal"] or "", m["keypoint"], _coord(m["coord"].lower())) for i, m in found.items()}
    found = {i: m for i, name in enumerate(names) if (m := _POINT_WITH_UNDERSCORE.match(name))}
    several = _several_animals([m["keypoint"] for m in found.values()])
    own = {i: several.get(m["keypoint"], ("", m["keypoint"])) for i, m in found.items()}
    # The order of animals is what a model of other names goes by.
    animals = list(dict.fromkeys(animal for animal, _ in several.values())) or [""]
    in_order = sorted(found, key=lambda i: animals.index(own[i][0]))
    return {i: (*own[i], _coord(found[i]["coord"].lower())) for i in in_order}


def _several_animals(keypoints: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Keypoint -> animal and its keypoint, of names such as Nose_1, Tail_base_1, Nose_2, Tail_base_2, as SimBA's are,
    or mouse1_nose, mouse1_tail, mouse2_nose, mouse2_tail. In the order of numbers, as tracks are, and else of columns.

    Empty unless all are made alike and among them is a point that an animal has once: nobody has two noses, and
    spine_1, spine_2 or left_ear, right_ear are points of one animal.
    """
    for form, animal_of, once in ((_NUMBERED, "animal_{}", _ONCE_IN_AN_ANIMAL), (_NAMED, "{}", _ONCE_IN_A_BODY)):
        parts = {name: found for name in dict.fromkeys(keypoints) if (found := form.match(name))}
        animals: dict[str, set[str]] = {}
        for found in parts.values():
            animals.setdefault(found["keypoint"].lower(), set()).add(found["animal"])
        is_alike = len({frozenset(some) for some in animals.values()}) == 1 and len(next(iter(animals.values()))) > 1
        is_single = any(re.sub(r"[^a-z]", "", base) in once for base in animals)
        is_side = any(found["animal"].lower() in _SIDES for found in parts.values())
        if is_alike and is_single and not is_side and len(animals) > 1 and len(parts) == len(set(keypoints)):
            in_order = sorted(parts, key=lambda name: int(parts[name]["animal"])) if form is _NUMBERED else list(parts)
            return {name: (animal_of.format(parts[name]["animal"]), parts[name]["keypoint"]) for name in in_order}
    return {}


def _values_by_track(
    path: Path, table: DelimitedText, header: Header
) -> tuple[dict[str, dict[int, _Values]], list[ReadingWarning]]:
    """Track ('' where there is none) -> frame -> values, and warnings about rows that are left out."""
    style = NumberStyle(path, table.delimiter)
    by_track: dict[str, dict[int, _Values]] = {}
    n_untracked = n_twice = 0
    before: dict[str, int] = {}
    # Without any track the file may hold one animal, which needs none; SLEAP leaves the column empty then.
    has_tracks = header.track is not None and any(_cell(row.cells, header.track) for row in table.rows[1:])
    for row in table.rows[1:]:
        if len(row.cells) != len(header.names):
            raise wrong_width(path, row, len(header.names), last=row is table.rows[-1])
        track = _cell(row.cells, header.track)
        if has_tracks and not track:
            n_untracked += 1
            continue
        frame = _frame(path, row.cells[header.frame], style, row.line)
        numbers = [
            style.parse_number(row.cells[i], row.line, f"a number in column {header.names[i]!r}") for i in header.points
        ]
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


def _coord(word: str) -> str:
    return word if word in ("x", "y") else "likelihood"


def _cell(cells: Sequence[str], column: int | None) -> str:
    return cells[column] if column is not None and column < len(cells) else ""


def _frame(path: Path, cell: str, style: NumberStyle, line: int) -> int:
    number = style.parse_number(cell, line, "a frame number from 0 on")
    if not 0 <= number < _MAX_FRAME or number != int(number):
        raise RecordingError(path, f"expected a frame number from 0 on, got {cell[:60]!r}", line=line)
    return int(number)


READER = PoseReader(
    "plain .csv with the columns frame, animal.keypoint.x, animal.keypoint.y",
    (".csv", ".tsv"),
    is_poses_csv,
    one_recording(read_poses_csv),
)
