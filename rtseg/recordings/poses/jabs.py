"""JABS' pose files (*_pose_est_v2.h5 and later): mice of twelve keypoints, one slot per instance and frame.

Coordinates are stored as y, x, and a confidence of 0 means that there is no point. Which instance is which mouse comes
from the identities of version 4 and later. Version 3 has tracks, which are pieces: they are put together as JABS itself
does it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.hdf5 import open_hdf5, readable_array
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import PoseReader, float32_of, one_recording, read_points
from rtseg.recordings.recording import Recording

KEYPOINTS = (
    *("nose", "left_ear", "right_ear", "base_neck", "left_front_paw", "right_front_paw"),
    *("center_spine", "left_rear_paw", "right_rear_paw", "base_tail", "mid_tail", "tip_tail"),
)
_GROUP = "poseest"


def is_jabs(probe: FileProbe) -> bool:
    """Whether an HDF5 file has JABS' group of poses."""
    return _GROUP in probe.hdf5_names


def read_jabs(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a JABS pose file. Animals are 'mouse1', 'mouse2', ... in the order of their identities.

    Instances without an identity are left out and counted; tracks that became one mouse are counted, too. Raises
    RecordingError for several animals without identities or tracks, and for arrays of another shape.
    """
    with open_hdf5(path, "JABS pose files") as file:
        group = file[_GROUP]
        points = float32_of(readable_array(path, group, "points")[:])
        confidence = float32_of(readable_array(path, group, "confidence")[:])
        if points.ndim == 3:  # version 2: one mouse
            points, confidence = points[:, None], confidence[:, None]
        shape = points.shape[:-1]
        if points.ndim != 4 or points.shape[2:] != (len(KEYPOINTS), 2) or confidence.shape != shape or not len(points):
            problem = f"expected points (T, mice, 12, 2) with confidence, got {points.shape} and {confidence.shape}"
            raise RecordingError(path, problem)
        identity, warnings = _identities(path, group, confidence)
    n_mice = int(identity.max()) + 1
    keypoints = np.full((len(points), n_mice, len(KEYPOINTS), 2), np.nan, np.float32)
    scores = np.zeros(keypoints.shape[:-1], np.float32)
    t, slot = np.nonzero(identity >= 0)
    mouse = identity[t, slot]
    # y, x in the file.
    keypoints[t, mouse] = points[t, slot][..., ::-1]
    scores[t, mouse] = confidence[t, slot]
    # 0, 0 is padding only where the confidence says so; the corner of the image is a place.
    keypoints[~(scores > 0)] = np.nan
    keypoints, scores, found = read_points(path, keypoints, np.minimum(scores, 1.0))
    skeleton = Skeleton(tuple(f"mouse{i + 1}" for i in range(n_mice)), KEYPOINTS)
    return Recording(name or path.stem, skeleton, keypoints, scores, fps, str(path), (*warnings, *found))


def _identities(
    path: Path, group: Any, confidence: NDArray[np.float32]
) -> tuple[NDArray[np.int64], list[ReadingWarning]]:
    """The mouse (T, slots) of every instance from 0, -1 where there is none, and warnings."""
    seen = np.asarray((confidence > 0).any(axis=-1))
    if "instance_embed_id" in group:
        # From 1; 0 stands for an instance that no identity was given, and masked ones are not valid.
        identity = np.asarray(readable_array(path, group, "instance_embed_id")[:], np.int64) - 1
        if "id_mask" in group:
            identity[np.asarray(readable_array(path, group, "id_mask")[:], bool)] = -1
        identity[~seen] = -1
        left_out = int((seen & (identity < 0)).sum())
        kind = "instances without an identity are left out"
        warnings = [ReadingWarning(kind, left_out, "instances")] if left_out else []
    elif seen.sum(axis=1).max(initial=0) <= 1:
        identity, warnings = np.where(seen, 0, -1), []
    elif "instance_track_id" in group:
        identity, warnings = _mice_of_tracks(path, group, seen)
    else:
        problem = "holds several mice without identities or tracks; bring version 3 or later of the pose file"
        raise RecordingError(path, problem)
    if not (identity >= 0).any():
        raise RecordingError(path, "holds no points of a mouse with an identity; run JABS' pose estimation again")
    return identity, warnings


def _mice_of_tracks(path: Path, group: Any, seen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[ReadingWarning]]:
    """The mouse (T, slots) of every instance by JABS' own rule: a new track gets the first mouse without one."""
    track = np.asarray(readable_array(path, group, "instance_track_id")[:], np.int64)
    if track.shape != seen.shape:
        raise RecordingError(path, f"expected a track for {seen.shape} instances, got {track.shape}")
    there = seen
    if "instance_count" in group:
        count = np.asarray(readable_array(path, group, "instance_count")[:], np.int64).reshape(-1, 1)
        there = np.arange(seen.shape[1]) < count
    identity = np.full(track.shape, -1, np.int64)
    mouse_of: dict[int, int] = {}
    n_tracks = 0
    for t in range(len(track)):
        slots = np.flatnonzero(there[t]).tolist()
        now = [int(track[t, slot]) for slot in slots]
        if len(set(now)) < len(now):
            raise RecordingError(path, f"frame {t} (from 0): two instances have one track; run JABS' tracking again")
        mouse_of = {one: mouse for one, mouse in mouse_of.items() if one in now}
        for slot, one in zip(slots, now, strict=True):
            if one not in mouse_of:
                mouse_of[one] = min(set(range(track.shape[1])) - set(mouse_of.values()))
                n_tracks += 1
            identity[t, slot] = mouse_of[one]
    n_joined = n_tracks - int(identity.max(initial=-1)) - 1
    kind = "tracks are pieces, put together by JABS' rule; whether they are of the same mouse is not known"
    return identity, [ReadingWarning(kind, n_joined, "tracks")] if n_joined else []


READER = PoseReader("JABS pose .h5", (".h5", ".hdf5"), is_jabs, one_recording(read_jabs))
