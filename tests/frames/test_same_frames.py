"""Recordings that share frames are found wherever those stand; those that do not are never named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.frames.same_frames import LEAST_CHANGES, WINDOW_FRAMES, SharedFrames, shared_frames, window_hashes
from tests.checks.scenes import walk


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(WINDOW_FRAMES, 100))
def test_a_stretch_that_two_recordings_share_is_found(before: int, after: int, n_shared: int) -> None:
    shared = walk(0, n_shared)
    one = np.concatenate([walk(1, before), shared])
    two = np.concatenate([shared, walk(2, after)])
    other = walk(3, 200)
    found = shared_frames([window_hashes(points) for points in (one, other, two)])
    assert found == [SharedFrames(0, 2, n_shared)]


def test_missing_points_and_their_bits_hide_nothing() -> None:
    points = walk(0)
    points[5:50, 1] = np.nan
    again = points.copy()
    again[5:50, 1] = -np.float32("nan")
    points[60, 0, 0] = 0.0
    again[60, 0, 0] = -0.0
    assert shared_frames([window_hashes(points), window_hashes(again)]) == [SharedFrames(0, 1, len(points))]


def test_animals_that_lie_still_are_no_shared_frames() -> None:
    still = np.full((500, 2, 2, 2), 7, np.float32)
    assert shared_frames([window_hashes(still), window_hashes(still)]) == []
    blinking = still.copy()
    blinking[::100] += 1
    assert shared_frames([window_hashes(blinking), window_hashes(blinking)]) == []


def test_integer_positions_of_one_point_do_not_meet_by_chance() -> None:
    """As zebrafish trackers write them: whole pixels, small steps, one point."""
    rng = np.random.default_rng(0)
    fish = [np.cumsum(rng.integers(-1, 2, (20_000, 2, 1, 2)), 0).astype(np.float32) % 40 for _ in range(3)]
    assert shared_frames([window_hashes(points) for points in fish]) == []


@pytest.mark.parametrize("n_frames", [0, 1, 2, LEAST_CHANGES, WINDOW_FRAMES - 1])
def test_recordings_shorter_than_a_window(n_frames: int) -> None:
    found = shared_frames([window_hashes(walk(0, n_frames)), window_hashes(walk(0, n_frames))])
    assert len(found) == (n_frames >= 2)
    assert shared_frames([]) == []
    assert shared_frames([window_hashes(walk(0, n_frames)), window_hashes(walk(1, n_frames))]) == []
