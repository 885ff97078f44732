"""BORIS event exports (CSV or TSV): state events in START/STOP pairs and point events.

Tabular events and aggregated events are read, of old and new versions; the lines above the table hold what newer
versions repeat in columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, Row, delimiter_of, read_delimited, wrong_width
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.boris_events import (
    NO_SUBJECT,
    OTHER_NAME,
    POINT,
    START,
    STATE,
    STOP,
    Event,
    Mark,
    MediaFile,
    choose_observation,
    events_between,
    length_differs,
    media_place,
    name_doubts,
    other_rates,
    pair_marks,
    tracks_of_events,
)
from rtseg.recordings.labels.label_file import LabelReader, Tracks, Video, rate_kind

_STATUS = ("status", "behavior type")
_AGGREGATED = ("start (s)", "stop (s)")
_MEDIA = "media files"
"""All of a row's cells that name media, apart by semicolons."""
_PLAYER = re.compile(r"^\s*player #\d+\s*:")
_DURATION = ("media duration (s)", "total length")
_OFFSET = "time offset"
"""How the offset's name begins: old versions name its unit behind it, (s) or (hh:mm:ss)."""
_FPS = ("fps", "fps (frame/s)")
_LENGTH = r"\d+([.,]\d+)?"
_NOTHING = ("", "na", "nan", "none", "not found")
_MAX_HEADER_ROWS = 200
_MAX_SECONDS = 1e7


@dataclass(frozen=True)
class _EventTable:
    """The rows below the header as dictionaries, with column names in lower case.

    above: the first two cells of the lines above it. played: what the first player plays, as those lines have it.
    """

    rows: list[tuple[dict[str, str], int]]
    columns: frozenset[str]
    above: dict[str, str]
    played: list[str]


def is_boris(probe: FileProbe) -> bool:
    """Whether the lines hold the header of a BORIS table."""
    delimiter = delimiter_of(probe.lines)
    # Old versions have some twenty lines of metadata above the table, so the first line tells nothing.
    return any(_is_header(re.split(f"[{delimiter}]", line)) for line in probe.lines[:_MAX_HEADER_ROWS])


def holds_boris_header(rows: Iterable[Sequence[str]]) -> bool:
    """Whether one of the rows of a table is the header of BORIS' events."""
    return any(map(_is_header, rows))


