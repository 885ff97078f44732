"""JABS pose files: y before x, identities, and slots without an instance."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_recording
from rtseg.recordings.poses.jabs import KEYPOINTS


def write(path: Path, points: np.ndarray, confidence: np.ndarray, **more: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        group = file.create_group("poseest")
        group.attrs["version"] = [4, 0]
        group["points"], group["confidence"] = points.astype(np.uint16), confidence.astype(np.float32)
        for name, values in more.items():
            group[name] = values
    return path


@pytest.fixture
def two() -> tuple[np.ndarray, np.ndarray]:
    """Points (3, 2, 12, 2) as y, x, and confidences; the second slot is empty in frame 1."""
    rng = np.random.default_rng(1)
    points, confidence = rng.integers(1, 800, (3, 2, 12, 2)), rng.uniform(0.2, 1, (3, 2, 12))
    points[1, 1], confidence[1, 1] = 0, 0
    confidence[0, 0, 5] = 0
    return points, confidence


def test_identities_give_the_mice_and_y_comes_before_x(tmp_path: Path, two: tuple[np.ndarray, np.ndarray]) -> None:
    points, confidence = two
    identity = np.array([[1, 2], [2, 0], [2, 1]])  # the tracker's slots change hands in frame 2
    recording = read_recording(write(tmp_path / "m_pose_est_v4.h5", points, confidence, instance_embed_id=identity))
    assert recording.skeleton.animals == ("mouse1", "mouse2")
    assert recording.skeleton.keypoints == KEYPOINTS
    assert recording.keypoints[0, 0, 0].tolist() == points[0, 0, 0, ::-1].tolist()
    assert recording.keypoints[2, 0, 3].tolist() == points[2, 1, 3, ::-1].tolist()
    assert recording.keypoints[1, 1, 3].tolist() == points[1, 0, 3, ::-1].tolist()
    assert np.isnan(recording.keypoints[1, 0]).all()
    assert np.isnan(recording.keypoints[0, 0, 5]).all()  # no confidence, no point
    assert recording.confidence[2, 0, 3] == np.float32(confidence[2, 1, 3])


def test_instances_without_an_identity_are_counted(tmp_path: Path, two: tuple[np.ndarray, np.ndarray]) -> None:
    path = write(tmp_path / "a.h5", *two, instance_embed_id=np.array([[1, 0], [1, 0], [1, 0]]))
    recording = read_recording(path, fps=30)
    assert recording.skeleton.animals == ("mouse1",)
    assert recording.warnings == ("instances without an identity are left out (2 instances)",)


def test_several_mice_without_identities_are_refused(tmp_path: Path, two: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(RecordingError, match="holds several mice without identities or tracks"):
        read_recording(write(tmp_path / "a.h5", *two))
    points, confidence = two
    one = read_recording(write(tmp_path / "b.h5", points[:, 0], confidence[:, 0]))  # version 2
    assert one.confidence.shape == (3, 1, 12)


def test_tracks_of_version_3_become_mice_by_jabs_rule(tmp_path: Path) -> None:
    """Track 7 ends and 9 begins where it ended; 8 goes on in whichever slot, and comes back after a frame away."""
    tracks = np.array([[7, 8], [8, 7], [8, 0], [9, 8], [9, 0], [8, 9]])
    count = np.array([2, 2, 1, 2, 1, 2])
    mice = np.array([[0, 1], [1, 0], [1, -1], [0, 1], [0, -1], [1, 0]])
    points = np.random.default_rng(2).integers(1, 800, (6, 2, 12, 2))
    confidence = np.where((np.arange(2) < count[:, None])[..., None], 0.9, 0.0) * np.ones(12)
    path = write(tmp_path / "m_pose_est_v3.h5", points, confidence, instance_track_id=tracks, instance_count=count)
    recording = read_recording(path, fps=30)
    assert recording.skeleton.animals == ("mouse1", "mouse2")
    for t, slot in np.argwhere(mice >= 0):
        assert recording.keypoints[t, mice[t, slot], 4].tolist() == points[t, slot, 4, ::-1].tolist()
    assert np.isnan(recording.keypoints[2, 0]).all()
    assert np.isnan(recording.keypoints[4, 1]).all()
    kind = "tracks are pieces, put together by JABS' rule; whether they are of the same mouse is not known"
    assert recording.warnings == (f"{kind} (2 tracks)",)
    tracks[1] = 7
    with pytest.raises(RecordingError, match=r"frame 1 \(from 0\): two instances have one track"):
        read_recording(
            write(tmp_path / "b.h5", points, confidence, instance_track_id=tracks, instance_count=count), fps=30
        )


def test_other_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"expected points \(T, mice, 12, 2\)"):
        read_recording(write(tmp_path / "a.h5", np.ones((3, 1, 7, 2)), np.ones((3, 1, 7))))
