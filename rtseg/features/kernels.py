"""One causal feature step, compiled. The only place where a feature is computed, live and offline.

`advance` takes N frames in order, each with the slot of its stream; live hands it one frame a stream, offline a whole
recording with the same slot throughout, so both run the same machine code. No fastmath: a NaN is a missing point and
must stay one. Nothing here allocates, raises, logs or reads a clock.

`tests/naive.py` holds the slow, obvious version of every group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.features.relink import F32, distance, relink

NEVER = np.int32(2**30)
"""The age of a point that was never seen."""


class FeaturePlan(NamedTuple):
    """What `advance` is to compute; the same for every stream of a model.

    enabled: (groups,) bool in the order of spec.GROUPS. lags: (L,) int64 frames. decay: (H,) float32, the share that
    an exponential average keeps in a frame. scalars: (8,) float64: fps, hold_frames, absence cap in s, rear and front
    keypoint, whether animals are relinked, by what margin and with what cap in px. orbits: the columns to be sorted,
    orbit after orbit; orbit_ends: where each ends. unsigned: columns of which only the magnitude is kept. All three are
    empty where the animals' order is kept.
    """

    enabled: NDArray[np.bool_]
    lags: NDArray[np.int64]
    decay: F32
    scalars: NDArray[np.float64]
    orbits: NDArray[np.int64]
    orbit_ends: NDArray[np.int64]
    unsigned: NDArray[np.int64]


class Memory(NamedTuple):
    """What a feature step remembers, for S slots.

    past: (S, D, A, K, 2) ring of the effective points (seen, or held where last seen), D = 2 * longest lag + 1.
    held: (S, A, K, 2) where each point was last seen. age: (S, A, K) frames since then. averages: (S, M) and averaged:
    (S, M) frames averaged so far. frames: (S,) frames since the reset. arena: (S, 4) box x0, y0, x1, y1 in px. links:
    (S, A) which of the tracker's animals each animal is.
    """

    past: F32
    held: F32
    age: NDArray[np.int32]
    averages: F32
    averaged: NDArray[np.int32]
    frames: NDArray[np.int64]
    arena: F32
    links: NDArray[np.int32]


@njit(cache=True)
def reset(state: Memory, slot: int) -> None:
    """Start a slot again; its arena box stays."""
    state.past[slot] = np.nan
    state.held[slot] = np.nan
    state.age[slot] = NEVER
    state.averages[slot] = 0.0
    state.averaged[slot] = 0
    state.frames[slot] = 0
    for a in range(state.links.shape[1]):
        state.links[slot, a] = a


@njit(cache=True)
def _plan(rows: NDArray[np.int64]) -> FeaturePlan:
    return FeaturePlan(
        array_tables.bools(rows, 0),
        array_tables.int64s(rows, 1),
        array_tables.floats(rows, 2),
        array_tables.float64s(rows, 3),
        array_tables.int64s(rows, 4),
        array_tables.int64s(rows, 5),
        array_tables.int64s(rows, 6),
    )


@njit(cache=True)
def _memory(rows: NDArray[np.int64]) -> Memory:
    return Memory(
        array_tables.floats_5d(rows, 0),
        array_tables.floats_4d(rows, 1),
        array_tables.int32s_3d(rows, 2),
        array_tables.floats_2d(rows, 3),
        array_tables.int32s_2d(rows, 4),
        array_tables.int64s(rows, 5),
        array_tables.floats_2d(rows, 6),
        array_tables.int32s_2d(rows, 7),
    )


@njit(cache=True)
def advance(
    keypoints: F32,
    confidence: F32,
    slots: NDArray[np.int32],
    plan_at: NDArray[np.int64],
    state_at: NDArray[np.int64],
    out: F32,
) -> None:
    """N frames: keypoints (N, A, K, 2) px, confidence (N, A, K), slots (N,) -> out (N, F). State moves on in place.

    plan_at, state_at: where the arrays of a FeaturePlan and a Memory lie (`rtseg.compiled.array_tables`).
    """
    plan, state = _plan(plan_at), _memory(state_at)
    n_animals, n_points = confidence.shape[1], confidence.shape[2]
    body = np.empty((n_animals, 6), np.float32)  # center x, y, heading cos, sin, extension, speed at the first lag
    moved = np.empty((n_animals, len(plan.lags), 2), np.float64)  # velocity at every lag
    for n in range(len(slots)):
        slot = slots[n]
        if plan.scalars[5] > 0:
            relink(keypoints[n], state.held[slot], state.links[slot], plan.scalars[6], plan.scalars[7], True)
        now = _remember(keypoints[n], slot, plan, state)
        points = state.past[slot, now]
        for a in range(n_animals):
            _body(points[a], plan, body[a])
            for i in range(len(plan.lags)):
                moved[a, i, 0], moved[a, i, 1] = _velocity(state, slot, a, 0, plan.lags[i], plan.scalars[0])
            body[a, 5] = math.sqrt(moved[a, 0, 0] * moved[a, 0, 0] + moved[a, 0, 1] * moved[a, 0, 1])
        at = _paper_groups(points, body, plan, state, slot, out[n])
        at = _frame_groups(points, body, plan, out[n], at)
        at = _motion_groups(body, moved, plan, state, slot, out[n], at)
        at = _averages(points, body, moved, plan, state, slot, out[n], at)
        on = plan.enabled
        if on[15]:
            for a in range(n_animals):
                for k in range(n_points):
                    out[n, at + k] = confidence[n, state.links[slot, a], k]
                at += n_points
        if on[16]:
            for a in range(n_animals):
                for k in range(n_points):
                    out[n, at + k] = 1.0 if state.age[slot, a, k] > 0 else 0.0
                at += n_points
        if on[17]:
            for a in range(n_animals):
                for k in range(n_points):
                    out[n, at + k] = min(state.age[slot, a, k] / plan.scalars[0], plan.scalars[2])
                at += n_points
        _forget_order(plan, out[n])
        state.frames[slot] += 1


@njit(cache=True)
def _forget_order(plan: FeaturePlan, out: F32) -> None:
    """Sort every orbit of columns by value, largest first and NaN last, in place."""
    for column in plan.unsigned:
        out[column] = abs(out[column])
    start = 0
    for end in plan.orbit_ends:
        for i in range(start + 1, end):
            value, j = out[plan.orbits[i]], i
            while j > start:
                before = out[plan.orbits[j - 1]]
                if math.isnan(value) or before >= value:
                    break
                out[plan.orbits[j]] = before
                j -= 1
            out[plan.orbits[j]] = value
        start = end


@njit(cache=True)
def _remember(points: F32, slot: int, plan: FeaturePlan, state: Memory) -> int:
    """Put a frame's points into the ring, held where they are missing; its place in the ring."""
    now = state.frames[slot] % state.past.shape[1]
    hold_frames = plan.scalars[1]
    for a in range(points.shape[0]):
        link = state.links[slot, a]
        for k in range(points.shape[1]):
            # Number by number: numba copies even two of them through a loop over shapes.
            x, y = points[link, k, 0], points[link, k, 1]
            if math.isnan(x):
                state.age[slot, a, k] = min(state.age[slot, a, k] + 1, NEVER)
            else:
                state.age[slot, a, k] = 0
                state.held[slot, a, k, 0], state.held[slot, a, k, 1] = x, y
            if state.age[slot, a, k] <= hold_frames:
                state.past[slot, now, a, k, 0] = state.held[slot, a, k, 0]
                state.past[slot, now, a, k, 1] = state.held[slot, a, k, 1]
            else:
                state.past[slot, now, a, k, 0] = state.past[slot, now, a, k, 1] = np.nan
    return int(now)


