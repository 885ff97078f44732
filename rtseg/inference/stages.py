"""What is computed about frames before and after the network, for all slots of one model: one compiled call each.

Before: flags of what the tracker missed, mixed-up animals, features, features unlike training's. After: decoding and
abstention. Every rule has its own module and is called from here. One call for all of them, because a call from
Python costs a microsecond or two where a lone frame has forty in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.compiled import array_tables, cache_stamps
from rtseg.compiled.array_tables import ArrayTable, TableRows, field_indices
from rtseg.features import drift, groups, identity, kernels, relink, scale, spec, tables
from rtseg.features.drift import DriftState, RangeCheck
from rtseg.features.extractor import FeatureExtractor
from rtseg.features.identity import IdentityState
from rtseg.features.scale import SizeMeter, SizeState
from rtseg.features.slot_state import load_slot, set_slot, slot_bytes
from rtseg.features.tables import Memory
from rtseg.frames import frame, frozen
from rtseg.frames.frame import point_quality
from rtseg.frames.frozen import FrozenState, flag_frozen
from rtseg.inference import abstention, decoding, lookahead
from rtseg.inference.abstention import judge
from rtseg.inference.decoding import Decoder, DecoderState
from rtseg.inference.lookahead import DelayedCounts, delay_counts
from rtseg.inference.predictions import Quality

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Arena = tuple[float, float, float, float]
# As int: compiled code knows no IntFlag.
MISSING_POINTS, LOW_CONFIDENCE = int(Quality.MISSING_POINTS), int(Quality.LOW_CONFIDENCE)
UNSURE, OUT_OF_RANGE = int(Quality.UNSURE), int(Quality.OUT_OF_RANGE)
IDENTITY_JUMP, FROZEN = int(Quality.IDENTITY_JUMP), int(Quality.FROZEN)


class FrameSwitches(NamedTuple):
    """Numbers of the first call; the last two are 1 or 0. frozen_frames: repeats from which on a frame is flagged."""

    low_confidence: float
    frozen_frames: float
    watches_identities: float
    checks_ranges: float


class FrameArrays(NamedTuple):
    """What the call before the network works with; the arrays from `low` on are empty for a bundle without ranges.

    switches: `FrameSwitches`. counts, counts_at: `DelayedCounts`. shown, repeats: a `FrozenState`. size_plan,
    size_state: rows of the tables of a SizePlan and a SizeState. identity_rule: see `identity.advance`. held, links:
    its state. plan, memory: rows of the tables of the features' plan and memory. low, high, range_rule: see
    `RangeCheck`. The rest: a `DriftState`.
    """

    switches: NDArray[np.float64]
    counts: I32
    counts_at: I64
    shown: F32
    repeats: I64
    size_plan: I64
    size_state: I64
    identity_rule: NDArray[np.float64]
    held: F32
    links: I32
    plan: I64
    memory: I64
    low: F32
    high: F32
    range_rule: F32
    frames: I64
    flagged: I64
    outside: I64
    farthest: F32


class AnswerArrays(NamedTuple):
    """What the call after the network works with.

    offsets, rule: the decoder's plan. below: the thresholds of abstention. The rest: a `DecoderState`.
    """

    offsets: I64
    rule: NDArray[np.float64]
    below: F32
    label: I32
    candidate: I32
    lead: I32
    absent: I32
    fresh: I32


NO_FRAME: list[NDArray[Any]] = [np.full((1, 1, 2), np.nan, np.float32), np.zeros((), np.int64)]
"""One slot of a `FrozenState` that has seen no frame, for any number of points."""
_SWITCH, _FRAME, _ANSWER = (field_indices(*kind._fields) for kind in (FrameSwitches, FrameArrays, AnswerArrays))


class StagesSnapshot(NamedTuple):
    """One slot's part of every state: the same arrays without their first axis."""

    size: SizeState
    features: Memory
    decoding: DecoderState
    drift: list[NDArray[Any]]
    identities: IdentityState
    frozen: list[NDArray[Any]]
    missing: list[int]


