"""movement's netCDF 4, read as plain HDF5: positions over time, space, keypoints and individuals.

Dimensions were called `keypoints` and `individuals` once and are `keypoint` and `individual` now; both are read, in any
order of the axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError
from rtseg.recordings.files.hdf5 import open_hdf5, readable_array, text_of
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import DEFAULT_FPS, PoseReader, assumed_rate, confidence_of_points, float32_of
from rtseg.recordings.poses.timed import Series, recording_from_series
from rtseg.recordings.recording import Recording

_AXES = {"time": "time", "space": "space"} | dict.fromkeys(("keypoint", "keypoints"), "keypoint")
_AXES |= dict.fromkeys(("individual", "individuals"), "individual")
_ORDER = ("time", "individual", "keypoint", "space")


def is_movement(probe: FileProbe) -> bool:
    """Whether an HDF5 file has movement's positions and their axes."""
    names = set(probe.hdf5_names)
    return {"position", "time", "space"} <= names


def read_movement(path: Path, *, fps: float | None = None, name: str | None = None) -> Recording:
    """A Recording from a movement data set of poses.

    fps: None = the file's own rate. Where the file counts frames and has no rate, frames are frames and `fps` is taken.
    Raises RecordingError for bounding boxes, three dimensions, and axes of another kind.
    """
    with open_hdf5(path, "movement's netCDF") as file:
        position = _with_axes(path, file, "position", _ORDER)
        n_frames, n_animals, n_keypoints, n_space = position.shape
        space = _texts(path, file, "space")
        if n_space != 2 or space != ["x", "y"]:
            raise RecordingError(path, f"expected the space x, y, got {', '.join(space)}; only 2-D tracks are read")
        animals = _texts(path, file, "individual" if "individual" in file else "individuals")
        keypoints = _texts(path, file, "keypoint" if "keypoint" in file else "keypoints")
        if "confidence" in file:
            confidence = _with_axes(path, file, "confidence", _ORDER[:3])
        else:
            confidence = confidence_of_points(position)
        times, warnings = _times(path, file, fps)
    if (len(times), len(animals), len(keypoints)) != (n_frames, n_animals, n_keypoints):
        raise RecordingError(path, f"names and times do not fit positions of shape {position.shape}; write it again")
    series = [
        Series(animal, keypoint, times, position[:, a, k], confidence[:, a, k])
        for a, animal in enumerate(animals)
        for k, keypoint in enumerate(keypoints)
    ]
    return recording_from_series(
        path, series, animals=animals, keypoints=keypoints, fps=fps, name=name or path.stem, warnings=warnings
    )


def _with_axes(path: Path, file: Any, name: str, wanted: tuple[str, ...]) -> NDArray[np.float32]:
    """The array with its axes in the wanted order, by the names of its dimensions."""
    node = readable_array(path, file, name)
    # netCDF 4 keeps the names of axes as HDF5 dimension scales.
    names = [text_of(dim[0].name).lstrip("/") if len(dim) else "" for dim in node.dims]
    axes = [_AXES.get(axis, axis) for axis in names]
    if sorted(axes) != sorted(wanted):
        problem = f"expected {name!r} with the axes {', '.join(wanted)}, got {', '.join(names) or 'none'}"
        raise RecordingError(path, f"{problem}; only poses are read, as movement writes them")
    return float32_of(node[:]).transpose([axes.index(axis) for axis in wanted])


def _texts(path: Path, file: Any, name: str) -> list[str]:
    return [text_of(text) for text in readable_array(path, file, name)[:].ravel().tolist()]


def _times(path: Path, file: Any, fps: float | None) -> tuple[NDArray[np.float64], list[ReadingWarning]]:
    """Times (T,) in seconds; of frame numbers by the file's rate, or by `fps` where it has none; and warnings."""
    times = np.asarray(readable_array(path, file, "time")[:], np.float64)
    if text_of(file.attrs.get("time_unit", "seconds")) != "frames":
        return times, []
    rate = file.attrs.get("fps")
    if rate is not None:
        return times / float(np.ravel(rate)[0]), []
    if fps is not None:
        return times / fps, []
    return times / DEFAULT_FPS, [assumed_rate()]


def _read_recordings(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
    yield read_movement(path, fps=fps, name=name)


READER = PoseReader("movement .nc", (".nc", ".h5"), is_movement, _read_recordings, carries_rate=True)
