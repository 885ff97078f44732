"""Skeletons: matching a source's names, the mirror, and the way through a manifest."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import SkeletonError
from rtseg.frames.skeleton import MICE7, Skeleton, match_names


@pytest.mark.parametrize(
    "offered",
    [
        ["nose", "left_ear", "tail_base"],
        ["Nose", "leftear", "TailBase"],
        ["NOSE", "Left.Ear", "tail-base"],
        ["tail base", "left ear", "nose"],
        ["spine", "tail_base", "nose", "left_ear", "right_ear"],
    ],
)
def test_names_are_matched_without_case_and_separators(offered: list[str]) -> None:
    found = match_names(["nose", "left_ear", "tail_base"], offered, "keypoints")
    folded = [offered[i].lower().translate({ord(c): None for c in " ._-"}) for i in found]
    assert folded == ["nose", "leftear", "tailbase"]


def test_an_exact_name_wins_over_a_near_one() -> None:
    assert match_names(["nose", "Nose"], ["NOSE", "Nose", "nose"], "keypoints") == [2, 1]


def test_a_name_with_two_counterparts_is_not_guessed() -> None:
    with pytest.raises(SkeletonError, match="without a counterpart: nose"):
        match_names(["nose"], ["Nose", "NOSE"], "keypoints")


def test_nothing_else_is_guessed_and_everything_is_named() -> None:
    with pytest.raises(SkeletonError) as refusal:
        match_names(["nose", "left_ear", "tail"], ["nose", "ear_left", "tailbase"], "keypoints of cage 1")
    text = str(refusal.value)
    assert "keypoints of cage 1 expected: nose, left_ear, tail" in text
    assert "the source has: nose, ear_left, tailbase" in text
    assert "without a counterpart: left_ear, tail." in text


@settings(max_examples=100)
@given(data=st.data())
def test_any_order_of_the_own_names_is_found(data: st.DataObject) -> None:
    offered = data.draw(st.permutations(MICE7.keypoints))
    assert [offered[i] for i in match_names(MICE7.keypoints, offered, "keypoints")] == list(MICE7.keypoints)


names = st.lists(st.text(min_size=1, max_size=6), min_size=2, max_size=8, unique=True)


@settings(max_examples=150)
@given(animals=st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True), keypoints=names, data=st.data())
def test_a_skeleton_survives_json_and_its_mirror_undoes_itself(
    animals: list[str], keypoints: list[str], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(keypoints))
    n_pairs = data.draw(st.integers(0, len(keypoints) // 2))
    pairs = tuple((order[2 * i], order[2 * i + 1]) for i in range(n_pairs))
    edges = tuple(data.draw(st.lists(st.tuples(*[st.sampled_from(keypoints)] * 2), max_size=4)))
    axis = data.draw(st.none() | st.just((order[0], order[1])))
    skeleton = Skeleton(tuple(animals), tuple(keypoints), axis, pairs, edges)
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton
    assert [skeleton.mirror[i] for i in skeleton.mirror] == list(range(len(keypoints)))
    for left, right in pairs:
        assert skeleton.keypoints[skeleton.mirror[skeleton.keypoints.index(left)]] == right


def test_mice7_has_calms21s_points_axis_and_mirror() -> None:
    assert MICE7.shape == (2, 7)
    assert [MICE7.keypoints[i] for i in MICE7.axis_indices] == ["tail_base", "neck"]
    assert [MICE7.keypoints[i] for i in MICE7.mirror] == [
        "nose",
        "right_ear",
        "left_ear",
        "neck",
        "right_hip",
        "left_hip",
        "tail_base",
    ]


def test_without_an_axis_it_runs_from_the_last_point_to_the_first() -> None:
    assert Skeleton(("a",), ("x", "y", "z")).axis_indices == (2, 0)
    assert Skeleton(("a",), ("x",)).axis_indices == (0, 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"animals": ()}, "at least one animal"),
        ({"keypoints": ()}, "at least one keypoint"),
        ({"animals": ("a", "a")}, "animal names must differ"),
        ({"keypoints": ("x", "x")}, "keypoint names must differ"),
        ({"axis": ("x", "tail")}, "'tail' is not one of x, y, z"),
        ({"axis": ("x", "x")}, "twice"),
        ({"pairs": (("x", "w"),)}, "'w' is not one of"),
        ({"edges": (("v", "x"),)}, "'v' is not one of"),
        ({"pairs": (("x", "y"), ("x", "z"))}, "one pair"),
        ({"pairs": (("x", "x"),)}, "one pair"),
    ],
)
def test_what_is_no_skeleton_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SkeletonError, match=says):
        Skeleton(**{"animals": ("a", "b"), "keypoints": ("x", "y", "z"), **change})


@pytest.mark.parametrize(
    "plain",
    [
        None,
        [],
        "mice",
        {},
        {"animals": ["a"]},
        {"animals": "ab", "keypoints": ["x"]},
        {"animals": ["a"], "keypoints": 5},
        {"animals": ["a"], "keypoints": ["x"], "axis": 5},
        {"animals": ["a"], "keypoints": ["x", "y"], "axis": ["x"]},
        {"animals": ["a"], "keypoints": ["x", "y"], "pairs": [["x"]]},
        {"animals": ["a"], "keypoints": ["x", "y"], "pairs": None},
        {"animals": ["a"], "keypoints": ["x", "y"], "colour": "red"},
    ],
)
def test_a_foreign_table_is_a_skeleton_error(plain: Any) -> None:
    with pytest.raises(SkeletonError):
        Skeleton.from_dict(plain)
