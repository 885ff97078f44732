"""How large a stream's animals appear beside training's: a causal running measure, and what features are divided by.

A frame's size is the sum of the distances that are seen within its animals over the sum of training's distances of the
same pairs of points: missing points leave it where it is, and a camera that is twice as near gives exactly twice as
much. The running size weighs frames by the pairs that they show, the newest most. State in arrays, one row per slot.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps
from rtseg.compiled.array_tables import ArrayTable, TableRows, field_indices
from rtseg.config import BodySettings
from rtseg.features import relink
from rtseg.features.body_size import BodySize, measured_pairs
from rtseg.features.relink import F32, distance
from rtseg.features.slot_state import check_values
from rtseg.features.slot_state import load_slot as load_arrays
from rtseg.frames.skeleton import Skeleton

F64 = NDArray[np.float64]


EARLIEST = 1 / 3
"""Of `BodySize.frames`, after which a stream whose size is far from training's is flagged already."""
_SLACK_POWER = 1 / 8
"""Until then training's range is widened by (frames / measured) to this power: 1.15 at the earliest. On rats58, 1,157
starts of streams: after 100 frames none is flagged at its own scale (1.4 % without slack), all are at half of it."""


class SizeRule(NamedTuple):
    """Numbers of the measure. decay: what a sum keeps from one measured frame to the next. earliest: measured frames
    before which nothing is flagged. frames, low, high: see `BodySize`. divides: 1 where features are divided by the
    running size, else 0.
    """

    decay: float
    earliest: float
    frames: float
    low: float
    high: float
    divides: float


class SizePlan(NamedTuple):
    """What is measured; without pairs nothing is. pairs: (E, 2) keypoint indices. lengths: (E,) px, training's."""

    pairs: NDArray[np.int64]
    lengths: F64
    rule: F64


class SizeState(NamedTuple):
    """What is remembered of S slots.

    sums: (S, 2) distances seen and training's of the same pairs, px. measured: (S,) frames that showed some. scale:
    (S,) what features are divided by, px of the stream for one of training; NaN = not known yet. ratio: (S,) the newest
    size that was judged, NaN before. outside: (S,) frames in which it was not training's. The last two outlive a
    restart of the stream.
    """

    sums: F64
    measured: NDArray[np.int64]
    scale: F64
    ratio: F64
    outside: NDArray[np.int64]


RULE, PLAN, STATE = (field_indices(*kind._fields) for kind in (SizeRule, SizePlan, SizeState))


