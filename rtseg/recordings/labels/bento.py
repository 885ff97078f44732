"""MARS' and BENTO's .annot: bouts of named behaviours in channels.

Times with a decimal point are seconds; without any, frames from the annotation's start frame on, both ends included, as
MARS writes them.
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
from rtseg.recordings.labels.label_file import (
    LabelReader,
    NumberedBout,
    Tracks,
    Video,
    check_reaches_end,
    paint,
    rate_kind,
)

TITLE = "bento annotation file"
_SETTING = re.compile(r"^(Annotation start frame|Annotation stop frame|Annotation framerate):\s*(\S*)", re.IGNORECASE)
_CHANNEL = re.compile(r"^(\S.*?)-{5,}$")
_BEHAVIOUR = re.compile(r"^>(.+)$")


@dataclass
class _Annotation:
    """A file's settings in lower case, its behaviours, and per channel (behaviour, start, stop, line) as written."""

    settings: dict[str, float] = field(default_factory=dict)
    behaviours: list[str] = field(default_factory=list)
    channels: dict[str, list[tuple[str, str, str, int]]] = field(default_factory=dict)


def is_bento(probe: FileProbe) -> bool:
    """Whether the first line is the title of such a file."""
    return probe.lines[0].strip().lower().startswith(TITLE)


def read_bento(path: Path, video: Video) -> Tracks:
    """One track per channel with all its behaviours, and one track 'channel:behaviour' for each, over the video.

    A behaviour that is listed and never happens has a track without any label. Frames without a bout are IGNORE: a head
    says what they mean (`unlabelled`). Raises RecordingError with the line for what is no bout, for frames of another
    rate than the recording's, and for an annotation of another length.
    """
    lines, warnings = read_lines(path)
    annotation = _parse(path, lines)
    rows = [row for channel in annotation.channels.values() for row in channel]
    # MARS writes whole frames, BENTO seconds with a fraction; one bout with a fraction decides for the file.
    in_seconds = any("." in cell for _, start, stop, _ in rows for cell in (start, stop))
    rate = annotation.settings.get("annotation framerate", video.fps)
    if not rate > 0:
        raise RecordingError(path, f"has a framerate of {rate:g}; correct it")
    # Seconds mean the same at any rate, frames do not.
    if rate != video.fps:
        if not in_seconds and rows:
            problem = f"counts frames at {rate:g} fps, and the recording has {video.fps:g}; name the fps of the video"
            raise RecordingError(path, problem)
        warnings.append(ReadingWarning(rate_kind("BENTO", f"{rate:g}", video), len(rows), "bouts"))
    first = annotation.settings.get("annotation start frame", 1.0)
    last = annotation.settings.get("annotation stop frame")
    # An annotation covers its stop frame, whether or not something happened there.
    if last is not None:
        check_reaches_end(path, round((last - first + 1) * video.fps / rate), video)
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


def _parse(path: Path, lines: Sequence[str]) -> _Annotation:
    if not lines[0].strip().lower().startswith(TITLE):
        problem = f"expected 'Bento annotation file' in the first line, got {lines[0][:60]!r}"
        raise RecordingError(path, problem, line=1)
    found = _Annotation()
    channel = behaviour = None
    listing = False
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if setting := _SETTING.match(line):
            found.settings[setting[1].lower()] = _number(path, setting[2], number)
        elif opened := _CHANNEL.match(line):
            channel, behaviour, listing = opened[1], None, False
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
    if not re.fullmatch(r"\d+\.?\d*|\.\d+", cell):
        raise RecordingError(path, f"expected a number from 0 on, got {cell[:40]!r}", line=line)
    return float(cell)


READER = LabelReader("MARS and BENTO .annot", is_bento, read_bento)
