"""NWB with ndx-pose, as pynwb writes it."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_recording, read_recordings

pynwb = pytest.importorskip("pynwb")
ndx_pose = pytest.importorskip("ndx_pose")
pytestmark = pytest.mark.filterwarnings("ignore")  # pynwb's own, about names and time zones

NODES = ["tail", "nose"]  # not in the order of the alphabet, in which HDF5 lists them


def write(
    path: Path,
    animals: dict[str, np.ndarray],
    module: str = "behavior",
    unit: str = "pixels",
    cameras: bool = False,
    videos: dict[str, str] | None = None,
    **time: object,
) -> Path:
    """animals: name -> points (T, 2, 2 or 3). cameras: one for each. videos: of each. time: timestamps, or rate and
    starting_time, conversion and offset.
    """
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
    file = pynwb.NWBFile("d", "id", when)
    behaviour = file.create_processing_module(module, "poses")
    edges = np.array([[0, 1]], "uint8")
    skeletons = [ndx_pose.Skeleton(name=f"{a}_skeleton", nodes=NODES, edges=edges) for a in animals]
    behaviour.add(ndx_pose.Skeletons(skeletons=skeletons))
    for (animal, points), skeleton in zip(animals.items(), skeletons, strict=True):
        series = [
            ndx_pose.PoseEstimationSeries(
                name=node,
                description="a point",
                data=points[:, k],
                unit=unit,
                reference_frame="top left",
                confidence=np.full(len(points), 0.25 * (k + 1)),
                confidence_definition="softmax",
                **time,
            )
            for k, node in enumerate(NODES)
        ]
        own = [(videos or {})[animal]] if animal in (videos or {}) else None
        behaviour.add(
            ndx_pose.PoseEstimation(
                name=animal,
                pose_estimation_series=series,
                description="d",
                skeleton=skeleton,
                original_videos=own,
                devices=[file.create_device(f"camera of {animal}")] if cameras else None,
            )
        )
    with pynwb.NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path


@pytest.fixture
def points() -> np.ndarray:
    """(T, 2, 2)."""
    found = np.random.default_rng(3).uniform(0, 600, (8, 2, 2)).astype(np.float32)
    found[3, 1] = np.nan
    return found


@pytest.mark.parametrize("time", [{"rate": 25.0, "starting_time": 3.0}, {"timestamps": 7 + np.arange(8) / 25}])
def test_animals_keypoints_and_rate(tmp_path: Path, points: np.ndarray, time: dict[str, object]) -> None:
    recording = read_recording(write(tmp_path / "a.nwb", {"adult": points, "pup": points + 9}, **time))
    assert recording.skeleton.animals == ("adult", "pup")
    assert recording.skeleton.keypoints == ("tail", "nose")
    assert recording.fps == 25
    np.testing.assert_array_equal(recording.keypoints[:, 0], points)
    np.testing.assert_array_equal(recording.keypoints[:, 1], points + 9)
    assert recording.confidence[:2, 0].tolist() == [[0.25, 0.5], [0.25, 0.5]]
    assert recording.confidence[3, 0].tolist() == [0.25, 0]


def test_times_that_skip_leave_missing_frames(tmp_path: Path, points: np.ndarray) -> None:
    times = np.array([0, 1, 2, 5, 6, 7, 8, 9]) / 30 + np.random.default_rng(0).uniform(-2e-3, 2e-3, 8)
    recording = read_recording(write(tmp_path / "a.nwb", {"a": points}, timestamps=times))
    assert len(recording) == 10
    assert np.isnan(recording.keypoints[3:5]).all()
    np.testing.assert_array_equal(recording.keypoints[5:, 0], points[3:])
    assert "frame indices skip frames, which are taken as never recorded (2 frames)" in recording.warnings


def test_another_rate_and_no_rate_are_refused(tmp_path: Path, points: np.ndarray) -> None:
    path = write(tmp_path / "a.nwb", {"a": points}, rate=25.0, starting_time=0.0)
    with pytest.raises(RecordingError, match="was recorded at 25 fps, not 30"):
        read_recording(path, fps=30)
    uneven = np.array([0, 1, 2.5, 3, 4.4, 5, 6, 7.0])
    with pytest.raises(RecordingError, match="times keep no steady rate"):
        read_recording(write(tmp_path / "b.nwb", {"a": points}, timestamps=uneven))


def test_three_dimensions_are_refused_and_other_units_told(tmp_path: Path, points: np.ndarray) -> None:
    deep = np.concatenate([points, points[..., :1]], axis=-1)
    with pytest.raises(RecordingError, match="only 2-D tracks are read"):
        read_recording(write(tmp_path / "a.nwb", {"a": deep}, rate=25.0))
    recording = read_recording(write(tmp_path / "b.nwb", {"a": points}, unit="cm", rate=25.0))
    assert recording.px_per_mm == 0.1
    assert "coordinates are in cm, and read as px with px_per_mm = 0.1 (1 file)" in recording.warnings
    recording = read_recording(write(tmp_path / "c.nwb", {"a": points}, unit="degrees", rate=25.0))
    assert recording.px_per_mm is None
    assert "coordinates are in degrees, and read as px (1 file)" in recording.warnings


def test_a_file_without_poses_is_refused(tmp_path: Path) -> None:
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)  # noqa: UP017
    file = pynwb.NWBFile("d", "id", when)
    file.create_processing_module("behavior", "nothing")
    with pynwb.NWBHDF5IO(str(tmp_path / "a.nwb"), "w") as io:
        io.write(file)
    with pytest.raises(RecordingError, match="holds no poses"):
        list(read_recordings(tmp_path / "a.nwb"))


@pytest.mark.parametrize("step", [1.0, 33.3, 1 / 30_000])
def test_times_that_are_no_seconds_of_a_video_are_refused(tmp_path: Path, points: np.ndarray, step: float) -> None:
    """Numbers of frames, as sleap-io writes them without the video; milliseconds; an amplifier's samples."""
    path = write(tmp_path / "a.nwb", {"m": points}, timestamps=np.arange(len(points)) * step)
    with pytest.raises(RecordingError, match="fps, which no video has; write it with the times of the video's frames"):
        list(read_recordings(path))