class SizeMeter:
    """The measure for one bundle's skeleton, and a report of what it found.

    size: training's; None = there is nothing to compare with, and only a scale that is given counts. divides: whether
    features are divided by the running size.
    """

    def __init__(self, skeleton: Skeleton, size: BodySize | None, fps: float, *, divides: bool = False) -> None:
        index = {name: i for i, name in enumerate(skeleton.keypoints)}
        pairs = [] if size is None else [(index[one], index[two]) for one, two in size.pairs]
        # Whose features are divided by the size may have any: nothing is to be compared.
        low, high = (0.0, math.inf) if size is None or divides else (size.low, size.high)
        decay = 0.0 if size is None else math.exp(-1.0 / (size.horizon_s * fps))
        frames = math.inf if size is None else size.frames
        rule = SizeRule(decay, EARLIEST * frames, frames, low, high, divides)
        plan = SizePlan(
            pairs=np.array(pairs, np.int64).reshape(-1, 2),
            lengths=np.array(() if size is None else size.lengths_px, np.float64),
            rule=np.array(rule, np.float64),
        )
        self.size, self.plan = size, plan
        self._table = ArrayTable(plan)
        self.plan_rows = self._table.rows

    def init_state(self, slots: int) -> SizeState:
        """A fresh state for S slots, none of them with a scale that is given."""
        state = SizeState(
            sums=np.zeros((slots, 2)),
            measured=np.zeros(slots, np.int64),
            scale=np.empty(slots),
            ratio=np.empty(slots),
            outside=np.empty(slots, np.int64),
        )
        for slot in range(slots):
            self.open_slot(state, slot)
        return state

    def open_slot(self, state: SizeState, slot: int, given: float | None = None) -> None:
        """A slot gets another stream. given: px of the stream for one of training; None = not known."""
        state.scale[slot] = 1.0 if given is None else given
        state.ratio[slot], state.outside[slot] = math.nan, 0
        self.reset(state, slot)

    def reset(self, state: SizeState, slot: int) -> None:
        """The stream of a slot starts again; a scale that was given stays, and so does what was found."""
        state.sums[slot], state.measured[slot] = 0.0, 0
        if self.plan.rule[RULE.divides] > 0:
            state.scale[slot] = math.nan

    def measure(self, keypoints: F32, slots: NDArray[np.int32], state: SizeState) -> F64:
        """Frames (N, A, K, 2) of the slots (N,), in order: what the features of each are divided by, (N,)."""
        scales, quality = np.empty(len(slots)), np.zeros(len(slots), np.int32)
        measure(keypoints, slots, self.plan, state, 0, quality, scales)
        return scales

    def load_slot(self, state: SizeState, data: object) -> SizeState:
        """One slot as `slot_state.slot_bytes` gave it. Raises SnapshotError."""
        loaded = SizeState(*load_arrays(state, data, "size"))
        check_values(min(int(loaded.measured), int(loaded.outside)) >= 0, "counts of measured frames")
        # What a kernel divides by, and by its square, which must not be rounded to 0; NaN where it is not known.
        scale, seen, usual = float(loaded.scale), float(loaded.sums[0]), float(loaded.sums[1])
        check_values(math.isnan(scale) or 1e-60 <= scale <= 1e60, "size")
        check_values(min(seen, usual) >= 0 and (loaded.measured == 0 or usual > 0), "size")
        check_values(loaded.measured == 0 or seen == 0 or 1e-60 <= seen / usual <= 1e60, "size")
        return loaded

    def report(self, state: SizeState, slot: int) -> dict[str, Any]:
        """One slot's record in plain values; {} for a bundle that says nothing of training's size.

        ratio: how many times as large as in training animals appear, None before enough was seen; low, high: what
        counts as training's, None where features are divided by the size; measured: frames since the start that showed
        a distance; out_of_range: frames in which the size was not training's.
        """
        if self.size is None:
            return {}
        ratio, judged = float(state.ratio[slot]), math.isfinite(self.plan.rule[RULE.high])
        return {
            "ratio": None if math.isnan(ratio) else round(ratio, 4),
            "low": round(self.size.low, 4) if judged else None,
            "high": round(self.size.high, 4) if judged else None,
            "measured": int(state.measured[slot]),
            "out_of_range": int(state.outside[slot]),
        }


def _compiled(stamp: int) -> Callable[..., None]:
    """`measure`. stamp: of the file that holds `distance` (`cache_stamps`)."""

    @njit(cache=True)
    def measure(
        keypoints: F32,
        slots: NDArray[np.int32],
        plan: SizePlan,
        state: SizeState,
        flag: int,
        quality: NDArray[np.int32],
        scales: F64,
    ) -> None:
        _ = stamp
        rule = plan.rule
        for n in range(len(slots)):
            slot = slots[n]
            seen = usual = 0.0
            for a in range(keypoints.shape[1]):
                for e in range(len(plan.lengths)):
                    apart = distance(keypoints[n, a, plan.pairs[e, 0]], keypoints[n, a, plan.pairs[e, 1]])
                    if not math.isnan(apart):
                        seen += apart
                        usual += plan.lengths[e]
            # A frame without any pair says nothing, and the size stays as it was.
            if usual > 0:
                state.sums[slot, 0] = rule[RULE.decay] * state.sums[slot, 0] + seen
                state.sums[slot, 1] = rule[RULE.decay] * state.sums[slot, 1] + usual
                state.measured[slot] += 1
            size = state.sums[slot, 0] / state.sums[slot, 1] if state.measured[slot] > 0 else 0.0
            if rule[RULE.divides] > 0:
                # Points that all lie upon one another have no size that anything could be divided by.
                state.scale[slot] = size if size > 0 else np.nan
            scales[n] = state.scale[slot]
            measured = state.measured[slot]
            if measured < rule[RULE.earliest]:
                continue
            ratio = size if rule[RULE.divides] > 0 else size / state.scale[slot]
            # Few frames may all show an animal that is curled up, so that only a size far from training's counts.
            is_early = measured < rule[RULE.frames]
            slack = (rule[RULE.frames] / measured) ** _SLACK_POWER if is_early else 1.0
            is_outside = ratio < rule[RULE.low] / slack or ratio > rule[RULE.high] * slack
            if is_outside:
                state.outside[slot] += 1
                quality[n] |= flag
            if is_outside or not is_early:
                state.ratio[slot] = ratio

    return measure


