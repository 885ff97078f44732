"""Plain CSV of labels, per frame or as bouts, and CalMS21's label list.

For labels of any origin: one header row, and commas.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.text import read_lines
from rtseg.recordings.labels.boris import is_boris
from rtseg.recordings.labels.caltech import is_caltech
from rtseg.recordings.labels.label_file import LabelReader, NumberedBout, Track, paint
from rtseg.recordings.recording import Labels

TASK1 = ("attack", "investigation", "mount", "other")
"""CalMS21 Task 1's behaviours, in the order of its numbers."""
OTHER = "other"
_BOUTS = (("start", "stop"), ("start_s", "stop_s"))
_BEHAVIOUR = ("behaviour", "behavior")
_CALMS21 = ["sequence number", "annotation"]


def read_label_csv(path: Path, n_frames: int, fps: float) -> dict[str, Track]:
    """Tracks of frame labels (T,), T = `n_frames`, from a plain CSV.

    Per frame: one row per frame from frame 0 on, a column per track with the behaviour's name, or with 0 and 1 for a
    behaviour of its own (classes 'other' and the column's name); an empty cell is IGNORE; a first column `frame`, if
    any, counts 0, 1, 2, ... As bouts: `start,stop,behaviour` in frames, from 0, stop not included; or
    `start_s,stop_s,behaviour` in seconds; with a column `track` for several tracks (else one, 'labels'). Classes are
    in the order of their first frame. Frames without a label are IGNORE. Raises RecordingError with the line.
    """
    lines, warnings = read_lines(path)
    rows = list(csv.reader(lines))
    header = [c.strip() for c in rows[0]]
    if len(set(header)) != len(header) or "" in header:
        raise RecordingError(path, f"expected different column names, got {', '.join(header)[:120]!r}", line=1)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            cut = "; the file was cut here, copy it again" if number == len(rows) else "; mend or remove the line"
            raise RecordingError(path, f"expected {len(header)} columns, got {len(row)}{cut}", line=number)
    if header == _CALMS21:
        problem = "holds the sequences of CalMS21 without their poses; read it with labels.csv.read_calms21_labels"
        raise RecordingError(path, problem)
    if any(set(pair) <= set(header) for pair in _BOUTS):
        return _from_bouts(path, header, rows[1:], n_frames, fps, warnings)
    return _from_frames(path, header, rows[1:], n_frames, fps, warnings)


def _from_frames(
    path: Path, header: list[str], rows: Sequence[list[str]], n_frames: int, fps: float, warnings: list[str]
) -> dict[str, Track]:
    if header[0] == "frame":
        for t, row in enumerate(rows):
            if row[0].strip() != str(t):
                raise RecordingError(path, f"expected frame {t}, got {row[0][:40]!r}; frames count from 0", line=t + 2)
    tracks = {}
    for column, track in enumerate(header):
        if column == 0 and track == "frame":
            continue
        cells = [row[column].strip() for row in rows]
        names = dict.fromkeys(c for c in cells if c)
        if not names:
            raise RecordingError(path, f"column {track!r} is empty; fill or remove it", line=1)
        binary = set(names) <= {"0", "1"}
        classes = (OTHER, track) if binary else tuple(names)
        code = {"0": 0, "1": 1} if binary else {name: i for i, name in enumerate(classes)}
        bouts = [NumberedBout(Bout(t, t + 1, code[c]), t + 2) for t, c in enumerate(cells) if c]
        tracks[track] = paint(path, track, classes, bouts, n_frames, fps, warnings)
    if not tracks:
        raise RecordingError(path, "has no column of labels beside 'frame'; expected one per track", line=1)
    return tracks


def _from_bouts(
    path: Path, header: list[str], rows: Sequence[list[str]], n_frames: int, fps: float, warnings: list[str]
) -> dict[str, Track]:
    keys = next(pair for pair in _BOUTS if set(pair) <= set(header))
    behaviour_key = next((k for k in _BEHAVIOUR if k in header), None)
    extra = set(header) - {*keys, *_BEHAVIOUR, "track"}
    if behaviour_key is None or extra:
        problem = f"expected the columns {', '.join(keys)}, behaviour and, if wanted, track; got {', '.join(header)}"
        raise RecordingError(path, problem, line=1)
    scale = fps if keys == _BOUTS[1] else 1.0
    found: dict[str, list[tuple[int, int, str, int]]] = {}
    for number, cells in enumerate(rows, start=2):
        row = dict(zip(header, (c.strip() for c in cells), strict=True))
        start, stop = (_frame(path, row[key], scale, number) for key in keys)
        if stop <= start or not row[behaviour_key]:
            problem = f"expected a bout that ends after it starts, and a behaviour, got {','.join(cells)[:60]!r}"
            raise RecordingError(path, problem, line=number)
        found.setdefault(row.get("track", "") or "labels", []).append((start, stop, row[behaviour_key], number))
    if not found:
        raise RecordingError(path, "has a header and no bouts; export the labels again", line=1)
    tracks = {}
    for track, some in found.items():
        classes = tuple(dict.fromkeys(name for _, _, name, _ in some))
        bouts = [NumberedBout(Bout(start, stop, classes.index(name)), line) for start, stop, name, line in some]
        tracks[track] = paint(path, track, classes, bouts, n_frames, fps, warnings)
    return tracks


def _frame(path: Path, cell: str, scale: float, line: int) -> int:
    try:
        value = float(cell) if scale != 1.0 else int(cell)
    except ValueError:
        value = -1
    if not 0 <= value < 1e9:
        raise RecordingError(path, f"expected a frame number or time from 0 on, got {cell[:40]!r}", line=line)
    return round(value * scale)


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
    # BORIS exports are CSV as well; every other CSV is taken for this format, whose reader checks its header.
    return probe.suffix == ".csv" and not is_boris(probe) and not is_caltech(probe)


READER = LabelReader("plain .csv (a track per column, or start,stop,behaviour)", _is_label_csv, read_label_csv)
