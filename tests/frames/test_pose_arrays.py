"""What trackers give for one frame: with and without likelihoods, and without the axis of a single animal."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.errors import FrameError
from rtseg.frames.pose_arrays import split_pose

POSE = np.arange(2 * 4 * 3, dtype=np.float64).reshape(2, 4, 3)


@pytest.mark.parametrize("animals", [1, 2])
def test_likelihoods_are_taken_apart(animals: int) -> None:
    points, scores = split_pose(POSE[:animals], None, (animals, 4))
    np.testing.assert_array_equal(points, POSE[:animals, :, :2])
    np.testing.assert_array_equal(scores, POSE[:animals, :, 2])
    assert split_pose(POSE[:animals, :, :2].tolist(), None, (animals, 4))[1] is None


def test_one_animal_needs_no_axis_of_its_own() -> None:
    points, scores = split_pose(POSE[0], None, (1, 4))  # as DeepLabCut-Live gives it
    np.testing.assert_array_equal(points, POSE[:1, :, :2])
    np.testing.assert_array_equal(scores, POSE[:1, :, 2])
    points, scores = split_pose(POSE[0, :, :2], POSE[0, :, 2], (1, 4))
    np.testing.assert_array_equal(points, POSE[:1, :, :2])
    np.testing.assert_array_equal(scores, POSE[:1, :, 2])


def test_what_is_no_such_array_is_left_to_who_takes_it() -> None:
    assert np.shape(split_pose(POSE[0], None, (2, 4))[0]) == (4, 3)
    assert np.shape(split_pose(POSE, None, (2, 3))[0]) == (2, 4, 3)
    with pytest.raises(FrameError, match="hold the confidence already"):
        split_pose(POSE, POSE[..., 2], (2, 4))
