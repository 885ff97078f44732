"""MARS' and BENTO's .annot: bouts of named behaviours in channels.

Times with a decimal point are seconds; without any, frames from the annotation's start frame on, both ends included, as
MARS writes them. BENTO writes a whole second without a point, so that a file of whole numbers may be either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.files.text import read_lines
from rtseg.recordings.labels.boris_events import name_doubts
from rtseg.recordings.labels.label_file import (
    MAX_DIFFERENCE_S,
    LabelReader,
    NumberedBout,
    Tracks,
    Video,
    check_reaches_end,
    paint,
    rate_kind,
)

TITLE = "bento annotation file"
_OLD_TITLE = "tracergui annotation file"
"""Of BENTO's predecessor, whose files lack a frame rate."""
_START, _STOP, _RATE = "annotation start frame", "annotation stop frame", "annotation framerate"
_START_S, _STOP_S = "annotation start time", "annotation stop time"
_SETTING = re.compile(rf"^({_START}|{_STOP}|{_RATE}|{_START_S}|{_STOP_S}):\s*(\S*)", re.IGNORECASE)
_MOVIES = re.compile(r"^Movie file\(s\):\s*(.*)$", re.IGNORECASE)
MAY_BE_SECONDS = (
    "bouts are taken as frames, and all end before as many frames as the annotation has seconds; "
    "write the times with decimal points if they are seconds"
)
MAY_BE_FRAMES = (
    "bouts are taken as seconds, whose times are all whole and would be frames of the annotation as well; "
    "write the times without decimal points if they are frames"
)
"""Kinds of warnings about what whole numbers may mean."""
_CHANNEL = re.compile(r"^(\S.*?)-{5,}$")
_BEHAVIOUR = re.compile(r"^>(.+)$")
_NUMBER = re.compile(r"\d+\.?\d*|\.\d+")
_SAME_RATE = 0.01


@dataclass
class _Annotation:
    """A file's settings in lower case, movies, behaviours, and per channel (behaviour, start, stop, line) as written.

    durations: (start, stop, duration) of all rows that say all three.
    """

    settings: dict[str, float] = field(default_factory=dict)
    movies: list[str] = field(default_factory=list)
    behaviours: list[str] = field(default_factory=list)
    channels: dict[str, list[tuple[str, str, str, int]]] = field(default_factory=dict)
    durations: list[tuple[float, float, float]] = field(default_factory=list)


def is_bento(probe: FileProbe) -> bool:
    """Whether the first line is the title of such a file."""
    return _is_title(probe.lines[0])


def _is_title(line: str) -> bool:
    return line.strip().lower().startswith((TITLE, _OLD_TITLE))


def read_bento(path: Path, video: Video) -> Tracks:
    """One track per channel with all its behaviours, and one track 'channel:behaviour' for each, over the video.

    A behaviour that is listed and never happens has a track without any label. Frames without a bout are IGNORE: a head
    says what they mean (`unlabelled`). Raises RecordingError with the line for what is no bout, for frames of another
    rate than the recording's, and for an annotation of another length.
    """
    lines, warnings = read_lines(path)
    annotation = _parse(path, lines)
    rows = [row for channel in annotation.channels.values() for row in channel]
    rate = annotation.settings.get(_RATE, video.fps)
    if not rate > 0:
        raise RecordingError(path, f"has a framerate of {rate:g}; correct it")
    first, last = _stretch(path, annotation, rate, video)
    in_seconds, doubts = _unit_of(annotation, rows, first, last, rate)
    # Seconds mean the same at any rate, frames do not.
    if abs(rate - video.fps) > _SAME_RATE:
        if not in_seconds and rows:
            problem = f"counts frames at {rate:g} fps, and the recording has {video.fps:g}; name the fps of the video"
            raise RecordingError(path, problem)
        warnings.append(ReadingWarning(rate_kind("BENTO", f"{rate:g}", video), len(rows), "bouts"))
    if in_seconds and rows and first > 1:
        problem = f"begins at frame {first:g} of its movie, and nothing says whether its seconds count from there"
        raise RecordingError(path, f"{problem}; write the bouts as frames of the movie, or annotate from its start on")
    warnings += doubts
    if annotation.movies:
        warnings += name_doubts("its movies are not named like the poses", annotation.movies, "", video, unit="file")
    tracks = Tracks()
    for channel, found in annotation.channels.items():
        bouts = [
            (b, *_edges(path, start, stop, in_seconds, first, video, line), line) for b, start, stop, line in found
        ]
        # Of all that is listed, so that classes are the same in every video of a project.
        classes = tuple(annotation.behaviours)
        numbered = [NumberedBout(Bout(start, stop, classes.index(b)), line) for b, start, stop, line in bouts]
        tracks[channel] = paint(path, channel, classes, numbered, video, warnings)
        for behaviour in classes:
            own = [NumberedBout(Bout(start, stop, 0), line) for b, start, stop, line in bouts if b == behaviour]
            name = f"{channel}:{behaviour}"
            tracks[name] = paint(path, name, (behaviour,), own, video, warnings)
    return tracks