class Stages:
    """The rules of one bundle, and what they remember of S slots.

    watch: whether mixed-up animals are looked for in `preprocess`, or only where `sees_identity_jump` is called. swap:
    whether they are swapped back.
    """

    def __init__(self, bundle: Bundle, slots: int, *, watch: bool, swap: bool) -> None:
        self._watch = watch
        size, divides = bundle.body_size, bundle.features.scale == "body"
        self._extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, size)
        # Also where nothing is divided by it: that animals are not as large as in training is to be noticed.
        self._meter = SizeMeter(bundle.skeleton, size, bundle.fps, divides=divides)
        self._size = self._meter.init_state(slots)
        self._size_table = ArrayTable(self._size)
        self.n_features = self._extractor.n_features
        self._features = self._extractor.init_state(slots, bundle.arena)
        self._frozen = frozen.init_state(slots, bundle.skeleton.shape)
        self._missing = lookahead.init_counts(slots, bundle.lookahead_frames)
        self._identities = identity.init_state(slots, bundle.skeleton.shape)
        self._identity_rule = np.array([bundle.features.relink_margin_px, bundle.features.relink_cap_px, float(swap)])
        self._decoder = Decoder(bundle.architecture.offsets, bundle.decoding)
        self._decoding = self._decoder.init_state(slots)
        # Older bundles have none.
        self._ranges = None if bundle.ranges is None else RangeCheck(bundle.ranges, self._extractor.features)
        self._drift = None if self._ranges is None else self._ranges.init_state(slots)
        # Arrays of nothing where there are no ranges, so that the table has the same rows for every bundle.
        low, high, range_rule = drift.NO_PLAN if self._ranges is None else self._ranges.plan
        frozen_frames = math.ceil(bundle.gaps.frozen_s * bundle.fps) or math.inf
        switches = FrameSwitches(bundle.gaps.low_confidence, frozen_frames, watch, self._ranges is not None)
        self._frame_table = ArrayTable(
            FrameArrays(
                switches=np.array(switches, np.float64),
                counts=self._missing.counts,
                counts_at=self._missing.at,
                shown=self._frozen.shown,
                repeats=self._frozen.repeats,
                size_plan=self._meter.plan_rows,
                size_state=self._size_table.rows,
                identity_rule=self._identity_rule,
                held=self._identities.held,
                links=self._identities.links,
                plan=self._extractor.plan_rows,
                memory=self._features.rows,
                low=low,
                high=high,
                range_rule=range_rule,
                **(self._drift or drift.NO_STATE)._asdict(),
            )
        )
        offsets, rule = self._decoder.plan
        below = abstention.thresholds(bundle.heads, bundle.abstain_below)
        self._answer_table = ArrayTable(AnswerArrays(offsets, rule, below, **self._decoding._asdict()))
        # What each call is handed, without a look-up of the table's attribute for every frame.
        self._frame_rows, self._answer_rows = self._frame_table.rows, self._answer_table.rows

    def preprocess(
        self, keypoints: F32, confidence: F32, slots: I32, features: F32, quality: I32, missing: I32
    ) -> None:
        """Frames (N, A, K, 2) and (N, A, K) of the slots (N,), in order, to features (N, F) and quality flags (N,).

        missing: (N,) how many points were missing of the frames that are answered, which a lookahead sets back.
        Keypoints and confidence change where animals are swapped back.
        """
        _preprocess(keypoints, confidence, slots, self._frame_rows, features, quality, missing)

    def postprocess(
        self,
        probs: F32,
        slots: I32,
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        unsure_flags: I32,
    ) -> None:
        """Probabilities (N, P) of the slots (N,), in order, to labels, events, unsure (N, H) and unsure_flags (N,)."""
        _postprocess(probs, slots, self._answer_rows, labels, events, unsure, unsure_flags)

    def sees_identity_jump(self, keypoints: F32, confidence: F32, slot: int, *, afresh: bool) -> bool:
        """Whether animals seem to have been mixed up in one frame (A, K, 2). afresh: forget earlier frames first."""
        if afresh:
            self.forget_identities(slot)
        # A call of its own, with a state that this changes: where a jump restarts the stream, it must be known before
        # the frame is stepped, and `preprocess` does not watch.
        quality, slots = np.zeros(1, np.int32), np.array([slot], np.int32)
        state, rule = self._identities, self._identity_rule
        # As of the frame before: this one is measured when it is stepped.
        scales = self._size.scale[slots]
        identity.advance(keypoints[None], confidence[None], slots, state, rule, scales, IDENTITY_JUMP, quality)
        return bool(quality[0])

    def open_slot(self, slot: int, arena: Arena, scale: float | None) -> None:
        """A slot gets another stream, whose box is the arena (px). scale: see `SizeMeter.open_slot`."""
        # Not by `reset_slot`: the box belongs to the stream, and stays when it restarts.
        self._features.memory.arena[slot] = arena
        self._meter.open_slot(self._size, slot, scale)
        # Only here, not at a restart: the record covers the stream since it was opened.
        if self._ranges is not None and self._drift is not None:
            self._ranges.reset(self._drift, slot)

    def reset_slot(self, slot: int) -> None:
        """The stream of a slot starts again; what its features left of training's ranges stays counted."""
        self._meter.reset(self._size, slot)
        self._extractor.reset(self._features, slot)
        self._decoder.reset(self._decoding, slot)
        frozen.reset(self._frozen, slot)
        lookahead.reset_counts(self._missing, slot)
        # Where a jump restarts the stream, the animals' new places are what the new start begins with.
        if self._watch:
            self.forget_identities(slot)

    def forget_identities(self, slot: int) -> None:
        """Forget where the animals of a slot were."""
        identity.reset(self._identities, slot)

    def drift(self, slot: int) -> dict[str, Any]:
        """`RangeCheck.report`, and `SizeMeter.report` as body_size; without what the bundle does not have."""
        ranges = {} if self._ranges is None or self._drift is None else self._ranges.report(self._drift, slot)
        size = self.size(slot)
        return ranges | ({"body_size": size} if size else {})

    def size(self, slot: int) -> dict[str, Any]:
        """`SizeMeter.report`."""
        return self._meter.report(self._size, slot)

    def snapshot(self, slot: int) -> dict[str, Any]:
        """One slot's memory in plain values."""
        return {
            "size": slot_bytes(self._size, slot),
            "features": slot_bytes(self._features, slot),
            "decoding": [part[slot].tolist() for part in self._decoding],
            "drift": slot_bytes(self._drift or (), slot),
            "identities": slot_bytes(self._identities, slot),
            "frozen": slot_bytes(self._frozen, slot),
            "missing": lookahead.waiting_counts(self._missing, slot),
        }

    def load_snapshot(self, plain: dict[str, Any]) -> StagesSnapshot:
        """What `snapshot` gave, checked, for `restore`. Raises SnapshotError; no slot changes."""
        return StagesSnapshot(
            size=self._meter.load_slot(self._size, plain.get("size")),
            features=self._extractor.load_slot(plain.get("features")),
            decoding=self._decoder.load_slot(plain.get("decoding")),
            drift=load_slot(self._drift or (), plain.get("drift"), "drift"),
            identities=identity.load_slot(self._identities, plain.get("identities")),
            # Recordings that are older than the rule have none: what was repeated until then is not known.
            frozen=load_slot(self._frozen, plain["frozen"], "frozen frame") if "frozen" in plain else NO_FRAME,
            missing=lookahead.checked_counts(self._missing, plain.get("missing")),
        )

    def restore(self, slot: int, snapshot: StagesSnapshot) -> None:
        """Put a snapshot into a slot."""
        set_slot(self._size, slot, snapshot.size)
        set_slot(self._features.memory, slot, snapshot.features)
        set_slot(self._decoding, slot, snapshot.decoding)
        set_slot(self._drift or (), slot, snapshot.drift)
        set_slot(self._identities, slot, snapshot.identities)
        set_slot(self._frozen, slot, snapshot.frozen)
        lookahead.restore_counts(self._missing, slot, snapshot.missing)


