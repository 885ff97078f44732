"""Skeleton and arena from poses: by names, and by the way animals move where names say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from rtseg.frames.skeleton import Skeleton
from rtseg.project.body import is_point_per_animal, mirror_pairs, propose_body
from rtseg.recordings.recording import Recording
from tests.project.scenes import POINTS, walk


def recording(points: np.ndarray, names: Sequence[str], animals: Sequence[str] = ("a", "b")) -> Recording:
    points = points.astype(np.float32)
    known = np.isfinite(points[..., 0]).astype(np.float32)
    return Recording("r", Skeleton(tuple(animals), tuple(names)), points, known, 30.0)


def test_axis_pairs_and_edges_by_name() -> None:
    body = propose_body([recording(walk(600), POINTS)])
    skeleton = body.skeleton
    assert skeleton.axis == ("tail_base", "nose")
    assert skeleton.pairs == (("left_ear", "right_ear"),)
    assert (
        set(map(frozenset, skeleton.edges))
        == {  # the nearest points, and nothing twice
            frozenset(("nose", "left_ear")),
            frozenset(("nose", "right_ear")),
            frozenset(("left_ear", "tail_base")),
        }
        or len(skeleton.edges) == len(POINTS) - 1
    )
    assert body.notes == ()


def test_a_point_that_is_often_missing_gives_no_heading() -> None:
    points = walk(600)
    points[::2, :, 0] = np.nan
    skeleton = propose_body([recording(points, ("neck", "left_ear", "nose", "tail_base"))]).skeleton
    assert skeleton.axis == ("tail_base", "nose")


def test_names_that_say_nothing_leave_it_to_the_motion() -> None:
    skeleton = propose_body([recording(walk(600), ("p1", "p2", "p3", "p4"))]).skeleton
    assert skeleton.axis is not None
    assert skeleton.axis[0] == "p4"  # the tail is behind all others


def test_an_axis_against_the_motion_is_said() -> None:
    body = propose_body([recording(walk(600), ("tail_base", "left_ear", "right_ear", "nose"))])
    assert any("reversed" in note for note in body.notes)


def test_the_arena_holds_the_points_without_the_outliers() -> None:
    points = walk(4000)
    points[7, 0, 0] = 9000.0
    x0, y0, x1, y1 = propose_body([recording(points, POINTS)]).arena
    assert 200 <= x0 <= 240
    assert 100 <= y0 <= 140
    assert 560 <= x1 <= 600
    assert 460 <= y1 <= 500


@pytest.mark.parametrize(
    ("keypoints", "expected"),
    [
        (("Fish0", "Fish1"), True),
        (("ind_1", "ind_2", "ind_3"), True),
        (("tail1", "tail2"), False),
        (("spine_1", "spine_2"), False),
        (("nose", "tail"), False),
        (("Fish0",), False),
    ],
)
def test_one_point_for_each_animal(keypoints: tuple[str, ...], expected: bool) -> None:
    assert is_point_per_animal(Skeleton(("animal",), keypoints)) == expected


def test_points_of_animals_become_animals() -> None:
    points = walk(300, 1)[:, :, :2]
    skeleton = propose_body([recording(points, ("Fish0", "Fish1"), ("animal",))]).skeleton
    assert skeleton == Skeleton(("Fish0", "Fish1"), ("center",))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Left Ear", "Right Ear", "Nose"), (("Left Ear", "Right Ear"),)),
        (("l_paw", "r_paw", "ear.l", "ear.r"), (("l_paw", "r_paw"), ("ear.l", "ear.r"))),
        (("earL", "earR", "tail"), (("earL", "earR"),)),
        (("leftear", "rightear", "left", "tail"), (("leftear", "rightear"),)),
        (("nose", "tail"), ()),
    ],
)
def test_left_and_right(names: tuple[str, ...], expected: tuple[tuple[str, str], ...]) -> None:
    assert mirror_pairs(names) == expected


def test_animals_in_the_names_of_keypoints_are_told() -> None:
    """As SimBA has them in one table."""

    def notes(*names: str) -> tuple[str, ...]:
        points = walk(200, 1)[:, :, np.arange(len(names)) % len(POINTS)].astype(np.float32)
        skeleton = Skeleton(("animal",), names)
        recording = Recording("v", skeleton, points, np.ones(points.shape[:3], np.float32), 30.0)
        return propose_body([recording]).notes

    assert any("2 animals seem to stand in the names" in note for note in notes("Nose_1", "Tail_1", "Nose_2", "Tail_2"))
    for names in (("nose", "spine1", "spine2"), ("spine1", "spine2", "tail1"), ("paw1", "paw2")):
        assert not any("seem to stand" in note for note in notes(*names))
