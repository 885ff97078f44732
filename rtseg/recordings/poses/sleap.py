"""SLEAP's exports: analysis .h5 (arrays per track) and .slp (instances per frame).

A track becomes an animal. Neither reader joins or splits tracks: that is the tracker's work.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, needs_extra
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.poses.pose_file import SINGLE_ANIMAL, PoseReader, one_recording
from rtseg.recordings.recording import Recording, clean

_DIMS = {"tracks": ("track", "xy", "node", "frame"), "point_scores": ("track", "node", "frame")}
"""SLEAP's order of axes; sleap-io may write others, and then says so in the attribute `dims`."""
_MEND = "export it again from SLEAP (File > Export Analysis HDF5)"


def read_sleap_analysis(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from a SLEAP analysis file; confidence = point scores, 1 where the file has none.

    Tracks without a single point are left out with a warning. Raises RecordingError where arrays are absent or differ
    in shape.
    """
    try:
        import h5py
    except ImportError as error:
        raise needs_extra("h5py", "io", "Reading SLEAP analysis files") from error
    try:
        with h5py.File(path, "r") as file:
            for key in ("tracks", "node_names"):
                if key not in file:
                    raise RecordingError(path, f"expected an array {key!r}, found {', '.join(file) or 'none'}; {_MEND}")
            keypoints = _ordered(path, file, "tracks").transpose(3, 0, 2, 1)  # (T, A, K, 2)
            scores = _ordered(path, file, "point_scores").transpose(2, 0, 1) if "point_scores" in file else None
            nodes = _names(file["node_names"])
            animals = _names(file["track_names"]) if "track_names" in file else []
    except (OSError, RuntimeError) as error:  # h5py's words for cut and damaged files
        raise RecordingError(path, f"cannot be read as HDF5 ({error}); it was cut or damaged, copy it again") from error
    return _recording(path, keypoints, scores, nodes, animals, fps, name)


def read_slp(path: Path, *, fps: float, name: str | None = None) -> Recording:
    """A Recording from the predictions (and corrections) of a .slp file with one video.

    The video itself is not opened. Frames without instances are missing. Points that a person placed have confidence 1.
    Raises RecordingError for several videos or skeletons, and for files that sleap-io cannot read.
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
    array = np.asarray(labels.numpy(return_confidence=True), np.float32)  # (T, A, K, 3)
    scores = array[..., 2]
    scores[np.isnan(scores) & np.isfinite(array[..., :2]).all(axis=-1)] = 1.0
    animals = [track.name for track in labels.tracks]
    nodes = list(labels.skeletons[0].node_names)
    return _recording(path, array[..., :2], scores, nodes, animals, fps, name)


def _recording(
    path: Path,
    keypoints: NDArray[np.float32],
    scores: NDArray[np.float32] | None,
    nodes: list[str],
    animals: list[str],
    fps: float,
    name: str | None,
) -> Recording:
    """keypoints (T, A, K, 2), scores (T, A, K) as a Recording."""
    n_animals, n_nodes = keypoints.shape[1:3]
    if not animals and n_animals == 1:
        animals = [SINGLE_ANIMAL]
    elif not animals:
        animals = [f"{SINGLE_ANIMAL}{i + 1}" for i in range(n_animals)]
    if len(animals) != n_animals or len(nodes) != n_nodes or keypoints.shape[3] != 2 or len(keypoints) == 0:
        names = f"{len(animals)} track and {len(nodes)} node names"
        raise RecordingError(path, f"{names} do not fit tracks of shape {keypoints.shape} (T, A, K, 2); {_MEND}")
    if scores is not None and scores.shape != keypoints.shape[:3]:
        raise RecordingError(path, f"point scores {scores.shape} do not fit tracks {keypoints.shape}; {_MEND}")
    points, confidence = clean(keypoints, scores)
    seen = np.asarray(np.isfinite(points).any(axis=(0, 2, 3)))  # (A,)
    if not seen.any():
        raise RecordingError(path, f"holds no points at all; {_MEND}")
    warnings = []
    if not seen.all():
        empty = [a for a, s in zip(animals, seen, strict=True) if not s]
        warnings.append(f"left out tracks without points ({len(empty)}): {', '.join(empty)}")
    return Recording(
        name=name or path.stem,
        skeleton=Skeleton(tuple(a for a, s in zip(animals, seen, strict=True) if s), tuple(nodes)),
        keypoints=np.ascontiguousarray(points[:, seen]),
        confidence=np.ascontiguousarray(confidence[:, seen]),
        fps=fps,
        source=str(path),
        warnings=tuple(warnings),
    )


def _ordered(path: Path, file: Any, key: str) -> NDArray[np.float32]:
    """The array with its axes in SLEAP's own order."""
    node, wanted = file[key], _DIMS[key]
    dims = node.attrs.get("dims")
    try:
        order = [list(json.loads(dims)).index(d) for d in wanted] if dims is not None else list(range(len(wanted)))
        return np.asarray(node[:], np.float32).transpose(order)
    except (ValueError, TypeError) as error:
        problem = f"expected {key!r} with the axes {', '.join(wanted)}, got {node.shape} {dims or ''}; {_MEND}"
        raise RecordingError(path, problem) from error


def _names(node: Any) -> list[str]:
    return [n.decode("utf-8") if isinstance(n, bytes) else str(n) for n in node[:].ravel().tolist()]


ANALYSIS_READER = PoseReader(
    "SLEAP analysis .h5",
    (".h5", ".hdf5", ".hdf"),
    lambda probe: "node_names" in probe.hdf5_names,
    one_recording(read_sleap_analysis),
)
SLP_READER = PoseReader("SLEAP .slp", (".slp",), lambda probe: True, one_recording(read_slp))
