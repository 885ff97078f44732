"""Plain CSV of poses, for trackers whose own format is not read here.

Two layouts with one header row: wide (one row per frame) and long (one row per frame and track, as SLEAP exports it).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.text import read_lines
from rtseg.recordings.poses.pose_file import SINGLE_ANIMAL, PoseReader, one_recording, recording_from_columns
from rtseg.recordings.recording import Recording

LAYOUTS = (
    "'frame,animal.keypoint.x,animal.keypoint.y,animal.keypoint.score,...' "
    "or 'track,frame_idx,keypoint.x,keypoint.y,keypoint.score,...'"
)
_FRAME = ("frame", "frame_idx")
_POINT = re.compile(r"^(?:(?P<animal>[^.]+)\.)?(?P<keypoint>[^.]+)\.(?P<coord>x|y|score|confidence|likelihood)$")


def is_poses_csv(probe: FileProbe) -> bool:
    """Whether the first line is the header of such a table."""
    cells = [c.strip() for c in probe.lines[0].split(",")]
    return any(c in _FRAME for c in cells) and any(_POINT.match(c) for c in cells)


def read_poses_csv(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a plain CSV.

    wide: `frame` and, for every animal and keypoint, `animal.keypoint.x`, `.y` and, optionally, `.score`; without
    `animal.` there is one animal. long: `track`, `frame_idx` and `keypoint.x`, `.y`, `.score`; other columns of SLEAP
    are passed over. Frames count from 0; empty cells are missing points; skipped frames are filled, with a count.
    Raises RecordingError with the line for wrong column counts, cells that are no numbers and frames out of order.
    """
    lines, warnings = read_lines(path)
    header = [c.strip() for c in lines[0].split(",")]
    frame_at = next((i for i, c in enumerate(header) if c in _FRAME), None)
    track_at = header.index("track") if "track" in header else None
    matches = {i: m for i, c in enumerate(header) if (m := _POINT.match(c)) and m["keypoint"] != "instance"}
    if frame_at is None or not matches:
        raise RecordingError(path, f"expected the header {LAYOUTS}, got {lines[0][:60]!r}", line=1)
    long = track_at is not None
    if long and any(m["animal"] for m in matches.values()):
        raise RecordingError(path, "has a column 'track' and animals in the column names; keep one of them", line=1)
    unknown = [c for i, c in enumerate(header) if i not in (frame_at, track_at) and i not in matches]
    unknown = [c for c in unknown if not c.startswith("instance.")]
    if unknown:
        raise RecordingError(path, f"unknown columns {', '.join(map(repr, unknown))}; expected {LAYOUTS}", line=1)
    rows: dict[str, list[tuple[int, list[float], int]]] = {}
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(",")
        if len(cells) != len(header):
            cut = "; the file was cut here, copy it again" if number == len(lines) else "; mend or remove the line"
            raise RecordingError(path, f"expected {len(header)} columns, got {len(cells)}{cut}", line=number)
        track = (cells[track_at].strip() or SINGLE_ANIMAL) if track_at is not None else ""
        values = [_number(path, cells[i], header[i], number) for i in matches]
        rows.setdefault(track, []).append((_frame(path, cells[frame_at], number), values, number))
    if not rows:
        raise RecordingError(path, "has a header and no frames; export it again", line=1)
    points = [(m["animal"] or SINGLE_ANIMAL, m["keypoint"], _coord(m["coord"])) for m in matches.values()]
    columns = [(track if long else animal, keypoint, coord) for track in rows for animal, keypoint, coord in points]
    index, table = _join(path, rows, len(points))
    return recording_from_columns(path, columns, index, table, warnings, fps=fps, name=name)


def _join(
    path: Path, rows: dict[str, list[tuple[int, list[float], int]]], n_points: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Frame indices (T,) and values (T, tracks * n_points), NaN where a track has no row."""
    index = np.array(sorted({frame for track in rows.values() for frame, _, _ in track}), np.int64)
    place = {int(frame): t for t, frame in enumerate(index)}
    table = np.full((len(index), len(rows) * n_points), np.nan, np.float32)
    for a, track in enumerate(rows.values()):
        before = -1
        for frame, values, number in track:
            if frame <= before:
                what = "comes twice" if frame == before else f"comes after frame {before}"
                raise RecordingError(path, f"frame {frame} {what}; sort the rows and remove doubles", line=number)
            before = frame
            table[place[frame], a * n_points : (a + 1) * n_points] = values
    return index, table


def _coord(word: str) -> str:
    return word if word in ("x", "y") else "likelihood"


def _number(path: Path, cell: str, column: str, line: int) -> float:
    try:
        return float(cell.strip() or "nan")
    except ValueError:
        raise RecordingError(path, f"expected a number in column {column!r}, got {cell[:60]!r}", line=line) from None


def _frame(path: Path, cell: str, line: int) -> int:
    if not cell.strip().isdecimal() or len(cell) > 12:
        raise RecordingError(path, f"expected a frame number from 0 on, got {cell[:60]!r}", line=line)
    return int(cell)


READER = PoseReader(
    "plain .csv with the columns frame, animal.keypoint.x, animal.keypoint.y",
    (".csv",),
    is_poses_csv,
    one_recording(read_poses_csv),
)
