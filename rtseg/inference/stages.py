"""What is computed about frames before and after the network, for all slots of one model: one compiled call each.

Before: flags of what the tracker missed, mixed-up animals, features, features unlike training's. After: decoding and
abstention. Every rule stands in its own module and is called from here; a call from Python costs a microsecond or two,
and a lone frame has forty in all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.compiled import array_tables, cache_stamps
from rtseg.features import drift, identity, kernels, relink
from rtseg.features.drift import DriftState, RangeCheck, check
from rtseg.features.extractor import FeatureExtractor, load_state, state_bytes
from rtseg.features.identity import IdentityState
from rtseg.frames import frame
from rtseg.frames.frame import point_quality
from rtseg.inference import abstention, decoding
from rtseg.inference.abstention import judge
from rtseg.inference.decoding import Decoder, DecoderState
from rtseg.inference.predictions import Quality

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
Arena = tuple[float, float, float, float]
# As plain numbers: compiled code knows no IntFlag.
MISSING_POINTS, LOW_CONFIDENCE = int(Quality.MISSING_POINTS), int(Quality.LOW_CONFIDENCE)
UNSURE, OUT_OF_RANGE = int(Quality.UNSURE), int(Quality.OUT_OF_RANGE)
IDENTITY_JUMP = int(Quality.IDENTITY_JUMP)
_STAMP = cache_stamps.of(frame, array_tables, identity, relink, kernels, drift, decoding, abstention)


class Stages:
    """The rules of one bundle, and what they remember of S slots.

    watch: whether mixed-up animals are looked for in `before`, or only where `jumped` is asked. trade: whether they are
    traded back.
    """

    def __init__(self, bundle: Bundle, slots: int, *, watch: bool, trade: bool) -> None:
        self.trade = trade
        self._watch = watch
        self._extractor = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps)
        self.n_features = self._extractor.n_features
        self._features = self._extractor.init_state(slots, bundle.arena)
        self._identities = identity.init_state(slots, bundle.skeleton.shape)
        self._margins = np.array([bundle.features.relink_margin_px, bundle.features.relink_cap_px])
        self._decoder = Decoder(bundle.network.offsets, bundle.decoding)
        self._decoding = self._decoder.init_state(slots)
        offsets, rule = self._decoder.plan
        below = abstention.thresholds(bundle.heads, bundle.abstain_below)
        self._ranges: RangeCheck | None = None
        self._drift: DriftState | None = None
        watched: tuple[NDArray[Any], ...] = ()
        if bundle.ranges is not None:
            self._ranges = RangeCheck(bundle.ranges, self._extractor.features)
            self._drift = self._ranges.init_state(slots)
            watched = *self._ranges.plan, *self._drift
        switches = np.array([bundle.gaps.low_confidence, watch, trade, bool(watched)], np.float64)
        before = switches, self._margins, *self._identities, self._extractor.plan_at, self._features.at, *watched
        after = offsets, rule, below, *self._decoding
        self._kept = before, after  # a table holds nothing
        self._before, self._after = array_tables.table(*before), array_tables.table(*after)

    def before(self, keypoints: F32, confidence: F32, slots: I32, features: F32, quality: I32) -> None:
        """Frames (N, A, K, 2) and (N, A, K) of the slots (N,), in order, to features (N, F) and quality flags (N,).

        Keypoints and confidence change where animals are traded back.
        """
        _before(keypoints, confidence, slots, self._before, features, quality)

    def after(
        self,
        probs: F32,
        slots: I32,
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        doubt: I32,
    ) -> None:
        """Probabilities (N, P) of the slots (N,), in order, to labels, events, unsure (N, H) and doubt's flags (N,)."""
        _after(probs, slots, self._after, labels, events, unsure, doubt)

    def jumped(self, keypoints: F32, confidence: F32, slot: int, *, afresh: bool) -> bool:
        """Whether animals seem to have been mixed up in one frame (A, K, 2). afresh: nothing before it counts."""
        if afresh:
            self.look_afresh(slot)
        quality, slots = np.zeros(1, np.int32), np.array([slot], np.int32)
        state, trade = self._identities, self.trade
        identity.advance(keypoints[None], confidence[None], slots, state, self._margins, trade, IDENTITY_JUMP, quality)
        return bool(quality[0])

    def open(self, slot: int, arena: Arena) -> None:
        """A slot gets another stream, whose box is the arena (px)."""
        self._features.memory.arena[slot] = arena
        if self._ranges is not None and self._drift is not None:
            self._ranges.reset(self._drift, slot)

    def reset(self, slot: int) -> None:
        """The stream of a slot starts again; what its features left of training's ranges stays counted."""
        self._extractor.reset(self._features, slot)
        self._decoder.reset(self._decoding, slot)
        if self._watch:  # elsewhere a new start begins with the animals' new places
            self.look_afresh(slot)

    def look_afresh(self, slot: int) -> None:
        """Forget where the animals of a slot were."""
        identity.reset(self._identities, slot)

    def drift(self, slot: int) -> dict[str, Any]:
        """`RangeCheck.report`; {} for a bundle without ranges."""
        return {} if self._ranges is None or self._drift is None else self._ranges.report(self._drift, slot)

    def snapshot(self, slot: int) -> dict[str, Any]:
        """One slot's memory in plain values."""
        return {
            "features": state_bytes(self._features, slot),
            "decoding": [part[slot].tolist() for part in self._decoding],
            "drift": state_bytes(self._drift or (), slot),
            "identities": state_bytes(self._identities, slot),
        }

    def restore(self, slot: int, plain: dict[str, Any]) -> None:
        """Put what `snapshot` gave into a slot."""
        load_state(self._features, slot, plain["features"])
        for part, values in zip(self._decoding, plain["decoding"], strict=True):
            part[slot] = values
        load_state(self._drift or (), slot, plain["drift"])
        load_state(self._identities, slot, plain["identities"])