@njit(cache=True)
def _back(state: Memory, slot: int, frames: int) -> int:
    """Where in the ring the points of so many frames ago lie, less than its depth."""
    depth = state.past.shape[1]
    place = state.frames[slot] % depth - frames
    return int(place + depth if place < 0 else place)


@njit(cache=True)
def _body(points: F32, plan: FeaturePlan, body: F32) -> None:
    """Center, heading and extension of one animal from its points (K, 2)."""
    x = y = 0.0
    seen = 0
    for k in range(points.shape[0]):
        if not math.isnan(points[k, 0]):
            x += points[k, 0]
            y += points[k, 1]
            seen += 1
    if seen == 0:
        for i in range(5):
            body[i] = np.nan
        return
    x /= seen
    y /= seen
    extension = 0.0
    for k in range(points.shape[0]):
        if not math.isnan(points[k, 0]):
            extension += math.sqrt((points[k, 0] - x) ** 2 + (points[k, 1] - y) ** 2)
    body[0], body[1], body[4] = x, y, extension / seen
    # Where an end of the axis is missing the center stands for it.
    rear, front = int(plan.scalars[3]), int(plan.scalars[4])
    rx, ry, fx, fy = x, y, x, y
    if not math.isnan(points[rear, 0]):
        rx, ry = points[rear, 0], points[rear, 1]
    if not math.isnan(points[front, 0]):
        fx, fy = points[front, 0], points[front, 1]
    length = math.sqrt((fx - rx) ** 2 + (fy - ry) ** 2)
    if length > 1e-3:
        body[2], body[3] = (fx - rx) / length, (fy - ry) / length
    else:
        body[2] = body[3] = np.nan


