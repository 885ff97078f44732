"""Two bodies that pursue the goals of a plan: inertia, bounded speed, acceleration and turning; bending and stretching.

One compiled loop over frames. All randomness comes in as arrays, because numba's generator is not numpy's and a seed
must give the same mice everywhere. It knows no labels and no tracker: its points are the true ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.simulate.plan import Action, Plan

Float64 = NDArray[np.float64]

ARENA_PX = (1024, 570)
FPS = 30.0
WALL_PX = 40.0
"""A body's centre stays this far inside the arena."""
MAX_SPEED_PX_S = 800.0
MAX_TURN_RAD_S = 10.0
MAX_TURN_ACCELERATION_RAD_S2 = 160.0

ACTION_LIMITS = np.array(
    # top speed px/s, acceleration px/s2, turning rad/s, stretch, bend rad, rearing
    [
        (170, 900, 3.5, 1.00, 0.25, 0.0),  # WANDER
        (14, 500, 1.5, 0.90, 0.20, 0.0),  # REST
        (8, 400, 1.5, 0.76, 0.85, 0.1),  # GROOM
        (190, 900, 3.5, 1.02, 0.15, 0.0),  # WALL
        (230, 1200, 5.0, 1.04, 0.30, 0.0),  # PASS
        (420, 1500, 6.0, 1.08, 0.15, 0.0),  # APPROACH
        (260, 1200, 6.0, 1.00, 0.35, 0.0),  # DISENGAGE
        (230, 1300, 6.0, 1.04, 0.30, 0.0),  # SNIFF_FACE
        (170, 1200, 5.0, 1.00, 0.40, 0.0),  # SNIFF_BODY
        (190, 1200, 5.0, 1.06, 0.30, 0.0),  # SNIFF_REAR
        (260, 1300, 5.0, 1.08, 0.20, 0.0),  # FOLLOW
        (320, 2500, 6.0, 0.88, 0.35, 0.5),  # MOUNT_ATTEMPT
        (170, 1800, 4.0, 0.86, 0.20, 0.2),  # MOUNT
        (120, 1800, 4.0, 0.76, 0.12, 0.4),  # INTROMISSION
        (650, 6000, 10.0, 0.90, 0.70, 0.0),  # ATTACK
        (16, 500, 1.5, 0.80, 0.15, 1.0),  # REAR
        (560, 3500, 8.0, 1.06, 0.20, 0.0),  # FLEE
        (22, 600, 2.0, 0.92, 0.20, 0.0),  # STILL
        (420, 6000, 10.0, 0.85, 0.80, 0.1),  # STRUGGLE
    ],
    np.float64,
)

POSE = ("x", "y", "heading", "velocity_x", "velocity_y", "turning", "bend", "head", "stretch", "rearing")
# Columns of an animal's state: the pose, which is handed out, and then what only the next step needs.
X, Y, HEADING, VX, VY, TURN, BEND, HEAD, STRETCH, REARING = range(10)
WAY_X, WAY_Y, JITTER_X, JITTER_Y, PHASE, SIDE, LAST = range(10, 17)
N_NORMALS, N_UNIFORMS = 5, 4
"""Random numbers that one animal uses in one frame."""

# The actions as plain integers, which compiled code can freeze.
WANDER, WALL, PASS, APPROACH = int(Action.WANDER), int(Action.WALL), int(Action.PASS), int(Action.APPROACH)
DISENGAGE, FLEE, STILL = int(Action.DISENGAGE), int(Action.FLEE), int(Action.STILL)
SNIFF_FACE, SNIFF_BODY, SNIFF_REAR = int(Action.SNIFF_FACE), int(Action.SNIFF_BODY), int(Action.SNIFF_REAR)
FOLLOW, ATTEMPT, MOUNT, INTROMISSION = (
    int(Action.FOLLOW),
    int(Action.MOUNT_ATTEMPT),
    int(Action.MOUNT),
    int(Action.INTROMISSION),
)
ATTACK, STRUGGLE, GROOM, REAR = int(Action.ATTACK), int(Action.STRUGGLE), int(Action.GROOM), int(Action.REAR)


