"""What label readers share: the contract of a reader, and bouts put onto frames with contradictions counted.

A new format is one file in this room that ends with its `READER`, and one line in `rtseg.recordings.open`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.recording import IGNORE, Labels

WITHOUT_LABEL = "frames without a label"
"""The kind of warning about frames that no label covers."""
BEYOND_END = "frames labelled beyond the end of the video; cut"
"""The kind of warning about labels of frames that the poses lack."""
NO_LABEL = frozenset({"", "nan", "na", "n/a", "#n/a"})
"""Cells that name no behaviour, in lower case; 'none' and 'null' are names that people give to behaviours."""
MAX_DIFFERENCE_S = 5.0
"""Annotators and trackers disagree about a video's last frames by less than this; more is another video."""
MAX_ROUNDING_S = 0.25
"""Times that people write beside frames are rounded by less than this."""
MAX_RATIO = 5.0
"""Of two rates of one video at most; a larger one is another unit of time."""
_SEEN_RATE = re.compile(r"saw the video at ([\d.]+) fps")
_COMMON_RATES = (10.0, 12.5, 15.0, 20.0, 24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 100.0, 120.0)
_MIN_FRAMES_TO_DOUBT = 100
MAX_OPEN_FRAMES = 20_000_000
"""Of a video whose poses nobody knows: a week at 30 fps. Labels beyond it are a mistake, and would fill the memory."""


@dataclass(frozen=True)
class Video:
    """The video that labels belong to, as its poses tell it.

    n_frames, fps: of the recording. names: what the video may be called in a file of several videos, best guess first,
    such as the pose file's name. observation: the observation of a BORIS file to read; '' = found by `names`.
    n_tracked: the frames that the poses have a row for, where they lack some; 0 = not known.
    other_names: what the dataset's other recordings are called, to notice labels that belong to one of them.
    first_frame, last_included: how tables of frames count that do not say it themselves. open_ended: nobody knows the
    poses, so the labels say how long the video is (n_frames then means nothing); tracks may differ in length.
    """

    n_frames: int
    fps: float
    names: tuple[str, ...] = ()
    observation: str = ""
    first_frame: int = 0
    last_included: bool = False
    open_ended: bool = False
    n_tracked: int = 0
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Track(Labels):
    """One track as a file has it. covered: (T,) bool, where the file gives a label, be it masked or not."""

    covered: NDArray[np.bool_] = field(kw_only=True)


class Tracks(dict[str, Track]):
    """The tracks of a file by name.

    lists_events: the format lists what happened and nothing else, as BORIS does; a track that the file does not name
    then stands for a video in which nothing of it happened, and is no mistake.
    """

    def __init__(self, tracks: Iterable[tuple[str, Track]] = (), *, lists_events: bool = False) -> None:
        super().__init__(tracks)
        self.lists_events = lists_events

    def renamed(self, path: Path, names: Mapping[str, str]) -> Tracks:
        """The same under other names, {the file's: another}; names that this file does not have are no mistake.

        Files of one dataset may have different names for the same, each of which is in `names`. Raises RecordingError
        where two tracks of this file get one name.
        """
        found = Tracks(lists_events=self.lists_events)
        for own, track in self.items():
            name = names.get(own, own)
            if name in found:
                raise RecordingError(path, f"two of its tracks would be called {name!r}; correct 'tracks'")
            found[name] = replace(track, track=name)
        return found


@dataclass(frozen=True)
class LabelReader:
    """One format of frame labels.

    format: its name, as errors list it. recognizes: whether a file is of this format, by what it holds; at most one
    reader may recognize a file. read: the tracks of the file over the frames of its video. It raises RecordingError,
    which names the file and, in text, the line, for whatever cannot be read rightly.
    """

    format: str
    recognizes: Callable[[FileProbe], bool]
    read: Callable[[Path, Video], Tracks]


class NumberedBout(NamedTuple):
    """A bout and the line of the file that it came from."""

    bout: Bout
    line: int


def empty_track(name: str, n_frames: int) -> Track:
    """A track without any label over T = `n_frames` frames."""
    kind = "the file has no event of a head's track: taken as a video in which nothing of it happened"
    warnings = (ReadingWarning(kind, 1, "track", f"track {name!r}"),)
    frames = np.full(n_frames, IGNORE, np.int16)
    return Track(name, (), frames, warnings, covered=np.zeros(n_frames, np.bool_))


