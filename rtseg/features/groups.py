"""The feature groups, compiled, in the order of their columns. The only place where a feature is computed.

No fastmath: a NaN is a missing point and must stay one. Sums run over points and animals in one fixed order, so that a
frame's bits do not depend on the batch it comes in. `tests/naive.py` holds the slow, obvious version of every group.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.features.relink import F32, distance
from rtseg.features.tables import GROUP, RULE, FeaturePlan, Memory

# cache=False here and below: these functions are compiled into kernels of other files, whose stamps name this file
# (`compiled.cache_stamps`).
X, Y, COS, SIN, EXTENSION, SPEED, SCALE = range(7)
"""An animal's body: center, heading, extension, speed at the first lag, and px of the stream for one of training."""
SHORTEST_PX = 1e-3
"""In training's px: what is shorter has no direction."""


@njit(cache=False)
def _back(state: Memory, slot: int, frames: int) -> int:
    """Where in the ring the points of `frames` frames ago lie; fewer than the ring is deep."""
    depth = state.past.shape[1]
    place = state.frames[slot] % depth - frames
    return int(place + depth if place < 0 else place)


@njit(cache=False)
def describe_body(points: F32, plan: FeaturePlan, body: F32) -> None:
    """Center, heading and extension of one animal from its points (K, 2); paper, section III.G.

    body: (7,), see X; its speed and scale are left as they are.
    """
    x = y = 0.0
    seen = 0
    for k in range(points.shape[0]):
        # Looking at x is enough: validation makes both coordinates NaN or neither (`frames.frame.clean`).
        if not math.isnan(points[k, 0]):
            x += points[k, 0]
            y += points[k, 1]
            seen += 1
    if seen == 0:
        body[:SPEED] = np.nan
        return
    x /= seen
    y /= seen
    extension = 0.0
    for k in range(points.shape[0]):
        if not math.isnan(points[k, 0]):
            extension += math.sqrt((points[k, 0] - x) ** 2 + (points[k, 1] - y) ** 2)
    body[X], body[Y], body[EXTENSION] = x, y, extension / seen
    # Where one end of the axis is missing the center takes its place.
    rear, front = int(plan.rule[RULE.rear_keypoint]), int(plan.rule[RULE.front_keypoint])
    rx, ry, fx, fy = x, y, x, y
    if not math.isnan(points[rear, 0]):
        rx, ry = points[rear, 0], points[rear, 1]
    if not math.isnan(points[front, 0]):
        fx, fy = points[front, 0], points[front, 1]
    length = math.sqrt((fx - rx) ** 2 + (fy - ry) ** 2)
    # An axis shorter than that has no direction: NaN rather than noise of full length.
    if length > SHORTEST_PX * body[SCALE]:
        body[COS], body[SIN] = (fx - rx) / length, (fy - ry) / length
    else:
        body[COS] = body[SIN] = np.nan


@njit(cache=False)
def velocity(state: Memory, slot: int, a: int, back: int, lag: int, fps: float) -> tuple[float, float]:
    """Mean displacement over `lag` frames, ending `back` frames ago, of the points known at both ends; px/s.

    NaN for a stream's first `back` + `lag` frames. Causal: a central difference would look at the frame that follows.
    """
    # `frames` counts the frames before this one: no step further back than that is within the stream.
    if state.frames[slot] < back + lag:
        return np.nan, np.nan
    late, early = _back(state, slot, back), _back(state, slot, back + lag)
    x = y = 0.0
    seen = 0
    # Of the points, not of the centers: a center jumps when a point comes or goes, though nothing moved.
    for k in range(state.past.shape[3]):
        dx = state.past[slot, late, a, k, 0] - state.past[slot, early, a, k, 0]
        dy = state.past[slot, late, a, k, 1] - state.past[slot, early, a, k, 1]
        if not math.isnan(dx):
            x += dx
            y += dy
            seen += 1
    if seen == 0:
        return np.nan, np.nan
    # One division for both: from px a frame of each point to px/s of their mean.
    scale = fps / (lag * seen)
    return x * scale, y * scale


@njit(cache=False)
def _overlap(one: F32, two: F32) -> float:
    """Area in which two animals' bounding boxes (of their known points) intersect, px^2; NaN where one has no point.

    Paper, section III.F.
    """
    x0 = y0 = -np.inf
    x1 = y1 = np.inf
    for points in (one, two):
        left = top = np.inf
        right = bottom = -np.inf
        for k in range(points.shape[0]):
            if not math.isnan(points[k, 0]):
                left, right = min(left, points[k, 0]), max(right, points[k, 0])
                top, bottom = min(top, points[k, 1]), max(bottom, points[k, 1])
        # No point was known: the ends are as they began.
        if left > right:
            return np.nan
        x0, x1 = max(x0, left), min(x1, right)
        y0, y1 = max(y0, top), min(y1, bottom)
    # Boxes that lie apart have a negative width or height, two of which would give a positive area.
    return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


