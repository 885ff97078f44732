"""What the numbers of a message mean."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rtseg.errors import FrameError, SkeletonError
from rtseg.sources.points import ChannelPoints, DeclaredPoints, frame_number

TWO = DeclaredPoints(("a", "b"), ("nose", "tail base"))
ONE = DeclaredPoints(("animal",), ("nose", "tail"))
POSE = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
NAN = math.nan


def test_flat_values_go_animal_by_animal_and_point_by_point() -> None:
    np.testing.assert_array_equal(TWO.from_flat(list(range(12))), POSE)
    np.testing.assert_array_equal(
        DeclaredPoints("a", "xy", has_likelihood=False).from_flat([1, 2, 3, 4]).shape, (1, 2, 2)
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.0] * 11, "expected 12 values .2 x 2 points of x, y, likelihood., got 11"),
        ([1.0] * 11 + ["1.5"], "got '1.5'"),
        ([1.0] * 11 + [True], "got 'True'"),
        ([1.0] * 11 + [None], "got 'None'"),
    ],
)
def test_flat_values_of_another_count_or_kind_are_refused(values: list[object], reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        TWO.from_flat(values)


@pytest.mark.parametrize(
    "pose",
    [
        [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]],
        {"b": {"nose": [6, 7, 8], "tail base": [9, 10, 11]}, "a": {"TailBase": [3, 4, 5], "nose": [0, 1, 2]}},
    ],
    ids=["arrays", "names"],
)
def test_nested_poses(pose: object) -> None:
    np.testing.assert_array_equal(TWO.from_nested(pose), POSE)


@pytest.mark.parametrize(
    "pose",
    [
        [[1, 2, 0.5], None],
        [[[1, 2, 0.5], None]],
        {"nose": [1, 2, 0.5]},
        {"nose": [1, 2, 0.5], "tail": None},
        {"animal": {"nose": [1, 2, 0.5]}},
        [[1, 2, 0.5], [None, None, None]],
    ],
    ids=["K x 3", "1 x K x 3", "names", "null", "animal", "null values"],
)
def test_missing_points_of_one_animal(pose: object) -> None:
    np.testing.assert_array_equal(ONE.from_nested(pose), [[[1, 2, 0.5], [NAN, NAN, NAN]]])


def test_an_animal_that_is_not_seen() -> None:
    seen = [[1, 2, 3], [4, 5, 6]]
    named = {"nose": seen[0], "tail base": seen[1]}
    poses: list[object] = [[None, seen], {"b": named}, {"a": None, "b": named}]
    for pose in poses:
        found = TWO.from_nested(pose)
        assert np.isnan(found[0]).all()
        np.testing.assert_array_equal(found[1], seen)
    assert np.isnan(TWO.from_nested([None, None])).all()
    assert np.isnan(TWO.from_nested({})).all()


@pytest.mark.parametrize(
    ("pose", "reason"),
    [
        ({"a": {"snout": [1, 2, 3]}}, "point 'snout' is not declared; declared are: nose, tail base"),
        ({"c": {"nose": [1, 2, 3]}}, "animal 'c' is not declared; declared are: a, b"),
        ({"a": {"nose": [1, 2, 3], "Nose": [4, 5, 6]}}, "point 'nose' comes twice, the second time as 'Nose'"),
        ({"a": {"nose": [1, 2, 3]}, "A": {"nose": [1, 2, 3]}}, "animal 'a' comes twice, the second time as 'A'"),
        ({"a": None, "A": {"nose": [1, 2, 3]}}, "animal 'a' comes twice, the second time as 'A'"),
        ({"nose": [1, 2, 3]}, "animal 'nose' is not declared"),
        ({"a": {"nose": [1, 2]}}, "point 'nose': expected x, y, likelihood, got 2 values"),
        ({"a": {"nose": "1"}}, "point 'nose': expected x, y, likelihood, got str"),
        ({"a": {"nose": ["1", 2, 3]}}, "point 'nose': expected numbers, got '1'"),
        ({"a": {"nose": [True, 2, 3]}}, "expected numbers, got 'True'"),
        ({"a": {"nose": [10**400, 2, 3]}}, "point 'nose': expected px"),
        ({"a": [1]}, "animal 'a': expected a map of its points, got list"),
        ([[[1, 2, 3]]], "got 1 animals"),
        ([[[1, 2, 3]], [[1, 2, 3]]], "got 1 points for animal 'a'"),
        ("pose", "as a list or a map, got str"),
        (3, "got int"),
        (None, "got NoneType"),
    ],
)  # fmt: skip
def test_poses_that_cannot_be_used(pose: object, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        TWO.from_nested(pose)


def test_names_that_cannot_be_declared() -> None:
    for animals, points in (("a", ("nose", "nose")), ("a", ("nose", "")), (("a", "a"), ("nose",)), (("",), ("nose",))):
        with pytest.raises(SkeletonError):
            DeclaredPoints(animals, points)


@given(arrays.arrays(np.float32, (2, 2, 3), elements=st.floats(width=32)))
def test_a_float32_survives_json_bit_for_bit(pose: np.ndarray) -> None:
    read = TWO.from_nested(json.loads(json.dumps(pose.tolist())))
    np.testing.assert_array_equal(read, pose)
    np.testing.assert_array_equal(np.signbit(read[read == 0]), np.signbit(pose[pose == 0]))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "nose", "x"]), inner),
    max_leaves=20,
)


@given(JSON)
def test_nothing_but_a_frame_error_comes_of_any_json(pose: object) -> None:
    for declared in (ONE, TWO):
        with contextlib.suppress(FrameError):
            assert declared.from_nested(pose).shape == declared.shape


def test_channels_are_found_by_their_labels() -> None:
    points = ChannelPoints(["frame", "b.nose_y", "b.nose_x", "a.nose_x", "a.nose_y", "a.nose_likelihood", "pupil"])
    assert (points.skeleton.animals, points.skeleton.keypoints) == (("b", "a"), ("nose",))
    assert points.left_out == ["pupil"]
    sample = [7.0, 2.0, 1.0, 3.0, 4.0, 0.5, 99.0]
    # Nobody sends the likelihood of b's point: 1 where it is seen.
    np.testing.assert_array_equal(points.pose_of(sample), [[[1, 2, 1]], [[3, 4, 0.5]]])
    assert points.number_of(sample) == 7
    assert points.pose_of([7.0, 0.0, 0.0, 3.0, 4.0, 0.5, 99.0])[0, 0, 2] == 0


def test_labels_of_one_animal() -> None:
    points = ChannelPoints(["left_ear_x", "left_ear_y", "Nose.X", "Nose.Y"])
    assert (points.skeleton.animals, points.skeleton.keypoints) == (("animal",), ("left_ear", "Nose"))
    np.testing.assert_array_equal(points.pose_of([1, 2, NAN, 4]), [[[1, 2], [NAN, 4]]])
    assert points.number_of([1, 2, 3, 4]) is None


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([], "got none"),
        (["", ""], "expected channels named like nose_x"),
        (["a", "b"], "expected channels named like nose_x"),
        (["nose_x", "tail_x", "tail_y"], "point 'nose': expected channels for x and y"),
        (["nose_x", "nose_y", "nose_x"], "channel 'nose_x' comes twice"),
        (["nose_x", "nose_y", "nose_p", "nose_score"], "channel 'nose_score' comes twice"),
        (["a.nose_x", "a.nose_y", "nose_x", "nose_y"], "some channels name an animal"),
        (["nose_x", "nose_y", "ear_likelihood"], "a likelihood, and neither x nor y"),
    ],
)
def test_labels_that_cannot_be_used(labels: list[str], reason: str) -> None:
    with pytest.raises(SkeletonError, match=reason):
        ChannelPoints(labels)


@pytest.mark.parametrize("value", [-1, 1.5, NAN, "3", True, None, 2**63, 2.0**60])
def test_what_is_no_frame_number(value: object) -> None:
    with pytest.raises(FrameError, match="expected a frame's number"):
        frame_number(value)


def test_frame_numbers() -> None:
    assert [frame_number(n) for n in (0, 3.0, 2**63 - 1)] == [0, 3, 2**63 - 1]
