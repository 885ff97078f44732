"""BORIS events, whichever file they come from: the observation of a video, starts and stops in pairs, and tracks.

`boris` reads exported tables and `boris_project` project files; both hand marks to this file. Other tables of several
videos are cut by the same rule.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.delimited import Row
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.label_file import MAX_DIFFERENCE_S, NumberedBout, Tracks, Video, paint

NO_SUBJECT = "No focal subject"
"""BORIS' own name for events without a subject."""
START, STOP, POINT = "START", "STOP", "POINT"
VIDEO_COLUMNS = ("video", "videoname", "videofile", "file", "filename", "recording", "session")
"""What a table of labels calls its column of videos, in small letters and without blanks and underscores."""
STATE = "STATE"
"""What aggregated events call a behaviour that lasts."""


OTHER_NAME = "neither the observation nor its media file is named like the poses"
"""The kind of warning where nothing says that an observation is the video's."""
OTHER_RECORDING = "labels are of a video that is called like another recording; check that no files are swapped"
"""The kind of warning where something says that they are of another one of the dataset."""


class Mark(NamedTuple):
    """One row of a list of events.

    frame: where it lies, in frames from 0, not rounded. modifiers: as text; one behaviour may go on twice at once with
    different ones. line: of the file, 0 where lines mean nothing.
    """

    subject: str
    behaviour: str
    modifiers: str
    status: str
    frame: float
    line: int


class Event(NamedTuple):
    """What lasted from one frame to another, not rounded; stop = None for a point event."""

    subject: str
    behaviour: str
    start: float
    stop: float | None
    line: int


def choose_observation(
    path: Path, media: Mapping[str, Iterable[str]], video: Video, *, what: str = "observation"
) -> str:
    """The observation of the video, of those that a file holds. what: it is called in errors, such as 'sheet'.

    media: observation id -> its media files. The one that the dataset file asks for; else the only one; else the one
    whose id or media file is named like the video (`Video.names`). Raises RecordingError where none or several are: to
    take any would label a video with what happened in another.
    """
    called = {name: ", ".join(map(_stem, files)) for name, files in media.items()}
    # What is called by nothing but its name, such as a sheet, needs no second one.
    listed = "; ".join(repr(n) if n == of else f"{n!r} ({of or 'no media'})" for n, of in called.items())
    if video.observation:
        own = next((name for name in media if _plain(name) == _plain(video.observation)), None)
        if own is None:
            raise RecordingError(path, f"holds no {what} {video.observation!r}; there are: {listed}")
        return own
    # A file with one observation is the usual case, and labs name it as they like: no name is compared.
    if len(media) == 1:
        return next(iter(media))
    alike = _most_alike({name: (name, *map(_stem, files)) for name, files in media.items()}, video)
    if alike is not None:
        return alike
    names = f"nothing in it is named like {' or '.join(map(repr, video.names))}" if video.names else "none is named"
    problem = (
        f"holds {len(media)} {what}s and {names}; there are: {listed}. "
        "Export each by itself, or name one in the dataset file (observation = ...)"
    )
    raise RecordingError(path, problem)


def rows_of_video(
    path: Path, rows: Sequence[Row], column: int | None, video: Video
) -> tuple[Sequence[Row], list[ReadingWarning]]:
    """The video's own rows of a table whose `column` names videos, and a warning where nothing says that they are.

    column: None = there is none, and all rows are the video's. Raises RecordingError as `choose_observation`, and where
    the column is empty in some rows.
    """
    if column is None or not rows:
        return rows, []
    check_filled(path, rows, column)
    chosen = choose_observation(path, {row.cells[column]: [row.cells[column]] for row in rows}, video)
    own = [row for row in rows if row.cells[column] == chosen]
    if not chosen or video.observation:
        return own, []
    kind = "the table's only video is not named like the poses"
    return own, name_doubts(kind, [chosen], chosen, video, n=len(own), unit="rows")


def check_filled(path: Path, rows: Sequence[Row], column: int | None) -> None:
    """Raise where a column that says whose a row is has a value in some rows only."""
    empty = [row for row in rows if column is not None and not row.cells[column]]
    # A spreadsheet's joined cells come as one value and empty cells below it: whose those are would be a guess.
    if 0 < len(empty) < len(rows):
        problem = f"column {(column or 0) + 1} is empty here and filled in other rows; write its value into every row"
        raise RecordingError(path, problem, line=empty[0].line)


