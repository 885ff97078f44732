"""movement's netCDF, written as the netCDF 4 library lays it out in HDF5."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_recording

NEW = ("time", "space", "keypoint", "individual")
OLD = ("time", "individuals", "keypoints", "space")


def write(path: Path, points: np.ndarray, axes: tuple[str, ...], times: np.ndarray, **attributes: object) -> Path:
    """points: (T, A, K, 2 or 3), written with the axes in that order."""
    order = ("time", "individual", "keypoint", "space")
    names = {"space": ["x", "y", "z"][: points.shape[-1]], "keypoint": ["nose", "tail"], "individual": ["a", "b"]}
    with h5py.File(path, "w") as file:
        for axis in axes:
            values = names.get(axis.removesuffix("s"))
            file[axis] = times if values is None else np.array(values, dtype=h5py.string_dtype())
            file[axis].make_scale(axis)
        file["position"] = points.transpose([order.index(axis.removesuffix("s")) for axis in axes])
        confidence = [axis for axis in axes if axis != "space"]
        scores = np.full(points.shape[:-1], 0.5)
        file["confidence"] = scores.transpose([order.index(axis.removesuffix("s")) for axis in confidence])
        for name, own in (("position", axes), ("confidence", confidence)):
            for i, axis in enumerate(own):
                file[name].dims[i].attach_scale(file[axis])
        for key, value in attributes.items():
            file.attrs[key] = value
    return path


def write_netcdf3(path: Path, points: np.ndarray, axes: tuple[str, ...], times: np.ndarray, **attributes: str) -> Path:
    """The same as xarray writes netCDF 3: texts as arrays of characters."""
    order = ("time", "individual", "keypoint", "space")
    names = {"space": [b"x", b"y"], "keypoint": [b"nose", b"tail"], "individual": [b"a", b"b"]}
    with netcdf_file(path, "w") as file:
        for axis in axes:
            values = names.get(axis.removesuffix("s"))
            file.createDimension(axis, len(times) if values is None else len(values))
            if values is None:
                file.createVariable(axis, "d", (axis,))[:] = times
                continue
            length = max(map(len, values))
            file.createDimension(f"string{axis}", length)
            texts = np.array([[bytes([c]) for c in text.ljust(length, b"\0")] for text in values], "S1")
            file.createVariable(axis, "c", (axis, f"string{axis}"))[:] = texts
        turned = points.transpose([order.index(axis.removesuffix("s")) for axis in axes])
        file.createVariable("position", "f", axes)[:] = turned
        for key, value in attributes.items():
            setattr(file, key, value)
    return path


@pytest.mark.parametrize("axes", [NEW, OLD])
def test_netcdf_3_is_read_in_any_order_of_axes(tmp_path: Path, points: np.ndarray, axes: tuple[str, ...]) -> None:
    path = write_netcdf3(tmp_path / "a.nc", points, axes, np.arange(6) / 50, time_unit="seconds")
    recording = read_recording(path)
    assert recording.skeleton.animals == ("a", "b")
    assert recording.skeleton.keypoints == ("nose", "tail")
    assert recording.fps == 50
    np.testing.assert_array_equal(recording.keypoints, points)
    whole = path.read_bytes()
    for n in (4, 40, len(whole) // 2):
        path.write_bytes(whole[:n])
        with pytest.raises(RecordingError, match=r"a\.nc: .*(cut or damaged|of no format)"):
            read_recording(path)


@pytest.fixture
def points() -> np.ndarray:
    found = np.random.default_rng(3).uniform(0, 600, (6, 2, 2, 2)).astype(np.float32)
    found[2, 1, 0] = np.nan
    return found


@pytest.mark.parametrize("axes", [NEW, OLD])
def test_old_and_new_names_of_dimensions_in_any_order(
    tmp_path: Path, points: np.ndarray, axes: tuple[str, ...]
) -> None:
    recording = read_recording(write(tmp_path / "a.nc", points, axes, np.arange(6) / 50, time_unit="seconds", fps=50.0))
    assert recording.skeleton.animals == ("a", "b")
    assert recording.skeleton.keypoints == ("nose", "tail")
    assert recording.fps == 50
    np.testing.assert_array_equal(recording.keypoints, points)
    assert recording.confidence[2, 1].tolist() == [0, 0.5]


def test_tracks_of_a_program_without_confidences(tmp_path: Path, points: np.ndarray) -> None:
    """movement writes NaN for every one."""
    path = write(tmp_path / "a.nc", points, NEW, np.arange(6) / 50, time_unit="seconds", fps=50.0)
    with h5py.File(path, "r+") as file:
        file["confidence"][...] = np.nan
    recording = read_recording(path)
    assert recording.confidence.tolist() == (~np.isnan(points).any(axis=-1)).astype(float).tolist()
    assert any("likelihood is empty in every frame" in warning for warning in recording.warnings)


def test_frames_without_a_rate_take_the_callers(tmp_path: Path, points: np.ndarray) -> None:
    path = write(tmp_path / "a.nc", points, NEW, np.arange(6), time_unit="frames")
    assert read_recording(path, fps=40).fps == 40
    assumed = read_recording(path)
    assert assumed.fps == 30
    assert assumed.warnings == ("the frame rate is not known and taken as 30; say another with --fps (1 file)",)


def test_what_is_no_pose_in_two_dimensions_is_refused(tmp_path: Path, points: np.ndarray) -> None:
    deep = np.concatenate([points, points[..., :1]], axis=-1)
    with pytest.raises(RecordingError, match="only 2-D tracks are read"):
        read_recording(write(tmp_path / "a.nc", deep, NEW, np.arange(6) / 50))
    path = write(tmp_path / "b.nc", points, NEW, np.arange(6) / 50)
    with h5py.File(path, "r+") as file:
        del file["position"]
        file["position"] = points[:, :, 0]
    with pytest.raises(RecordingError, match="expected 'position' with the axes time, individual, keypoint, space"):
        read_recording(path)
    with pytest.raises(RecordingError, match=r"time 0\.02 s comes after 0\.02 s; sort the frames and remove doubles"):
        read_recording(write(tmp_path / "d.nc", points, NEW, np.array([0, 1, 1, 2, 3, 4]) / 50))
    (tmp_path / "c.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(RecordingError, match="is netCDF 3, of which only movement's poses are read"):
        read_recording(tmp_path / "c.nc")


@pytest.mark.parametrize("fps", ["None", 0.0, np.nan])
def test_a_rate_that_is_none_is_not_known(tmp_path: Path, points: np.ndarray, fps: object) -> None:
    path = write(tmp_path / "a.nc", points, NEW, np.arange(6.0), time_unit="frames", fps=fps)
    assert read_recording(path, fps=50).fps == 50
    recording = read_recording(path)
    assert recording.fps == 30
    assert any("the frame rate is not known" in warning for warning in recording.warnings)