def _stretch(path: Path, annotation: _Annotation, rate: float, video: Video) -> tuple[float, float | None]:
    """The first and the last frame of the movie that the annotation covers, the last one included; None = not said.

    Raises RecordingError where that is another stretch than the recording.
    """
    settings = annotation.settings
    first, last = settings.get(_START, 1.0), settings.get(_STOP)
    if settings.get(_START_S, 0.0) > 0:
        problem = (
            f"begins at {settings[_START_S]:g} s of its movie, and nothing says whether its times count from there"
        )
        raise RecordingError(path, f"{problem}; save it in BENTO from the movie's start on")
    if last is None and _STOP_S in settings:
        last = settings[_STOP_S] * rate
    if last is None or video.open_ended:
        return first, last
    # An annotation covers its stop frame, whether or not something happened there.
    n_frames = round((last - first + 1) * video.fps / rate)
    whole = round(last * video.fps / rate)
    # Of a movie of which a stretch is annotated, poses are of the stretch or of all.
    if first > 1 and abs(video.n_frames - whole) < abs(video.n_frames - n_frames):
        problem = (
            f"covers frames {first:g} to {last:g} of its movie, and the recording has {video.n_frames}, as the whole "
            "movie: nothing says that what lies before was looked at. Bring the poses of this stretch alone"
        )
        raise RecordingError(path, problem)
    check_reaches_end(path, n_frames, video)
    if n_frames - video.n_frames > MAX_DIFFERENCE_S * video.fps:
        problem = f"covers {n_frames} frames and the video has {video.n_frames} at {video.fps:g} fps"
        raise RecordingError(path, f"{problem}; check that labels and poses are of one video, and the fps")
    return first, last


def _unit_of(
    annotation: _Annotation, rows: Sequence[tuple[str, str, str, int]], first: float, last: float | None, rate: float
) -> tuple[bool, list[ReadingWarning]]:
    """Whether bouts are in seconds, and a warning where they may as well be frames, or the reverse."""
    cells = [cell for _, start, stop, _ in rows for cell in (start, stop)]
    # One bout with a fraction decides for the file, as in BENTO.
    in_seconds = any("." in cell for cell in cells)
    numbers = [float(cell) for cell in cells if _NUMBER.fullmatch(cell)]
    if not numbers or last is None or not all(number.is_integer() for number in numbers):
        return in_seconds, []
    fit_frames = min(numbers) >= first and max(numbers) <= last
    fit_seconds = max(numbers) <= (last - first + 1) / rate
    # Frames with both ends included last one more than their difference; seconds never do.
    say_frames = annotation.durations and all(abs(d - (b - a) - 1) < 1e-6 for a, b, d in annotation.durations)
    if in_seconds and fit_frames and (say_frames or not fit_seconds):
        return False, []
    if in_seconds:
        return True, [ReadingWarning(MAY_BE_FRAMES, len(rows), "bouts")] if fit_frames and len(rows) > 1 else []
    if fit_seconds and not say_frames:
        return False, [ReadingWarning(MAY_BE_SECONDS, len(rows), "bouts")]
    return False, []


def _parse(path: Path, lines: Sequence[str]) -> _Annotation:
    if not _is_title(lines[0]):
        problem = f"expected 'Bento annotation file' in the first line, got {lines[0][:60]!r}"
        raise RecordingError(path, problem, line=1)
    found = _Annotation()
    channel = behaviour = None
    listing = False
    below_movies = False
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if below_movies:  # some programs write their names there
            found.movies += [line] if line and not line.lower().startswith(("stim", "annotation")) else []
            below_movies = False
        if movies := _MOVIES.match(line):
            found.movies += [movies[1], *movies[1].split()] if movies[1] else []
            below_movies = not movies[1]
        elif setting := _SETTING.match(line):
            found.settings[setting[1].lower()] = _number(path, setting[2], number)
        elif opened := _CHANNEL.match(line):
            channel, behaviour, listing = opened[1], None, False
            if channel in found.channels:
                raise RecordingError(path, f"channel {channel!r} comes twice; rename one of them", line=number)
            found.channels[channel] = []
        elif named := _BEHAVIOUR.match(line):
            behaviour, listing = named[1].strip(), False
            # Hand-edited files may have a behaviour that the list above lacks.
            if behaviour not in found.behaviours:
                found.behaviours.append(behaviour)
        elif line.lower().startswith("list of annotations"):
            listing = True
        elif listing:
            found.behaviours += [line] if line else []
        elif channel and line and not line.lower().startswith("start"):
            cells = line.split()
            if len(cells) < 2 or behaviour is None:
                problem = f"expected 'start stop duration' below a '>behaviour', got {line[:60]!r}; remove the line"
                raise RecordingError(path, problem, line=number)
            found.channels[channel].append((behaviour, cells[0], cells[1], number))
            if all(_NUMBER.fullmatch(cell) for cell in cells[:3]) and len(cells) > 2:
                found.durations.append((float(cells[0]), float(cells[1]), float(cells[2])))
    if not found.channels:
        raise RecordingError(path, "holds no channel ('Ch1----------'); save the annotation again in BENTO")
    return found


def _edges(
    path: Path, start: str, stop: str, in_seconds: bool, first: float, video: Video, line: int
) -> tuple[int, int]:
    """Start and stop as frames from 0, the stop not included."""
    begin, end = _number(path, start, line), _number(path, stop, line)
    if in_seconds:
        frame = round(begin * video.fps)
        edges = frame, max(round(end * video.fps), frame + 1)
    else:
        edges = round(begin - first), round(end - first) + 1
    if end < begin or edges[0] < 0:
        raise RecordingError(path, f"bout {start} to {stop}: ends before it starts, or starts too early", line=line)
    return edges


def _number(path: Path, cell: str, line: int) -> float:
    if not _NUMBER.fullmatch(cell):
        raise RecordingError(path, f"expected a number from 0 on, got {cell[:40]!r}", line=line)
    return float(cell)


READER = LabelReader("MARS and BENTO .annot", is_bento, read_bento)