class Motion(NamedTuple):
    """keypoints: (T, 2, 7, 2) float64 px, the true points, not clipped. poses: (T, 2, 10) float64, columns POSE."""

    keypoints: Float64
    poses: Float64


def simulate_motion(rng: np.random.Generator, plan: Plan) -> Motion:
    """The true motion of both bodies under a plan. Size and pace differ from sequence to sequence."""
    n_frames = len(plan.behaviour)
    traits = np.empty((2, 3))
    traits[:, 0] = rng.uniform(0.92, 1.08, 2) * (1.05, 0.97)  # size; residents are the heavier
    traits[:, 1] = rng.uniform(0.75, 1.25, 2)  # pace
    traits[:, 2] = rng.uniform(7.0, 16.0, 2)  # how far the aimed point drifts, px
    normals = rng.standard_normal((n_frames, 2, N_NORMALS))
    uniforms = rng.random((n_frames, 2, N_UNIFORMS))
    keypoints = np.empty((n_frames, 2, 7, 2))
    poses = np.empty((n_frames, 2, len(POSE)))
    integrate_motion(plan.action, plan.style, normals, uniforms, traits, keypoints, poses)
    return Motion(keypoints, poses)


@njit(cache=True)
def integrate_motion(
    action: NDArray[np.int8],
    style: Float64,
    normals: Float64,
    uniforms: Float64,
    traits: Float64,
    keypoints: Float64,
    poses: Float64,
) -> None:
    """Fill keypoints (T, 2, 7, 2) and poses (T, 2, 10) from a plan's action and style and from the random numbers."""
    state = np.zeros((2, 17))
    points = np.zeros((2, 7, 2))
    for i in range(2):
        state[i, X] = 150 + uniforms[0, i, 0] * (ARENA_PX[0] - 300)
        state[i, Y] = 120 + uniforms[0, i, 1] * (ARENA_PX[1] - 240)
        state[i, HEADING] = (uniforms[0, i, 2] - 0.5) * 2 * math.pi
        state[i, STRETCH], state[i, SIDE], state[i, LAST] = 1.0, 1.0, -1.0
        _place_points(state[i], traits[i, 0], points[i])
    for t in range(len(action)):
        for i in range(2):
            _step(i, int(action[t, i]), style[t, i], normals[t, i], uniforms[t, i], traits, state, points)
            # At once, so that the second animal aims at where the first is in this frame.
            _place_points(state[i], traits[i, 0], points[i])
            # Number by number, as in `features.identity._rename`.
            for k in range(points.shape[1]):
                keypoints[t, i, k, 0], keypoints[t, i, k, 1] = points[i, k, 0], points[i, k, 1]
            for part in range(poses.shape[2]):
                poses[t, i, part] = state[i, part]