def _most_alike(called: Mapping[str, Iterable[str]], video: Video) -> str | None:
    """Which one is named like the video, of some that are called by several names each; None where nothing tells."""
    for name in video.names:
        likeness = {one: max(_likeness(name, other) for other in others) for one, others in called.items()}
        best = max(likeness.values())
        alike = [one for one, value in likeness.items() if value == best]
        # Two equally good names are no choice; the next name of the video, such as its id, may be better.
        if best and len(alike) == 1:
            return alike[0]
    return None


class MediaFile(NamedTuple):
    """One of the files that an observation plays one after another. length_s: None where nothing says it."""

    name: str
    length_s: float | None


def media_place(path: Path, observation: str, files: Sequence[MediaFile], video: Video) -> tuple[float, float]:
    """From where to where the video's own file lies in the time of the observation, in frames.

    Of one file: from 0 on without an end. Raises RecordingError where none of several is named like the video, and
    where the lengths of those before it are not known.
    """
    if len(files) <= 1:
        return 0.0, float("inf")
    own = _most_alike({file.name: (_stem(file.name),) for file in files}, video)
    before = [file.length_s for file in files[: [file.name for file in files].index(own) + 1]] if own else []
    lengths = [length for length in before if length is not None]
    if own is None or len(lengths) < len(before):
        what = "none is named like the poses" if own is None else "nothing says how long they are"
        problem = (
            f"observation {observation!r} plays {len(files)} media files one after another "
            f"({', '.join(file.name for file in files)}), and {what}; name them like the poses and bring BORIS' newer "
            "exports or its project, or observe each video by itself"
        )
        raise RecordingError(path, problem)
    return sum(lengths[:-1]) * video.fps, sum(lengths) * video.fps


def length_differs(place: tuple[float, float], video: Video) -> list[ReadingWarning]:
    """A warning where the media file, which lies at `place`, is not as long as the recording."""
    difference_s = abs(place[1] - place[0] - video.n_frames) / video.fps
    if video.open_ended or not MAX_DIFFERENCE_S < difference_s < float("inf"):
        return []
    return [ReadingWarning("BORIS saw a video of another length than the recording", round(difference_s), "seconds")]


def events_between(events: Iterable[Event], start: float, stop: float) -> list[Event]:
    """The events of a stretch of an observation, their frames counted from its start; those across an edge are cut."""
    found = []
    for event in events:
        last = event.start if event.stop is None else event.stop
        # What begins where the next file does belongs to that.
        if event.start >= stop or last < start or (event.stop is not None and last == start > event.start):
            continue
        own_stop = None if event.stop is None else min(event.stop, stop) - start
        found.append(event._replace(start=max(event.start - start, 0.0), stop=own_stop))
    return found


def other_rates(rates: Iterable[str], video: Video) -> list[str]:
    """Those of the rates at which BORIS played the video that are not the recording's, with points; 0 = not known."""
    # A spreadsheet may have put commas for the points.
    known = [rate.replace(",", ".") for rate in rates]
    return [rate for rate in known if float(rate) > 0 and abs(float(rate) - video.fps) > 0.01]


def media_differ(media: Iterable[str], observation: str, video: Video) -> bool:
    """Whether neither the observation nor its media are named like the video, as far as that has a name."""
    called = (observation, *map(_stem, media))
    return bool(video.names) and not any(_likeness(name, other) for name in video.names for other in called)


def name_doubts(
    kind: str, media: Iterable[str], observation: str, video: Video, *, n: int = 1, unit: str = "observation"
) -> list[ReadingWarning]:
    """A warning of that kind where `media_differ`, and another where they are named like another recording."""
    media = list(media)
    if not media_differ(media, observation, video):
        return []
    called = [name for name in (observation, *map(_stem, media)) if name]
    others = [other for other in video.other_names if any(_likeness(other, name) for name in called)]
    found = [ReadingWarning(kind, n, unit)]
    if others:
        found.append(ReadingWarning(OTHER_RECORDING, 1, "file", f"{called[-1]} is called like {', '.join(others)}"))
    return found


def _stem(media: str) -> str:
    """The name of a media file without folders and its end, from Windows as well."""
    return PurePosixPath(media.replace("\\", "/")).stem


def _likeness(name: str, other: str) -> int:
    """How many letters say that two names are of one video; 0 = nothing does.

    Names of pose files go on behind the video's with what the tracker adds: 'm1DLC_resnet50' is of 'm1', and
    'm10DLC_resnet50' is not.
    """
    name, other = _plain(name), _plain(other)
    # What stands before DLC_ is the name of the video that DeepLabCut analysed.
    video = re.split(r"dlc_", name, maxsplit=1)[0]
    pairs = ((other, name), (video, other))
    # Letters of any language: 1 is not the name of a video that is called ä1.
    before, behind = r"(?<![^\W_])", r"(?![^\W_])"
    found = [len(part) for part, whole in pairs if part and re.search(f"{before}{re.escape(part)}{behind}", whole)]
    # DeepLabCut puts its name behind the video's without anything between.
    if other and re.search(f"{before}{re.escape(other)}dlc", name):
        found.append(len(other))
    return max(found, default=0)


