"""Caltech Behavior Annotator text: bouts of named behaviours in several tracks (S1, S2, ...).

Bouts in the file are 1-based and inclusive; they leave this file as 0-based frame labels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
    counted_at_another_rate,
    paint,
)

TITLE = "Caltech Behavior Annotator"
_MIN_BOUTS_OF_A_WHOLE_TRACK = 3
"""Fewer bouts without a gap may be all that happened."""
_TRACK = re.compile(r"^(\S+?):\s*start\s+(?:end|stop)\s+type\s*$", re.IGNORECASE)


def read_caltech(path: Path, video: Video) -> Tracks:
    """Every track of the file as frame labels (T,) of the video.

    Classes are those of the 'Configuration file' section, in its order. Frames that no bout covers, or that two bouts
    cover with different behaviours, are IGNORE; both are counted in the warnings, as are bouts that overrun the video
    by up to five seconds. Raises RecordingError with the line for an unknown behaviour, a bout that ends before it
    starts, a longer overrun, a track that labels every frame and ends more than five seconds early, or a line that is
    no bout.
    """
    lines, warnings = read_lines(path)
    if TITLE.lower() not in lines[0].lower():
        problem = f"expected {TITLE!r} in the first line, got {lines[0][:60]!r}; bring the annotator's text file"
        raise RecordingError(path, problem, line=1)
    classes, at = _configuration(path, lines)
    tracks = Tracks()
    while at < len(lines):
        opened = _TRACK.match(lines[at].strip())
        if opened is None:
            if lines[at].strip():
                problem = f"expected 'S1: start end type' to open a track, got {lines[at].strip()[:60]!r}; remove it"
                raise RecordingError(path, problem, line=at + 1)
            at += 1
            continue
        track = opened[1]
        if track in tracks:
            raise RecordingError(path, f"track {track!r} comes twice; rename one of them", line=at + 1)
        bouts, at = _bouts(path, lines, at + 1, classes)
        # Before painting, whose errors are about single bouts: this one explains many of them.
        doubts = _check_whole(path, bouts, video)
        tracks[track] = paint(path, track, classes, bouts, video, [*warnings, *doubts])
    if not tracks:
        raise RecordingError(path, "holds no track ('S1: start end type'); export the annotation again")
    return tracks


def _configuration(path: Path, lines: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The behaviours of the section 'Configuration file', and the line index behind it."""
    at = 1
    while at < len(lines) and not lines[at].strip().lower().startswith("configuration file"):
        if _TRACK.match(lines[at].strip()):
            break
        at += 1
    if at == len(lines) or _TRACK.match(lines[at].strip()):
        problem = "has no section 'Configuration file:' that names the behaviours; export the annotation again"
        raise RecordingError(path, problem, line=min(at + 1, len(lines)))
    names: list[str] = []
    at += 1
    while at < len(lines) and not _TRACK.match(lines[at].strip()):
        words = lines[at].split()
        if words and words[0] in names:
            raise RecordingError(path, f"behaviour {words[0]!r} is configured twice; remove one", line=at + 1)
        if words:
            names.append(words[0])
        at += 1
    return tuple(names), at


def _bouts(path: Path, lines: Sequence[str], at: int, classes: tuple[str, ...]) -> tuple[list[NumberedBout], int]:
    """The bouts of the track whose rows start at line index `at`, and the index behind them."""
    bouts: list[NumberedBout] = []
    while at < len(lines):
        text = lines[at].strip()
        if _TRACK.match(text):
            break
        at += 1
        # The line of dashes below a track's header.
        if not text or not text.strip("-"):
            continue
        words = text.split()
        if len(words) != 3 or not words[0].isdecimal() or not words[1].isdecimal():
            is_cut = at == len(lines) and len(words) < 3
            cut = "; the file was cut here, copy it again" if is_cut else "; mend or remove the line"
            raise RecordingError(path, f"expected 'start end behaviour', got {text[:60]!r}{cut}", line=at)
        first, last, behaviour = int(words[0]), int(words[1]), words[2]
        if behaviour not in classes:
            problem = (
                f"behaviour {behaviour!r} is not one of the configured {', '.join(classes)}; "
                "correct it or add it to the section 'Configuration file'"
            )
            raise RecordingError(path, problem, line=at)
        if first < 1 or last < first:
            problem = f"bout {first} to {last}: frames count from 1 and end after they start; correct the line"
            raise RecordingError(path, problem, line=at)
        bouts.append(NumberedBout(Bout(first - 1, last, classes.index(behaviour)), at))
    return bouts, at


def _check_whole(path: Path, bouts: Sequence[NumberedBout], video: Video) -> list[ReadingWarning]:
    """Where a track labels every frame from the first one on, it must reach the end; one with gaps lists events."""
    end = 0
    for (start, stop, _), _ in sorted(bouts):
        if start > end:
            return []
        end = max(end, stop)
    if len(bouts) < _MIN_BOUTS_OF_A_WHOLE_TRACK:
        return []
    check_reaches_end(path, end, video, line=bouts[-1].line)
    return counted_at_another_rate(end, video)


def is_caltech(probe: FileProbe) -> bool:
    """Whether the first line is the annotator's title."""
    return TITLE.lower() in probe.lines[0].lower()


READER = LabelReader("Caltech Behavior Annotator .txt", is_caltech, read_caltech)
