"""Tables of poses in Excel's workbooks: which sheet holds them, and by which rule for text tables it is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.files.delimited import as_plain_lines
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.workbook import SUFFIXES, Sheet, first_rows, is_workbook, read_sheets
from rtseg.recordings.poses.dlc import is_dlc_header, recording_of_lines
from rtseg.recordings.poses.pose_file import DEFAULT_FPS, PoseReader, assumed_rate
from rtseg.recordings.poses.tables.ethovision import MAX_HEADER_ROWS, holds_track, recording_of_tracks, track_of_table
from rtseg.recordings.poses.tables.plain import is_header, recording_of_table
from rtseg.recordings.recording import Recording


def is_pose_workbook(probe: FileProbe) -> bool:
    """Whether a sheet of a workbook begins as a table of poses does."""
    if not is_workbook(probe):
        return False
    return any(_holds_poses(_used(rows)) for rows in first_rows(probe.path, MAX_HEADER_ROWS).values())


def read_pose_workbook(path: Path, *, fps: float | None = None, name: str | None = None) -> Recording:
    """A Recording from the sheet with poses: DeepLabCut's table, the plain one, or EthoVision's tracks.

    A sheet is read as the same table would be from CSV. Hidden ones count where no other has poses. Of EthoVision's
    tracks each sheet is a subject of the arena. Raises RecordingError, with the sheet's row, as those readers do, and
    for poses in several sheets.
    """
    found = [sheet for sheet in read_sheets(path) if _holds_poses(_rows_of(sheet))]
    sheets = [sheet for sheet in found if not sheet.is_hidden] or found
    is_track = [holds_track(_rows_of(sheet)) for sheet in sheets]
    if len(sheets) > 1 and not all(is_track):
        listed = ", ".join(sheet.name for sheet in sheets)
        raise RecordingError(path, f"has poses in several sheets ({listed}); save each as a workbook or CSV of its own")
    if all(is_track):
        tracks = [track_of_table(path, sheet.table) for sheet in sheets]
        return recording_of_tracks(path, tracks, fps=fps, name=name)
    (sheet,) = sheets
    if is_dlc_header([row[0] for row in _rows_of(sheet)]):
        return _dlc(path, sheet, fps, name)
    return recording_of_table(path, sheet.table, fps=fps, name=name)


def _dlc(path: Path, sheet: Sheet, fps: float | None, name: str | None) -> Recording:
    table = sheet.table
    lines = as_plain_lines(path, [table.delimiter.join(row.cells) for row in table.rows], is_whole=True)
    try:
        recording = recording_of_lines(path, lines, table.warnings, fps=fps or DEFAULT_FPS, name=name)
    except RecordingError as error:
        row = None if error.line is None else error.line + table.rows[0].line - 1
        raise RecordingError(path, error.problem, line=row) from error
    warnings = recording.warnings if fps else (*recording.warnings, assumed_rate())
    return replace(recording, warnings=warnings)


def _rows_of(sheet: Sheet) -> list[list[str]]:
    return [row.cells for row in sheet.table.rows[:MAX_HEADER_ROWS]]


def _used(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows from the first that holds anything, as `read_sheets` has them, but with empty columns before the table."""
    used = [list(row) for row in rows if any(row)]
    n_empty = min((next(i for i, cell in enumerate(row) if cell) for row in used), default=0)
    return [row[n_empty:] for row in used]


def _holds_poses(rows: Sequence[Sequence[str]]) -> bool:
    if not rows:
        return False
    return is_dlc_header([row[0] for row in rows]) or is_header(rows[0]) or holds_track(rows)


def _read_recordings(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
    yield read_pose_workbook(path, fps=fps, name=name)


READER = PoseReader(
    "Excel's workbooks .xlsx with such tables or EthoVision XT's raw data",
    SUFFIXES,
    is_pose_workbook,
    _read_recordings,
    carries_rate=True,
)