def paint(
    path: Path,
    name: str,
    classes: tuple[str, ...],
    bouts: Iterable[NumberedBout],
    video: Video,
    warnings: Sequence[ReadingWarning] = (),
) -> Track:
    """The track `name` over the T frames of the video from its bouts.

    Frames without a bout are IGNORE, and so are frames to which two bouts give different labels; frames beyond the
    video are cut. All are counted in warnings, behind those handed in. Raises RecordingError where the labels overrun
    the video by more than MAX_DIFFERENCE_S.
    """
    bouts = list(bouts)
    last = max((bout.stop for bout, _ in bouts), default=0)
    if video.open_ended and last > MAX_OPEN_FRAMES:
        raise RecordingError(path, f"track {name!r}: a bout ends at frame {last}, which no video has; check the labels")
    n_frames, fps = last if video.open_ended else video.n_frames, video.fps
    frames = np.full(n_frames, IGNORE, np.int16)
    covered = np.zeros(n_frames, np.bool_)
    clash = np.zeros(n_frames, np.bool_)
    end = n_frames
    for (start, stop, label), line in bouts:
        if stop - n_frames > MAX_DIFFERENCE_S * fps:
            problem = (
                f"track {name!r}: a bout ends at frame {stop} and the video has {n_frames} at {fps:g} fps, "
                f"more than {MAX_DIFFERENCE_S:g} s beyond; check that labels and poses are of one video, and the fps"
            )
            raise RecordingError(path, problem, line=line or None)
        # Slices cut what lies behind the video by themselves; only the count needs the end.
        end = max(end, stop)
        here = slice(start, stop)
        # Two bouts of the same behaviour may overlap; of different ones, neither is the truth.
        clash[here] |= covered[here] & (frames[here] != label)
        frames[here] = label
        covered[here] = True
    frames[clash] = IGNORE
    counts = [
        (end - n_frames, BEYOND_END),
        (int(clash.sum()), "frames labelled twice, with different behaviours; masked"),
        (int((~covered).sum()), WITHOUT_LABEL),
    ]
    found = [ReadingWarning(kind, n, where=f"track {name!r}") for n, kind in counts if n]
    return Track(name, classes, frames, (*warnings, *found), covered=covered)


def rate_kind(who: str, rate: str, video: Video) -> str:
    """The kind of warning where labels were made at another rate, as a file writes it, than the recording's."""
    return f"{who} saw the video at {rate} fps, the recording has {video.fps:g}"


def rate_in_kind(kind: str) -> float | None:
    """The rate, in frames per second, that a `rate_kind` names; None of any other kind of warning."""
    found = _SEEN_RATE.search(kind)
    return None if found is None else float(found[1])


def rate_differs(frames: Sequence[float], seconds: Sequence[float], video: Video) -> list[ReadingWarning]:
    """A warning where frames and the times beside them are of another rate than the recording's.

    frames, seconds: of the same rows. Only the way from the first to the last counts, wherever either begins. Times in
    another unit, or on a clock that has nothing of the video's, tell nothing.
    """
    known = [(frame, s) for frame, s in zip(frames, seconds, strict=True) if frame == frame and s == s]
    if len(known) < 2:
        return []
    (first, first_s), (last, last_s) = min(known), max(known)
    n_frames, n_seconds = last - first, last_s - first_s
    if n_frames <= 0 or n_seconds <= 0 or abs(n_seconds - n_frames / video.fps) < MAX_ROUNDING_S:
        return []
    rate = n_frames / n_seconds
    if not 1 / MAX_RATIO < rate / video.fps < MAX_RATIO:
        return []
    kind = rate_kind("whoever wrote frames and times beside each other", f"{rate:.4g}", video)
    return [ReadingWarning(f"{kind}; the frames are taken", len(known), "rows")]


def counted_at_another_rate(n_labelled: int, video: Video) -> list[ReadingWarning]:
    """A warning where labels of every frame are as many as the video would have at another common frame rate."""
    n_frames = video.n_frames
    if video.open_ended or n_frames < _MIN_FRAMES_TO_DOUBT or abs(n_labelled - n_frames) < 0.02 * n_frames:
        return []
    alike = [rate for rate in _COMMON_RATES if abs(n_frames / video.fps * rate - n_labelled) <= 1.5]
    if not alike:
        return []
    kind = (
        f"labels of every frame are as many as the video would have at {alike[0]:g} fps, and the recording has "
        f"{video.fps:g}; they are taken frame by frame"
    )
    return [ReadingWarning(kind, n_labelled)]


def check_reaches_end(path: Path, end: int, video: Video, *, line: int | None = None) -> None:
    """Raise RecordingError where labels that cover every frame end more than MAX_DIFFERENCE_S before the video.

    end: the number of frames that the file labels. Not for files that list events: there the rest is silence.
    """
    if not video.open_ended and video.n_frames - end > MAX_DIFFERENCE_S * video.fps:
        problem = (
            f"labels end after {end} frames and the video has {video.n_frames} at {video.fps:g} fps, more than "
            f"{MAX_DIFFERENCE_S:g} s short; check that labels and poses are of one video and one frame rate"
        )
        raise RecordingError(path, problem, line=line)