measure = _compiled(cache_stamps.source_stamp(relink))
"""Frames (N, A, K, 2) of the slots (N,), in order: what features of each are divided by into scales (N,), NaN where it
is not known yet; adds the flag to quality (N,) where the size is not training's."""


@njit(cache=False)
def open_plan(rows: TableRows) -> SizePlan:
    return SizePlan(
        pairs=array_tables.int64s_2d(rows, PLAN.pairs),
        lengths=array_tables.float64s(rows, PLAN.lengths),
        rule=array_tables.float64s(rows, PLAN.rule),
    )


@njit(cache=False)
def open_state(rows: TableRows) -> SizeState:
    return SizeState(
        sums=array_tables.float64s_2d(rows, STATE.sums),
        measured=array_tables.int64s(rows, STATE.measured),
        scale=array_tables.float64s(rows, STATE.scale),
        ratio=array_tables.float64s(rows, STATE.ratio),
        outside=array_tables.int64s(rows, STATE.outside),
    )


def fit_body_size(recordings: Sequence[F32], skeleton: Skeleton, fps: float, settings: BodySettings) -> BodySize | None:
    """The size of training's animals from its recordings (T, A, K, 2); None where no two points are ever seen together.

    Its ends are two percentiles of the recordings' running sizes, widened by a share of themselves.
    """
    index = {name: i for i, name in enumerate(skeleton.keypoints)}
    lengths: dict[tuple[str, str], float] = {}
    for one, two in measured_pairs(skeleton):
        apart = [np.hypot(*np.moveaxis(r[:, :, index[one]] - r[:, :, index[two]], -1, 0)) for r in recordings]
        known = np.concatenate([d[~np.isnan(d)] for d in apart])
        # A pair that never has a length, as of points that are one another's copies, would tell nothing.
        if known.sum(dtype=np.float64) > 0:
            lengths[one, two] = float(known.mean(dtype=np.float64))
    if not lengths:
        return None
    own = BodySize(tuple(lengths), tuple(lengths.values()), 0.5, 2.0, settings.horizon_s, settings.frames)
    meter = SizeMeter(skeleton, own, fps, divides=True)
    sizes = np.concatenate([_running_sizes(meter, recording, settings.frames) for recording in recordings])
    low, high = np.percentile(sizes, (settings.percentile, 100 - settings.percentile)).tolist()
    return replace(own, low=low / (1 + settings.margin), high=high * (1 + settings.margin))


def _running_sizes(meter: SizeMeter, recording: F32, frames: int) -> F64:
    """A recording's size at every frame from which on a stream is judged; of a shorter one what it ends with."""
    sizes = meter.measure(recording, np.zeros(len(recording), np.int32), meter.init_state(1))
    seen = ~np.isnan(recording[..., 0])
    shown = np.zeros(len(recording), np.bool_)
    for one, two in meter.plan.pairs.tolist():
        shown |= (seen[:, :, one] & seen[:, :, two]).any(axis=1)
    judged = sizes[np.cumsum(shown) >= frames]
    last = sizes[-1:][~np.isnan(sizes[-1:])]
    return judged if len(judged) else last
