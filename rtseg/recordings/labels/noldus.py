"""Event logs of Noldus' programs: The Observer XT's event data, and EthoVision XT's manual scoring log.

Both list starts and stops of states, and points, with times in seconds; they become events by the rules for BORIS'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, Row, delimiter_of, read_delimited, wrong_width
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.boris_events import (
    NO_SUBJECT,
    POINT,
    START,
    STOP,
    Mark,
    choose_observation,
    name_doubts,
    pair_marks,
    tracks_of_events,
)
from rtseg.recordings.labels.label_file import LabelReader, Tracks, Video

_OBSERVER = frozenset({"time_relative_sf", "behavior", "event_type"})
_SCORING_TIMES = ("trial time", "recording time")
_SCORING = frozenset({"behavior", "event"})
_STATUS = {"state start": START, "state stop": STOP, "state point": POINT, "point": POINT, "point event": POINT}
_MAX_HEADER_ROWS = 200
_SAME_TIME_S = 0.05
"""By which EthoVision's two times may differ: less than rounding of either makes."""


@dataclass(frozen=True)
class _Log:
    """The rows below the header. columns: name in lower case -> place. above: the first two cells of lines above it."""

    columns: dict[str, int]
    rows: list[Row]
    above: dict[str, str]

    def cell(self, row: Row, name: str) -> str:
        """A row's cell, '' where the log has no such column."""
        return row.cells[self.columns[name]] if name in self.columns else ""


def holds_noldus_header(rows: Iterable[Sequence[str]]) -> bool:
    """Whether one of the rows of a table is the header of such a log."""
    return any(map(_is_header, rows))


def is_noldus(probe: FileProbe) -> bool:
    """Whether the lines of a text file hold the header of such a log."""
    delimiter = delimiter_of(probe.lines)
    return holds_noldus_header(line.split(delimiter) for line in probe.lines[:_MAX_HEADER_ROWS])


def read_noldus(path: Path, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video from a text file; see `tracks_of_noldus_table`."""
    return tracks_of_noldus_table(path, read_delimited(path), video)


def tracks_of_noldus_table(path: Path, table: DelimitedText, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video: those of BORIS' events (`boris.read_boris`), from such a log.

    The Observer's times count from the start of the observation, EthoVision's from that of the trial. Of several
    observations one is read (`choose_observation`). Raises RecordingError with the line for a state without its start
    or stop, for times before 0, and where EthoVision's trial and recording time differ: nothing says then which of them
    is the video's.
    """
    log = _log_of(path, table)
    media = log.above.get("video file", "")
    names = {log.cell(row, "observation"): [log.cell(row, "observation")] for row in log.rows} or {"": [media]}
    observation = choose_observation(path, names, video)
    style = NumberStyle(path, table.delimiter)
    own = [row for row in log.rows if log.cell(row, "observation") == observation]
    marks = [_mark(path, row, log, style, video) for row in own]
    logs = {log.cell(row, "event_log") for row in own}
    kind = "rows of several event logs are read together; export one if they are of several observers"
    warnings = [*table.warnings, *([ReadingWarning(kind, len(logs), "logs")] if len(logs) > 1 else [])]
    called = [name for name in (media, observation) if name]
    if called:
        kind = "neither the observation nor its video file is named like the poses"
        warnings += name_doubts(kind, called, observation, video)
    return tracks_of_events(path, pair_marks(path, marks, program="Noldus' program"), video, warnings)


def _is_header(cells: Sequence[str]) -> bool:
    names = {cell.strip(' "').lower() for cell in cells}
    return names >= _OBSERVER or (names >= _SCORING and any(time in names for time in _SCORING_TIMES))


def _log_of(path: Path, table: DelimitedText) -> _Log:
    at = next(i for i, row in enumerate(table.rows) if _is_header(row.cells))
    header = table.rows[at]
    columns = {name.lower(): i for i, name in enumerate(header.cells)}
    rows = [row for row in table.rows[at + 1 :] if any(row.cells)]
    for row in rows:
        if len(row.cells) != len(header.cells):
            raise wrong_width(path, row, len(header.cells), last=row is rows[-1])
    if rows and not rows[0].cells[columns["behavior"]] and "event_type" not in columns:
        _check_units(path, rows[0], columns)
        rows = rows[1:]
    above = {row.cells[0].rstrip(":").lower(): row.cells[1] for row in table.rows[:at] if len(row.cells) > 1}
    return _Log(columns, rows, above)


def _check_units(path: Path, row: Row, columns: Mapping[str, int]) -> None:
    """Raise unless the row that EthoVision writes below the names says seconds: a person chooses the unit."""
    units = {row.cells[columns[name]].strip("()[] ") for name in _SCORING_TIMES if name in columns}
    if units != {"s"}:
        problem = f"expected times in s below their names, got {', '.join(map(repr, sorted(units)))}"
        raise RecordingError(path, f"{problem}; choose seconds in EthoVision and export the log again", line=row.line)


def _mark(path: Path, row: Row, log: _Log, style: NumberStyle, video: Video) -> Mark:
    behaviour = log.cell(row, "behavior")
    event = log.cell(row, "event_type") or log.cell(row, "event")
    status = _STATUS.get(event.lower())
    if status is None or not behaviour:
        expected = "expected a behaviour with State start, State stop or Point"
        raise RecordingError(path, f"{expected}, got {behaviour[:40]!r} with {event[:40]!r}", line=row.line)
    found = [name for name in ("time_relative_sf", *_SCORING_TIMES) if name in log.columns]
    times = [style.parse_time(log.cell(row, name), row.line) for name in found]
    if not max(times) - min(times) < _SAME_TIME_S:
        problem = (
            f"trial time {times[0]:g} s and recording time {times[1]:g} s differ: which is the video's is not said"
        )
        raise RecordingError(path, f"{problem}; remove the column that is not", line=row.line)
    if times[0] < 0:
        problem = f"lies at {times[0]:g} s, before the observation's start; cut it there, or move the start"
        raise RecordingError(path, problem, line=row.line)
    modifiers = "|".join(log.cell(row, name) for name in log.columns if name.startswith("modifier"))
    subject = log.cell(row, "subject") or log.above.get("subject name", "") or NO_SUBJECT
    return Mark(subject, behaviour, modifiers, status, times[0] * video.fps, row.line)


READER = LabelReader("Noldus' event logs .txt, .csv or .xlsx (The Observer XT, EthoVision XT)", is_noldus, read_noldus)
