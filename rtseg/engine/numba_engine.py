"""The CPU engine: a fused step in numba. The default wherever there is no GPU, and what every other one is checked by.

Lays a bundle's weights out once at load; the computing is in `numba_kernels`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rtseg.engine import numba_kernels as kernels
from rtseg.engine.base import Engine
from rtseg.errors import EngineError
from rtseg.network import NetworkSpec

F32 = NDArray[np.float32]


class NumbaEngine(Engine):
    """Batch rows are stepped one after the other, so a stream's bits depend on nothing but its own frames."""

    name = "numba"

    def __init__(self, spec: NetworkSpec, weights: Mapping[str, F32], capacity: int) -> None:
        super().__init__(spec, capacity)
        self._weights = pack(spec, weights)
        dilations = (*spec.dilations, *spec.head_dilations)
        sizes = [((spec.kernel - 1) * d + 1) * spec.channels for d in spec.dilations]
        sizes += [((spec.kernel - 1) * d + 1) * spec.head_channels * len(spec.heads) for d in spec.head_dilations]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        self._layout = kernels.Layout(
            dilations=np.array(dilations, np.int64),
            rings=starts[:-1].astype(np.int64),
            offsets=np.array(spec.offsets, np.int64),
            clip=np.array(weights["scaler.clip"], np.float32),
        )
        widest = max(spec.channels, spec.head_channels)
        scratch = spec.n_features + (3 + spec.kernel) * widest + 2 * spec.n_outputs
        self._memory = kernels.Memory(
            rings=np.zeros((capacity, int(starts[-1])), np.float32),
            frames=np.zeros(capacity, np.int64),
            scratch=np.zeros(scratch + len(spec.heads) * spec.head_channels, np.float32),
        )

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        kernels.advance(features, slots, self._weights, self._layout, self._memory, out)

    def reset(self, slots: NDArray[np.int32]) -> None:
        self._memory.rings[slots] = 0.0
        self._memory.frames[slots] = 0

    def snapshot(self, slot: int) -> bytes:
        phase: bytes = self._memory.frames[slot].tobytes()
        rings: bytes = self._memory.rings[slot].tobytes()
        return phase + rings

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + self._memory.rings[slot].nbytes
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this network has {expected} bytes, got {len(data)}: other bundle or engine?"
            )
        self._memory.frames[slot] = np.frombuffer(data[:8], np.int64)[0]
        self._memory.rings[slot] = np.frombuffer(data[8:], np.float32)


def pack(spec: NetworkSpec, weights: Mapping[str, F32]) -> kernels.Weights:
    """A bundle's tensors (inputs before outputs) in the order that the kernel reads them (outputs before inputs)."""
    heads = [f"head.{h.name}" for h in spec.heads]
    n_classes = [len(h.classes) for h in spec.heads]

    def conv(name: str) -> F32:
        w = weights[f"{name}.conv.weight"]  # (L, K, C_in, C_out)
        return w.reshape(len(w), -1, w.shape[-1]).transpose(0, 2, 1)

    def across(suffix: str) -> F32:
        return np.concatenate([weights[f"{h}.{suffix}"].T for h in heads])

    def stack(suffix: str) -> F32:
        return np.stack([weights[f"{h}.{suffix}"] for h in heads])

    enter = [weights[f"{h}.enter.weight"] for h in heads]  # each (n + C, G)
    plain = kernels.Weights(
        scaler=np.stack([weights["scaler.fill"], weights["scaler.shift"], weights["scaler.scale"]]),
        inputs=weights["input.weight"].T,
        conv=conv("trunk"),
        mix=weights["trunk.mix.weight"].transpose(0, 2, 1),
        first=across("first.weight"),
        enter=np.concatenate([e[n:].T for e, n in zip(enter, n_classes, strict=True)]),
        enter_probs=np.concatenate([e[:n] for e, n in zip(enter, n_classes, strict=True)]),
        head_conv=np.stack([conv(h) for h in heads]),
        head_mix=stack("mix.weight").transpose(0, 1, 3, 2),
        leave=across("leave.weight"),
        calibration=np.stack([across("calibration.scale"), across("calibration.shift")]),
        input_bias=weights["input.bias"],
        conv_bias=weights["trunk.conv.bias"],
        mix_bias=weights["trunk.mix.bias"],
        first_bias=across("first.bias"),
        enter_bias=across("enter.bias"),
        head_conv_bias=stack("conv.bias"),
        head_mix_bias=stack("mix.bias"),
        leave_bias=across("leave.bias"),
    )
    return kernels.Weights(*(np.ascontiguousarray(part, np.float32) for part in plain))
