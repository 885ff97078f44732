"""Bodies that keep within what a body can do, and show what their plan says."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.simulate.behaviour import AGGRESSIVE, ATTACK, CALM, INVESTIGATION, MOUNT, OTHER
from rtseg.simulate.body import (
    ACTION_LIMITS,
    ARENA_PX,
    FPS,
    HEADING,
    MAX_SPEED_PX_S,
    MAX_TURN_ACCELERATION_RAD_S2,
    MAX_TURN_RAD_S,
    TURN,
    VX,
    WALL_PX,
    Motion,
    X,
    simulate_motion,
)
from rtseg.simulate.plan import INTRUDER, RESIDENT, Action, Plan, draw_plan

ROUNDING = 1e-9


@pytest.fixture(scope="module")
def plan() -> Plan:
    return draw_plan(np.random.default_rng(2), 24_000, CALM, AGGRESSIVE)


@pytest.fixture(scope="module")
def motion(plan: Plan) -> Motion:
    return simulate_motion(np.random.default_rng(3), plan)


def test_every_action_has_its_limits() -> None:
    assert ACTION_LIMITS.shape == (len(Action), 6)
    assert (ACTION_LIMITS[:, 0] <= MAX_SPEED_PX_S).all()
    assert (ACTION_LIMITS[:, 2] <= MAX_TURN_RAD_S).all()


def test_speed_is_bounded_and_bodies_do_move(motion: Motion) -> None:
    step_px = np.linalg.norm(np.diff(motion.poses[:, :, X : X + 2], axis=0), axis=-1)
    assert step_px.max() <= MAX_SPEED_PX_S / FPS + ROUNDING
    assert step_px.max() > 300 / FPS  # some chase
    assert np.median(step_px) < 150 / FPS


def test_acceleration_is_bounded_away_from_walls(plan: Plan, motion: Motion) -> None:
    centre = motion.poses[1:, :, X : X + 2]
    free = ((centre > WALL_PX) & (centre < np.array(ARENA_PX) - WALL_PX)).all(axis=-1)
    change = np.linalg.norm(np.diff(motion.poses[:, :, VX : VX + 2], axis=0), axis=-1)
    limit = ACTION_LIMITS[plan.action[1:], 1] / FPS
    assert (change[free] <= limit[free] + ROUNDING).all()


def test_turning_is_bounded_and_has_inertia(motion: Motion) -> None:
    turned = np.diff(motion.poses[:, :, HEADING], axis=0)
    turned = (turned + np.pi) % (2 * np.pi) - np.pi
    assert np.abs(turned).max() <= MAX_TURN_RAD_S / FPS + ROUNDING
    assert np.abs(np.diff(motion.poses[:, :, TURN], axis=0)).max() <= MAX_TURN_ACCELERATION_RAD_S2 / FPS + ROUNDING


def test_bodies_stay_in_the_arena_and_keep_their_size(motion: Motion) -> None:
    centre = motion.poses[:, :, X : X + 2]
    assert (centre >= WALL_PX).all()
    assert (centre <= np.array(ARENA_PX) - WALL_PX).all()
    trunk = np.linalg.norm(motion.keypoints[:, :, 3] - motion.keypoints[:, :, 6], axis=-1)
    assert trunk.min() > 35
    assert trunk.max() < 120


def test_left_is_left_in_an_image_whose_y_points_down(motion: Motion) -> None:
    points = motion.keypoints[:, :, [1, 2, 4, 5]]
    forward = motion.keypoints[:, :, 3] - motion.keypoints[:, :, 6]
    for left, right in ((0, 1), (2, 3)):
        across = points[:, :, right] - points[:, :, left]
        turn = forward[..., 0] * across[..., 1] - forward[..., 1] * across[..., 0]
        assert (turn > 0).mean() > 0.97  # a head can be turned far


def test_each_behaviour_shows_in_the_bodies(plan: Plan, motion: Motion) -> None:
    """What defines a behaviour, as medians over its frames."""
    action = plan.action[:, RESIDENT]
    nose = motion.keypoints[:, RESIDENT, 0]
    gap = np.linalg.norm(motion.keypoints[:, INTRUDER] - nose[:, None], axis=-1).min(axis=1)
    centre_gap = np.linalg.norm(np.diff(motion.poses[:, :, X : X + 2], axis=1)[:, 0], axis=-1)
    speed = np.linalg.norm(motion.poses[:, RESIDENT, VX : VX + 2], axis=-1)
    turned = np.cos(motion.poses[:, 0, HEADING] - motion.poses[:, 1, HEADING])

    def median(values: np.ndarray, label: int) -> float:
        return float(np.median(values[plan.behaviour == label]))

    assert median(gap, INVESTIGATION) < 35 < 80 < median(gap, OTHER)
    assert median(centre_gap, MOUNT) < 45 < median(centre_gap, INVESTIGATION)
    assert median(turned, MOUNT) > 0.9
    assert median(speed, ATTACK) > 1.5 * median(speed, INVESTIGATION)
    face_gap = np.linalg.norm(motion.keypoints[:, INTRUDER, 0] - nose, axis=-1)
    assert np.median(face_gap[action == Action.SNIFF_FACE]) < np.median(face_gap[action == Action.SNIFF_REAR])
