"""Tables of bouts: one row per bout with its start, its stop or duration, and its behaviour, whatever they are called.

rtseg's own `*.bouts.csv` is one of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.delimited import DelimitedText, NumberStyle, Row, has_minutes, is_clock
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.boris_events import VIDEO_COLUMNS, check_filled, rows_of_video
from rtseg.recordings.labels.label_file import (
    MAX_DIFFERENCE_S,
    NO_LABEL,
    NumberedBout,
    Tracks,
    Video,
    check_reaches_end,
    paint,
    rate_differs,
)

DEFAULT_TRACK = "labels"
SEEM_FROM_ONE = "bouts seem to count frames from 1 to as many as the video has; say first_frame = 1 if they do"
SEEM_LAST_INCLUDED = (
    "bouts seem to include their last frame, and are read without it; say last_included = true if they do"
)
SEEM_LAST_TIMES = (
    "bouts in seconds leave a frame to the next one, so that their stops seem to be the times of their last frames; "
    "add a frame's time to them if they are"
)
COUNTING_NOT_SAID = "bouts are taken as frames from 0 whose last is not included; say first_frame, last_included if not"
_STARTS = ("start", "onset", "begin", "from", "first", "boutstart")
_STOPS = ("stop", "end", "offset", "finish", "to", "last", "boutstop", "boutend")
_EDGES = (*_STARTS, *_STOPS)
_DURATIONS = ("duration", "boutduration", "bouttime", "runlength", "runlengths")
_FRAME_COUNTS = ("nframes", "framecount", "numberofframes", "duration(frames)")
_LAST_INCLUDED = "last"
SAID_LAST_INCLUDED = "bouts are taken to include their last frame, as their durations say"
"""Kinds of warnings about what the frames of a table may mean."""
_FRAME_WORDS = (
    *("", "frame", "frames", "seq", "frameindex", "frameidx", "time(frames)", "(frame)", "(frames)", "[frame]"),
    *("[frames]", "idx", "index", "frame#", "frameno", "framenumber"),
)
_SECOND_WORDS = (
    *("s", "(s)", "[s]", "sec", "secs", "(sec)", "[sec]", "second", "seconds", "(seconds)"),
    *("time", "times", "time(s)", "times(s)", "time[s]", "timesec"),
    *("timess", "timessmsec", "ssmsec", "timehh:mm:ssms", "hh:mm:ssms"),  # ELAN's
    *("hh:mm:ss", "(hh:mm:ss)", "(h:mm:ss)", "time(hh:mm:ss)", "time(h:mm:ss)"),
)
_MILLISECOND_WORDS = (
    "ms",
    "(ms)",
    "[ms]",
    "msec",
    "(msec)",
    "milliseconds",
    "(milliseconds)",
    "timems",
    "time(ms)",
    "timemsec",
)
_BEHAVIOURS = (
    *("behaviour", "behavior", "behaviourname", "behaviorname", "label", "class", "annotation"),
    *("type", "event", "action", "code", "name", "bsoidlabel", "bsoidlabels"),
)
_TRACKS = ("track", "head", "subject", "animal", "individual", "annotator", "channel", "tier")
_IGNORED = (
    *("", "index", "unnamed:0", "id", "comment", "comments", "note", "notes"),
    "starttsourcens",
)
_PLURAL = re.compile(r"^\s*(start|stop|onset|offset|begin|end)s\s*$", re.IGNORECASE)
_OWN_NAMES = (("start", "stop"), ("firstseq", "lastseq"), ("start", "duration"))
"""What `start,stop` and rtseg's own bouts mean is documented; what other programs mean by their names is not known."""
_MAX_NUMBER = 1e9
_MIN_BOUTS_TO_DOUBT = 3
_HALF_S = 0.5
_SAME_FRAMES = 0.3
"""By which durations in seconds may miss whole frames, in frames: rounding, and no frame more or less."""
_MIN_ROUNDED = 6
"""Bouts whose rounded durations say all the same are no chance from so many on."""


@dataclass(frozen=True)
class BoutColumns:
    """Which column is which; None where there is none.

    start_s: of the same starts in seconds beside frames. durations: beside starts and stops. is_duration: whether
    `stop` is how long the bout lasts. in_seconds: the unit of both, else frames. unit_s: the seconds that 1 means then.
    last_included: whether the stop is the last frame, by its name. documented: whether the names say what the numbers
    mean. unknown: columns of another kind.
    """

    start: int
    stop: int
    behaviour: int | None
    track: int | None
    video: int | None
    start_s: int | None
    durations: tuple[int, ...]
    is_duration: bool
    in_seconds: bool
    unit_s: float
    last_included: bool
    documented: bool
    unknown: tuple[str, ...]