@njit(cache=True)
def _step(
    i: int,
    action: int,
    style: Float64,
    normals: Float64,
    uniforms: Float64,
    traits: Float64,
    state: Float64,
    points: Float64,
) -> None:
    """Move animal i by one frame."""
    me, other = state[i], state[1 - i]
    dt = 1.0 / FPS
    limits = ACTION_LIMITS[action]
    pace = traits[i, 1] * style[0]
    if me[LAST] != action:
        me[LAST] = action
        me[SIDE] = 1.0 if uniforms[3] < 0.5 else -1.0
        _new_waypoint(me, action, uniforms)
    elif uniforms[2] < 0.012 or math.hypot(me[WAY_X] - me[X], me[WAY_Y] - me[Y]) < 60:
        _new_waypoint(me, action, uniforms)
    if uniforms[3] < 0.03 or (uniforms[3] < 0.15 and (action in (ATTACK, STRUGGLE))):
        me[SIDE] = -me[SIDE]
    for axis in range(2):  # the aimed point drifts: an Ornstein-Uhlenbeck process of about a third of a second
        me[JITTER_X + axis] += -0.1 * me[JITTER_X + axis] + 0.44 * traits[i, 2] * normals[axis]
    me[PHASE] += dt

    goal_x, goal_y, standoff = _goal(action, me, other, points[1 - i], style[1])
    dx, dy = goal_x - points[i, 0, 0], goal_y - points[i, 0, 1]
    reach = math.hypot(dx, dy)
    top = limits[0] * pace
    mounted = action in (ATTEMPT, MOUNT, INTROMISSION)
    if mounted:
        want_vx, want_vy, aim = _mount_velocity(action, me, other, normals, top)
    else:
        aim = math.atan2(goal_y - me[Y], goal_x - me[X])
        if action in (GROOM, REAR, STILL):
            aim = me[HEADING] + 0.4 * normals[2]
        elif action in (ATTACK, STRUGGLE):
            aim += me[SIDE] * 1.2  # they spin about each other
        if action == APPROACH:  # arrive when the plan ends the approach, not before
            top = min(top, max(140.0, (reach - standoff) / max(0.15, style[2] * dt)))
        error = _wrap_angle(aim - me[HEADING])
        # Proportional control along the heading; a small share stays while the body still turns towards its goal.
        want = max(-60.0, min(top, 4.0 * (reach - standoff))) * max(0.08, math.cos(error))
        want_vx, want_vy = want * math.cos(me[HEADING]), want * math.sin(me[HEADING])
        # Bodies push each other apart, except where one is on top of the other.
        gap_x, gap_y = me[X] - other[X], me[Y] - other[Y]
        gap = math.hypot(gap_x, gap_y) + 1e-9
        if gap < 52 and not (other[LAST] == MOUNT or other[LAST] == INTROMISSION or other[LAST] == ATTEMPT):
            push = 3.0 * (52 - gap) * (0.3 if action in (ATTACK, STRUGGLE) else 1.0)
            want_vx += push * gap_x / gap
            want_vy += push * gap_y / gap
    if action in (ATTACK, STRUGGLE):
        want_vx += 190 * normals[3] * pace
        want_vy += 190 * normals[4] * pace
    _update_velocity(me, want_vx, want_vy, limits[1], dt)
    _update_heading(me, _wrap_angle(aim - me[HEADING]), limits[2], dt)
    _advance_position(me, dt)
    _update_pose(me, action, limits, math.atan2(dy, dx), normals[2])


@njit(cache=True)
def _new_waypoint(me: Float64, action: int, uniforms: Float64) -> None:
    x = WALL_PX + uniforms[0] * (ARENA_PX[0] - 2 * WALL_PX)
    y = WALL_PX + uniforms[1] * (ARENA_PX[1] - 2 * WALL_PX)
    if action == WALL:  # a place further along the nearest wall
        if min(me[X], ARENA_PX[0] - me[X]) < min(me[Y], ARENA_PX[1] - me[Y]):
            x = WALL_PX if me[X] < ARENA_PX[0] / 2 else ARENA_PX[0] - WALL_PX
        else:
            y = WALL_PX if me[Y] < ARENA_PX[1] / 2 else ARENA_PX[1] - WALL_PX
    me[WAY_X], me[WAY_Y] = x, y