def test_a_clock_that_began_earlier_is_told(tmp_path: Path, points: np.ndarray) -> None:
    recording = read_recording(write(tmp_path / "a.nwb", {"m": points}, rate=25.0, starting_time=12.5))
    assert len(recording) == len(points)
    assert any("times begin later than at 0" in w for w in recording.warnings)


@pytest.mark.parametrize("of", [{"cameras": True}, {"videos": {"left": "l.mp4", "right": "r.mp4"}}])
def test_views_of_several_cameras_are_recordings_and_no_animals(
    tmp_path: Path, points: np.ndarray, of: dict[str, object]
) -> None:
    path = write(tmp_path / "a.nwb", {"left": points, "right": points + 9}, rate=25.0, **of)
    left, right = read_recordings(path)
    assert (left.name, right.name) == ("a/behavior/left", "a/behavior/right")
    assert (left.skeleton.animals, right.skeleton.animals) == (("left",), ("right",))
    np.testing.assert_array_equal(right.keypoints[:, 0], points + 9)
    assert read_recording(path, name="a/behavior/right").skeleton.animals == ("right",)


@pytest.mark.parametrize("videos", [{"adult": "m.mp4", "pup": "m.mp4"}, {"adult": "m.mp4"}])
def test_animals_of_one_video_stay_together(tmp_path: Path, points: np.ndarray, videos: dict[str, str]) -> None:
    path = write(tmp_path / "a.nwb", {"adult": points, "pup": points}, rate=25.0, videos=videos)
    assert read_recording(path).skeleton.animals == ("adult", "pup")


def test_what_is_stored_is_converted(tmp_path: Path, points: np.ndarray) -> None:
    path = write(tmp_path / "a.nwb", {"adult": points}, rate=25.0, conversion=0.5, offset=10.0)
    np.testing.assert_allclose(read_recording(path).keypoints[:, 0], points / 2 + 10, rtol=1e-6)
