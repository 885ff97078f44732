"""One causal feature step, compiled: the same machine code live and offline.

`advance` takes N frames in order, each with the slot of its stream; live hands it one frame a stream, offline a whole
recording with the same slot throughout. Nothing here raises, logs or reads a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps
from rtseg.compiled.array_tables import TableRows
from rtseg.features import groups, spec, tables
from rtseg.features import relink as relinking
from rtseg.features.groups import (
    SCALE,
    SPEED,
    average_groups,
    describe_body,
    frame_groups,
    motion_groups,
    paper_groups,
    velocity,
    visibility_groups,
)
from rtseg.features.relink import AS_NEAR, F32, relink
from rtseg.features.tables import NEVER, RULE, FeaturePlan, Memory, open_memory, open_plan


@njit(cache=False)
def _remember(points: F32, slot: int, plan: FeaturePlan, state: Memory) -> int:
    """Put a frame's points into the ring, held where they are missing; its place in the ring."""
    # A ring, so that nothing is shifted: a frame overwrites the one that no lag reaches any more.
    now = state.frames[slot] % state.past.shape[1]
    hold_frames = plan.rule[RULE.hold_frames]
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


@njit(cache=False)
def _sort_orbits(plan: FeaturePlan, out: F32) -> None:
    """Sort every orbit of columns by value, largest first and NaN last, in place; signs of unsigned ones go first.

    What is left does not depend on which animal is called the first. Insertion sort: orbits are a few columns long, and
    it allocates nothing.
    """
    # `turn_sin` changes its sign with the animals' order (`spec._relative_angle`).
    for column in plan.unsigned:
        out[column] = abs(out[column])
    start = 0
    for end in plan.orbit_ends:
        for i in range(start + 1, end):
            value, j = out[plan.orbits[i]], i
            while j > start:
                # Every comparison with NaN is false: a NaN that is being sorted in stays last, and a value moves past a
                # NaN.
                before = out[plan.orbits[j - 1]]
                if math.isnan(value) or before >= value:
                    break
                out[plan.orbits[j]] = before
                j -= 1
            out[plan.orbits[j]] = value
        start = end


@njit(cache=False)
def _divide_lengths(plan: FeaturePlan, scale: float, out: F32) -> None:
    """Every feature as it would be at training's scale, in place: lengths divided by the scale, areas by its square."""
    # Not the points before the features: a running scale that changes from frame to frame would make still points move.
    length, area = 1.0 / scale, 1.0 / (scale * scale)
    for column in range(len(plan.powers)):
        if plan.powers[column] == 1:
            out[column] *= length
        elif plan.powers[column] == 2:
            out[column] *= area


@njit(cache=False)
def _take_roots(plan: FeaturePlan, out: F32) -> None:
    """The fourth root of every column with a long tail, its sign kept, in place. NaN stays NaN."""
    # Not a power or a logarithm: roots are rounded alike on every machine, and know no unit.
    for column in plan.rooted:
        out[column] = math.copysign(math.sqrt(math.sqrt(abs(out[column]))), out[column])


def _compiled(stamp: int) -> Callable[..., None]:
    """`advance`. stamp: of the other files whose code is compiled into it (`cache_stamps`)."""

    @njit(cache=True)
    def advance(
        keypoints: F32,
        confidence: F32,
        slots: NDArray[np.int32],
        plan_rows: TableRows,
        memory_rows: TableRows,
        scales: NDArray[np.float64],
        out: F32,
    ) -> None:
        _ = stamp
        plan, state = open_plan(plan_rows), open_memory(memory_rows)
        rule, n_animals = plan.rule, confidence.shape[1]
        # Once a call, not once a frame: the only memory that is allocated here.
        body = np.empty((n_animals, 7), np.float32)
        # float64, because accelerations are small differences of these.
        moved = np.empty((n_animals, len(plan.lags), 2), np.float64)
        for n in range(len(slots)):
            slot, scale = slots[n], scales[n]
            # First of all: what is remembered of an animal must be that animal's.
            if rule[RULE.is_relinked] > 0:
                margin, cap = rule[RULE.relink_margin_px] * scale, rule[RULE.relink_cap_px] * scale
                relink(keypoints[n], state.held[slot], state.links[slot], margin, cap, True, AS_NEAR)
            now = _remember(keypoints[n], slot, plan, state)
            # From the ring, not from the frame: a point that is held counts as seen for the groups.
            points = state.past[slot, now]
            for a in range(n_animals):
                body[a, SCALE] = scale
                describe_body(points[a], plan, body[a])
                # Computed once, for all groups that need velocities.
                for i in range(len(plan.lags)):
                    moved[a, i, 0], moved[a, i, 1] = velocity(state, slot, a, 0, plan.lags[i], rule[RULE.fps])
                body[a, SPEED] = math.sqrt(moved[a, 0, 0] * moved[a, 0, 0] + moved[a, 0, 1] * moved[a, 0, 1])
            at = paper_groups(points, body, plan, state, slot, out[n])
            at = frame_groups(points, body, plan, out[n], at)
            at = motion_groups(body, moved, plan, state, slot, out[n], at)
            at = average_groups(points, body, moved, plan, state, slot, out[n], at)
            visibility_groups(confidence[n], plan, state, slot, out[n], at)
            # Nearly always 1; NaN where the scale is not known yet, and then no length is.
            if scale != 1.0:
                _divide_lengths(plan, scale, out[n])
            _take_roots(plan, out[n])
            _sort_orbits(plan, out[n])
            # Last: the groups above count the frames before this one.
            state.frames[slot] += 1

    return advance


advance = _compiled(cache_stamps.source_stamp(array_tables, tables, groups, relinking, spec))
"""N frames: keypoints (N, A, K, 2) px, confidence (N, A, K), slots (N,) -> out (N, F). State moves on in place.

scales: (N,) or more, px of the stream for one of training (`features.scale`); NaN where it is not known. plan_rows,
memory_rows: of the tables of a FeaturePlan and a Memory (`rtseg.compiled.array_tables`).
"""