@njit(cache=True)
def _goal(action: int, me: Float64, other: Float64, points: Float64, standoff: float) -> tuple[float, float, float]:
    """The nose's goal (x, y) and the distance at which it stops, px; points: (7, 2) of the other animal."""
    x, y = me[WAY_X], me[WAY_Y]
    if action == SNIFF_FACE:
        x, y = points[0, 0], points[0, 1]
    elif action == SNIFF_REAR:
        x, y = points[6, 0], points[6, 1]
    elif action == SNIFF_BODY:
        side = 4 if me[SIDE] > 0 else 5
        x, y = 0.5 * (points[3, 0] + points[side, 0]), 0.5 * (points[3, 1] + points[side, 1])
    elif action == FOLLOW:
        x, y = points[6, 0], points[6, 1]
        standoff += 15
    elif action in (APPROACH, PASS, ATTACK, STRUGGLE):
        x, y = other[X], other[Y]
        if action == PASS:
            standoff += 12
    elif action in (DISENGAGE, FLEE):
        gap = math.hypot(me[X] - other[X], me[Y] - other[Y]) + 1e-9
        away_x, away_y = (me[X] - other[X]) / gap, (me[Y] - other[Y]) / gap
        # The sideways part leads along a wall; straight away would end in a corner.
        x = min(max(me[X] + 220 * away_x - 120 * me[SIDE] * away_y, WALL_PX), ARENA_PX[0] - WALL_PX)
        y = min(max(me[Y] + 220 * away_y + 120 * me[SIDE] * away_x, WALL_PX), ARENA_PX[1] - WALL_PX)
        return x, y, 0.0
    else:
        return x, y, 0.0
    return x + me[JITTER_X], y + me[JITTER_Y], standoff


@njit(cache=True)
def _mount_velocity(
    action: int, me: Float64, other: Float64, normals: Float64, top: float
) -> tuple[float, float, float]:
    """Wanted velocity (x, y) and heading of an animal that mounts: behind and above, aligned, thrusting."""
    slack = 2.0 if action == ATTEMPT else 0.5
    aim = other[HEADING] + (0.6 * me[SIDE] if action == ATTEMPT else 0.0) + 0.02 * slack * me[JITTER_X]
    back = 38.0 if action == ATTEMPT else (20.0 if action == INTROMISSION else 28.0)
    x = other[X] - back * math.cos(other[HEADING]) + slack * me[JITTER_X]
    y = other[Y] - back * math.sin(other[HEADING]) + slack * me[JITTER_Y]
    # Thrusts: quick in a mount, slow and long in an intromission, none in an attempt.
    thrust = 0.0
    if action == MOUNT:
        thrust = 70 * math.sin(2 * math.pi * 6.0 * me[PHASE])
    elif action == INTROMISSION:
        thrust = 60 * math.sin(2 * math.pi * 2.2 * me[PHASE])
    vx, vy = 5.0 * (x - me[X]), 5.0 * (y - me[Y])
    speed = math.hypot(vx, vy) + 1e-9
    # The bound holds for the approach alone: the other animal's velocity is added after it, or the mount would slip.
    scale = min(1.0, max(top, 120.0) / speed)
    vx = vx * scale + other[VX] + thrust * math.cos(me[HEADING])
    vy = vy * scale + other[VY] + thrust * math.sin(me[HEADING])
    return vx, vy, aim


@njit(cache=True)
def _update_velocity(me: Float64, want_vx: float, want_vy: float, limit: float, dt: float) -> None:
    dvx, dvy = want_vx - me[VX], want_vy - me[VY]
    change = math.hypot(dvx, dvy) + 1e-9
    scale = min(1.0, limit * dt / change)
    me[VX] += dvx * scale
    me[VY] += dvy * scale
    scale = min(1.0, MAX_SPEED_PX_S / (math.hypot(me[VX], me[VY]) + 1e-9))
    me[VX] *= scale
    me[VY] *= scale


@njit(cache=True)
def _update_heading(me: Float64, error: float, limit: float, dt: float) -> None:
    want = max(-limit, min(limit, 6.0 * error))
    # The turning speed has inertia of its own; without it headings would jump where the goal changes.
    most = MAX_TURN_ACCELERATION_RAD_S2 * dt
    me[TURN] += max(-most, min(most, want - me[TURN]))
    me[TURN] = max(-MAX_TURN_RAD_S, min(MAX_TURN_RAD_S, me[TURN]))
    me[HEADING] = _wrap_angle(me[HEADING] + me[TURN] * dt)


