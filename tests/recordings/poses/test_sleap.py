"""SLEAP analysis .h5: the real files, other axis orders, empty tracks, and damage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.poses.sleap import read_sleap_analysis


@pytest.fixture
def copy(data_root: Path, tmp_path: Path) -> Path:
    """A copy of the real file with two tracks, to damage."""
    return Path(shutil.copy(data_root / "formats/sleap_predictions.analysis.h5", tmp_path / "copy.h5"))


def test_two_tracks_of_a_real_file_are_two_animals(data_root: Path) -> None:
    path = data_root / "formats/sleap_predictions.analysis.h5"
    recording = read_sleap_analysis(path, fps=100)
    with h5py.File(path) as file:
        tracks = file["tracks"][:]
    assert recording.keypoints.shape == (3000, 2, 13, 2)
    assert recording.skeleton.animals == ("track_0", "track_1")
    assert recording.skeleton.keypoints[:3] == ("head", "thorax", "abdomen")
    assert recording.keypoints[1234, 1, 3, 0] == np.float32(tracks[1, 0, 3, 1234])
    assert recording.keypoints[77, 0, 12, 1] == np.float32(tracks[0, 1, 12, 77])
    missing = np.isnan(tracks).any(axis=1).transpose(2, 0, 1)
    assert missing.any()
    np.testing.assert_array_equal(np.isnan(recording.keypoints).any(axis=-1), missing)
    np.testing.assert_array_equal(recording.confidence, ~missing)  # the file has no point scores


def test_point_scores_are_the_confidence(data_root: Path) -> None:
    path = data_root / "formats/sleap_single_mouse.analysis.h5"
    recording = read_sleap_analysis(path, fps=30)
    with h5py.File(path) as file:
        scores = file["point_scores"][:].transpose(2, 0, 1)
    assert scores.max() > 1  # SLEAP's scores may pass 1
    np.testing.assert_array_equal(recording.confidence, scores.astype(np.float32).clip(0, 1))


def test_the_axis_order_that_the_file_declares(copy: Path) -> None:
    usual = read_sleap_analysis(copy, fps=30)
    with h5py.File(copy, "r+") as file:
        tracks = file["tracks"][:].transpose(3, 0, 2, 1)
        del file["tracks"]
        file["tracks"] = tracks
        file["tracks"].attrs["dims"] = json.dumps(["frame", "track", "node", "xy"])
    np.testing.assert_array_equal(read_sleap_analysis(copy, fps=30).keypoints, usual.keypoints)


def test_the_other_way_round_as_it_is_written_for_python(copy: Path) -> None:
    usual = read_sleap_analysis(copy, fps=30)
    with h5py.File(copy, "r+") as file:
        tracks = file["tracks"][:].T
        del file["tracks"]
        file["tracks"] = tracks
        file["point_scores"] = np.full((*tracks.shape[:2], tracks.shape[3]), 0.5)
    turned = read_sleap_analysis(copy, fps=30)
    np.testing.assert_array_equal(turned.keypoints, usual.keypoints)
    assert set(np.unique(turned.confidence)) == {0, 0.5}


def test_empty_tracks_are_left_out_and_counted(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        file["tracks"][0] = np.nan
    recording = read_sleap_analysis(copy, fps=30)
    assert recording.skeleton.animals == ("track_1",)
    assert recording.warnings == ("tracks without points are left out: track_0 (1 tracks)",)
    with h5py.File(copy, "r+") as file:
        file["tracks"][1] = np.nan
    with pytest.raises(RecordingError, match="holds no points at all"):
        read_sleap_analysis(copy, fps=30)


def test_damage_names_the_file_and_the_mend(copy: Path, data_root: Path) -> None:
    with h5py.File(copy, "r+") as file:
        names = file["node_names"][:]
        del file["node_names"]
        file["node_names"] = names[:-1]
    with pytest.raises(RecordingError, match=r"copy\.h5: 2 track and 12 node names do not fit .*export it again"):
        read_sleap_analysis(copy, fps=30)
    with h5py.File(copy, "r+") as file:
        del file["node_names"]
    with pytest.raises(RecordingError, match="expected an array 'node_names', found track_names"):
        read_sleap_analysis(copy, fps=30)
    copy.write_bytes(copy.read_bytes()[:5000])
    with pytest.raises(RecordingError, match="cut or damaged"):
        read_sleap_analysis(copy, fps=30)


def write(path: Path, n_animals: int, tracks: list[str] | None, scores: float = 0.5) -> Path:
    """An analysis file of 4 frames and one node."""
    with h5py.File(path, "w") as file:
        file["tracks"] = np.arange(n_animals * 8, dtype=float).reshape(n_animals, 2, 1, 4) + 1
        file["node_names"] = ["nose"]
        file["point_scores"] = np.full((n_animals, 1, 4), scores)
        if tracks is not None:
            file.create_dataset("track_names", data=np.array(tracks, dtype="S8"))
    return path


def test_tracks_are_in_the_order_of_the_files_list(tmp_path: Path) -> None:
    recording = read_sleap_analysis(write(tmp_path / "a.h5", 2, ["zoe", "adam"]), fps=30)
    assert recording.skeleton.animals == ("zoe", "adam")


def test_an_empty_track_is_missing_where_the_model_wants_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", 2, ["track_0", "track_1"])
    with h5py.File(path, "r+") as file:
        file["tracks"][0] = np.nan
    recording = read_sleap_analysis(path, fps=30)
    for animals in (("track_0", "track_1"), ("resident", "intruder")):  # by name, and by order
        both = recording.select(Skeleton(animals, ("nose",)))
        assert np.isnan(both.keypoints[:, 0]).all()
        assert (both.confidence[:, 0] == 0).all()
        np.testing.assert_array_equal(both.keypoints[:, 1], recording.keypoints[:, 0])
    assert recording.select(Skeleton(("mouse",), ("nose",))).keypoints[0, 0, 0].tolist() == [9, 13]


def test_several_instances_without_a_track_need_tracking(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"a\.h5: holds 2 instances and no track; run tracking in SLEAP"):
        read_sleap_analysis(write(tmp_path / "a.h5", 2, []), fps=30)
    assert read_sleap_analysis(write(tmp_path / "b.h5", 1, []), fps=30).skeleton.animals == ("animal",)


def test_scores_above_1_are_1(tmp_path: Path) -> None:
    recording = read_sleap_analysis(write(tmp_path / "a.h5", 1, ["a"], scores=1.03), fps=30)
    assert (recording.confidence == 1).all()
    assert recording.warnings == ("likelihoods above 1 are taken as 1 (4 points)",)