@njit(cache=True)
def _velocity(state: Memory, slot: int, a: int, back: int, lag: int, fps: float) -> tuple[float, float]:
    """Mean displacement over `lag` frames, ending `back` frames ago, of the points known at both ends; px/s."""
    if state.frames[slot] < back + lag:
        return np.nan, np.nan
    late, early = _back(state, slot, back), _back(state, slot, back + lag)
    x = y = 0.0
    seen = 0
    for k in range(state.past.shape[3]):
        dx = state.past[slot, late, a, k, 0] - state.past[slot, early, a, k, 0]
        dy = state.past[slot, late, a, k, 1] - state.past[slot, early, a, k, 1]
        if not math.isnan(dx):
            x += dx
            y += dy
            seen += 1
    if seen == 0:
        return np.nan, np.nan
    scale = fps / (lag * seen)
    return x * scale, y * scale


@njit(cache=True)
def _overlap(one: F32, two: F32) -> float:
    """Area in which two animals' bounding boxes (of their known points) intersect; NaN where one has no point."""
    x0 = y0 = -np.inf
    x1 = y1 = np.inf
    for points in (one, two):
        left = top = np.inf
        right = bottom = -np.inf
        for k in range(points.shape[0]):
            if not math.isnan(points[k, 0]):
                left, right = min(left, points[k, 0]), max(right, points[k, 0])
                top, bottom = min(top, points[k, 1]), max(bottom, points[k, 1])
        if left > right:
            return np.nan
        x0, x1 = max(x0, left), min(x1, right)
        y0, y1 = max(y0, top), min(y1, bottom)
    return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


@njit(cache=True)
def _paper_groups(points: F32, body: F32, plan: FeaturePlan, state: Memory, slot: int, out: F32) -> int:
    """position .. extension: the paper's section III."""
    on, at = plan.enabled, 0
    n_animals, n_points = points.shape[0], points.shape[1]
    arena = state.arena[slot]
    mid_x, mid_y = (arena[0] + arena[2]) / 2, (arena[1] + arena[3]) / 2
    if on[0]:
        for a in range(n_animals):
            for k in range(n_points):
                out[at] = points[a, k, 0] - mid_x
                out[at + 1] = points[a, k, 1] - mid_y
                at += 2
    if on[1]:
        for a in range(n_animals):
            for i in range(n_points):
                for j in range(i + 1, n_points):
                    out[at] = distance(points[a, i], points[a, j])
                    at += 1
    if on[2]:
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                for i in range(n_points):
                    for j in range(n_points):
                        out[at] = distance(points[a, i], points[b, j])
                        at += 1
    if on[3]:
        n_lags = len(plan.lags)
        for i in range(n_lags):
            lag = plan.lags[i]
            before = state.past[slot, _back(state, slot, lag)]
            for a in range(n_animals):
                for k in range(n_points):
                    to = at + (a * n_points + k) * n_lags + i
                    out[to] = np.nan
                    if state.frames[slot] >= lag:
                        out[to] = distance(points[a, k], before[a, k]) * plan.scalars[0] / lag
        at += n_animals * n_points * n_lags
    if on[4]:
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                out[at] = _overlap(points[a], points[b])
                at += 1
    if on[5]:
        for a in range(n_animals):
            out[at] = body[a, 0] - mid_x
            out[at + 1] = body[a, 1] - mid_y
            at += 2
    if on[6]:
        for a in range(n_animals):
            out[at] = body[a, 4]
            at += 1
    return at