@njit(cache=True)
def _advance_position(me: Float64, dt: float) -> None:
    for axis in range(2):
        high = ARENA_PX[axis] - WALL_PX
        me[X + axis] += me[VX + axis] * dt
        if me[X + axis] < WALL_PX or me[X + axis] > high:  # a wall stops the motion towards it
            me[X + axis] = min(max(me[X + axis], WALL_PX), high)
            me[VX + axis] = 0.0


@njit(cache=True)
def _update_pose(me: Float64, action: int, limits: Float64, look: float, noise: float) -> None:
    """Bend, head, stretch and rearing follow what the action asks for within a few frames."""
    bend = 0.10 * me[TURN] + 0.3 * limits[4] * noise
    head = _wrap_angle(look - me[HEADING])
    speed = math.hypot(me[VX], me[VY])
    if action == GROOM:
        bend = me[SIDE] * limits[4]
        head = me[SIDE] * (0.8 + 0.35 * math.sin(2 * math.pi * 4.0 * me[PHASE]))
    elif action == REAR:
        head = 0.7 * math.sin(2 * math.pi * 0.7 * me[PHASE])
    elif action == STILL:
        head = 0.4 * math.sin(2 * math.pi * 0.3 * me[PHASE])
    bend += 0.0012 * min(speed, 300) * math.sin(2 * math.pi * 3.5 * me[PHASE])  # gait
    me[BEND] += 0.25 * (max(-1.0, min(1.0, bend)) - me[BEND])
    me[HEAD] += 0.25 * (max(-0.9, min(0.9, head)) - me[HEAD])
    stretch = limits[3] + 0.0002 * min(speed, 400)
    me[STRETCH] += 0.2 * (stretch + 0.04 * noise - me[STRETCH])
    me[REARING] += 0.18 * (limits[5] - me[REARING])


@njit(cache=True)
def _place_points(me: Float64, size: float, points: Float64) -> None:
    """The seven points (7, 2) of one body, in MICE7's order; y points down, so left is at -90 degrees."""
    flat = 1.0 - 0.5 * me[REARING]  # seen from above, a rearing animal is shorter
    half = 40.0 * size * me[STRETCH]
    front, rear = me[HEADING] + 0.5 * me[BEND], me[HEADING] - 0.5 * me[BEND]
    neck_x, neck_y = me[X] + half * flat * math.cos(front), me[Y] + half * flat * math.sin(front)
    tail_x, tail_y = me[X] - half * math.cos(rear), me[Y] - half * math.sin(rear)
    gaze = front + me[HEAD]
    reach, ear, wide = 38.0 * size * flat, 14.0 * size, 15.0 * size * (1.15 - 0.3 * (me[STRETCH] - 0.9))
    points[0, 0], points[0, 1] = neck_x + reach * math.cos(gaze), neck_y + reach * math.sin(gaze)
    points[3, 0], points[3, 1] = neck_x, neck_y
    points[6, 0], points[6, 1] = tail_x, tail_y
    for k in range(2):
        sign = -1.0 if k == 0 else 1.0
        across = gaze + sign * 0.5 * math.pi
        points[1 + k, 0] = neck_x + 0.35 * reach * math.cos(gaze) + ear * math.cos(across)
        points[1 + k, 1] = neck_y + 0.35 * reach * math.sin(gaze) + ear * math.sin(across)
        across = rear + sign * 0.5 * math.pi
        points[4 + k, 0] = tail_x + 0.5 * half * math.cos(rear) + wide * math.cos(across)
        points[4 + k, 1] = tail_y + 0.5 * half * math.sin(rear) + wide * math.sin(across)


@njit(cache=True)
def _wrap_angle(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
