"""Label tables in Excel's workbooks: which sheet is the video's, and by which rule for text tables it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.unread_formats import why_unread_text
from rtseg.recordings.files.workbook import Sheet, first_rows, is_workbook, read_sheets
from rtseg.recordings.labels.boris import holds_boris_header, tracks_of_boris_table
from rtseg.recordings.labels.boris_events import choose_observation
from rtseg.recordings.labels.csv import MAX_ROWS_OF_NOTES, header_place, tracks_of_label_table
from rtseg.recordings.labels.label_file import LabelReader, Tracks, Video
from rtseg.recordings.labels.noldus import holds_noldus_header, tracks_of_noldus_table


def read_label_workbook(path: Path, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video, from the sheet with its labels.

    A sheet is read as the same table would be from CSV: BORIS' events, bouts, or a row per frame. Of several with such
    a table the one is taken that `Video.observation` names, else the one that is called like the poses; hidden ones
    count where no other has a table. Raises RecordingError, with the sheet's row, as those readers do, and where
    nothing says which sheet is meant.
    """
    sheets = {sheet.name: sheet for sheet in read_sheets(path)}
    candidates = _candidates({name: _rows_of(sheet) for name, sheet in sheets.items()})
    seen = [name for name in candidates if not sheets[name].is_hidden] or candidates
    chosen = choose_observation(path, {name: [name] for name in seen}, video, what="sheet")
    # Where the sheet is the observation, the table within has none of that name.
    inside = replace(video, observation="") if len(seen) > 1 else video
    table = sheets[chosen].table
    try:
        if holds_boris_header(_rows_of(sheets[chosen])):
            return tracks_of_boris_table(path, table, inside)
        if holds_noldus_header(_rows_of(sheets[chosen])):
            return tracks_of_noldus_table(path, table, inside)
        return tracks_of_label_table(path, table, inside)
    except RecordingError as error:
        if len(sheets) == 1:
            raise
        raise RecordingError(path, f"sheet {chosen!r}: {error.problem}", line=error.line) from error


def _rows_of(sheet: Sheet) -> list[list[str]]:
    return [row.cells for row in sheet.table.rows[:MAX_ROWS_OF_NOTES]]


def _candidates(first: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """The sheets that may hold labels, by their first rows: those with a header that is known, else all."""
    return [name for name, rows in first.items() if _has_known_header(rows)] or list(first)


def _has_known_header(rows: Sequence[Sequence[str]]) -> bool:
    return holds_boris_header(rows) or holds_noldus_header(rows) or header_place(rows) is not None


def _is_label_workbook(probe: FileProbe) -> bool:
    """Whether it is a workbook in which a sheet may hold labels; RecordingError, with the reason, where none can."""
    if not is_workbook(probe):
        return False
    first = first_rows(probe.path, MAX_ROWS_OF_NOTES)
    used = {name: rows for name, rows in first.items() if any(any(row) for row in rows)}
    if any(map(_has_known_header, used.values())):
        return True
    unread = next((why for rows in used.values() if (why := why_unread_text(" ".join(rows[0])))), "")
    if unread or len(used) > 1:
        problem = (
            f"none of its sheets ({', '.join(used)}) has columns such as start, stop, behaviour or frame, sniffing"
        )
        mend = "save the sheet of labels as CSV, or name its columns so"
        raise RecordingError(probe.path, unread or f"{problem}; {mend}")
    # The one sheet may be a table of 0 and 1, whose names nobody knows; the reader looks at it closely.
    return True


READER = LabelReader("Excel's workbooks .xlsx with such a table", _is_label_workbook, read_label_workbook)
