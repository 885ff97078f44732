"""movement's netCDF: positions over time, space, keypoints and individuals.

netCDF 4 is read as plain HDF5, netCDF 3 (which xarray writes where it has no other library) with scipy. Dimensions were
called `keypoints` and `individuals` once and are `keypoint` and `individual` now; both are read, in any order of the
axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import RecordingError, needs_extra
from rtseg.recordings.files.hdf5 import is_netcdf3, open_hdf5, readable_array, text_of
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.poses.pose_file import DEFAULT_FPS, PoseReader, assumed_rate, confidence_of_points, float32_of
from rtseg.recordings.poses.timed import Series, recording_from_series
from rtseg.recordings.recording import Recording

_AXES = {"time": "time", "space": "space"} | dict.fromkeys(("keypoint", "keypoints"), "keypoint")
_AXES |= dict.fromkeys(("individual", "individuals"), "individual")
_ORDER = ("time", "individual", "keypoint", "space")
_NEEDED = ("position", "time", "space")


@dataclass(frozen=True)
class _Variable:
    """An array and the names of its axes; texts are a list of them."""

    axes: tuple[str, ...]
    values: NDArray[Any]


@dataclass(frozen=True)
class _DataSet:
    """What a file holds, in whichever container."""

    path: Path
    variables: dict[str, _Variable]
    attributes: dict[str, Any]

    def texts(self, *names: str) -> list[str]:
        """The texts of the first of these variables that is there."""
        return [text_of(text) for name in names if name in self.variables for text in self.variables[name].values]

    def with_axes(self, name: str, wanted: tuple[str, ...]) -> NDArray[np.float32]:
        """The numbers of a variable with its axes in the wanted order."""
        variable = self.variables[name]
        axes = [_AXES.get(axis, axis) for axis in variable.axes]
        if sorted(axes) != sorted(wanted):
            problem = f"expected {name!r} with the axes {', '.join(wanted)}, got {', '.join(variable.axes) or 'none'}"
            raise RecordingError(self.path, f"{problem}; only poses are read, as movement writes them")
        return float32_of(variable.values).transpose([axes.index(axis) for axis in wanted])


def is_movement(probe: FileProbe) -> bool:
    """Whether a netCDF file has movement's positions and their axes."""
    if probe.is_netcdf3:
        return set(_NEEDED) <= set(_netcdf3(probe.path).variables)
    return set(_NEEDED) <= set(probe.hdf5_names)


def read_movement(path: Path, *, fps: float | None = None, name: str | None = None) -> Recording:
    """A Recording from a movement data set of poses.

    fps: None = the file's own rate. Where the file counts frames and has no rate, frames are frames and `fps` is taken.
    Raises RecordingError for bounding boxes, three dimensions, and axes of another kind.
    """
    data = _netcdf3(path) if is_netcdf3(path) else _netcdf4(path)
    position = data.with_axes("position", _ORDER)
    n_frames, n_animals, n_keypoints, n_space = position.shape
    space = data.texts("space")
    if n_space != 2 or space != ["x", "y"]:
        raise RecordingError(path, f"expected the space x, y, got {', '.join(space)}; only 2-D tracks are read")
    animals, keypoints = data.texts("individual", "individuals"), data.texts("keypoint", "keypoints")
    if "confidence" in data.variables:
        confidence = data.with_axes("confidence", _ORDER[:3])
    else:
        confidence = confidence_of_points(position)
    times, warnings = _times(data, fps)
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


def _times(data: _DataSet, fps: float | None) -> tuple[NDArray[np.float64], list[ReadingWarning]]:
    """Times (T,) in seconds; of frame numbers by the file's rate, or by `fps` where it has none; and warnings."""
    times = np.asarray(data.variables["time"].values, np.float64)
    if text_of(data.attributes.get("time_unit", "seconds")) != "frames":
        return times, []
    if rate := _rate_of(data.attributes.get("fps")):
        return times / rate, []
    if fps is not None:
        return times / fps, []
    return times / DEFAULT_FPS, [assumed_rate()]


def _rate_of(attribute: Any) -> float | None:
    """The attribute `fps` as a number above 0; None where it is none, such as movement's 'None'."""
    try:
        rate = float(np.ravel(attribute)[0])
    except (TypeError, ValueError, IndexError):
        return None
    return rate if 0 < rate < np.inf else None


def _netcdf4(path: Path) -> _DataSet:
    variables = {}
    with open_hdf5(path, "movement's netCDF") as file:
        for name in (*_NEEDED, "confidence", *_AXES):
            if name in file or name in _NEEDED:
                node = readable_array(path, file, name)
                # The names of axes are HDF5's dimension scales.
                axes = tuple(text_of(dim[0].name).lstrip("/") if len(dim) else "" for dim in node.dims)
                variables[name] = _Variable(axes, node[:])
        return _DataSet(path, variables, dict(file.attrs))


def _netcdf3(path: Path) -> _DataSet:
    try:
        from scipy.io import netcdf_file
    except ImportError as error:
        raise needs_extra("scipy", "io", "Reading netCDF 3") from error
    try:
        with netcdf_file(path, "r", mmap=False) as file:
            return _DataSet(
                path,
                {name: _netcdf3_variable(node) for name, node in file.variables.items()},
                # scipy has no other way to all attributes.
                dict(file._attributes),
            )
    except (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise RecordingError(path, f"cannot be read as netCDF 3 ({error}); it was cut or damaged") from error


def _netcdf3_variable(node: Any) -> _Variable:
    values = np.asarray(node.data)
    if values.dtype.kind != "S":
        return _Variable(tuple(node.dimensions), values)
    # Texts are arrays of characters, whose last axis is their length.
    texts = [b"".join(row).rstrip(b"\0 ") for row in values.reshape(len(values), -1)]
    return _Variable(tuple(node.dimensions[:-1]), np.array(texts, object))


def _read_recordings(path: Path, *, fps: float | None, name: str | None) -> Iterator[Recording]:
    yield read_movement(path, fps=fps, name=name)


READER = PoseReader("movement .nc", (".nc", ".h5"), is_movement, _read_recordings, carries_rate=True)
