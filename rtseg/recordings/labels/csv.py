"""Plain CSV of labels, per frame, per time step or as bouts, and CalMS21's label list.

The header decides what a table is; `bout_table` and `frame_table` read it. A header that is neither is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from rtseg.errors import RecordingError
from rtseg.recordings.files.delimited import DelimitedText, delimiter_of, read_delimited, wrong_width
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.files.text import read_lines
from rtseg.recordings.files.unread_formats import why_unread_text
from rtseg.recordings.labels.bento import is_bento
from rtseg.recordings.labels.boris import is_boris
from rtseg.recordings.labels.boris_project import is_boris_project
from rtseg.recordings.labels.bout_table import bout_columns, tracks_of_bout_table
from rtseg.recordings.labels.caltech import is_caltech
from rtseg.recordings.labels.frame_tables.frame_table import is_frame_header, tracks_of_frame_table
from rtseg.recordings.labels.label_file import LabelReader, Tracks, Video, rate_kind
from rtseg.recordings.labels.noldus import is_noldus
from rtseg.recordings.recording import Labels

TASK1 = ("attack", "investigation", "mount", "other")
"""CalMS21 Task 1's behaviours, in the order of its numbers."""
_CALMS21 = ["sequence number", "annotation"]
_PREDICTIONS = ["seq", "quality"]
_SECONDS = re.compile(r"\b(s|secs?|seconds?|h?h:mm:ss)\b", re.IGNORECASE)
_RATE_IN_NOTES = re.compile(r"\b(?:fps|frame ?rate|frames per second)\b[^\d.,]{0,12}(\d+(?:[.,]\d+)?)", re.IGNORECASE)
_SAME_RATE = 0.01
MAX_ROWS_OF_NOTES = 100
"""Above a header, such as who scored the video, when, and what the behaviours mean."""


def read_label_csv(path: Path, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video, from a plain CSV with commas, semicolons or tabs."""
    return tracks_of_label_table(path, read_delimited(path), video)


def tracks_of_label_table(path: Path, table: DelimitedText, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video, from a table of labels.

    See `tracks_of_bout_table` and `tracks_of_frame_table` for the two kinds. Notes above the header are left out, with
    a warning. Raises RecordingError with the line for rows of another width than the header, and for rtseg's
    predictions and CalMS21's labels, which are other things.
    """
    table = _from_header(path, table, video)
    names, line = table.rows[0].cells, table.rows[0].line
    for row in table.rows[1:]:
        if len(row.cells) != len(names):
            raise wrong_width(path, row, len(names), last=row is table.rows[-1])
    # Without this it would be a table of 19 sequences, read as frames of one video.
    if names == _CALMS21:
        problem = "holds the sequences of CalMS21 without their poses; read it with labels.csv.read_calms21_labels"
        raise RecordingError(path, problem)
    if names[:2] == _PREDICTIONS:
        raise RecordingError(
            path, "holds probabilities of rtseg; its labels are in the .bouts.csv beside it", line=line
        )
    if bout_columns(names) is not None:
        return tracks_of_bout_table(path, table, video)
    return tracks_of_frame_table(path, table, video)


def header_place(rows: Sequence[Sequence[str]]) -> int | None:
    """Which of a table's first rows is a header of labels by its names; None where none is, as of 0 and 1 alone."""
    for i, names in enumerate(rows[:MAX_ROWS_OF_NOTES]):
        bouts = bout_columns(names)
        if bouts is not None and bouts.behaviour is not None:
            return i
    # Weaker, since notes may have a time, too: what stands below counts.
    above_each = enumerate(pairwise(rows[: MAX_ROWS_OF_NOTES + 1]))
    return next((i for i, (names, below) in above_each if is_frame_header(names, below)), None)


def _from_header(path: Path, table: DelimitedText, video: Video) -> DelimitedText:
    """The table without notes above its header. Raises RecordingError for a unit there, above start or stop.

    A frame rate in the notes is compared with the video's, where the table counts frames.
    """
    at = header_place([row.cells for row in table.rows])
    if not at:
        return table
    columns, above = bout_columns(table.rows[at].cells), table.rows[at - 1]
    if columns is not None and not columns.in_seconds:
        units = [
            cell for i in (columns.start, columns.stop) for cell in above.cells[i : i + 1] if _SECONDS.search(cell)
        ]
        if units:
            problem = f"{units[0]!r} stands above the columns start and stop, which by their own names count frames"
            raise RecordingError(path, f"{problem}; call them start_s and stop_s", line=above.line)
    kind = "lines above the header are taken for notes and left out"
    warnings = [*table.warnings, ReadingWarning(kind, at, "lines")]
    if columns is None or not columns.in_seconds:
        notes = " ".join(cell for row in table.rows[:at] for cell in row.cells)
        rates = [float(rate.replace(",", ".")) for rate in _RATE_IN_NOTES.findall(notes)]
        others = [rate for rate in rates if rate > 0 and abs(rate - video.fps) > _SAME_RATE]
        kinds = [rate_kind("whoever wrote notes above the header", f"{rate:g}", video) for rate in others[:1]]
        warnings += [ReadingWarning(f"{kind}; the frames are taken", at, "lines") for kind in kinds]
    return replace(table, rows=table.rows[at:], warnings=warnings)


def read_calms21_labels(path: Path) -> list[Labels]:
    """CalMS21 Task 1 labels without poses (`sequence number,annotation`): one track per sequence, in order.

    Raises RecordingError with the line for another header, and for labels that are not 0 to 3.
    """
    lines, warnings = read_lines(path)
    if [c.strip() for c in lines[0].split(",")] != _CALMS21:
        raise RecordingError(path, f"expected the header {','.join(_CALMS21)!r}, got {lines[0][:60]!r}", line=1)
    found: dict[str, list[int]] = {}
    before = None
    for number, line in enumerate(lines[1:], start=2):
        cells = line.split(",")
        if len(cells) != 2 or cells[1] not in ("0", "1", "2", "3"):
            raise RecordingError(
                path, f"expected 'sequence,label' with a label from 0 to 3, got {line[:60]!r}", line=number
            )
        if cells[0] != before and cells[0] in found:
            raise RecordingError(path, f"sequence {cells[0]} goes on after another began; sort the rows", line=number)
        before = cells[0]
        found.setdefault(cells[0], []).append(int(cells[1]))
    return [Labels(name, TASK1, np.array(codes, np.int16), tuple(warnings)) for name, codes in found.items()]


def _is_label_csv(probe: FileProbe) -> bool:
    # Any table that is of no other format; the reader says what it expects of a header.
    others = (is_boris, is_boris_project, is_caltech, is_bento, is_noldus)
    if probe.suffix == ".txt":
        return not any(is_other(probe) for is_other in others) and _has_label_header(probe)
    if probe.suffix not in (".csv", ".tsv") or why_unread_text(probe.lines[0]):
        return False
    return not any(is_other(probe) for is_other in others)


def _has_label_header(probe: FileProbe) -> bool:
    """Whether the columns of a text file are those of bouts or frames; .txt alone says nothing."""
    delimiter = delimiter_of(probe.lines)
    return header_place([row.split(delimiter) for row in probe.lines[:MAX_ROWS_OF_NOTES]]) is not None


READER = LabelReader(
    "plain .csv (a track per column beside a column frame or time, or start,stop,behaviour)",
    _is_label_csv,
    read_label_csv,
)
