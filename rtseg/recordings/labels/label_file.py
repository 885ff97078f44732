"""What label readers share: the contract of a reader, and bouts put onto frames with contradictions counted.

A new format is one file in this room that ends with its `READER`, and one line in `rtseg.recordings.open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import Bout
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.recording import IGNORE, Labels

MAX_OVERRUN_S = 5.0
"""Annotators and trackers disagree about a video's last frames by less than this; more is another video."""


@dataclass(frozen=True, eq=False)
class Track(Labels):
    """One track as a file has it. covered: (T,) bool, where the file gives a label, be it masked or not."""

    covered: NDArray[np.bool_] = field(kw_only=True)


@dataclass(frozen=True)
class LabelReader:
    """One format of frame labels.

    format: its name, as errors list it. recognizes: whether a file is of this format, by what it holds; at most one
    reader may recognize a file. read(path, n_frames, fps): the tracks of the file by name, over the T = n_frames frames
    of its video. It raises RecordingError, which names the file and the line, for whatever cannot be read rightly.
    """

    format: str
    recognizes: Callable[[FileProbe], bool]
    read: Callable[[Path, int, float], dict[str, Track]]


class NumberedBout(NamedTuple):
    """A bout and the line of the file that it came from."""

    bout: Bout
    line: int


def paint(
    path: Path,
    name: str,
    classes: tuple[str, ...],
    bouts: Iterable[NumberedBout],
    n_frames: int,
    fps: float,
    warnings: Iterable[str] = (),
) -> Track:
    """The track `name` over T = `n_frames` frames from its bouts.

    Frames without a bout are IGNORE, and so are frames to which two bouts give different labels; frames beyond the
    video are cut. All are counted in warnings, behind those handed in. Raises RecordingError where the labels overrun
    the video by more than MAX_OVERRUN_S.
    """
    frames = np.full(n_frames, IGNORE, np.int16)
    covered = np.zeros(n_frames, np.bool_)
    clash = np.zeros(n_frames, np.bool_)
    end = n_frames
    for (start, stop, label), line in bouts:
        if stop - n_frames > MAX_OVERRUN_S * fps:
            problem = (
                f"track {name!r}: a bout ends at frame {stop} and the video has {n_frames} at {fps:g} fps, "
                f"more than {MAX_OVERRUN_S:g} s beyond; check that labels and poses are of one video, and the fps"
            )
            raise RecordingError(path, problem, line=line)
        end = max(end, stop)
        here = slice(start, stop)
        clash[here] |= covered[here] & (frames[here] != label)
        frames[here] = label
        covered[here] = True
    frames[clash] = IGNORE
    counts = [
        (end - n_frames, "labelled beyond the end of the video; cut"),
        (int(clash.sum()), "labelled twice, with different behaviours; masked"),
        (int((~covered).sum()), "without a label"),
    ]
    found = [f"track {name!r}: frames {what} ({n} frames)" for n, what in counts if n]
    return Track(name, classes, frames, (*warnings, *found), covered=covered)
