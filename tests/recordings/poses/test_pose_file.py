"""The rules that every reader of poses shares: what is missing, what is refused, and frames that have no row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.poses.pose_file import read_points, recording_from_columns

NAN = np.nan
PATH = Path("a.csv")


def read(x: float, y: float, likelihood: float) -> tuple[list[float], float, list[str]]:
    """One point as it is read, its confidence, and the warnings."""
    # A second frame with a likelihood, so that it is no file without any.
    points, scores, warnings = read_points(
        PATH, np.array([[[[x, y]]], [[[8, 9]]]], np.float32), np.array([[[likelihood]], [[0.5]]], np.float32)
    )
    return points[0, 0, 0].tolist(), float(scores[0, 0, 0]), list(map(str, warnings))


@pytest.mark.parametrize(
    "spelling", [(0, 0, 0), (-1, -1, -1), (-1, -1, 0), (-1, -1, NAN), (0, 0, NAN), (50, 60, -1), (50, 60, -0.5)]
)
def test_every_spelling_of_missing_is_one_rule_and_counted(spelling: tuple[float, float, float]) -> None:
    point, confidence, warnings = read(*spelling)
    assert np.isnan(point).all()
    assert confidence == 0
    assert warnings == [
        "points written as 0, 0 or -1, -1 or with a negative likelihood are taken as missing (1 points)"
    ]


@pytest.mark.parametrize("empty", [(NAN, NAN, NAN), (NAN, NAN, 0), (NAN, 5, 0.9), (NAN, NAN, 0.9)])
def test_an_empty_cell_is_missing_without_a_word(empty: tuple[float, float, float]) -> None:
    point, confidence, warnings = read(*empty)
    assert np.isnan(point).all()
    assert (confidence, warnings) == (0, [])


@pytest.mark.parametrize(
    ("point", "confidence"),
    [((0, 0, 0.9), 0.9), ((-1, -1, 0.9), 0.9), ((-1, 5, 0), 0), ((5, 7, 0), 0), ((0, 5, 0), 0), ((5, 7, NAN), 0)],
)
def test_other_points_are_points(point: tuple[float, float, float], confidence: float) -> None:
    found, score, warnings = read(*point)
    assert found == list(point[:2])
    assert score == pytest.approx(confidence)
    assert warnings == []


def test_a_keypoint_whose_likelihood_is_empty_in_every_frame_has_none() -> None:
    points = np.array([[[[5, 7], [5, 7]]], [[[NAN, NAN], [6, 7]]], [[[0, 0], [0, 0]]]], np.float32)
    scores = np.array([[[NAN, 0.5]], [[NAN, NAN]], [[NAN, 0.5]]], np.float32)
    found, confidence, warnings = read_points(PATH, points, scores)
    assert confidence[:, 0].tolist() == [[1, 0.5], [0, 0], [0, 0.5]]
    assert np.isnan(found[1:, 0, 0]).all()
    assert "keypoints whose likelihood is empty in every frame have confidence 1 wherever they are seen" in warnings[1]
    assert warnings[1].n == 1
    # Of some frames of a longer recording nothing can be said: live, a row has what it has.
    assert read_points(PATH, points, scores, is_whole=False)[1][0, 0].tolist() == [0, 0.5]


def test_scores_a_little_above_1_are_1_and_counted() -> None:
    assert read(5, 7, 1.05) == ([5, 7], 1, ["likelihoods above 1 are taken as 1 (1 points)"])


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((5, 7, 98.3), "expected a likelihood from 0 to 1, got 98.3 (1 such numbers); divide percent by 100"),
        ((1e7, 7, 0.9), "frame 0, animal 0, keypoint 0 (from 0): a coordinate is beyond 1000000 px"),
        ((5, -np.inf, 0.9), "a coordinate is beyond 1000000 px"),
    ],
)
def test_what_the_daemon_refuses_is_refused_offline(point: tuple[float, float, float], words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read(*point)
    assert words in str(error.value)


def columns(*coords: str) -> list[tuple[str, str, str]]:
    return [("a", "nose", coord) for coord in coords]


def test_tracking_that_starts_late_leaves_the_frames_before_it_missing() -> None:
    index, values = np.arange(300, 390), np.full((90, 3), 100, np.float32)
    values[:, 2] = 1
    recording = recording_from_columns(PATH, columns("x", "y", "likelihood"), index, values, (), fps=30, name=None)
    assert len(recording) == 390
    assert np.isnan(recording.keypoints[:300]).all()
    assert (recording.keypoints[300:] == 100).all()
    assert recording.warnings == ("frames before the first tracked one are missing (300 frames)",)
    with pytest.raises(RecordingError, match=r"skip more frames \(5000000\) than there are rows \(90\)"):
        recording_from_columns(PATH, columns("x", "y", "likelihood"), index + 4_999_700, values, (), fps=30, name=None)


def test_one_keypoint_without_a_likelihood_leaves_the_others_theirs() -> None:
    names = [("a", "nose", "x"), ("a", "nose", "y"), *[("a", "tail", c) for c in ("x", "y", "likelihood")]]
    values = np.array([[1, 2, 3, 4, 0.25], [0, 0, 3, 4, 0.5], [-1, -1, 3, 4, 0.75]], np.float32)
    recording = recording_from_columns(PATH, names, np.arange(3), values, (), fps=30, name=None)
    assert recording.confidence[:, 0].tolist() == [[1, 0.25], [0, 0.5], [0, 0.75]]
    assert np.isnan(recording.keypoints[1:, 0, 0]).all()
    assert "keypoints without a likelihood have confidence 1 wherever they are seen (1 keypoints)" in recording.warnings


def test_columns_of_smoothers_are_left_out_and_a_third_dimension_is_refused() -> None:
    values = np.array([[1, 2, 0.5, 9, 9]], np.float32)
    names = columns("x", "y", "likelihood", "x_ens_median", "x_ens_var")
    recording = recording_from_columns(PATH, names, np.arange(1), values, (), fps=30, name=None)
    assert recording.keypoints.tolist() == [[[[1, 2]]]]
    assert recording.warnings == (
        "columns other than x, y and likelihood are left out: x_ens_median, x_ens_var (2 columns)",
    )
    with pytest.raises(RecordingError, match="only 2-D tracks are read"):
        recording_from_columns(PATH, columns("x", "y", "z"), np.arange(1), values[:, :3], (), fps=30, name=None)


@pytest.mark.parametrize("number", [0, -1, -9999, 65535])
def test_numbers_that_may_stand_for_missing_points_are_told(number: float) -> None:
    points = np.random.default_rng(0).uniform(100, 400, (20, 1, 2, 2)).astype(np.float32)
    scores = np.ones((20, 1, 2), np.float32)
    assert read_points(PATH, points, scores)[2] == []
    points[::5, 0, 1] = number
    (warning,) = read_points(PATH, points, scores)[2]
    assert f"exactly at {number:g}, {number:g} with a likelihood above 0" in warning
    assert warning.n == 4
    points[::5, 0, 1] = 250  # an animal that sits on the diagonal
    assert read_points(PATH, points, scores)[2] == []


def test_fractions_of_the_picture_are_told() -> None:
    points = np.random.default_rng(0).uniform(0, 1, (20, 1, 2, 2)).astype(np.float32)
    (warning,) = read_points(PATH, points, np.ones((20, 1, 2), np.float32))[2]
    assert "fractions of the picture" in warning


def test_frames_that_begin_with_1_are_told() -> None:
    columns = [("a", "nose", "x"), ("a", "nose", "y")]
    values = np.array([[5, 6], [7, 8]], np.float32)
    recording = recording_from_columns(PATH, columns, np.array([1, 2]), values, (), fps=30, name=None)
    assert recording.came.tolist() == [1, 2]
    assert "if the file counts from 1, it is a frame late" in recording.warnings[0]


def test_coordinates_that_no_camera_has_are_told() -> None:
    """200.254 becomes 200254 where a spreadsheet takes the point for one of thousands."""
    points = np.random.default_rng(0).uniform(100, 400, (20, 1, 2, 2)).astype(np.float32)
    points[3, 0, 1, 0] = 200254
    (warning,) = read_points(PATH, points, np.ones((20, 1, 2), np.float32))[2]
    assert "beyond 20000 px, which no camera has" in warning
    assert warning.n == 1