def _compiled(stamp: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Both calls. stamp: of the rules' files (`cache_stamps`)."""

    @njit(cache=True)
    def preprocess(
        keypoints: F32, confidence: F32, slots: I32, rows: TableRows, features: F32, quality: I32, missing: I32
    ) -> None:
        _ = stamp
        switches = array_tables.float64s(rows, _FRAME.switches)
        low = switches[_SWITCH.low_confidence]
        point_quality(keypoints, confidence, low, MISSING_POINTS, LOW_CONFIDENCE, quality, missing)
        counts, at = array_tables.int32s_2d(rows, _FRAME.counts), array_tables.int64s(rows, _FRAME.counts_at)
        delay_counts(slots, DelayedCounts(counts, at), missing)
        # The source's own positions, before animals are swapped back.
        shown = FrozenState(array_tables.float32s_4d(rows, _FRAME.shown), array_tables.int64s(rows, _FRAME.repeats))
        flag_frozen(keypoints, slots, shown, switches[_SWITCH.frozen_frames], FROZEN, quality)
        # Before what follows, which compares px with px of training. Once a call: offline it is for many frames.
        scales = np.empty(len(slots), np.float64)
        size_plan = scale.open_plan(array_tables.int64s_2d(rows, _FRAME.size_plan))
        size_state = scale.open_state(array_tables.int64s_2d(rows, _FRAME.size_state))
        scale.measure(keypoints, slots, size_plan, size_state, OUT_OF_RANGE, quality, scales)
        # Before the features, which are those of the animals as they are swapped back.
        if switches[_SWITCH.watches_identities] > 0:
            held, links = array_tables.float32s_4d(rows, _FRAME.held), array_tables.int32s_2d(rows, _FRAME.links)
            rule = array_tables.float64s(rows, _FRAME.identity_rule)
            state = IdentityState(held, links)
            identity.advance(keypoints, confidence, slots, state, rule, scales, IDENTITY_JUMP, quality)
        # Tables within the table: the features' kernel opens its own.
        plan, memory = array_tables.int64s_2d(rows, _FRAME.plan), array_tables.int64s_2d(rows, _FRAME.memory)
        kernels.advance(keypoints, confidence, slots, plan, memory, scales, features)
        # Last, since it looks at what was computed; it changes no feature.
        if switches[_SWITCH.checks_ranges] > 0:
            _check_ranges(features, slots, rows, quality)

    @njit(cache=True)
    def postprocess(
        probs: F32,
        slots: I32,
        rows: TableRows,
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        unsure_flags: I32,
    ) -> None:
        _ = stamp
        offsets, rule = array_tables.int64s(rows, _ANSWER.offsets), array_tables.float64s(rows, _ANSWER.rule)
        state = DecoderState(
            label=array_tables.int32s_2d(rows, _ANSWER.label),
            candidate=array_tables.int32s_2d(rows, _ANSWER.candidate),
            lead=array_tables.int32s_2d(rows, _ANSWER.lead),
            absent=array_tables.int32s_2d(rows, _ANSWER.absent),
            fresh=array_tables.int32s_2d(rows, _ANSWER.fresh),
        )
        # Both from the same probabilities; neither changes them.
        decoding.advance(probs, slots, offsets, rule, state, labels, events)
        judge(probs, offsets, array_tables.float32s(rows, _ANSWER.below), UNSURE, unsure, unsure_flags)

    return preprocess, postprocess


@njit(cache=False)
def _check_ranges(features: F32, slots: I32, rows: TableRows, quality: I32) -> None:
    state = DriftState(
        frames=array_tables.int64s(rows, _FRAME.frames),
        flagged=array_tables.int64s(rows, _FRAME.flagged),
        outside=array_tables.int64s_2d(rows, _FRAME.outside),
        farthest=array_tables.float32s_2d(rows, _FRAME.farthest),
    )
    low, high = array_tables.float32s(rows, _FRAME.low), array_tables.float32s(rows, _FRAME.high)
    rule = array_tables.float32s(rows, _FRAME.range_rule)
    drift.check_ranges(features, slots, low, high, rule, state, OUT_OF_RANGE, quality)


# Every file whose code is compiled into the two calls, except this one, which numba checks itself.
_RULES = (
    frame,
    frozen,
    lookahead,
    array_tables,
    scale,
    identity,
    relink,
    kernels,
    groups,
    tables,
    spec,
    drift,
    decoding,
    abstention,
)
_preprocess, _postprocess = _compiled(cache_stamps.source_stamp(*_RULES))
