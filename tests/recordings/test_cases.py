"""Files that laboratories reported, each with the value that is right; where they are at hand.

They are copies of what the tests beside the readers write themselves, and lie outside the repository.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError, SettingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.open import read_labels, read_recording

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cases() -> Path:
    root = Path(os.environ.get("RTSEG_CASES", REPO.parent / "shared" / "cases"))
    if not root.is_dir():
        pytest.skip(f"no reported files at {root} (set RTSEG_CASES to the folder that holds reading and lab)")
    return root


SNIFF_CHASE_GROOM = {"sniff": [(30, 90)], "chase": [(90, 150)], "groom": [(240, 375)]}
A = {f"A:{behaviour}": some for behaviour, some in SNIFF_CHASE_GROOM.items()}


@pytest.mark.parametrize(
    ("file", "n_frames", "fps", "expected"),
    [
        ("reading/boris_time_offset.csv", 600, 30, A),
        ("reading/boris_semicolons.csv", 600, 30, A),
        ("reading/boris_fps25.csv", 600, 30, A),
        ("reading/boris_binary_table_100ms.csv", 600, 30, SNIFF_CHASE_GROOM),
        ("reading/boris_comment_newline.csv", 600, 30, {"A:a": [(30, 90)]}),
        ("reading/boris_modifiers_overlap.csv", 600, 30, {"A:contact": [(30, 120)]}),
        ("reading/boris_images_na_time.csv", 600, 30, {"A:sniff": [(30, 90)]}),
        ("reading/bento.annot", 600, 30, {"Ch1:attack": [(90, 156)]}),
        ("reading/labels_floats_01.csv", 90, 30, {"attack": [(0, 30)]}),
        ("reading/labels_unnamed_index.csv", 90, 30, {"attack": [(0, 30)], "sniff": [(30, 60)]}),
        ("reading/labels_fps1.csv", 6, 1, {"labels": [(0, 4)]}),
        ("lab/simba_named_index.csv", 2, 30, {"Attack": [(1, 2)]}),
        ("lab/simba_targets_inserted.csv", 2, 30, {"Attack": [(1, 2)]}),
        ("lab/boris_no_events.csv", 1350, 30, {}),
        ("lab/boris_only_other_subject.csv", 1350, 30, {"juvenile:groom": [(682, 688), (736, 878), (898, 924)]}),
        ("lab/boris_overlapping_behaviours.csv", 1350, 30, {"adult:interact": [(896, 1042), (1258, 1308)]}),
    ],
)
def test_labels_are_the_right_frames(cases: Path, file: str, n_frames: int, fps: float, expected: dict) -> None:
    tracks = read_labels(cases / file, n_frames, fps)
    for name, bouts in expected.items():
        track = tracks[name]
        behaviour = len(track.classes) - 1  # the only one, or the one beside 'other'
        assert [(b.start, b.stop) for b in bouts_of(track.frames) if b.label == behaviour] == bouts
    assert expected or tracks == {}


def test_bouts_of_any_header_are_bouts(cases: Path) -> None:
    track = read_labels(cases / "reading/labels_capital_header.csv", 300, 30)["labels"]
    assert [b[:3] for b in bouts_of(track.frames)] == [(30 * i, 30 * i + 30, i % 2) for i in range(10)]
    own = read_labels(cases / "lab/rtseg_bouts_as_labels.csv", 1500, 30)["social"]
    assert own.classes == ("other", "interact")
    assert [b[:2] for b in bouts_of(own.frames) if b.label == 1][1] == (886, 1050)
    assert own.covered.all()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("reading/boris_two_observations.csv", "holds 2 observations"),
        ("lab/boris_two_observations_aggregated.csv", "holds 2 observations"),
        ("reading/labels_half_rate.csv", "more than 5 s short"),
    ],
)
def test_labels_of_another_video_are_refused(cases: Path, file: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words) as error:
        read_labels(cases / file, 600, 30)
    assert file.split("/")[1] in str(error.value)


def test_an_observation_is_found_by_the_name_of_the_poses(cases: Path) -> None:
    tracks = read_labels(cases / "reading/boris_two_observations.csv", 600, 30, names=["m2DLC_resnet50.csv"])
    assert [b[:2] for b in bouts_of(tracks["A:chase"].frames) if b.label == 0] == [(390, 450)]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("reading/slp_untracked_two_animals.slp", "no instance has a track.*run tracking"),
        ("reading/dlc_blosc.h5", "is compressed with blosc"),
        ("reading/dlc_huge_coordinate.csv", "a coordinate is beyond 1000000 px"),
        ("lab/dlc_cut_off.csv", "the file was cut here"),
    ],
)
def test_poses_that_cannot_be_read_rightly_are_refused(cases: Path, file: str, words: str) -> None:
    with pytest.raises(RecordingError, match=words) as error:
        read_recording(cases / file)
    assert file.split("/")[1] in str(error.value)


def test_absent_animals_are_missing_however_they_are_written(cases: Path) -> None:
    padded = read_recording(cases / "reading/dlc3_minus1_padding.csv")
    empty = read_recording(cases / "reading/dlc3_absent_as_nan.csv")
    np.testing.assert_array_equal(padded.keypoints, empty.keypoints)
    np.testing.assert_array_equal(padded.confidence, empty.confidence)
    assert np.isnan(padded.keypoints[30:60, 1]).all()


def test_tracks_are_in_one_order(cases: Path) -> None:
    first, second = (read_recording(cases / f"reading/sleap_track{i}_first.csv") for i in (0, 1))
    assert first.skeleton == second.skeleton
    np.testing.assert_array_equal(first.keypoints, second.keypoints)


@pytest.mark.parametrize(
    ("file", "shape", "n_missing"),
    [
        ("dlc_starts_at_300.csv", (390, 2, 5), None),
        ("dlc_all_quoted.csv", (40, 2, 5), None),
        ("plain_float_frames.csv", (40, 2, 5), None),
        ("dlc_one_likelihood_missing.csv", (90, 2, 5), None),
        ("dlc_excel_rest_rows.csv", (40, 2, 5), None),
        ("eks_columns.csv", (40, 1, 5), None),
        ("sleap_scores_above_1.analysis.h5", (40, 2, 5), 0),
        ("slp_unused_track.slp", (40, 1, 5), 0),
        ("slp_untracked_correction.slp", (40, 2, 5), 50),
        ("dlc_index_gap_40.csv", (140, 2, 7), 40 * 14),
    ],
)
def test_poses_have_the_right_shape(cases: Path, file: str, shape: tuple[int, ...], n_missing: int | None) -> None:
    recording = read_recording(cases / "reading" / file)
    assert recording.confidence.shape == shape
    assert n_missing is None or np.isnan(recording.keypoints[..., 0]).sum() == n_missing
    assert np.isfinite(recording.keypoints).any()
    assert 0 <= recording.confidence.min() <= recording.confidence.max() <= 1
    if file == "dlc_one_likelihood_missing.csv":
        assert 0 < np.nanmean(recording.confidence[:, 1, 0]) < 1


def test_an_empty_track_is_missing_all_through(cases: Path) -> None:
    recording = read_recording(cases / "reading/sleap_one_empty_track.analysis.h5")
    skeleton = Skeleton(("individual1", "individual2"), recording.skeleton.keypoints)
    both = recording.select(skeleton)
    assert np.isnan(both.keypoints[:, 1]).all()
    assert np.isfinite(both.keypoints[:, 0]).all()


def test_datasets_of_windows_and_of_deeplabcuts_names(cases: Path) -> None:
    assert load_dataset(cases / "reading/dataset_id_star/d.toml").ids("train") == ("v1",)
    with pytest.raises(SettingError, match="no file under"):  # it has no files beside it, and is TOML all the same
        load_dataset(cases / "reading/dataset_bom.toml")
