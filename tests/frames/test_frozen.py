"""A tracker that repeats one frame for ever: flagged from the stated time on; what moves or is absent is not."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rtseg.frames.frozen import WHOLE_PIXELS, FrozenState, flag_frozen, init_state, reset

FLAG = 512
POSES = np.array(
    [[[[1, 2], [3, 4]]], [[[1, 2], [np.nan] * 2]], [[[1, 2], [3, 4.0001]]], [[[np.nan] * 2] * 2]], np.float32
)
"""Four frames of one animal with two points: whole, one point missing, a little elsewhere, and without any point."""
ABSENT = 3


def flags(frames: NDArray[np.float32], limit: float, state: FrozenState | None = None) -> list[bool]:
    quality = np.zeros(len(frames), np.int32)
    slots = np.zeros(len(frames), np.int32)
    flag_frozen(frames, slots, state or init_state(1, frames.shape[1:3]), limit, FLAG, quality)
    return (quality == FLAG).tolist()


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(st.integers(0, ABSENT), st.integers(1, 8)), min_size=1, max_size=8), st.integers(1, 6))
def test_a_frame_is_flagged_once_it_was_repeated_often_enough(stretches: list[tuple[int, int]], limit: int) -> None:
    shown = [pose for pose, length in stretches for _ in range(length)]
    expected, last, repeats = [], None, 0
    for pose in shown:  # frames without any point neither repeat nor end what was repeated
        if pose == ABSENT:
            expected.append(False)
            continue
        repeats = repeats + 1 if pose == last else 0
        last = pose
        expected.append(repeats >= limit)
    assert flags(POSES[shown], limit) == expected
    assert flags(POSES[shown], math.inf) == [False] * len(shown)


def test_all_animals_must_stand_still() -> None:
    frames = np.ones((5, 2, 3, 2), np.float32)
    assert flags(frames, 3) == [False] * 3 + [True] * 2
    frames[:, 1, 2, 1] += np.arange(5) % 2 * np.float32(1e-6)
    assert flags(frames, 3) == [False] * 5


def test_one_point_an_animal_in_whole_pixels_may_stand_still_for_longer() -> None:
    frames = np.full((3 * WHOLE_PIXELS + 2, 2, 1, 2), 7, np.float32)
    assert flags(frames, 3).index(True) == 3 * WHOLE_PIXELS
    assert flags(frames + np.float32(0.25), 3).index(True) == 3


def test_slots_remember_their_own_and_forget_when_reset() -> None:
    state = init_state(2, (1, 2))
    assert flags(POSES[[0, 0]], 2, state) == [False] * 2
    quality = np.zeros(2, np.int32)
    flag_frozen(POSES[[0, 0]], np.array([1, 0], np.int32), state, 2, FLAG, quality)
    assert quality.tolist() == [0, FLAG]
    reset(state, 0)
    assert flags(POSES[[0, 0]], 2, state) == [False] * 2
