"""BORIS projects (.boris): the events of the observation of one video, without exporting them.

A project is JSON: `observations` with their events, and `behaviors_conf`, which says what is a state and what a point.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rtseg.errors import RecordingError
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.files.text import read_text
from rtseg.recordings.labels.boris_events import (
    NO_SUBJECT,
    OTHER_NAME,
    POINT,
    START,
    STOP,
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

_TIME, _SUBJECT, _BEHAVIOUR, _MODIFIERS, _IMAGE = 0, 1, 2, 3, 5
"""Places in an event's list; behind the comment stands the frame or, of images, the image's number."""
_IMAGES = "IMAGES"


def is_boris_project(probe: FileProbe) -> bool:
    """Whether the file is JSON with the two parts of a BORIS project that are read here."""
    # Only JSON is searched as a whole; other label files may be long.
    if not probe.lines[0].lstrip().startswith("{"):
        return False
    text = "\n".join(probe.lines)
    return '"behaviors_conf"' in text and '"observations"' in text


def read_boris_project(path: Path, video: Video) -> Tracks:
    """Tracks of frame labels (T,) of the video, as `boris.read_boris` makes them of exported events.

    A project has no START and STOP: the first event of a state starts it and the next stops it. Raises RecordingError
    for a state that starts and never stops, and where the project is not what it seems.
    """
    text, warnings = read_text(path)
    try:
        project = json.loads(text)
        observations = {str(name): dict(plain) for name, plain in project["observations"].items()}
        kinds = {str(b["code"]): str(b["type"]).lower() for b in project["behaviors_conf"].values()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordingError(path, f"is no whole BORIS project ({error!r}); save it again in BORIS") from error
    if not observations:
        raise RecordingError(path, "holds no observations; observe the video in BORIS")
    media = {name: _media(plain) for name, plain in observations.items()}
    chosen = choose_observation(path, media, video)
    place = media_place(path, chosen, _media_files(observations[chosen]), video)
    try:
        marks = list(_marks(observations[chosen], kinds, video.fps))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        problem = f"observation {chosen!r} is not as BORIS writes it ({error!r}); save it again in BORIS"
        raise RecordingError(path, problem) from error
    warnings += _differences(observations[chosen], chosen, media[chosen], len(marks), video)
    warnings += length_differs(place, video)
    return tracks_of_events(path, events_between(pair_marks(path, marks), *place), video, warnings)


def _media(observation: dict[str, Any]) -> list[str]:
    players = observation.get("file") or {}
    # Live observations have a list, or nothing, where others have players.
    players = players.values() if isinstance(players, dict) else [players]
    return [str(file) for files in players for file in files]


def _media_files(observation: dict[str, Any]) -> list[MediaFile]:
    """The files that the first player with any plays one after another; several players at once are one time."""
    players = observation.get("file") or {}
    lengths = (observation.get("media_info") or {}).get("length") or {}
    for files in players.values() if isinstance(players, dict) else []:
        if files:
            known = {name: lengths.get(name) for name in map(str, files)}
            return [MediaFile(n, float(s) if isinstance(s, int | float) else None) for n, s in known.items()]
    return []


def _marks(observation: dict[str, Any], kinds: dict[str, str], fps: float) -> Iterator[Mark]:
    """The observation's events as marks, in the order of their times."""
    images = str(observation.get("type", "")).upper() == _IMAGES
    offset_s = float(observation.get("time offset") or 0.0)
    # The project stores no START and STOP: BORIS derives them from the order of events, and so does this.
    running: set[tuple[str, str, str]] = set()
    placed = sorted(((_place(e, images, offset_s, fps), e) for e in observation["events"]), key=lambda pair: pair[0])
    for frame, event in placed:
        subject, behaviour = str(event[_SUBJECT]) or NO_SUBJECT, str(event[_BEHAVIOUR])
        modifiers = str(event[_MODIFIERS]) if len(event) > _MODIFIERS else ""
        key = subject, behaviour, modifiers
        if behaviour not in kinds:
            raise ValueError(f"its event {behaviour!r} is no behaviour of the project's ethogram")
        if "point" in kinds[behaviour]:
            status = POINT
        else:
            status = STOP if key in running else START
            running ^= {key}
        yield Mark(subject, behaviour, modifiers, status, frame, 0)


def _place(event: list[Any], images: bool, offset_s: float, fps: float) -> float:
    """Where an event lies, in frames from 0, not rounded. Its time has the observation's offset in it."""
    if images:
        return float(event[_IMAGE])
    frame = (float(event[_TIME]) - offset_s) * fps
    if not frame > -0.5:
        raise ValueError(f"an event at {event[_TIME]} s, before the time offset of {offset_s:g} s")
    return max(frame, 0.0)


def _differences(
    observation: dict[str, Any], name: str, media: list[str], n_events: int, video: Video
) -> list[ReadingWarning]:
    """Warnings where BORIS saw another video than the poses are of."""
    warnings = []
    rates = ((observation.get("media_info") or {}).get("fps") or {}).values()
    if other := other_rates((f"{float(rate):g}" for rate in rates), video):
        warnings.append(ReadingWarning(rate_kind("BORIS", other[0], video), n_events, "events"))
    # BORIS keeps them for players side by side, and gives events the times of the first.
    offsets = ((observation.get("media_info") or {}).get("offset") or {}).values()
    if any(float(offset) != 0 for offset in offsets):
        kind = "BORIS plays its media with offsets to each other, which are not applied: times count as the first's"
        warnings.append(ReadingWarning(kind, n_events, "events"))
    return [*warnings, *name_doubts(OTHER_NAME, media, name, video)]


READER = LabelReader("BORIS projects .boris", is_boris_project, read_boris_project)
