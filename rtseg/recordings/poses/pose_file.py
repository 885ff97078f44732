"""What pose readers share: the contract of a reader, and tables of columns turned into a Recording.

A new format is one file in this room that ends with its `READER`, and one line in `rtseg.recordings.open`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.frame import (
    CLIPPED,
    MAX_COORDINATE_PX,
    PERCENT,
    TOO_FAR,
    WRITTEN_AS_MISSING,
    clean_frames,
)
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.layout import SINGLE_ANIMAL, Column, Layout, layout_of
from rtseg.recordings.poses.tables.columns import named_animals
from rtseg.recordings.recording import Recording

DEFAULT_FPS = 30.0
"""For formats that carry no frame rate, where the caller names none."""
RATE_TOLERANCE = 0.01
"""By which a file's rate may differ from the one asked for, as a share: clocks of cameras are not exact."""
MIN_RATE, MAX_RATE = 2.0, 5000.0
"""Frames per second that a video of behaviour may have."""
MAX_LATE_START = 1_000_000
"""Frames before the first tracked one: nine hours at 30 fps. A larger index is a damaged one, not a late animal."""
MAX_SKIPPED = 10_000
"""So many frames may be absent from any file, and from a longer one as many as it has rows."""
_NO_FRAMES, _FEW_ROWS = 10.0, 3
"""Frames from one row to the next, in most of a file of more than a few rows: too few to see a behaviour by."""
_MIN_PLACEHOLDERS = 3
_PLACEHOLDERS = 1e-3
"""So many points, and such a share of them, at one place with twice the same number are no chance."""
_NO_CAMERA_PX = 20_000.0
_MIN_POINTS = 20
"""Fewer lie near the corner of the picture by chance."""
_MAX_FRACTION = 1.5
"""Of the picture's size, where trackers guess a little beyond its edge."""