def _plain(name: str) -> str:
    """A name in small letters, each in one form: macOS writes ä as two characters, others as one."""
    return unicodedata.normalize("NFC", name).lower()


def pair_marks(path: Path, marks: Sequence[Mark], *, program: str = "BORIS") -> list[Event]:
    """Events from marks in any order. program: where people mend them, for errors.

    At one time a STOP comes before a START of the same behaviour where that goes on, and behind it where it does not:
    BORIS sorts such rows as it likes. Raises RecordingError with the line for a START without STOP, or the reverse.
    """
    groups: dict[tuple[str, str, str], list[Mark]] = {}
    for mark in marks:
        groups.setdefault(_group(mark, groups), []).append(mark)
    events: list[Event] = []
    for group in groups.values():
        events += _events_of_one(path, group, program)
    # In the order of the file, so that classes come in the order of their first event.
    return sorted(events, key=lambda event: (event.start, event.line))


def _group(mark: Mark, groups: Mapping[tuple[str, str, str], Sequence[Mark]]) -> tuple[str, str, str]:
    """What a mark belongs to: a behaviour with its modifiers, which some exports leave out of the STOP."""
    own = mark.subject, mark.behaviour, mark.modifiers
    if mark.status == STOP and not mark.modifiers and own not in groups:
        running = [key for key, some in groups.items() if key[:2] == own[:2] and some[-1].status == START]
        if len(running) == 1:
            return running[0]
    return own


def _events_of_one(path: Path, marks: Sequence[Mark], program: str) -> list[Event]:
    """The events of one subject, behaviour and modifiers."""
    events = [Event(m.subject, m.behaviour, m.frame, None, m.line) for m in marks if m.status == POINT]
    waiting = sorted((m for m in marks if m.status != POINT), key=lambda m: m.frame)
    running: Mark | None = None
    while waiting:
        now = [m for m in waiting if m.frame == waiting[0].frame]
        wanted = START if running is None else STOP
        # Of marks at one time the one that fits is taken; if none fits, the first is the mistake to report.
        mark = next((m for m in now if m.status == wanted), now[0])
        waiting.remove(mark)
        what, line = f"{mark.behaviour!r} of {mark.subject!r}", mark.line or None
        if mark.status == START and running is not None:
            since = f"since line {running.line}" if running.line else f"since frame {running.frame:.0f}"
            raise RecordingError(
                path, f"{what} starts again; it runs {since}. Add the missing STOP in {program}", line=line
            )
        if mark.status == STOP and running is None:
            problem = f"{what} stops and was not started; add the missing START in {program}"
            raise RecordingError(path, problem, line=line)
        if running is None:
            running = mark
        else:
            # The start's line, because a bout beyond the video is a mistake that one looks for at its start.
            events.append(Event(mark.subject, mark.behaviour, running.frame, mark.frame, running.line))
            running = None
    if running is not None:
        problem = f"{running.behaviour!r} of {running.subject!r} starts and never stops; add the STOP in {program}"
        raise RecordingError(path, problem, line=running.line or None)
    return events


def tracks_of_events(path: Path, events: Sequence[Event], video: Video, warnings: Sequence[ReadingWarning]) -> Tracks:
    """One track per subject with all its behaviours, and one track 'subject:behaviour' for each.

    An event covers the frames from its rounded start up to its rounded stop, one at least.
    """
    groups: dict[str, list[Event]] = {}
    for event in events:
        groups.setdefault(event.subject, []).append(event)
    for event in events:
        groups.setdefault(f"{event.subject}:{event.behaviour}", []).append(event)
    tracks = Tracks(lists_events=True)
    for track, some in groups.items():
        # In the order of the first event, which does not depend on a project's list of behaviours.
        classes = tuple(dict.fromkeys(e.behaviour for e in some))
        bouts = []
        for e in some:
            start = round(e.start)
            # What happened has a frame, however short it was: a lick of 10 ms is a lick.
            stop = start + 1 if e.stop is None else max(round(e.stop), start + 1)
            bouts.append(NumberedBout(Bout(start, stop, classes.index(e.behaviour)), e.line))
        tracks[track] = paint(path, track, classes, bouts, video, warnings)
    return tracks