@njit(cache=False)
def _speed_windows(speeds: F32, windows: NDArray[np.int64], recent: F32, frame: int, out: F32, at: int) -> int:
    """Mean and largest of each speed (n,) over each window of frames, into out from `at` on; where that ends.

    Of the known speeds of a window that ends with this frame; NaN where it has none. recent: (longest window, n) ring.
    """
    depth = recent.shape[0]
    now = frame % depth
    for i in range(len(speeds)):
        recent[now, i] = speeds[i]
        # Summed up anew at every frame, from the newest back: a running sum would keep its errors, and would not be the
        # same number wherever in the ring the frame lies.
        total, largest, known, back = 0.0, -np.inf, 0, 0
        for frames in windows:
            # Windows rise: a longer one goes on where the shorter one ended. Before the stream's first frame lies NaN.
            while back < frames:
                speed = recent[now - back if now >= back else now - back + depth, i]
                if not math.isnan(speed):
                    total += speed
                    largest = max(largest, speed)
                    known += 1
                back += 1
            out[at], out[at + 1] = np.nan, np.nan
            if known > 0:
                out[at], out[at + 1] = total / known, largest
            at += 2
    return at


@njit(cache=False)
def paper_groups(points: F32, body: F32, plan: FeaturePlan, state: Memory, slot: int, out: F32) -> int:
    """position .. extension: the paper's section III."""
    on, at = plan.enabled, 0
    n_animals, n_points = points.shape[0], points.shape[1]
    # Relative to the middle of the box, so that a camera that was moved together with its box changes nothing.
    arena = state.arena[slot]
    mid_x, mid_y = (arena[0] + arena[2]) / 2, (arena[1] + arena[3]) / 2
    if on[GROUP.position]:
        for a in range(n_animals):
            for k in range(n_points):
                out[at] = points[a, k, 0] - mid_x
                out[at + 1] = points[a, k, 1] - mid_y
                at += 2
    # Every pair once: a distance has no direction.
    if on[GROUP.within_distance]:
        for a in range(n_animals):
            for i in range(n_points):
                for j in range(i + 1, n_points):
                    out[at] = distance(points[a, i], points[a, j])
                    at += 1
    # All K x K: from one's nose to the other's tail is not from that one's nose to this one's tail.
    if on[GROUP.between_distance]:
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                for i in range(n_points):
                    for j in range(n_points):
                        out[at] = distance(points[a, i], points[b, j])
                        at += 1
    if on[GROUP.speed]:
        n_lags = len(plan.lags)
        for i in range(n_lags):
            lag = plan.lags[i]
            # In a stream's first frames there is no frame so far back: what lies here is looked up and not used.
            before = state.past[slot, _back(state, slot, lag)]
            for a in range(n_animals):
                for k in range(n_points):
                    to = at + (a * n_points + k) * n_lags + i
                    # Points' lags lie side by side, as `spec` names them; the loop runs over lags outside, to look up
                    # the ring once.
                    out[to] = np.nan
                    if state.frames[slot] >= lag:
                        out[to] = distance(points[a, k], before[a, k]) * plan.rule[RULE.fps] / lag
        speeds, at = out[at : at + n_animals * n_points * n_lags], at + n_animals * n_points * n_lags
        if len(plan.windows) > 0:
            at = _speed_windows(speeds, plan.windows, state.speeds[slot], state.frames[slot], out, at)
    if on[GROUP.box_overlap]:
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                out[at] = _overlap(points[a], points[b])
                at += 1
    if on[GROUP.center]:
        for a in range(n_animals):
            out[at] = body[a, X] - mid_x
            out[at + 1] = body[a, Y] - mid_y
            at += 2
    if on[GROUP.extension]:
        for a in range(n_animals):
            out[at] = body[a, EXTENSION]
            at += 1
    return at


@njit(cache=False)
def frame_groups(points: F32, body: F32, plan: FeaturePlan, out: F32, at: int) -> int:
    """egocentric_self .. relative_angle: one frame seen from an animal (x along its heading, y across)."""
    on = plan.enabled
    n_animals, n_points = points.shape[0], points.shape[1]
    # Two groups that differ only in whose points are seen: first each animal's own, then every other one's.
    for other in range(2):
        if not on[GROUP.egocentric_self + other]:
            continue
        for a in range(n_animals):
            for b in range(n_animals):
                if (a == b) == (other == 1):
                    continue
                for k in range(n_points):
                    dx, dy = points[b, k, 0] - body[a, X], points[b, k, 1] - body[a, Y]
                    # Turned back by the animal's heading; NaN where it has none, and so is what follows from it.
                    out[at] = dx * body[a, COS] + dy * body[a, SIN]
                    out[at + 1] = dy * body[a, COS] - dx * body[a, SIN]
                    at += 2
    if on[GROUP.heading]:
        for a in range(n_animals):
            out[at] = body[a, SIN]
            out[at + 1] = body[a, COS]
            at += 2
    if on[GROUP.relative_angle]:
        for a in range(n_animals):
            for b in range(n_animals):
                if a != b:
                    dx, dy = body[b, X] - body[a, X], body[b, Y] - body[a, Y]
                    # Two centers may coincide.
                    length = math.sqrt(dx * dx + dy * dy) + SHORTEST_PX * body[a, SCALE]
                    out[at] = (dy * body[a, COS] - dx * body[a, SIN]) / length
                    out[at + 1] = (dx * body[a, COS] + dy * body[a, SIN]) / length
                    at += 2
        for a in range(n_animals):
            for b in range(a + 1, n_animals):
                out[at] = body[a, COS] * body[b, SIN] - body[a, SIN] * body[b, COS]
                out[at + 1] = body[a, COS] * body[b, COS] + body[a, SIN] * body[b, SIN]
                at += 2
    return at