def read_boris(path: Path, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video from a text file; see `tracks_of_boris_table`."""
    return tracks_of_boris_table(path, read_delimited(path), video)


def tracks_of_boris_table(path: Path, text: DelimitedText, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video.

    One track per subject with all its behaviours (frames of two at once are masked and counted), and one track
    'subject:behaviour' for each, which loses nothing. Classes are in the order of their first event. Times count from
    the observation's time offset, which BORIS adds to every time; observations of images have image numbers instead.
    One behaviour with several modifiers at once is one behaviour. Of several observations one is read (see
    `choose_observation`), and of several media files one after another the video's own. Frames without an event are
    IGNORE: a head says what they mean (`unlabelled`), and a file without any event says that nothing happened. Raises
    RecordingError with the line for a START without STOP, or the reverse, for cells that are no times, and where
    nothing says where in the observation the video's own media file lies.
    """
    table = _event_table(path, text)
    observation, table = _of_one_observation(path, table, video)
    place = media_place(path, observation, _media_files(table), video)
    style = NumberStyle(path, text.delimiter)
    warnings = [*text.warnings, *_differences(table, observation, video), *length_differs(place, video)]
    if set(_AGGREGATED) <= table.columns:
        events = _aggregated_events(path, table, video, style)
    else:
        events = pair_marks(path, _marks(path, table, video, style))
    return tracks_of_events(path, events_between(events, *place), video, warnings)


def _is_header(cells: Sequence[str]) -> bool:
    names = {cell.strip(' "').lower() for cell in cells}
    return "behavior" in names and (("time" in names and bool(names & set(_STATUS))) or set(_AGGREGATED) <= names)


def _event_table(path: Path, text: DelimitedText) -> _EventTable:
    at = next((i for i, row in enumerate(text.rows[:_MAX_HEADER_ROWS]) if _is_header(row.cells)), None)
    if at is None:
        problem = "expected a header row with Time, Behavior and Status; export tabular or aggregated events from BORIS"
        raise RecordingError(path, problem, line=1)
    header = [_plain_name(cell) for cell in text.rows[at].cells]
    # Old versions say once above the table what newer ones repeat in every row; rows win where both are there.
    above = {_plain_name(row.cells[0]): row.cells[1] for row in text.rows[:at] if len(row.cells) > 1}
    rows = []
    for row in text.rows[at + 1 :]:
        if not any(row.cells):
            continue
        rows.append((_named_cells(path, row, header, last=row is text.rows[-1]), row.line))
    played = [row.cells[1] for row in text.rows[:at] if row.cells[0].lower() == "player #1" and len(row.cells) > 1]
    return _EventTable(rows, frozenset(header), above, played)


def _plain_name(name: str) -> str:
    """A column's or a line's name in lower case, the offset's without its unit."""
    return _OFFSET if name.lower().startswith(_OFFSET) else name.lower()


def _named_cells(path: Path, row: Row, header: Sequence[str], *, last: bool) -> dict[str, str]:
    """The row's cells by column; several columns of modifiers become one."""
    cells = row.cells
    if len(cells) != len(header):
        raise wrong_width(path, row, len(header), last=last)
    named = dict(zip(header, cells, strict=True))
    if not named["behavior"]:
        raise RecordingError(path, "names no behaviour; write it there, or remove the row", line=row.line)
    # BORIS writes a column for each set of modifiers; together they tell apart what goes on at once.
    named["modifiers"] = "|".join(cell for name, cell in zip(header, cells, strict=True) if name.startswith("modifier"))
    # Media stand in one column, or in several: of name and path, or of one file each.
    media = [cell for name, cell in zip(header, cells, strict=True) if name.startswith("media file")]
    named[_MEDIA] = ";".join(cell for cell in media if cell.lower() not in _NOTHING)
    return named


def _of_one_observation(path: Path, table: _EventTable, video: Video) -> tuple[str, _EventTable]:
    """The observation of the video and the table with its rows alone."""
    media: dict[str, dict[str, None]] = {}
    for row, _ in table.rows:
        files = media.setdefault(_observation(row, table), {})
        files.update(dict.fromkeys(name for player in _played(row[_MEDIA]) for name in player))
    if "" in media and len(media) > 1:
        # Spreadsheets leave cells empty that are like the one above, and add rows of sums.
        line = next(line for row, line in table.rows if not _observation(row, table))
        problem = "has no observation id, which other rows have; write it into every row, or remove the row"
        raise RecordingError(path, problem, line=line)
    # An export without events has no rows to name its observation; old versions name it above the table.
    if not media:
        media = {_observation({}, table): {}}
    observation = choose_observation(path, media, video)
    rows = [(row, line) for row, line in table.rows if _observation(row, table) == observation]
    return observation, replace(table, rows=rows)


def _media_files(table: _EventTable) -> list[MediaFile]:
    """The files that the first player plays one after another, as far as the table tells."""
    for row, _ in table.rows[:1]:
        cell = row.get("source") or row[_MEDIA]
        files = next(iter(_played(cell)), [])
        lengths = next((row[key] for key in _DURATION if row.get(key, "").lower() not in _NOTHING), "")
        seconds = _PLAYER.sub("", lengths.split("|")[0]).split(";")
        if len(files) > 1:
            known = len(seconds) == len(files) and all(re.fullmatch(_LENGTH, one.strip()) for one in seconds)
            return [
                MediaFile(name, float(one.replace(",", ".")) if known else None)
                for name, one in zip(files, seconds if known else files, strict=True)
            ]
    # Old versions name them above the table and beside every event, without lengths.
    named = [name for row, _ in table.rows for name in next(iter(_played(row[_MEDIA])), [])]
    several = len(table.played) > 1
    return [MediaFile(name, None) for name in dict.fromkeys(table.played if several else named)]


def _played(cell: str) -> list[list[str]]:
    """The media files of each player, in order, one name each: 'player #1:a.mp4;b.mp4|player #2:c.mp4'.

    Players are apart by bars and play at once; the files of one are apart by semicolons and follow one another. The
    same file by its name and by its path counts once.
    """
    players = []
    for player in cell.split("|"):
        names = [name.strip() for name in _PLAYER.sub("", player).split(";") if name.strip().lower() not in _NOTHING]
        by_name = {re.split(r"[\\/]", name)[-1]: name for name in names}
        if by_name:
            players.append(list(by_name.values()))
    return players


def _observation(row: dict[str, str], table: _EventTable) -> str:
    return row.get("observation id") or table.above.get("observation id", "")


def _differences(table: _EventTable, observation: str, video: Video) -> list[ReadingWarning]:
    """Warnings where BORIS saw another video than the poses are of, as far as the table tells."""
    warnings: list[ReadingWarning] = []
    # A cell may hold the rates of several players, as in 30.000;25.000.
    rates = [rate for row, _ in table.rows for key in _FPS for rate in re.findall(r"\d+(?:[.,]\d+)?", row.get(key, ""))]
    if other := other_rates(rates, video):
        warnings.append(ReadingWarning(rate_kind("BORIS", other[0], video), len(other), "events"))
    seconds = video.n_frames / video.fps
    for row, _ in table.rows[:1]:
        cell = next((row[key] for key in _DURATION if row.get(key, "").lower() not in _NOTHING), "")
        # Not by the style: durations have their own format in some versions, which must not decide that of the times.
        duration = float(cell.replace(",", ".")) if re.fullmatch(_LENGTH, cell) else seconds
        warnings += length_differs((0.0, duration * video.fps), video)
        media = [name for player in _played(row[_MEDIA]) for name in player]
        warnings += name_doubts(OTHER_NAME, media, observation, video)
    return warnings


def _aggregated_events(path: Path, table: _EventTable, video: Video, style: NumberStyle) -> list[Event]:
    events = []
    for row, line in table.rows:
        times = _Times(path, row, line, video, style, row.get(_OFFSET) or table.above.get(_OFFSET, ""))
        start = times.frame("start (s)", "image index start")
        no_stop = all(row.get(key, "").lower() in _NOTHING for key in ("stop (s)", "image index stop"))
        kind = row.get("behavior type", "").upper()
        if no_stop and kind == STATE:
            problem = f"{row['behavior']!r} starts and never stops; add the STOP in BORIS and export it again"
            raise RecordingError(path, problem, line=line)
        point = no_stop or kind == POINT
        stop = None if point else times.frame("stop (s)", "image index stop")
        if stop is not None and stop < start:
            problem = f"stops at {row['stop (s)']} s, before its start at {row['start (s)']} s; correct it"
            raise RecordingError(path, problem, line=line)
        events.append(Event(row.get("subject", "") or NO_SUBJECT, row["behavior"], start, stop, line))
    return events


def _marks(path: Path, table: _EventTable, video: Video, style: NumberStyle) -> list[Mark]:
    marks = []
    for row, line in table.rows:
        status = next(row[key] for key in _STATUS if key in row).upper()
        if status not in (START, STOP, POINT):
            raise RecordingError(path, f"expected START, STOP or POINT, got {status[:40]!r}", line=line)
        times = _Times(path, row, line, video, style, row.get(_OFFSET) or table.above.get(_OFFSET, ""))
        subject = row.get("subject", "") or NO_SUBJECT
        frame = times.frame("time", "image index")
        marks.append(Mark(subject, row["behavior"], row["modifiers"], status, frame, line))
    return marks


@dataclass(frozen=True)
class _Times:
    """The times of one row. offset: the cell with the observation's time offset, '' where it has none."""

    path: Path
    row: dict[str, str]
    line: int
    video: Video
    style: NumberStyle
    offset: str

    def frame(self, time_column: str, image_column: str) -> float:
        """Where a time lies, in frames from 0, not rounded. Observations of images have image numbers instead."""
        time, image = self.row[time_column], self.row.get(image_column, "")
        # BORIS numbers images as the video's frames are numbered, and writes NA for their times.
        if time.lower() in _NOTHING and image.isdecimal():
            return float(image)
        what = "a time"
        seconds = self.style.parse_time(time, self.line, what)
        if not 0 <= seconds < _MAX_SECONDS:
            raise RecordingError(self.path, f"expected {what}, got {time[:40]!r}", line=self.line)
        no_offset = self.offset.lower() in _NOTHING
        offset_s = 0.0 if no_offset else self.style.parse_time(self.offset, self.line, "a time offset")
        # BORIS adds the offset to every time that it writes; poses count from the first frame of the video.
        frame = (seconds - offset_s) * self.video.fps
        # Half a frame is rounding; more means that the offset belongs to another observation.
        if frame < -0.5:
            problem = f"lies at {seconds:g} s, before the observation's time offset of {offset_s:g} s; correct either"
            raise RecordingError(self.path, problem, line=self.line)
        return max(frame, 0.0)


READER = LabelReader("BORIS events .csv or .tsv", is_boris, read_boris)
