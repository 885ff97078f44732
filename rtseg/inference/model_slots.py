"""All that one bundle computes, and what it remembers, for the slots of an engine: features, network, decoding.

Knows slots and rows, neither streams nor the numbers of frames.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.compiled.ahead import Kernel
from rtseg.engine.base import Engine
from rtseg.errors import SnapshotError
from rtseg.inference.predictions import PredictionBatch
from rtseg.inference.stages import Arena, Stages, StagesSnapshot

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
MAX_CACHED_ROWS = 256
"""Buffers for larger batches are allocated each time; the others are kept, one set for each size seen so far."""


PREPROCESS = Kernel(
    "rtseg.inference.stages",
    "_preprocess",
    "float32[:,:,:,::1], float32[:,:,::1], int32[::1], int64[:,::1], float32[:,::1], int32[::1], int32[::1]",
)
POSTPROCESS = Kernel(
    "rtseg.inference.stages",
    "_postprocess",
    "float32[:,::1], int32[::1], int64[:,::1], int16[:,::1], boolean[:,::1], boolean[:,::1], int32[::1]",
)


def kernels_of(engine: Engine) -> list[Kernel]:
    """What `ModelSlots.compute_rows` calls with this engine, for `compiled.ahead`."""
    return [PREPROCESS, *engine.kernels, POSTPROCESS]


class RowBuffers(NamedTuple):
    """Room for N rows. keypoints: (N, A, K, 2). confidence: (N, A, K). slots: (N,). features: (N, F)."""

    keypoints: F32
    confidence: F32
    slots: I32
    features: F32


Computed = tuple[PredictionBatch, I32, I32]
"""What N rows gave: their answers, flags (N,) of the frames stepped, and flags (N,) of the answers, which with a
lookahead are about other frames."""


class SlotSnapshot(NamedTuple):
    """One slot, read and checked."""

    stages: StagesSnapshot
    network: bytes


class ModelSlots:
    """A bundle on an engine. watch, swap: see `Stages`."""

    def __init__(self, bundle: Bundle, engine: Engine, *, watch: bool, swap: bool) -> None:
        self.bundle, self.engine = bundle, engine
        self.stages = Stages(bundle, engine.capacity, watch=watch, swap=swap)
        self._n_outputs, self._heads = bundle.architecture.n_outputs, bundle.heads
        self._one_slot = np.zeros(1, np.int32)
        self._cached: dict[int, RowBuffers] = {}

    def compute_rows(self, keypoints: F32, confidence: F32, slots: I32, features: F32) -> Computed:
        """The way of the data: features, engine, decoding, for N rows in order. features: (N, F) scratch.

        Gives fresh arrays, for predictions refer to them. Keypoints and confidence change where animals are swapped
        back.
        """
        n, n_heads = len(slots), len(self._heads)
        probs = np.empty((n, self._n_outputs), np.float32)
        labels = np.empty((n, n_heads), np.int16)
        # Two arrays of a kind from one allocation: at one row these calls are a good part of a step's overhead.
        events, unsure = np.empty((2, n, n_heads), np.bool_)
        flags, unsure_flags, missing = np.empty((3, n), np.int32)
        self.stages.preprocess(keypoints, confidence, slots, features, flags, missing)
        self.engine.step(features, slots, probs)
        self.stages.postprocess(probs, slots, labels, events, unsure, unsure_flags)
        # Two kinds of flags, apart: with a lookahead this step's answer is about an earlier frame than the one it saw.
        return PredictionBatch(probs, labels, events, unsure, missing, self._heads), flags, unsure_flags

    def row_buffers(self, n: int) -> RowBuffers:
        """Room for N rows, the same from batch to batch."""
        buffers = self._cached.get(n)
        if buffers is None:
            a, k = self.bundle.skeleton.shape
            buffers = RowBuffers(
                np.empty((n, a, k, 2), np.float32),
                np.empty((n, a, k), np.float32),
                np.empty(n, np.int32),
                np.empty((n, self.stages.n_features), np.float32),
            )
            # Batches come in all sizes, and each size has buffers of its own: those of large ones would fill memory.
            if n <= MAX_CACHED_ROWS:
                self._cached[n] = buffers
        return buffers

    def open_slot(self, slot: int, arena: Arena | None, px_per_mm: float | None) -> None:
        """A slot gets another stream. arena: its box x0, y0, x1, y1 in its px; None = the bundle's. px_per_mm: its."""
        scale = self.bundle.scale_of(px_per_mm)
        if arena is None:
            # The bundle's is in px of training.
            x0, y0, x1, y1 = (end * (scale or 1.0) for end in self.bundle.arena)
            arena = x0, y0, x1, y1
        self.stages.open_slot(slot, arena, scale)

    def reset_slot(self, slot: int) -> None:
        """The stream of a slot starts again."""
        # One array for all calls: an engine takes slots as an array, also one of them.
        self._one_slot[0] = slot
        self.stages.reset_slot(slot)
        self.engine.reset(self._one_slot)

    def snapshot(self, slot: int) -> dict[str, Any]:
        """One slot in plain values."""
        return {**self.stages.snapshot(slot), "network": self.engine.snapshot(slot)}

    def load_snapshot(self, plain: dict[str, Any]) -> SlotSnapshot:
        """What `snapshot` gave, checked, for `restore`. Raises SnapshotError; no slot changes."""
        network = plain.get("network")
        if not isinstance(network, bytes):
            raise SnapshotError(f"the snapshot is damaged: its network should be bytes, got {type(network).__name__}")
        return SlotSnapshot(self.stages.load_snapshot(plain), network)

    def restore(self, slot: int, snapshot: SlotSnapshot) -> None:
        """Put a snapshot into a slot. Raises EngineError for another network's, and the slot stays as it was."""
        # First the engine's: it alone may still refuse.
        self.engine.restore(slot, snapshot.network)
        self.stages.restore(slot, snapshot.stages)
