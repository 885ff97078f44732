"""The arrays of a feature step: what is to be computed (plan) and what is remembered (memory), and their tables' rows.

Plain named tuples: numba takes them apart when it compiles, and a field is as fast as an argument.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import TableRows, field_indices
from rtseg.features.relink import F32
from rtseg.features.spec import GROUPS

NEVER = np.int32(2**30)
"""The age of a point that was never seen; ages stop here, so that int32 does not overflow."""
GROUP = field_indices(*GROUPS)
"""Where each group stands in `FeaturePlan.enabled`."""


class FeatureRule(NamedTuple):
    """The numbers of a plan; is_relinked is 1 or 0, the keypoints are indices."""

    fps: float
    hold_frames: float
    absence_cap_s: float
    rear_keypoint: float
    front_keypoint: float
    is_relinked: float
    relink_margin_px: float
    relink_cap_px: float


class FeaturePlan(NamedTuple):
    """What `advance` is to compute; the same for every stream of a model.

    enabled: (groups,) bool in the order of spec.GROUPS. lags: (L,) int64 frames. decay: (H,) float32, the share that
    an exponential average keeps in a frame. rule: a `FeatureRule` as float64. orbits: the columns to be sorted, orbit
    after orbit; orbit_ends: where each ends. unsigned: columns of which only the magnitude is kept. All three are empty
    where the animals' order is kept. powers: (F,) with which power of a length each column grows. rooted: columns whose
    fourth root is taken, sign kept. windows: (W,) int64 frames, rising, over which speeds are summed up.
    """

    enabled: NDArray[np.bool_]
    lags: NDArray[np.int64]
    decay: F32
    rule: NDArray[np.float64]
    orbits: NDArray[np.int64]
    orbit_ends: NDArray[np.int64]
    unsigned: NDArray[np.int64]
    powers: NDArray[np.int64]
    rooted: NDArray[np.int64]
    windows: NDArray[np.int64]


class Memory(NamedTuple):
    """What a feature step remembers, for S slots.

    past: (S, D, A, K, 2) ring of the effective points (seen, or held where last seen), D = 2 * longest lag + 1.
    held: (S, A, K, 2) where each point was last seen. age: (S, A, K) frames since then. averages: (S, M) and averaged:
    (S, M) frames averaged so far. frames: (S,) frames since the reset. arena: (S, 4) box x0, y0, x1, y1 in px. links:
    (S, A) which of the tracker's animals each animal is. speeds: (S, longest window, A * K * L) ring of the speeds of
    the last frames, NaN where there is none; no bytes where there are no windows.
    """

    past: F32
    held: F32
    age: NDArray[np.int32]
    averages: F32
    averaged: NDArray[np.int32]
    frames: NDArray[np.int64]
    arena: F32
    links: NDArray[np.int32]
    speeds: F32


RULE, PLAN, MEMORY = (field_indices(*kind._fields) for kind in (FeatureRule, FeaturePlan, Memory))


@njit(cache=True)
def reset(state: Memory, slot: int) -> None:
    """Start a slot again; its arena box stays."""
    # `frames` alone would tell how much of the ring belongs to the stream. But a snapshot holds the whole ring, and
    # must hold nothing of the stream that had this slot before.
    state.past[slot] = np.nan
    state.held[slot] = np.nan
    # Not 0, which would say that every point was seen just now.
    state.age[slot] = NEVER
    state.averages[slot] = 0.0
    state.averaged[slot] = 0
    state.frames[slot] = 0
    state.speeds[slot] = np.nan
    # Every animal is the source's animal of its own number until it is relinked.
    for a in range(state.links.shape[1]):
        state.links[slot, a] = a


@njit(cache=False)
def open_plan(rows: TableRows) -> FeaturePlan:
    return FeaturePlan(
        enabled=array_tables.bools(rows, PLAN.enabled),
        lags=array_tables.int64s(rows, PLAN.lags),
        decay=array_tables.float32s(rows, PLAN.decay),
        rule=array_tables.float64s(rows, PLAN.rule),
        orbits=array_tables.int64s(rows, PLAN.orbits),
        orbit_ends=array_tables.int64s(rows, PLAN.orbit_ends),
        unsigned=array_tables.int64s(rows, PLAN.unsigned),
        powers=array_tables.int64s(rows, PLAN.powers),
        rooted=array_tables.int64s(rows, PLAN.rooted),
        windows=array_tables.int64s(rows, PLAN.windows),
    )


@njit(cache=False)
def open_memory(rows: TableRows) -> Memory:
    return Memory(
        past=array_tables.float32s_5d(rows, MEMORY.past),
        held=array_tables.float32s_4d(rows, MEMORY.held),
        age=array_tables.int32s_3d(rows, MEMORY.age),
        averages=array_tables.float32s_2d(rows, MEMORY.averages),
        averaged=array_tables.int32s_2d(rows, MEMORY.averaged),
        frames=array_tables.int64s(rows, MEMORY.frames),
        arena=array_tables.float32s_2d(rows, MEMORY.arena),
        links=array_tables.int32s_2d(rows, MEMORY.links),
        speeds=array_tables.float32s_3d(rows, MEMORY.speeds),
    )