@njit(cache=True)
def _frame_groups(points: F32, body: F32, plan: FeaturePlan, out: F32, at: int) -> int:
    """egocentric_self .. relative_angle: one frame seen from an animal (x along its heading, y across)."""
    on = plan.enabled
    n_animals, n_points = points.shape[0], points.shape[1]
    for other in range(2):  # first each animal in its own frame, then in every other's
        if not on[7 + other]:
            continue
        for a in range(n_animals):
            for b in range(n_animals):
                if (a == b) == (other == 1):
                    continue
                for k in range(n_points):
                    dx, dy = points[b, k, 0] - body[a, 0], points[b, k, 1] - body[a, 1]
                    out[at] = dx * body[a, 2] + dy * body[a, 3]
                    out[at + 1] = dy * body[a, 2] - dx * body[a, 3]
                    at += 2
    if on[9]:
        for a in range(n_animals):
            out[at] = body[a, 3]
            out[at + 1] = body[a, 2]
            at += 2
    if on[10]:
        for a in range(n_animals):
            for b in range(n_animals):
                if a != b:
                    dx, dy = body[b, 0] - body[a, 0], body[b, 1] - body[a, 1]
                    length = math.sqrt(dx * dx + dy * dy) + 1e-3
                    out[at] = (dy * body[a, 2] - dx * body[a, 3]) / length
                    out[at + 1] = (dx * body[a, 2] + dy * body[a, 3]) / length
                    at += 2
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                out[at] = body[a, 2] * body[b, 3] - body[a, 3] * body[b, 2]
                out[at + 1] = body[a, 2] * body[b, 2] + body[a, 3] * body[b, 3]
                at += 2
    return at


@njit(cache=True)
def _approach(body: F32, a: int, b: int, vx: float, vy: float) -> float:
    """The part of a velocity of animal a that leads towards animal b; px/s."""
    dx, dy = body[b, 0] - body[a, 0], body[b, 1] - body[a, 1]
    return float((vx * dx + vy * dy) / (math.sqrt(dx * dx + dy * dy) + 1e-3))


@njit(cache=True)
def _motion_groups(
    body: F32, moved: NDArray[np.float64], plan: FeaturePlan, state: Memory, slot: int, out: F32, at: int
) -> int:
    """body_velocity, approach, acceleration: causal differences at several lags. moved: velocities (A, L, 2)."""
    on, fps = plan.enabled, plan.scalars[0]
    n_animals = body.shape[0]
    if on[11]:
        for a in range(n_animals):
            for i in range(len(plan.lags)):
                vx, vy = moved[a, i, 0], moved[a, i, 1]
                out[at] = vx * body[a, 2] + vy * body[a, 3]
                out[at + 1] = vy * body[a, 2] - vx * body[a, 3]
                at += 2
    if on[12]:
        for a in range(n_animals):
            for b in range(n_animals):
                if a != b:
                    for i in range(len(plan.lags)):
                        out[at] = _approach(body, a, b, moved[a, i, 0], moved[a, i, 1])
                        at += 1
    if on[13]:
        for a in range(n_animals):
            for i in range(len(plan.lags)):
                lag = plan.lags[i]
                wx, wy = _velocity(state, slot, a, lag, lag, fps)
                ax, ay = (moved[a, i, 0] - wx) * fps / lag, (moved[a, i, 1] - wy) * fps / lag
                out[at] = ax * body[a, 2] + ay * body[a, 3]
                out[at + 1] = ay * body[a, 2] - ax * body[a, 3]
                at += 2
    return at


@njit(cache=True)
def _average(value: float, m: int, plan: FeaturePlan, state: Memory, slot: int) -> None:
    """Move one signal's exponential averages on; a NaN leaves them as they are.

    The first frames are averaged plainly (weight 1/n) until n passes the time constant, so no start-up bias decays
    through the recording.
    """
    if math.isnan(value):
        return
    for h in range(len(plan.decay)):
        state.averaged[slot, m + h] += 1
        weight = max(1.0 - plan.decay[h], 1.0 / state.averaged[slot, m + h])
        state.averages[slot, m + h] += weight * (value - state.averages[slot, m + h])


@njit(cache=True)
def _averages(
    points: F32,
    body: F32,
    moved: NDArray[np.float64],
    plan: FeaturePlan,
    state: Memory,
    slot: int,
    out: F32,
    at: int,
) -> int:
    """averages.

    Speed and extension of each animal, distance and overlap of each pair, approach of each ordered pair.
    """
    if not plan.enabled[14]:
        return at
    n_animals, horizons, m = body.shape[0], len(plan.decay), 0
    for a in range(n_animals):
        _average(body[a, 5], m, plan, state, slot)
        _average(body[a, 4], m + horizons, plan, state, slot)
        m += 2 * horizons
    for a in range(n_animals):
        for b in range(a + 1, n_animals):
            _average(distance(body[a], body[b]), m, plan, state, slot)
            _average(_overlap(points[a], points[b]), m + horizons, plan, state, slot)
            m += 2 * horizons
    for a in range(n_animals):
        for b in range(n_animals):
            if a != b:
                _average(_approach(body, a, b, moved[a, 0, 0], moved[a, 0, 1]), m, plan, state, slot)
                m += horizons
    for i in range(m):
        out[at + i] = state.averages[slot, i] if state.averaged[slot, i] > 0 else np.nan
    return at + m
