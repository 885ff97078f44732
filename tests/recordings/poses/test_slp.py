"""SLEAP's .slp: the real file, instances with and without a track, and damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sleap_io as sio

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_recording
from rtseg.recordings.poses.slp import read_slp
from rtseg.recordings.recording import Recording


def test_the_real_file(data_root: Path) -> None:
    slp = read_slp(data_root / "formats/sleap_single_mouse.slp", fps=30)
    assert slp.keypoints.shape == (101, 1, 14, 2)
    assert slp.skeleton.animals == ("track_0",)
    np.testing.assert_allclose(slp.keypoints[0, 0, 0], [319.14166, 277.00745], rtol=1e-6)
    np.testing.assert_allclose(slp.confidence[0, 0, 0], 0.98784643, rtol=1e-6)


def test_a_cut_file_is_refused(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.slp"
    path.write_bytes((data_root / "formats/sleap_single_mouse.slp").read_bytes()[:3000])
    with pytest.raises(RecordingError, match="cut or damaged"):
        read_slp(path, fps=30)


Placed = tuple[int, str | None, float, float | None]
"""An instance: frame, track, x of its only point, score (None = placed by a person)."""


def write(path: Path, tracks: list[str], instances: list[Placed]) -> Path:
    skeleton = sio.Skeleton(["nose"])
    known = {name: sio.Track(name) for name in tracks}
    video = sio.Video(filename="m1.mp4")
    frames: dict[int, list[sio.Instance]] = {}
    for t, track, x, score in instances:
        point = np.array([[x, 2.0]])
        if score is None:
            made = sio.Instance.from_numpy(point, skeleton=skeleton, track=known.get(track or ""))
        else:
            made = sio.PredictedInstance.from_numpy(
                point, skeleton=skeleton, track=known.get(track or ""), point_scores=np.array([0.5]), score=score
            )
        frames.setdefault(t, []).append(made)
    labelled = [sio.LabeledFrame(video=video, frame_idx=t, instances=some) for t, some in frames.items()]
    labels = sio.Labels(labelled, videos=[video], skeletons=[skeleton], tracks=list(known.values()))
    sio.save_slp(labels, str(path))
    return path


def xs(recording: Recording) -> list[list[float | None]]:
    """x of every frame and animal, None where missing."""
    return [[None if np.isnan(x) else float(x) for x in row] for row in recording.keypoints[:, :, 0, 0]]


def test_tracks_are_in_the_order_of_the_files_list_and_unused_ones_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.slp", ["zoe", "ghost", "adam"], [(0, "adam", 1, 0.9), (0, "zoe", 2, 0.9), (2, "zoe", 3, 0.9)]
    )
    recording = read_slp(path, fps=30)
    assert recording.skeleton.animals == ("zoe", "adam")
    assert recording.listed_animals == ("zoe", "ghost", "adam")
    assert xs(recording) == [[2, 1], [None, None], [3, None]]
    assert recording.came.tolist() == [0, 2]
    assert recording.warnings == (
        "frame indices skip frames, which are taken as never recorded (1 frames)",
        "tracks without points are left out: ghost (1 tracks)",
    )


def test_one_animal_needs_no_track_and_a_person_counts_before_a_prediction(tmp_path: Path) -> None:
    recording = read_slp(
        write(tmp_path / "a.slp", [], [(0, None, 1, 0.9), (1, None, 2, 0.9), (1, None, 3, None)]), fps=30
    )
    assert recording.skeleton.animals == ("animal",)
    assert xs(recording) == [[1], [3]]
    assert recording.confidence[:, 0, 0].tolist() == [0.5, 1]


def test_several_animals_without_tracks_need_tracking(tmp_path: Path) -> None:
    path = write(tmp_path / "a.slp", [], [(0, None, 1, 0.9), (0, None, 2, 0.9), (1, None, 3, 0.9)])
    with pytest.raises(RecordingError, match=r"no instance has a track, and 1 of 2 frames hold several.*run tracking"):
        read_slp(path, fps=30)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    placed: list[Placed] = [(0, "a", 1, 0.9), (0, None, 5, None), (1, "a", 2, 0.3), (1, "a", 3, 0.8), (1, "b", 4, 0.9)]
    recording = read_slp(write(tmp_path / "a.slp", ["a", "b"], placed), fps=30)
    assert xs(recording) == [[1, None], [3, 4]]
    assert recording.warnings == (
        "instances without a track are left out; give them a track in SLEAP (1 instances)",
        "instances beside another one on the same track are left out; correct the tracks in SLEAP (1 instances)",
    )


def test_two_tracks_of_one_name_are_refused_by_file(tmp_path: Path) -> None:
    skeleton, video = sio.Skeleton(["nose"]), sio.Video(filename="m1.mp4")
    tracks = [sio.Track("A"), sio.Track("A")]
    made = [sio.Instance.from_numpy(np.array([[1.0, 2.0]]), skeleton=skeleton, track=track) for track in tracks]
    frame = sio.LabeledFrame(video=video, frame_idx=0, instances=made)
    path = tmp_path / "a.slp"
    sio.save_slp(sio.Labels([frame], videos=[video], skeletons=[skeleton], tracks=tracks), str(path))
    with pytest.raises(RecordingError, match=r"a\.slp: animal names must differ, got A, A; rename them"):
        read_recording(path, fps=30)


def test_frames_labelled_for_training_alone_are_no_recording(tmp_path: Path) -> None:
    placed: list[Placed] = [(t, None, 1.0, None) for t in (0, 40, 90)]
    with pytest.raises(RecordingError, match="holds 3 frames labelled by hand among 91, and no predictions"):
        read_slp(write(tmp_path / "a.slp", [], placed), fps=30)
    every: list[Placed] = [(t, None, 1.0, None) for t in range(3)]
    assert len(read_slp(write(tmp_path / "b.slp", [], every), fps=30)) == 3