def bout_columns(names: Sequence[str]) -> BoutColumns | None:
    """The columns of a table of bouts; None where the header has no start and stop, or duration, of the same unit."""
    # `starts` is a plural, and `start_s` seconds.
    single = [_PLURAL.sub(r"\1", name) for name in names]
    plain = [re.sub(r"[\s_.\-]+", "", name).lower() for name in single]
    # Frames first: rtseg's own bouts have both, and frames are exact. A stop says more than a duration.
    for ends in (_STOPS, _DURATIONS):
        for unit_s, words in ((None, _FRAME_WORDS), (1.0, _SECOND_WORDS), (1e-3, _MILLISECOND_WORDS)):
            is_duration = ends is _DURATIONS
            start = _find_edge(plain, _STARTS, words)
            # A duration without a unit has that of the start.
            stop = _find_edge(plain, ends, ("", *words) if is_duration else words)
            if start is not None and stop is not None:
                return _columns_with(names, plain, start, stop, is_duration=is_duration, unit_s=unit_s)
    return None


def _columns_with(
    names: Sequence[str], plain: Sequence[str], start: int, stop: int, *, is_duration: bool, unit_s: float | None
) -> BoutColumns:
    """The other columns of a table whose start and stop are known. unit_s: None = they are frames."""
    behaviour, track, video = (_find(plain, some) for some in (_BEHAVIOURS, _TRACKS, VIDEO_COLUMNS))
    used = {start, stop, behaviour, track, video}
    in_seconds = unit_s is not None
    times = (*_SECOND_WORDS, *_MILLISECOND_WORDS)
    durations = [i for i, name in enumerate(plain) if i != stop and _is_edge(name, _DURATIONS, (*_FRAME_WORDS, *times))]
    durations += [plain.index(name) for name in _FRAME_COUNTS if name in plain]
    # Beside frames, as in rtseg's own bouts, the same edges in seconds say nothing new, nor do durations beside stops.
    known = [
        i in used or i in durations or name in _IGNORED or _is_edge(name, _EDGES, times) for i, name in enumerate(plain)
    ]
    start_s = None if in_seconds else _find_edge(plain, _STARTS, _SECOND_WORDS)
    return BoutColumns(
        *(start, stop, behaviour, track, video, start_s, tuple(durations), is_duration, in_seconds, unit_s or 1.0),
        last_included=plain[stop].startswith(_LAST_INCLUDED),
        documented=in_seconds or (plain[start], plain[stop]) in _OWN_NAMES,
        unknown=tuple(name for name, is_known in zip(names, known, strict=True) if not is_known),
    )


def _find_edge(plain: Sequence[str], edges: Sequence[str], words: Sequence[str]) -> int | None:
    return next((i for i, name in enumerate(plain) if _is_edge(name, edges, words)), None)


