"""Poses with times rather than frame numbers: which frame a time is, and at what rate.

For NWB and movement's netCDF, whose files carry a rate of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import (
    MAX_RATE,
    MAX_SKIPPED,
    MIN_RATE,
    check_rate,
    read_points,
    skipped_frames,
    whole_rate,
)
from rtseg.recordings.recording import Recording

_ABSENT_PER_FRAME = 2
"""Absent frames for each frame that is there, beyond MAX_SKIPPED; more is no recording at a steady rate."""


@dataclass(frozen=True)
class Series:
    """One keypoint of one animal: times (T,) s, points (T, 2) px and confidence (T,)."""

    animal: str
    keypoint: str
    times: NDArray[np.float64]
    points: NDArray[np.float32]
    confidence: NDArray[np.float32]


def recording_from_series(
    path: Path,
    series: Sequence[Series],
    *,
    animals: Sequence[str],
    keypoints: Sequence[str],
    fps: float | None,
    name: str,
    warnings: Sequence[ReadingWarning] = (),
) -> Recording:
    """All series of a video as a Recording that begins with the first time of any.

    fps: None = the file's own rate. Times of one frame step apart are consecutive frames; longer steps leave absent
    frames. Raises RecordingError where times do not rise, where they keep no rate, and where that is not `fps`.
    """
    for one in series:
        if len(one.times) and not (np.diff(one.times) > 0).all():
            t = int(np.argmin(np.diff(one.times) > 0))
            problem = f"{one.animal}/{one.keypoint}: time {one.times[t + 1]:.6g} s comes after {one.times[t]:.6g} s"
            raise RecordingError(path, f"{problem}; sort the frames and remove doubles")
    # A microsecond is far below any camera's step, and float errors of exporters are far below a microsecond.
    times = np.unique(np.round(np.concatenate([one.times for one in series]), 6))
    index, rate = frames_of_times(path, times)
    # Numbers of frames (sleap-io writes them where it does not see the video), milliseconds, or another device's rate.
    if not MIN_RATE <= rate <= MAX_RATE:
        problem = f"its times are {1 / rate:.4g} s apart, {rate:.4g} fps, which no video has"
        raise RecordingError(path, f"{problem}; write it with the times of the video's frames, in seconds")
    check_rate(path, rate, fps)
    n_frames = int(index[-1]) + 1
    shape = (n_frames, len(animals), len(keypoints))
    points = np.full((*shape, 2), np.nan, np.float32)
    confidence = np.full(shape, np.nan, np.float32)
    for one in series:
        place = (
            index[np.searchsorted(times, np.round(one.times, 6))],
            animals.index(one.animal),
            keypoints.index(one.keypoint),
        )
        points[place], confidence[place] = one.points, one.confidence
    points, confidence, found = read_points(path, points, confidence)
    n_skipped = n_frames - len(times)
    if times[0] > 1.5 / rate:
        kind = "times begin later than at 0, and the first one is taken as the video's first frame"
        found.append(ReadingWarning(kind, 1, "file"))
    absent = None
    if n_skipped:
        found.append(skipped_frames(n_skipped))
        absent = np.ones(n_frames, np.bool_)
        absent[index] = False
    skeleton = Skeleton(tuple(animals), tuple(keypoints))
    own_rate = fps if fps is not None else float(rate)
    return Recording(name, skeleton, points, confidence, own_rate, str(path), (*warnings, *found), absent=absent)


def frames_of_times(path: Path, times: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """The frame (T,) of every time from 0 on, and the rate in frames per second.

    Steps are counted one by one, so that a camera whose rate drifts does not lose a frame. Raises RecordingError for
    fewer than two times and for steps that are no whole number of frames.
    """
    if len(times) < 2 or not np.isfinite(times).all():
        raise RecordingError(path, "has fewer than two times, so that its frame rate is not known")
    steps = np.diff(times)
    # The median: most steps are one frame, whatever was dropped.
    step = float(np.median(steps))
    counts = np.rint(steps / step).astype(np.int64)
    uneven = np.abs(steps / step - counts) > 0.3
    if counts.min() < 1 or uneven.any() or counts.sum() > len(times) + max(_ABSENT_PER_FRAME * len(times), MAX_SKIPPED):
        wrong = int(np.argmax(uneven | (counts < 1)))
        problem = (
            f"times keep no steady rate: {steps[wrong]:.4g} s behind time {times[wrong]:.6g} s, mostly {step:.4g} s"
        )
        raise RecordingError(path, f"{problem}; resample the recording")
    index = np.concatenate([[0], np.cumsum(counts)])
    # Over the whole recording, because one step has the jitter of two times.
    rate = float(index[-1] / (times[-1] - times[0]))
    return index, whole_rate(rate)