def _compiled(stamp: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """Both calls. stamp: of the rules' files; a closure's values are part of the key in numba's cache."""

    @njit(cache=True)
    def before(
        keypoints: F32, confidence: F32, slots: I32, at: array_tables.Table, features: F32, quality: I32
    ) -> None:
        _ = stamp
        low, watch, trade, ranged = array_tables.float64s(at, 0)
        point_quality(keypoints, confidence, low, MISSING_POINTS, LOW_CONFIDENCE, quality)
        if watch > 0:
            state = IdentityState(array_tables.floats_4d(at, 2), array_tables.int32s_2d(at, 3))
            margins = array_tables.float64s(at, 1)
            identity.advance(keypoints, confidence, slots, state, margins, trade > 0, IDENTITY_JUMP, quality)
        plan_at, state_at = array_tables.int64s_2d(at, 4), array_tables.int64s_2d(at, 5)
        kernels.advance(keypoints, confidence, slots, plan_at, state_at, features)
        if ranged > 0:
            low_ends, high_ends, rule = (
                array_tables.floats(at, 6),
                array_tables.floats(at, 7),
                array_tables.floats(at, 8),
            )
            outside, farthest = array_tables.int64s_2d(at, 11), array_tables.floats_2d(at, 12)
            left = DriftState(array_tables.int64s(at, 9), array_tables.int64s(at, 10), outside, farthest)
            check(features, slots, low_ends, high_ends, rule, left, OUT_OF_RANGE, quality)

    @njit(cache=True)
    def after(
        probs: F32,
        slots: I32,
        at: array_tables.Table,
        labels: NDArray[np.int16],
        events: NDArray[np.bool_],
        unsure: NDArray[np.bool_],
        doubt: I32,
    ) -> None:
        _ = stamp
        offsets = array_tables.int64s(at, 0)
        label, candidate, lead = (
            array_tables.int32s_2d(at, 3),
            array_tables.int32s_2d(at, 4),
            array_tables.int32s_2d(at, 5),
        )
        state = DecoderState(label, candidate, lead, array_tables.int32s_2d(at, 6), array_tables.int32s_2d(at, 7))
        decoding.advance(probs, slots, offsets, array_tables.float64s(at, 1), state, labels, events)
        judge(probs, offsets, array_tables.floats(at, 2), UNSURE, unsure, doubt)

    return before, after


_before, _after = _compiled(_STAMP)