def _is_edge(name: str, edges: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a name is such as 'start', 'startframe' or 'timestart': an edge, with a unit or without."""
    return any(name in (edge + word, word + edge) for edge in edges for word in words)


def _find(plain: Sequence[str], accepted: Iterable[str]) -> int | None:
    return next((plain.index(name) for name in accepted if name in plain), None)


def tracks_of_bout_table(path: Path, table: DelimitedText, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video from a table of bouts.

    Columns in any order and case: start and stop (or onset and offset, begin and end, ...) or duration, in frames or,
    where their names say so or they are written as h:mm:ss or m:ss, in seconds or milliseconds; behaviour (or label,
    class, ...); if wanted, track (or subject, ...; else one track, 'labels') and video, of which the video's own is
    read. Frames count from `Video.first_frame`; the stop is not included unless its name begins with 'last',
    `Video.last_included` says so, or durations beside it are of a frame more. Classes are in the order of their first
    bout. Frames without a bout are IGNORE; a table without any is a video in which nothing happened. Raises
    RecordingError with the line for fractions of frames, and for bouts that end before they start.
    """
    columns = bout_columns(table.rows[0].cells)
    assert columns is not None
    # A row between two bouts that holds nothing is nobody's bout; in a table of frames it would be a frame.
    table = replace(table, rows=[row for row in table.rows if any(row.cells)])
    # What no column's name says may be plain from its cells: no frame is written 0:01:30.
    cells = [row.cells[i] for row in table.rows[1:] for i in (columns.start, columns.stop)]
    if any(map(is_clock, cells)):
        columns = replace(columns, in_seconds=True, unit_s=1.0, documented=True, last_included=False)
    unknown = (*columns.unknown, *_shared_ids(table))
    if columns.behaviour is None or unknown:
        expected = "start_s, stop_s" if columns.in_seconds else "start, stop"
        got = ", ".join(table.rows[0].cells)
        mend = f"; rename or remove {', '.join(map(repr, unknown))}" if unknown else ""
        problem = f"expected the columns {expected}, behaviour and, if wanted, track; got {got}{mend}"
        raise RecordingError(path, problem, line=table.rows[0].line)
    found: dict[str, list[tuple[int, int, str, int]]] = {}
    longest_s = math.inf if video.open_ended else video.n_frames / video.fps + MAX_DIFFERENCE_S
    style = NumberStyle(path, table.delimiter, has_minutes=has_minutes(cells, longest_s))
    rows, tolerated = rows_of_video(path, table.rows[1:], columns.video, video)
    check_filled(path, rows, columns.track)
    said = _said_by_durations(columns, rows, style, video)
    if said and said[0].kind == SAID_LAST_INCLUDED:
        video = replace(video, last_included=True)
    for row in rows:
        start, stop = _edges(path, row, columns, style, video)
        behaviour = row.cells[columns.behaviour]
        if stop <= start or behaviour.lower() in NO_LABEL:
            problem = f"expected a bout that ends after it starts, and a behaviour, got {','.join(row.cells)[:60]!r}"
            if stop == start and not columns.in_seconds:
                mend = "last_included = true in the dataset file (rtseg init --last-included)"
                problem += f"; say {mend} where bouts include their last frame"
            raise RecordingError(path, problem, line=row.line)
        track = row.cells[columns.track] if columns.track is not None else ""
        found.setdefault(track or DEFAULT_TRACK, []).append((start, stop, behaviour, row.line))
    warnings = [
        *table.warnings,
        *tolerated,
        *said,
        *_doubts(columns, found, video),
        *_rate_doubts(columns, rows, style, video),
    ]
    # Where tracks have names, one without a bout is not named; a table with one track holds it under DEFAULT_TRACK.
    tracks = Tracks(lists_events=columns.track is not None or not found)
    for track, some in found.items():
        classes = tuple(dict.fromkeys(name for _, _, name, _ in some))
        bouts = [NumberedBout(Bout(start, stop, classes.index(name)), line) for start, stop, name, line in some]
        if columns.last_included:  # rtseg's own bouts label every frame
            check_reaches_end(path, max(stop for _, stop, _, _ in some), video, line=some[-1][3])
        tracks[track] = paint(path, track, classes, bouts, video, warnings)
    return tracks


def _shared_ids(table: DelimitedText) -> list[str]:
    """Columns 'id' in which an id comes again: it is no bout's, but an animal's or a person's."""
    names = [name for name in table.rows[0].cells if name.lower() == "id"]
    cells = [[row.cells[table.rows[0].cells.index(name)] for row in table.rows[1:]] for name in names]
    return [name for name, ids in zip(names, cells, strict=True) if any(ids) and len(set(ids)) < len(ids)]


def _edges(path: Path, row: Row, columns: BoutColumns, style: NumberStyle, video: Video) -> tuple[int, int]:
    """Start and stop as frames from 0, the stop not included."""
    what = "a frame number or time from 0 on"
    start, stop = (style.parse_time(row.cells[i], row.line, what) for i in (columns.start, columns.stop))
    for value, column in ((start, columns.start), (stop, columns.stop)):
        if not 0 <= value < _MAX_NUMBER:
            raise RecordingError(path, f"expected {what}, got {row.cells[column][:40]!r}", line=row.line)
        if not columns.in_seconds and value != int(value):
            problem = (
                f"expected whole frames, got {row.cells[column]!r}; call the columns start_s and stop_s if seconds"
            )
            raise RecordingError(path, problem, line=row.line)
        if not columns.in_seconds and style.may_be_thousands(row.cells[column]):
            problem = (
                f"expected whole frames, got {row.cells[column]!r}, which may be thousands; write it without point"
            )
            raise RecordingError(path, problem, line=row.line)
    if columns.is_duration:
        stop += start
    if columns.in_seconds:
        first, behind = (round(value * columns.unit_s * video.fps) for value in (start, stop))
        # A bout shorter than a frame still happened; one that ends where it starts is a mistake.
        return first, max(behind, first + 1) if stop > start else first
    included = columns.last_included or (video.last_included and not columns.is_duration)
    first, behind = int(start) - video.first_frame, int(stop) - video.first_frame + included
    if first < 0:
        problem = f"starts at frame {start:g}, and the dataset file says that frames count from {video.first_frame}"
        raise RecordingError(path, problem, line=row.line)
    return first, behind


def _said_by_durations(
    columns: BoutColumns, rows: Sequence[Row], style: NumberStyle, video: Video
) -> list[ReadingWarning]:
    """What durations beside bouts in frames say: that each includes its last frame, or that the rate is another."""
    if columns.in_seconds or columns.is_duration or columns.last_included or video.last_included or not rows:
        return []
    for column in columns.durations:
        try:
            found = [[style.parse_time(row.cells[i], 0) for i in (columns.start, columns.stop, column)] for row in rows]
        except RecordingError:
            continue
        differences = [stop - start for start, stop, _ in found]
        durations = [duration for _, _, duration in found]
        rounding_s = 0.5 * 10.0 ** -max(len(row.cells[column].replace(",", ".").partition(".")[2]) for row in rows)
        for unit in (1.0, video.fps, video.fps / 1000):
            beyond = [d * unit - n for d, n in zip(durations, differences, strict=True)]
            # Frames are exact; of times that are rounded to more than a frame many must agree.
            is_exact = unit == 1.0 or rounding_s * unit < _SAME_FRAMES or len(rows) >= _MIN_ROUNDED
            if is_exact and all(abs(more - 1) < _SAME_FRAMES for more in beyond):
                return [ReadingWarning(SAID_LAST_INCLUDED, len(rows), "bouts")]
            if all(abs(more) < _SAME_FRAMES for more in beyond):
                break
        else:
            # A frame more or less a bout, and what rounding makes, is no other rate.
            n_seconds, n_frames = sum(durations), sum(differences)
            if abs(n_frames - n_seconds * video.fps) > len(rows) * (1 + rounding_s * video.fps):
                return rate_differs([0, n_frames], [0, n_seconds], video)
    return []


def _rate_doubts(columns: BoutColumns, rows: Sequence[Row], style: NumberStyle, video: Video) -> list[ReadingWarning]:
    """A warning where starts in frames and in seconds are of another rate than the recording's."""
    if columns.start_s is None:
        return []
    starts, seconds = (
        [style.parse_time(row.cells[column], row.line) for row in rows] for column in (columns.start, columns.start_s)
    )
    return rate_differs(starts, seconds, video)


def _doubts(
    columns: BoutColumns, found: dict[str, list[tuple[int, int, str, int]]], video: Video
) -> list[ReadingWarning]:
    """Warnings where a table of frames may mean other frames than it was taken to mean."""
    bouts = sorted(bout for some in found.values() for bout in some)
    end = max((stop for _, stop, _, _ in bouts), default=0)
    if columns.in_seconds and len(bouts) >= _MIN_BOUTS_TO_DOUBT and end < _HALF_S * video.fps:
        kind = "bouts in seconds all end within the first half second; a spreadsheet's times are days, 86,400 s each"
        return [ReadingWarning(kind, len(bouts), "bouts")]
    # Bouts that follow each other tell: where one ends at 16 and the next begins at 17, the 16 is included.
    gaps = [after[0] - before[1] for some in found.values() for before, after in pairwise(sorted(some))]
    if columns.in_seconds and not columns.is_duration and gaps.count(1) > max(gaps.count(0), _MIN_BOUTS_TO_DOUBT - 1):
        return [ReadingWarning(SEEM_LAST_TIMES, gaps.count(1), "bouts")]
    # Seconds have no last frame otherwise, and a column called last_... says itself what it is.
    if columns.in_seconds or columns.last_included or not found:
        return []
    warnings = []
    ends = (video.n_frames,) if video.last_included else (video.n_frames, video.n_frames + 1)
    if bouts[0][0] == 1 and end - video.last_included in ends and not (video.first_frame or video.open_ended):
        warnings.append(ReadingWarning(SEEM_FROM_ONE, len(bouts), "bouts"))
    if len(bouts) >= _MIN_BOUTS_TO_DOUBT and end <= video.n_frames / video.fps:
        kind = (
            "bouts in frames end before as many frames as the video has seconds; call them start_s, stop_s if seconds"
        )
        warnings.append(ReadingWarning(kind, len(bouts), "bouts"))
    if video.last_included:
        return warnings
    if columns.is_duration:
        gaps = [0]  # a duration leaves no doubt about the last frame
    if gaps.count(1) > gaps.count(0):
        warnings.append(ReadingWarning(SEEM_LAST_INCLUDED, gaps.count(1), "bouts"))
    elif not columns.documented and not gaps.count(0):
        warnings.append(ReadingWarning(COUNTING_NOT_SAID, len(bouts), "bouts"))
    return warnings
