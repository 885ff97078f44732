"""JAABA's .mat: the scores of its classifiers (scores_*.mat), and labels that a person gave, as it kept them per movie.

Frames count from 1 in both, and a bout's end is the first frame behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout, bouts_of
from rtseg.recordings.files.matlab import read_matlab, variables_of
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.labels.label_file import (
    LabelReader,
    NumberedBout,
    Track,
    Tracks,
    Video,
    check_reaches_end,
    paint,
)
from rtseg.recordings.recording import IGNORE

SUFFIX = ".mat"
ARE_ANSWERS = "these are answers of JAABA's classifier, and no labels that a person gave"
_OTHER = "other"
_SCORES = "allScores"
_LABELS = ("t0s", "t1s", "names", "flies")
_OFFSETS = "off"
_TABLE = "write labels as a table with the columns start_s, stop_s, behaviour"


def read_jaaba(path: Path, video: Video) -> Tracks:
    """One track 'target 1', 'target 2', ... for each animal, in JAABA's order, over the T frames of the video.

    Of scores: the classes 'other' and the behaviour, as JAABA has smoothed them, from an animal's first to its last
    frame; frames outside are without a label. Of labels: the names that were given, 'None' among them, which says that
    the behaviour was seen not to happen. Raises RecordingError where the file is neither, or of another video.
    """
    values = read_matlab(path, (_SCORES, "behaviorName", *_LABELS, _OFFSETS))
    if _SCORES in values:
        return _tracks_of_scores(path, values, video)
    return _tracks_of_labels(path, values, video)


def _tracks_of_scores(path: Path, values: dict[str, Any], video: Video) -> Tracks:
    scores = values[_SCORES]
    behaviour = values.get("behaviorName") or path.stem.removeprefix("scores_")
    if isinstance(behaviour, list) and len(behaviour) == 1:
        behaviour = behaviour[0]
    if not isinstance(scores, dict) or not isinstance(behaviour, str):
        raise RecordingError(path, "holds the scores of several classifiers; save those of one behaviour from JAABA")
    try:
        smoothed = scores.get("postprocessed") or [(one > 0).astype(float) for one in scores["scores"]]
        edges = list(zip(scores["tStart"].astype(int), scores["tEnd"].astype(int), strict=True))
        targets = [_codes(answers, *edge) for answers, edge in zip(smoothed, edges, strict=True)]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise RecordingError(path, f"is not as JAABA writes scores ({error!r}); save them again in JAABA") from error
    check_reaches_end(path, max((len(codes) for codes in targets), default=0), video)
    warnings = [ReadingWarning(ARE_ANSWERS, len(targets), "animals")]
    tracks = Tracks()
    for number, codes in enumerate(targets, start=1):
        bouts = [NumberedBout(bout, 0) for bout in bouts_of(codes) if bout.label != IGNORE]
        name = f"target {number}"
        tracks[name] = paint(path, name, (_OTHER, behaviour), bouts, video, warnings)
    return tracks


def _codes(answers: NDArray[np.float64], first: int, last: int) -> NDArray[np.int16]:
    """0 and 1 for the movie's frames up to the animal's last one, from answers (T,); IGNORE where there is none."""
    if not 1 <= first <= last <= len(answers):
        raise ValueError(f"frames {first} to {last} of {len(answers)}")
    codes = np.full(last, IGNORE, np.int16)
    own = answers[first - 1 : last]
    codes[first - 1 :] = np.where(np.isnan(own), IGNORE, own > 0)
    return codes


def _tracks_of_labels(path: Path, values: dict[str, Any], video: Video) -> Tracks:
    starts, stops, names = (values[name] for name in ("t0s", "t1s", "names"))
    flies = values["flies"]
    # JAABA's versions do not agree about what an offset means to the times.
    if np.any(values.get(_OFFSETS, np.zeros(1)) != 0):
        problem = (
            "labels an animal that is not there from the movie's first frame on, which JAABA's versions count apart"
        )
        raise RecordingError(path, f"{problem}; {_TABLE}")
    tracks = Tracks()
    try:
        for fly, some_starts, some_stops, some_names in zip(flies.tolist(), starts, stops, names, strict=True):
            name = f"target {int(fly)}"
            if name in tracks:
                raise ValueError(f"{name} comes twice")
            tracks[name] = _track_of_labels(path, name, some_starts, some_stops, some_names, video)
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordingError(path, f"is not as JAABA writes labels of single animals ({error!r}); {_TABLE}") from error
    return tracks


def _track_of_labels(
    path: Path, track: str, starts: NDArray[np.float64], stops: NDArray[np.float64], names: Sequence[str], video: Video
) -> Track:
    classes = tuple(dict.fromkeys(names))
    bouts = []
    for start, stop, name in zip(starts.tolist(), stops.tolist(), names, strict=True):
        if not 1 <= start < stop or start % 1 or stop % 1:
            raise RecordingError(path, f"{track}: a bout of {name!r} from {start:g} to {stop:g}; correct it in JAABA")
        bouts.append(NumberedBout(Bout(int(start) - 1, int(stop) - 1, classes.index(name)), 0))
    return paint(path, track, classes, bouts, video)


def _is_jaaba(probe: FileProbe) -> bool:
    """Whether it is MATLAB's with such variables; RecordingError, with the way out, where it has others."""
    if probe.suffix != SUFFIX:
        return False
    names = variables_of(probe.path)
    if _SCORES not in names and not names >= set(_LABELS):
        problem = f"is MATLAB's and holds neither JAABA's scores ({_SCORES}) nor its labels ({', '.join(_LABELS)})"
        raise RecordingError(probe.path, f"{problem}; {_TABLE}")
    return True


READER = LabelReader("JAABA's scores and labels .mat", _is_jaaba, read_jaaba)
