"""BORIS event exports (CSV or TSV): state events in START/STOP pairs and point events, in seconds.

Tabular events and aggregated events are read; the lines above the table are ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.text import read_lines
from rtseg.recordings.labels.label_file import LabelReader, NumberedBout, Track, paint

NO_SUBJECT = "No focal subject"
"""BORIS' own name for events without a subject."""
_STATUS = ("Status", "Behavior type")
_AGGREGATED = ("Start (s)", "Stop (s)")


class _Event(NamedTuple):
    subject: str
    behaviour: str
    start_s: float
    stop_s: float | None  # None: a point event
    line: int


def is_boris(probe: FileProbe) -> bool:
    """Whether the lines hold the header of a BORIS table."""
    return _header(probe.lines) is not None


def read_boris(path: Path, n_frames: int, fps: float) -> dict[str, Track]:
    """Tracks of frame labels (T,), T = `n_frames`.

    One track per subject with all its behaviours (frames of two at once are masked and counted), and one track
    'subject:behaviour' for each, which loses nothing. Classes are in the order of their first event. An event covers
    the frames from round(start * fps) up to round(stop * fps), one at least; a point event covers one frame. Frames
    without an event are IGNORE: a head says what they mean (`unlabelled`). Raises RecordingError with the line for a
    START without STOP, or the reverse, and for cells that are no times.
    """
    lines, warnings = read_lines(path)
    at = _header(lines)
    if at is None:
        problem = "expected a header row with Time, Behavior and Status; export tabular or aggregated events from BORIS"
        raise RecordingError(path, problem, line=1)
    delimiter = "\t" if "\t" in lines[at] else ","
    header = [c.strip() for c in next(csv.reader([lines[at]], delimiter=delimiter))]
    rows = []
    for number, line in enumerate(lines[at + 1 :], start=at + 2):
        if not line.strip(" ,\t"):
            continue
        cells = next(csv.reader([line], delimiter=delimiter))
        if len(cells) != len(header):
            cut = "; the file was cut here, copy it again" if number == len(lines) else "; mend or remove the line"
            raise RecordingError(path, f"expected {len(header)} columns, got {len(cells)}{cut}", line=number)
        rows.append((dict(zip(header, (c.strip() for c in cells), strict=True)), number))
    warnings += _other_rate(rows, fps)
    events = _aggregated(path, rows) if set(_AGGREGATED) <= set(header) else _paired(path, rows)
    if not events:
        raise RecordingError(path, "holds no events; export the observation again", line=at + 1)
    return _tracks(path, events, n_frames, fps, warnings)


def _header(lines: Sequence[str]) -> int | None:
    for i, line in enumerate(lines[:200]):
        cells = {c.strip().strip('"') for c in line.replace("\t", ",").split(",")}
        if "Behavior" in cells and (("Time" in cells and cells & set(_STATUS)) or set(_AGGREGATED) <= cells):
            return i
    return None


def _other_rate(rows: Sequence[tuple[dict[str, str], int]], fps: float) -> list[str]:
    rates = [row.get("FPS", row.get("FPS (frame/s)", "")) for row, _ in rows]
    other = [r for r in rates if r.replace(".", "", 1).isdecimal() and abs(float(r) - fps) > 0.01]
    return [f"BORIS saw the video at {other[0]} fps, the recording has {fps:g} ({len(other)} events)"] if other else []


def _aggregated(path: Path, rows: Sequence[tuple[dict[str, str], int]]) -> list[_Event]:
    events = []
    for row, line in rows:
        start_s = _seconds(path, row["Start (s)"], line)
        point = row.get("Behavior type", "").upper() == "POINT" or row["Stop (s)"] in ("", "NA")
        stop_s = None if point else _seconds(path, row["Stop (s)"], line)
        if stop_s is not None and stop_s < start_s:
            raise RecordingError(
                path, f"stops at {stop_s:g} s, before its start at {start_s:g} s; correct it", line=line
            )
        events.append(_Event(row.get("Subject", "") or NO_SUBJECT, row["Behavior"], start_s, stop_s, line))
    return events


def _paired(path: Path, rows: Sequence[tuple[dict[str, str], int]]) -> list[_Event]:
    events: list[_Event] = []
    running: dict[tuple[str, str], tuple[float, int]] = {}
    for row, line in rows:
        subject, behaviour = row.get("Subject", "") or NO_SUBJECT, row["Behavior"]
        status = next(row[key] for key in _STATUS if key in row).upper()
        time_s = _seconds(path, row["Time"], line)
        key, what = (subject, behaviour), f"{behaviour!r} of {subject!r}"
        if status == "POINT":
            events.append(_Event(subject, behaviour, time_s, None, line))
        elif status == "START":
            if key in running:
                problem = f"{what} starts again; it runs since line {running[key][1]}. Add the missing STOP in BORIS"
                raise RecordingError(path, problem, line=line)
            running[key] = time_s, line
        elif status == "STOP":
            if key not in running:
                problem = f"{what} stops and was not started; add the missing START in BORIS"
                raise RecordingError(path, problem, line=line)
            start_s, _ = running.pop(key)
            if time_s < start_s:
                raise RecordingError(
                    path, f"{what} stops at {time_s:g} s, before its start at {start_s:g} s", line=line
                )
            events.append(_Event(subject, behaviour, start_s, time_s, line))
        else:
            raise RecordingError(path, f"expected START, STOP or POINT, got {status[:40]!r}", line=line)
    if running:
        (subject, behaviour), (_, line) = next(iter(running.items()))
        problem = (
            f"{behaviour!r} of {subject!r} starts and never stops ({len(running)} such events); add the STOP in BORIS"
        )
        raise RecordingError(path, problem, line=line)
    return events


def _seconds(path: Path, cell: str, line: int) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < 1e7:
        raise RecordingError(path, f"expected a time in seconds, got {cell[:40]!r}; export times as seconds", line=line)
    return seconds


def _tracks(path: Path, events: Sequence[_Event], n_frames: int, fps: float, warnings: list[str]) -> dict[str, Track]:
    groups: dict[str, list[_Event]] = {}
    for event in events:
        groups.setdefault(event.subject, []).append(event)
    for event in events:
        groups.setdefault(f"{event.subject}:{event.behaviour}", []).append(event)
    tracks = {}
    for track, some in groups.items():
        classes = tuple(dict.fromkeys(e.behaviour for e in some))
        bouts = []
        for e in some:
            start = round(e.start_s * fps)
            stop = start + 1 if e.stop_s is None else max(round(e.stop_s * fps), start + 1)
            bouts.append(NumberedBout(Bout(start, stop, classes.index(e.behaviour)), e.line))
        tracks[track] = paint(path, track, classes, bouts, n_frames, fps, warnings)
    return tracks


READER = LabelReader("BORIS events .csv or .tsv", is_boris, read_boris)