class ReadPoses(Protocol):
    """Reads a file that the reader recognizes."""

    def __call__(self, path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
        """The file's recordings, one in memory at a time.

        fps: frames per second, for formats that carry none; None = the file's own, else DEFAULT_FPS. name: the
        recording's name, or of several the one to read; None = the file's own. Raises RecordingError, which names the
        file and, in text, the line, for whatever the file holds that cannot be read rightly.
        """


@dataclass(frozen=True)
class PoseReader:
    """One format of poses.

    format: its name, as errors list it. suffixes: ends of file names in lower case; no other file is looked at.
    recognizes: whether a file with such a name is of this format, by what it holds. At most one reader may recognize a
    file. read: see ReadPoses. carries_rate: whether files say their frame rate, or all have the same. holds_several:
    whether a file has recordings with names of their own, rather than one that is named after the file.
    """

    format: str
    suffixes: tuple[str, ...]
    recognizes: Callable[[FileProbe], bool]
    read: ReadPoses
    carries_rate: bool = False
    holds_several: bool = False


def one_recording(read: Callable[..., Recording]) -> ReadPoses:
    """The contract of a reader whose files hold one recording each, from a function that returns it."""

    def read_all(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
        yield read(path, fps=DEFAULT_FPS if fps is None else fps, name=name)

    return read_all


def recording_from_columns(
    path: Path,
    columns: Sequence[Column],
    index: NDArray[np.int64],
    values: NDArray[np.float32],
    warnings: Sequence[ReadingWarning],
    *,
    fps: float,
    name: str | None,
    first_line: int | None = None,
    so_far: LikelihoodsSoFar | None = None,
) -> Recording:
    """Columns (C), frame indices (T,) and values (T, C) as a Recording of max(index) + 1 frames.

    A frame without a row is absent, at the start or in between. first_line: of text, the line of the first row.
    so_far: where these are some rows of a file that is still being written, what its earlier rows had.
    """
    layout = layout_of(path, columns)
    values, absent, skipped = _every_frame(path, index, values, first_line)
    skipped += _seems_several(layout)
    points, scores, found = _points_of(path, layout, values, so_far)
    recording = Recording(
        name=name or path.stem,
        skeleton=layout.skeleton,
        keypoints=points,
        confidence=scores,
        fps=fps,
        source=str(path),
        warnings=(*warnings, *layout.warnings, *skipped, *found),
        absent=absent,
    )
    if layout.unique is None:
        return recording
    points, scores, _ = _points_of(path, layout.unique, values, so_far)
    unique = replace(recording, skeleton=layout.unique.skeleton, keypoints=points, confidence=scores, warnings=())
    return replace(recording, unique=unique)


def _points_of(
    path: Path, layout: Layout, values: NDArray[np.float32], so_far: LikelihoodsSoFar | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[ReadingWarning]]:
    """Keypoints, confidence and warnings, as `read_points` has them, of the values' columns by their layout."""
    where = layout.where
    keypoints = np.stack([values[:, where[..., 0]], values[:, where[..., 1]]], axis=-1)
    confidence = values[:, where[..., 2]]
    # A column number of -1 has taken the last column's values.
    keypoints[:, where[..., 0] < 0] = np.nan
    without = where[..., 2] < 0  # (A, K)
    # Only for these keypoints: one column that is missing takes no likelihood away from the others.
    confidence[:, without] = confidence_of_points(keypoints[:, without])
    if so_far is None:
        return read_points(path, keypoints, confidence)
    so_far.add_rows(path, layout.skeleton, keypoints, confidence)
    return read_points(path, keypoints, confidence, is_whole=False)


def _seems_several(layout: Layout) -> list[ReadingWarning]:
    """A warning where the points of the only animal are named like those of several."""
    animals, keypoints = layout.skeleton.animals, layout.skeleton.keypoints
    if animals != (SINGLE_ANIMAL,):
        return []
    several = named_animals(keypoints)
    if not several:
        return []
    kind = f"keypoints are named like those of several animals ({', '.join(several)}), and are taken as one animal's"
    mend = "bring a plain table where they are several (docs/formats.md)"
    return [ReadingWarning(f"{kind}; {mend}", len(keypoints), "keypoints")]


def assumed_rate() -> ReadingWarning:
    """The warning where neither the file nor the caller says a frame rate."""
    return ReadingWarning(
        f"the frame rate is not known and taken as {DEFAULT_FPS:g}; say another with --fps", 1, "file"
    )


def is_rate_assumed(warnings: Sequence[ReadingWarning]) -> bool:
    """Whether that warning is among them."""
    return any(warning.kind == assumed_rate().kind for warning in warnings)


def check_rate(path: Path, rate: float | None, fps: float | None) -> None:
    """Raise RecordingError where a file says another rate than the one asked for; None = nothing is said, or asked."""
    if rate is not None and fps is not None and abs(rate - fps) > RATE_TOLERANCE * fps:
        raise RecordingError(path, f"was recorded at {rate:.4g} fps, not {fps:g}; name the fps of the file")


def whole_rate(rate: float) -> float:
    """A measured rate, whole where it is so but for the rounding of times."""
    return round(rate) if abs(rate - round(rate)) < 1e-3 * rate else rate


def confidence_of_points(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Confidences (...) of points (..., 2) in a file that has none: 1, and 0 at 0, 0 and -1, -1, which mean missing."""
    written_as_missing = (keypoints == 0).all(axis=-1) | (keypoints == -1).all(axis=-1)
    return np.where(written_as_missing, np.float32(0), np.float32(1))


def float32_of(values: Any) -> NDArray[np.float32]:
    """Numbers as float32. What float32 cannot hold becomes infinite, and is refused where points are checked."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float32)


def _fill_unknown(points: NDArray[np.float32], scores: NDArray[np.float32]) -> int:
    """Confidences (T, A, K) of keypoints that have none in any frame, in place; how many such keypoints are seen."""
    unknown = np.isnan(scores).all(axis=0)  # (A, K)
    found = points[:, unknown]  # (T, n, 2)
    scores[:, unknown] = np.where(np.isnan(found).any(axis=-1), np.float32(0), confidence_of_points(found))
    return int((scores[:, unknown] > 0).any(axis=0).sum())


class LikelihoodsSoFar:
    """Which keypoints of a file that is still being written have had a likelihood, in any row.

    Of one that is empty in every row, each place is sure; of any other, an empty likelihood is none. In a file that
    grows nobody knows which of both it will be until a likelihood has come, so that a place before is refused.
    """

    def __init__(self) -> None:
        self._with: set[tuple[str, str]] = set()

    def add_rows(
        self, path: Path, skeleton: Skeleton, keypoints: NDArray[np.float32], scores: NDArray[np.float32]
    ) -> None:
        """Take in the next rows: points (T, A, K, 2), likelihoods (T, A, K). Raises RecordingError."""
        known, names = ~np.isnan(scores), skeleton.keypoints
        self._with |= {(skeleton.animals[a], names[k]) for a, k in np.argwhere(known.any(axis=0))}
        has_some = np.array([[(animal, keypoint) in self._with for keypoint in names] for animal in skeleton.animals])
        is_place = np.isfinite(keypoints).all(axis=-1) & (confidence_of_points(keypoints) > 0)
        unclear = np.argwhere(is_place & ~has_some)
        if len(unclear):
            _, a, k = unclear[0]
            problem = (
                f"{skeleton.animals[a]}, {names[k]} has a place and an empty likelihood, as in every row before: if it "
                "stays empty such places are sure, and else they are not, which a file that grows does not tell"
            )
            raise RecordingError(path, f"{problem}; let the tracker write a number, or leave the column out")


def read_points(
    path: Path, keypoints: NDArray[np.float32], confidence: NDArray[np.float32], *, is_whole: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[ReadingWarning]]:
    """Keypoints (T, A, K, 2) and confidence (T, A, K) of a file as a Recording wants them, and warnings.

    What a missing point looks like says `frames.frame.clean_frames`, the rule for live frames; confidences above 1, as
    SLEAP has them, become 1. A keypoint whose confidence is NaN in every frame has none, and is sure wherever it is
    seen: that is how movement writes tracks of programs that have no confidences. is_whole: whether these are all
    frames, so that this can be seen. Raises RecordingError for coordinates and confidences that the daemon refuses too.
    """
    # Copies, since the rule writes into them.
    points, scores = (np.array(values, np.float32, order="C") for values in (keypoints, confidence))
    n_without = _fill_unknown(points, scores) if is_whole else 0
    counts, first = np.zeros((2, PERCENT + 1), np.int64)
    clean_frames(points, scores, counts, first)
    if counts[TOO_FAR]:
        problem = f"is beyond {MAX_COORDINATE_PX:.0f} px; write an empty cell for a missing point"
        where = _place(first[TOO_FAR], scores.shape)
        raise RecordingError(path, f"{where}: a coordinate {problem} ({counts[TOO_FAR]} such numbers)")
    if counts[PERCENT]:
        got = f"{_place(first[PERCENT], scores.shape)}: expected a likelihood from 0 to 1, got"
        problem = f"{got} {scores.flat[first[PERCENT]]:g} ({counts[PERCENT]} such numbers)"
        raise RecordingError(path, f"{problem}; divide percent by 100")
    kinds = (
        ("points written as 0, 0 or -1, -1 or with a negative likelihood are taken as missing", WRITTEN_AS_MISSING),
        ("likelihoods above 1 are taken as 1", CLIPPED),
    )
    warnings = [ReadingWarning(kind, int(counts[found]), "points") for kind, found in kinds if counts[found]]
    if n_without:
        kind = "keypoints whose likelihood is empty in every frame have confidence 1 wherever they are seen"
        warnings.append(ReadingWarning(kind, n_without, "keypoints"))
    return points, scores, [*warnings, *_doubts(points)]


def _doubts(points: NDArray[np.float32]) -> list[ReadingWarning]:
    """Warnings about points (T, A, K, 2) that may stand for missing ones, and about coordinates that are no px."""
    with np.errstate(invalid="ignore"):
        same = points[..., 0] == points[..., 1]
    known = points[np.isfinite(points[..., 0])]
    if not len(known):
        return [ReadingWarning("no point is seen in any frame", len(points))] if len(points) else []
    warnings = []
    # A number that stands for both coordinates again and again, and lies where no other point does.
    values, counts = np.unique(points[same][:, 0], return_counts=True)
    often = counts >= max(_MIN_PLACEHOLDERS, _PLACEHOLDERS * len(known))
    for value, n in zip(values[often], counts[often], strict=True):
        others = known[(known != value).any(axis=-1)]
        box = (others.min(), others.max()) if len(others) else (value, value)
        if value < min(box[0], 1.0) or value > box[1] + (box[1] - box[0]):
            kind = f"points lie exactly at {value:g}, {value:g} with a likelihood above 0, and are taken as places"
            warnings.append(ReadingWarning(f"{kind}; leave the cells empty if they are missing", int(n), "points"))
    if known.max() > _NO_CAMERA_PX and not warnings:
        kind = (
            f"coordinates lie beyond {_NO_CAMERA_PX:.0f} px, which no camera has: did a spreadsheet lose their points?"
        )
        warnings.append(ReadingWarning(kind, int((known > _NO_CAMERA_PX).any(axis=-1).sum()), "points"))
    if len(known) >= _MIN_POINTS and known.min() >= -0.5 and known.max() <= _MAX_FRACTION:
        kind = (
            "all coordinates lie between 0 and 1, as fractions of the picture; distances need px, or one unit for both"
        )
        warnings.append(ReadingWarning(kind, 1, "file"))
    return warnings


def _place(number: int, shape: tuple[int, ...]) -> str:
    """Frame, animal and keypoint, all from 0, of a point by its number in (T, A, K)."""
    t, a, k = np.unravel_index(number, shape)
    return f"frame {t}, animal {a}, keypoint {k} (from 0)"


def _every_frame(
    path: Path, index: NDArray[np.int64], values: NDArray[np.float32], first_line: int | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, list[ReadingWarning]]:
    """Values (T, C) of every frame from 0 to the last index, which of them the file has no row for, and warnings.

    Those are NaN; None where the file has a row for each frame.
    """
    _check_index(path, index, first_line)
    n_frames, n_late = int(index[-1]) + 1, int(index[0])
    n_skipped = n_frames - n_late - len(index)
    if n_late > MAX_LATE_START or n_skipped > max(len(index), MAX_SKIPPED):
        # Where the longest gap is, so that the error names the line at which to look.
        gap = 0 if n_late > MAX_LATE_START else int(np.argmax(np.diff(index, prepend=-1)[1:])) + 1
        problem = (
            f"frame indices skip more frames ({n_late if gap == 0 else n_skipped}) than there are rows ({len(index)}), "
            f"most of them before index {index[gap]}; check the index column, or cut the file there"
        )
        raise RecordingError(path, problem, line=None if first_line is None else first_line + gap)
    if not n_late and not n_skipped:
        return values, None, []
    warnings = []
    if n_late == 1:
        kind = "frames begin with 1, and frame 0 is taken as never recorded; if the file counts from 1, it is a frame"
        warnings.append(ReadingWarning(f"{kind} late beside labels that count from 0", 1, "file"))
    elif n_late:
        warnings.append(ReadingWarning("frames before the first tracked one are missing", n_late))
    if n_skipped:
        warnings.append(skipped_frames(n_skipped))
    full, absent = np.full((n_frames, values.shape[1]), np.nan, np.float32), np.ones(n_frames, np.bool_)
    full[index], absent[index] = values, False
    return full, absent, warnings


def skipped_frames(n: int) -> ReadingWarning:
    """The warning about n frames for which a file has no row though it has later ones."""
    return ReadingWarning("frame indices skip frames, which are taken as never recorded", n)


def _check_index(path: Path, index: NDArray[np.int64], first_line: int | None) -> None:
    """Raise unless the frame indices (T,) rise from 0 or later."""
    if len(index) == 0:
        raise RecordingError(path, "holds no frames; export the file again")
    steps = np.diff(index, prepend=-1)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        t = int(wrong[0])
        what = "repeats the one before it" if t and steps[t] == 0 else "runs backwards"
        line = None if first_line is None else first_line + t
        row = f"row {t + 1}: " if first_line is None else ""
        problem = f"{row}frame index {index[t]} {what} ({len(wrong)} such rows); sort the rows and remove doubles"
        raise RecordingError(path, problem, line=line)
    step = float(np.median(steps[1:])) if len(steps) > _FEW_ROWS else 1.0
    if step >= _NO_FRAMES:
        problem = f"frame indices rise by {step:g} from row to row, mostly, as milliseconds or samples would"
        raise RecordingError(path, f"{problem}; write the number of each row's video frame", line=first_line)
