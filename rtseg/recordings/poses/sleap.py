"""SLEAP's analysis .h5: arrays per track, each of which becomes an animal.

Tracks are neither joined nor split here: that is the tracker's work.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.files.hdf5 import open_hdf5, readable_array, text_of
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.layout import SINGLE_ANIMAL
from rtseg.recordings.poses.pose_file import (
    PoseReader,
    confidence_of_points,
    float32_of,
    one_recording,
    read_points,
)
from rtseg.recordings.recording import Recording

_DIMS = {"tracks": ("track", "xy", "node", "frame"), "point_scores": ("track", "node", "frame")}
"""SLEAP's order of axes; sleap-io may write others, and then says so in the attribute `dims`."""
RUN_TRACKING = "run tracking in SLEAP (sleap-track, or Predict > Run Inference with a tracker) and export it again"
UNTRACKED = "instances without a track are left out; give them a track in SLEAP"
TWICE = "instances beside another one on the same track are left out; correct the tracks in SLEAP"
"""Kinds of warnings about what SLEAP's tracks leave out, in each of its formats."""
_MEND = "export it again from SLEAP (File > Export Analysis HDF5)"


def read_sleap_analysis(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a SLEAP analysis file; confidence = point scores, 1 where the file has none.

    Tracks without a single point are left out with a warning. Raises RecordingError where arrays are absent, differ in
    shape or hold several instances without a track.
    """
    with open_hdf5(path, "SLEAP analysis files") as file:
        for key in ("tracks", "node_names"):
            if key not in file:
                raise RecordingError(path, f"expected an array {key!r}, found {', '.join(file) or 'none'}; {_MEND}")
        is_turned = _is_turned(path, file)
        keypoints = _ordered(path, file, "tracks", is_turned).transpose(3, 0, 2, 1)  # (T, A, K, 2)
        scores = None
        if "point_scores" in file:
            scores = _ordered(path, file, "point_scores", is_turned).transpose(2, 0, 1)
        nodes = _names(path, file, "node_names")
        tracks = _names(path, file, "track_names") if "track_names" in file else None
    n_animals = keypoints.shape[1]
    if tracks == [] and n_animals > 1:
        raise RecordingError(path, f"holds {n_animals} instances and no track; {RUN_TRACKING}")
    if not tracks:  # one animal, or an exporter that names none
        tracks = [SINGLE_ANIMAL] if n_animals == 1 else [f"{SINGLE_ANIMAL}{i + 1}" for i in range(n_animals)]
    if scores is None:
        scores = confidence_of_points(keypoints)
    return recording_from_tracks(path, keypoints, scores, nodes, tracks, (), fps=fps, name=name)


def recording_from_tracks(
    path: Path,
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32],
    nodes: list[str],
    tracks: list[str],
    warnings: Sequence[ReadingWarning],
    *,
    fps: float,
    name: str | None,
    absent: NDArray[np.bool_] | None = None,
) -> Recording:
    """keypoints (T, A, K, 2), scores (T, A, K) of the tracks of a SLEAP file, in its own order, as a Recording.

    Tracks without a single point are left out of the skeleton and stay listed (`Recording.listed_animals`), so that a
    model of as many animals has them as missing. absent: as a Recording's.
    """
    expected = (len(keypoints), len(tracks), len(nodes))
    if keypoints.shape != (*expected, 2) or scores.shape != expected or not len(keypoints):
        problem = (
            f"{len(tracks)} track and {len(nodes)} node names do not fit tracks of shape {keypoints.shape} "
            f"(T, A, K, 2) with point scores of shape {scores.shape}"
        )
        raise RecordingError(path, f"{problem}; {_MEND}")
    points, confidence, found = read_points(path, keypoints, scores)
    seen = np.asarray(np.isfinite(points).any(axis=(0, 2, 3)))  # (A,)
    if not seen.any():
        raise RecordingError(path, f"holds no points at all; {_MEND}")
    if not seen.all():
        empty = [track for track, is_seen in zip(tracks, seen, strict=True) if not is_seen]
        found.append(ReadingWarning(f"tracks without points are left out: {', '.join(empty)}", len(empty), "tracks"))
    found += pieces_of_tracks(points)
    return Recording(
        name=name or path.stem,
        skeleton=Skeleton(tuple(t for t, is_seen in zip(tracks, seen, strict=True) if is_seen), tuple(nodes)),
        keypoints=np.ascontiguousarray(points[:, seen]),
        confidence=np.ascontiguousarray(confidence[:, seen]),
        fps=fps,
        source=str(path),
        warnings=(*warnings, *found),
        listed_animals=tuple(tracks),
        absent=absent,
    )


def pieces_of_tracks(points: NDArray[np.float32]) -> list[ReadingWarning]:
    """A warning where tracks of points (T, A, K, 2) are never seen all at once, so that several may be one animal."""
    there = np.isfinite(points).any(axis=(2, 3))  # (T, A)
    n_tracks, at_once = int(there.any(axis=0).sum()), int(there.sum(axis=1).max(initial=0))
    if n_tracks <= at_once:
        return []
    kind = f"tracks of which no more than {at_once} are ever seen at once, so that they may be pieces of fewer animals"
    return [ReadingWarning(f"{kind}; join them in SLEAP", n_tracks, "tracks")]


def _is_turned(path: Path, file: Any) -> bool:
    """Whether the axes stand the other way round, as SLEAP writes them for Python: by the names of tracks and nodes.

    Where both ways fit, it is SLEAP's own order.
    """
    node = readable_array(path, file, "tracks")
    n_nodes = readable_array(path, file, "node_names").size
    n_tracks = readable_array(path, file, "track_names").size if "track_names" in file else 0

    def fits(shape: tuple[int, ...]) -> bool:
        return len(shape) == 4 and shape[1:3] == (2, n_nodes) and n_tracks in (0, shape[0])

    return "dims" not in node.attrs and fits(node.shape[::-1]) and not fits(node.shape)


def _ordered(path: Path, file: Any, key: str, is_turned: bool) -> NDArray[np.float32]:
    """The array with its axes in SLEAP's own order. is_turned: whether it has them the other way round."""
    node, wanted = readable_array(path, file, key), _DIMS[key]
    dims = node.attrs.get("dims")
    try:
        order = [list(json.loads(dims)).index(d) for d in wanted] if dims is not None else list(range(len(wanted)))
        order = order[::-1] if is_turned else order
        return float32_of(node[:]).transpose(order)
    except (ValueError, TypeError) as error:
        problem = f"expected {key!r} with the axes {', '.join(wanted)}, got {node.shape} {dims or ''}; {_MEND}"
        raise RecordingError(path, problem) from error


def _names(path: Path, file: Any, key: str) -> list[str]:
    return [text_of(name) for name in readable_array(path, file, key)[:].ravel().tolist()]


READER = PoseReader(
    "SLEAP analysis .h5",
    (".h5", ".hdf5", ".hdf"),
    lambda probe: "node_names" in probe.hdf5_names,
    one_recording(read_sleap_analysis),
)
