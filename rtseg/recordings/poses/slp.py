"""SLEAP's project and prediction files, .slp: instances per frame, of which those with a track are read.

The file's own list of tracks gives the animals and their order. The video is not opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, needs_extra
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.layout import SINGLE_ANIMAL
from rtseg.recordings.poses.pose_file import PoseReader, float32_of, one_recording, skipped_frames
from rtseg.recordings.poses.sleap import RUN_TRACKING, TWICE, UNTRACKED, recording_from_tracks
from rtseg.recordings.recording import Recording


def read_slp(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from the predictions and corrections of a .slp file with one video.

    Frames that the file does not list are absent: nothing was tracked in them. Points that a person placed have
    confidence 1. Where a track has a prediction and a correction in one frame, the correction counts. Left out and
    counted: instances without a track beside others that have one (SLEAP adds such by hand), and a second instance on
    one track, of which the one with the higher score stays. Raises RecordingError for several videos or skeletons, for
    several animals without tracks, and for files that sleap-io cannot read.
    """
    try:
        import sleap_io
    except ImportError as error:
        raise needs_extra("sleap-io", "sleap", "Reading SLEAP .slp files") from error
    try:
        labels = sleap_io.load_slp(str(path), open_videos=False)
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:  # damaged files
        raise RecordingError(path, f"cannot be read as SLEAP's .slp ({error}); it was cut or damaged") from error
    if len(labels.videos) != 1 or len(labels.skeletons) != 1 or not labels.labeled_frames:
        problem = (
            f"expected one video, one skeleton and some frames, got {len(labels.videos)}, {len(labels.skeletons)} "
            f"and {len(labels.labeled_frames)}; export each video as an analysis .h5"
        )
        raise RecordingError(path, problem)
    tracks = [track.name for track in labels.tracks]
    has_tracks = any(instance.track is not None for frame in labels.labeled_frames for instance in frame.instances)
    if has_tracks:
        instances, warnings = _tracked_instances(labels)
    else:
        instances, warnings = _lone_instances(path, labels), []
        if len(tracks) != 1:  # a list of tracks that no instance uses says nothing
            tracks = [SINGLE_ANIMAL]
    _check_predicted(path, labels)
    n_frames = max(max(frame.frame_idx for frame in labels.labeled_frames) + 1, len(labels.video))
    points = np.full((n_frames, len(tracks), len(labels.skeletons[0].nodes), 3), np.nan, np.float32)
    for place, instance in instances.items():
        points[place] = _points(instance)
    absent = np.ones(n_frames, np.bool_)
    absent[[frame.frame_idx for frame in labels.labeled_frames]] = False
    if absent.any():
        warnings = [*warnings, skipped_frames(int(absent.sum()))]
    return recording_from_tracks(
        path,
        points[..., :2],
        points[..., 2],
        list(labels.skeletons[0].node_names),
        tracks,
        warnings,
        fps=fps,
        name=name,
        absent=absent if absent.any() else None,
    )


def _check_predicted(path: Path, labels: Any) -> None:
    """Raise for a project that holds nothing but frames which a person has labelled, here and there, for training."""
    frames = [frame.frame_idx for frame in labels.labeled_frames]
    is_predicted = any(_is_predicted(instance) for frame in labels.labeled_frames for instance in frame.instances)
    n_between = max(frames) - min(frames) + 1
    if not is_predicted and 2 * len(set(frames)) < n_between:
        problem = f"holds {len(frames)} frames labelled by hand among {n_between}, and no predictions"
        raise RecordingError(path, f"{problem}; labelled training frames are no recording: run inference in SLEAP")


_Instances = dict[tuple[int, int], Any]
"""(frame, track index) -> sleap-io's instance."""


def _tracked_instances(labels: Any) -> tuple[_Instances, list[ReadingWarning]]:
    """The instance of every track in every frame, and warnings about those that are left out."""
    index = {id(track): i for i, track in enumerate(labels.tracks)}
    chosen: _Instances = {}
    n_untracked = n_twice = 0
    for frame in labels.labeled_frames:
        for instance in frame.instances:
            track = instance.track
            if track is None and instance.from_predicted is not None:  # a correction stands for what it corrects
                track = instance.from_predicted.track
            if track is None:
                n_untracked += 1
                continue
            place = int(frame.frame_idx), index[id(track)]
            other = chosen.get(place)
            if other is not None and _is_predicted(instance) == _is_predicted(other):
                n_twice += 1
            if other is None or _rank(instance) > _rank(other):
                chosen[place] = instance
    counts = ((UNTRACKED, n_untracked), (TWICE, n_twice))
    return chosen, [ReadingWarning(kind, n, "instances") for kind, n in counts if n]


def _lone_instances(path: Path, labels: Any) -> _Instances:
    """The only instance of every frame of a file without tracks; RecordingError where a frame holds several animals."""
    chosen: _Instances = {}
    n_several = 0
    for frame in labels.labeled_frames:
        n_predicted = sum(_is_predicted(instance) for instance in frame.instances)
        n_several += max(n_predicted, len(frame.instances) - n_predicted) > 1
        if frame.instances:
            chosen[int(frame.frame_idx), 0] = max(frame.instances, key=_rank)
    if n_several:
        problem = f"no instance has a track, and {n_several} of {len(labels.labeled_frames)} frames hold several"
        raise RecordingError(path, f"{problem}: nothing says which animal is which; {RUN_TRACKING}")
    return chosen


def _is_predicted(instance: Any) -> bool:
    return hasattr(instance, "score")


def _rank(instance: Any) -> float:
    """What a person placed counts before any prediction, whose score is finite."""
    return float(instance.score) if _is_predicted(instance) else float("inf")


def _points(instance: Any) -> NDArray[np.float32]:
    """(K, 3): x, y and confidence."""
    if _is_predicted(instance):
        return float32_of(instance.numpy(scores=True))
    points = float32_of(instance.numpy())
    return np.column_stack([points, np.ones(len(points), np.float32)])


READER = PoseReader("SLEAP .slp", (".slp",), lambda probe: True, one_recording(read_slp))
