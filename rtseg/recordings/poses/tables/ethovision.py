"""EthoVision XT's tracks, exported as raw data: a few points of one subject, with times, in the arena's own unit.

Its axes point upwards, and trackers' downwards; its unit is known, so that the scale of what is read is as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.scale import MM
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, Row, delimiter_of, read_delimited, wrong_width
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.layout import SINGLE_ANIMAL
from rtseg.recordings.poses.pose_file import PoseReader, float32_of
from rtseg.recordings.poses.timed import Series, recording_from_series
from rtseg.recordings.recording import Recording

_TRIAL, _RECORDING = "trial time", "recording time"
_AXIS = re.compile(r"^(?P<axis>[xy])\s+(?P<point>.+)$", re.IGNORECASE)
_PIXELS = ("px", "pixel", "pixels", "pix")
_MISSING = "-"
MAX_HEADER_ROWS = 200
_SAME_TIME_S = 0.05
"""By which the two times may differ: less than rounding of either makes."""


@dataclass(frozen=True)
class Track:
    """The points of one subject. series: of each point; px_per_mm: None where the file's unit is px."""

    arena: str
    subject: str
    series: list[Series]
    px_per_mm: float | None
    warnings: list[ReadingWarning]


def holds_track(rows: Iterable[Sequence[str]]) -> bool:
    """Whether the first rows of a table are those of such a track."""
    return any(map(_is_header, rows))


def _is_header(cells: Sequence[str]) -> bool:
    lower = [cell.strip(' "').lower() for cell in cells]
    return _TRIAL in lower and any(_AXIS.match(cell) for cell in lower)


def track_of_table(path: Path, table: DelimitedText) -> Track:
    """The track in the rows of a text file or a sheet. Raises RecordingError, with the line, for what is none."""
    place = next(i for i, row in enumerate(table.rows) if _is_header(row.cells))
    header = table.rows[place]
    units, rows = table.rows[place + 1], table.rows[place + 2 :]
    if not rows:
        raise RecordingError(path, "has a header and no samples; export it again", line=header.line)
    above = {row.cells[0].rstrip(":").lower(): row.cells[1] for row in table.rows[:place] if len(row.cells) > 1}
    names = [cell.lower() for cell in header.cells]
    for row in (units, *rows):
        if len(row.cells) != len(names):
            raise wrong_width(path, row, len(names), last=row is rows[-1])
    style = NumberStyle(path, table.delimiter)
    times = _numbers(rows, names.index(_TRIAL), style)
    subject = above.get("subject name", "") or SINGLE_ANIMAL
    places: dict[str, dict[str, int]] = {}
    for i, cell in enumerate(header.cells):
        if found := _AXIS.match(cell):
            places.setdefault(found["point"].lower(), {})[found["axis"].lower()] = i
    unit = _unit(path, units, [i for axes in places.values() for i in axes.values()])
    series = []
    for point, axes in places.items():
        if set(axes) != {"x", "y"}:
            raise RecordingError(path, f"point {point!r} has no x or no y; export both", line=header.line)
        x, y = (_numbers(rows, axes[axis], style) * MM.get(unit, 1.0) for axis in ("x", "y"))
        points = float32_of(np.stack([x, -y], axis=-1))
        series.append(Series(subject, point, times, points, np.ones(len(points), np.float32)))
    kind = f"EthoVision's coordinates, in {unit} and y upwards, are read as mm and y downwards (px_per_mm = 1)"
    if unit in _PIXELS:
        kind = "EthoVision's coordinates, y upwards, are read as px and y downwards"
    warnings = [*table.warnings, ReadingWarning(f"{kind}; it has no certainties", 1, "file")]
    if _RECORDING in names:
        late_s = float(_numbers(rows[:1], names.index(_RECORDING), style)[0] - times[0])
        if late_s > _SAME_TIME_S:
            kind = f"the trial begins {late_s:.2f} s after the recording, and frames count from the trial's beginning"
            warnings.append(ReadingWarning(kind, 1, "file"))
    return Track(above.get("arena name", ""), subject, series, None if unit in _PIXELS else 1.0, warnings)


def recording_of_tracks(path: Path, tracks: Sequence[Track], *, fps: float | None, name: str | None) -> Recording:
    """The subjects of one arena as a Recording. Raises RecordingError for tracks of several, and for times of none."""
    arenas = list(dict.fromkeys(track.arena for track in tracks))
    subjects = [track.subject for track in tracks]
    if len(arenas) > 1:
        raise RecordingError(path, f"holds tracks of several arenas ({', '.join(arenas)}); export each by itself")
    if len(set(subjects)) < len(subjects):
        raise RecordingError(path, f"holds several tracks of {subjects[0]!r}; export each trial by itself")
    keypoints = list(dict.fromkeys(one.keypoint for track in tracks for one in track.series))
    recording = recording_from_series(
        path,
        [one for track in tracks for one in track.series],
        animals=subjects,
        keypoints=keypoints,
        fps=fps,
        name=name or path.stem,
        warnings=list(dict.fromkeys(warning for track in tracks for warning in track.warnings)),
    )
    return replace(recording, px_per_mm=tracks[0].px_per_mm)


def _numbers(rows: Sequence[Row], column: int, style: NumberStyle) -> NDArray[np.float64]:
    cells = ((row.cells[column], row.line) for row in rows)
    return np.array([style.parse_number("" if cell == _MISSING else cell, line) for cell, line in cells], np.float64)


def _unit(path: Path, units: Row, columns: Sequence[int]) -> str:
    """The one unit of all coordinates."""
    found = {units.cells[i].strip("()").lower() for i in columns}
    if len(found) != 1 or not found <= {*MM, *_PIXELS}:
        listed = ", ".join(sorted(found)) or "none"
        problem = f"expected coordinates in one of {', '.join((*MM, 'px'))}, got {listed}; export them in cm"
        raise RecordingError(path, problem, line=units.line)
    return found.pop()


def _is_ethovision(probe: FileProbe) -> bool:
    delimiter = delimiter_of(probe.lines)
    return holds_track(line.split(delimiter) for line in probe.lines[:MAX_HEADER_ROWS])


def _read_ethovision(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
    yield recording_of_tracks(path, [track_of_table(path, read_delimited(path))], fps=fps, name=name)


READER = PoseReader(
    "EthoVision XT's raw data .txt", (".txt", ".csv"), _is_ethovision, _read_ethovision, carries_rate=True
)
