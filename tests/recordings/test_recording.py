"""Recordings matched to a model's skeleton."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtseg.errors import RecordingError, SkeletonError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.recording import Recording


def recording(
    animals: tuple[str, ...], keypoints: tuple[str, ...] = ("nose", "tail"), listed: tuple[str, ...] = ()
) -> Recording:
    """Animal a's points lie at 10 a + k."""
    points = np.empty((2, len(animals), len(keypoints), 2), np.float32)
    points[:] = (10 * np.arange(len(animals))[:, None] + np.arange(len(keypoints)))[..., None]
    return Recording(
        "r", Skeleton(animals, keypoints), points, np.ones(points.shape[:-1], np.float32), 30, "", (), False, listed
    )


def xs(found: Recording) -> list[list[float]]:
    return [[float(x) for x in row] for row in found.keypoints[0, :, :, 0]]


def test_names_decide_and_else_the_order() -> None:
    two = recording(("a", "b"))
    assert xs(two.select(Skeleton(("B", "a"), ("tail", "nose")))) == [[11, 10], [1, 0]]
    assert xs(two.select(Skeleton(("x", "y"), ("nose", "tail")))) == [[0, 1], [10, 11]]
    for wanted in (("a", "y"), ("x",), ("x", "y", "z")):
        with pytest.raises(SkeletonError, match="without a counterpart"):
            two.select(Skeleton(wanted, ("nose", "tail")))


def test_animals_that_the_file_lists_and_never_shows_are_missing() -> None:
    one = recording(("b",), listed=("a", "b"))
    for wanted in (("a", "b"), ("resident", "intruder")):
        found = one.select(Skeleton(wanted, ("nose", "tail")))
        assert np.isnan(found.keypoints[:, 0]).all()
        assert (found.confidence[:, 0] == 0).all()
        np.testing.assert_array_equal(found.keypoints[:, 1], one.keypoints[:, 0])
    assert xs(one.select(Skeleton(("mouse",), ("nose", "tail")))) == [[0, 1]]


def test_animals_that_are_never_seen_are_passed_over_where_the_model_has_fewer() -> None:
    three = recording(("animal0", "animal1", "animal2"))
    three.keypoints[:, 1] = np.nan
    assert xs(three.select(Skeleton(("resident", "intruder"), ("nose", "tail")))) == [[0, 1], [20, 21]]


def test_one_point_for_each_animal_may_come_as_keypoints_of_one() -> None:
    fish = recording(("animal",), ("Fish0", "Fish1"))
    assert xs(fish.select(Skeleton(("fish1", "fish0"), ("centre",)))) == [[1], [0]]
    with pytest.raises(SkeletonError):
        fish.select(Skeleton(("fish1", "fish2"), ("centre",)))


def test_a_recording_is_brought_to_another_scale_where_both_are_known() -> None:
    own = recording(("a", "b"), ("nose", "tail"))
    assert own.at_scale(2.0) is own
    known = replace(own, px_per_mm=4.0)
    assert known.at_scale(None) is known
    half = known.at_scale(2.0)
    np.testing.assert_array_equal(half.keypoints, known.keypoints / 2)
    assert half.px_per_mm == 2.0
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(RecordingError, match="px_per_mm: expected how many px are a mm"):
            replace(own, px_per_mm=wrong)


def test_animals_that_nothing_but_their_order_matches_are_told() -> None:
    two = replace(recording(("mouse1", "mouse2")), source="a.csv")
    points = ("nose", "tail")
    (warning,) = two.select(Skeleton(("resident", "intruder"), points)).warnings
    assert "in the order of the file, mouse1, mouse2 as resident, intruder" in warning
    assert two.select(Skeleton(("mouse2", "mouse1"), points)).warnings == ()
    assert recording(("mouse1",)).select(Skeleton(("resident",), points)).warnings == ()  # which can be no other