@njit(cache=False)
def _approach(body: F32, a: int, b: int, vx: float, vy: float) -> float:
    """The part of a velocity of animal a that leads towards animal b; px/s, negative where it leads away."""
    dx, dy = body[b, X] - body[a, X], body[b, Y] - body[a, Y]
    return float((vx * dx + vy * dy) / (math.sqrt(dx * dx + dy * dy) + SHORTEST_PX * body[a, SCALE]))


@njit(cache=False)
def motion_groups(
    body: F32, moved: NDArray[np.float64], plan: FeaturePlan, state: Memory, slot: int, out: F32, at: int
) -> int:
    """body_velocity, approach, acceleration: causal differences at several lags. moved: velocities (A, L, 2)."""
    on, fps = plan.enabled, plan.rule[RULE.fps]
    n_animals = body.shape[0]
    if on[GROUP.body_velocity]:
        for a in range(n_animals):
            for i in range(len(plan.lags)):
                vx, vy = moved[a, i, 0], moved[a, i, 1]
                out[at] = vx * body[a, COS] + vy * body[a, SIN]
                out[at + 1] = vy * body[a, COS] - vx * body[a, SIN]
                at += 2
    if on[GROUP.approach]:
        for a in range(n_animals):
            for b in range(n_animals):
                if a != b:
                    for i in range(len(plan.lags)):
                        out[at] = _approach(body, a, b, moved[a, i, 0], moved[a, i, 1])
                        at += 1
    if on[GROUP.acceleration]:
        for a in range(n_animals):
            for i in range(len(plan.lags)):
                lag = plan.lags[i]
                # The velocity one lag ago reaches two lags back, which is why the ring is twice as deep as a lag.
                wx, wy = velocity(state, slot, a, lag, lag, fps)
                # The two velocities are one lag apart, each over one lag.
                ax, ay = (moved[a, i, 0] - wx) * fps / lag, (moved[a, i, 1] - wy) * fps / lag
                out[at] = ax * body[a, COS] + ay * body[a, SIN]
                out[at + 1] = ay * body[a, COS] - ax * body[a, SIN]
                at += 2
    return at


@njit(cache=False)
def _average(value: float, m: int, plan: FeaturePlan, state: Memory, slot: int) -> None:
    """Update one signal's exponential averages; a NaN changes nothing.

    The first frames are averaged plainly (weight 1/n) until n passes the time constant, so no start-up bias decays
    through the recording.
    """
    if math.isnan(value):
        return
    # A running average in place of a window: its state is one number, and an error in it decays.
    for h in range(len(plan.decay)):
        state.averaged[slot, m + h] += 1
        weight = max(1.0 - plan.decay[h], 1.0 / state.averaged[slot, m + h])
        state.averages[slot, m + h] += weight * (value - state.averages[slot, m + h])


@njit(cache=False)
def average_groups(
    points: F32,
    body: F32,
    moved: NDArray[np.float64],
    plan: FeaturePlan,
    state: Memory,
    slot: int,
    out: F32,
    at: int,
) -> int:
    """The group `averages`: exponential averages of the signals that say most about a pair.

    Speed and extension of each animal, distance and overlap of each pair, approach of each ordered pair.
    """
    if not plan.enabled[GROUP.averages]:
        return at
    n_animals, horizons, m = body.shape[0], len(plan.decay), 0
    for a in range(n_animals):
        _average(body[a, SPEED], m, plan, state, slot)
        _average(body[a, EXTENSION], m + horizons, plan, state, slot)
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


# Inlined, because LLVM leaves this one as a call: passing a plan and a memory by value takes 0.1 µs a frame.
@njit(cache=False, inline="always")
def visibility_groups(confidence: F32, plan: FeaturePlan, state: Memory, slot: int, out: F32, at: int) -> None:
    """confidence, missing, absence: of every point of a frame (A, K), by the animals' links."""
    on = plan.enabled
    n_animals, n_points = confidence.shape
    if on[GROUP.confidence]:
        for a in range(n_animals):
            for k in range(n_points):
                out[at + k] = confidence[state.links[slot, a], k]
            at += n_points
    if on[GROUP.missing]:
        for a in range(n_animals):
            for k in range(n_points):
                # By age, not by the ring: a point that is held there is missing all the same.
                out[at + k] = 1.0 if state.age[slot, a, k] > 0 else 0.0
            at += n_points
    if on[GROUP.absence]:
        for a in range(n_animals):
            for k in range(n_points):
                # Capped, for the age of a point that was never seen is NEVER.
                out[at + k] = min(state.age[slot, a, k] / plan.rule[RULE.fps], plan.rule[RULE.absence_cap_s])
            at += n_points
