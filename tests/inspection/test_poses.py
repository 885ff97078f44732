"""What `rtseg inspect` says of poses: numbers that are known, and oddities that were put in."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.frames.skeleton import Skeleton
from rtseg.inspection.poses import PoseReport, examine_poses
from rtseg.recordings.recording import Recording
from tests.project.scenes import POINTS, walk

SKELETON = Skeleton(("a", "b"), POINTS)


def report(points: np.ndarray, confidence: float = 0.9, skeleton: Skeleton = SKELETON) -> PoseReport:
    points = points.astype(np.float32)
    known = np.isfinite(points[..., 0])
    return examine_poses(Recording("r", skeleton, points, np.where(known, np.float32(confidence), 0), 30.0))


def test_numbers_of_a_clean_recording() -> None:
    found = report(walk(600))
    assert (found.frames, found.fps, found.animals, found.keypoints) == (600, 30.0, ("a", "b"), POINTS)
    assert found.body_length_px == pytest.approx(40, abs=1)  # from tail base to nose
    assert (found.jumps, found.swaps, found.odd) == (0, 0, ())
    assert found.points[0].likelihood == pytest.approx(0.9)
    assert all(point.missing == point.low == 0 for point in found.points)


def test_missing_points_and_animals_are_counted() -> None:
    points = walk(600)
    points[:450, 0, 0] = np.nan
    points[:60, 1] = np.nan
    found = report(points)
    assert found.points[0].missing == 0.75
    assert found.points[1].missing == 0
    assert any("missing in more than half of the frames: a nose 75%" in text for text in found.odd)
    assert any("the whole animal is missing: b 10%" in text for text in found.odd)


def test_a_jump_is_two_steps_and_a_trade_of_names_two_swaps() -> None:
    jumped, traded = walk(600), walk(600)
    jumped[300, 0, 0] += 500
    assert report(jumped).jumps == 2
    traded[200:300] = traded[200:300, ::-1]
    found = report(traded)
    assert found.swaps == 2
    assert any("trade names" in text for text in found.odd)


def test_a_tracker_that_stands_still_is_noticed() -> None:
    points = walk(600)
    points[100:200] = points[100]
    assert any("no point moves at all for more than 2 s, 1 times, for 3.3 s" in text for text in report(points).odd)


def test_one_animal_that_is_found_twice() -> None:
    points = walk(600)
    points[:300, 1] = points[:300, 0] + 1
    assert any("a and b lie on top of each other in 50%" in text for text in report(points).odd)


def test_low_likelihoods_are_said() -> None:
    assert any("a likelihood below 0.3" in text for text in report(walk(100), 0.2).odd)


def test_animals_of_one_point_have_no_length() -> None:
    found = report(walk(100)[:, :, :1], skeleton=Skeleton(("a", "b"), ("center",)))
    assert found.body_length_px is None
    assert found.jumps == 0


def test_poses_without_a_point_have_no_box_and_no_length() -> None:
    found = report(np.full((50, 2, 4, 2), np.nan))
    assert (found.box, found.body_length_px, found.jumps) == (None, None, 0)
    assert found.points[0].likelihood is None
