"""The CPU engine: a fused step in numba. The default wherever there is no GPU, and what every other one is checked by.

Lays a bundle's weights out once at load; the computing is in `numba_kernels`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
        c, g, k, n_heads = spec.channels, spec.head_channels, spec.kernel, len(spec.heads)
        self._tape = tape(spec, weights)
        numbers = (c, g, k, len(spec.dilations), len(spec.head_dilations), n_heads, len(spec.cells), len(spec.views))
        cells = [size for cell in spec.cells for size in (cell.encoder, cell.hidden, cell.period)]
        views = [column for view in spec.views for column in view]
        self._sizes = np.array(
            [*numbers, *spec.dilations, *spec.head_dilations, *spec.offsets, *cells, *views], np.int64
        )
        self._ring_floats = sum(((k - 1) * d + 1) * c for d in spec.dilations)
        self._ring_floats += n_heads * sum(((k - 1) * d + 1) * g for d in spec.head_dilations)
        self._ring_floats += sum(cell.period * cell.hidden for cell in spec.cells)
        windows = k * (len(spec.dilations) * c + len(spec.head_dilations) * n_heads * g)
        # A cell needs room for what enters it and, beside that, first for a view and its code, then for its gates.
        y = [2 * c, 2 * g]
        y += [spec.entering(q) + max(spec.n_features + q.encoder, 6 * q.hidden) for q in spec.cells]
        scratch = spec.n_features + spec.width + 2 * spec.n_outputs + n_heads * g + windows + max(y)
        self._scratch = _aligned((scratch,))
        self._memory = _aligned((capacity, int(kernels.padded(self._ring_floats))))
        self._frames = np.zeros(capacity, np.int64)

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        kernels.advance(features, slots, self._tape, self._sizes, self._memory, self._frames, self._scratch, out)

    def reset(self, slots: NDArray[np.int32]) -> None:
        self._memory[slots] = 0.0
        self._frames[slots] = 0

    def snapshot(self, slot: int) -> bytes:
        data: bytes = self._frames[slot].tobytes() + self._memory[slot, : self._ring_floats].tobytes()
        return data

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + 4 * self._ring_floats
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this network has {expected} bytes, got {len(data)}: other bundle or engine?"
            )
        self._frames[slot] = np.frombuffer(data[:8], np.int64)[0]
        self._memory[slot, : self._ring_floats] = np.frombuffer(data[8:], np.float32)


def tape(spec: NetworkSpec, weights: Mapping[str, F32]) -> F32:
    """A bundle's tensors in the order in which a step reads them, each from a cache line's beginning on."""
    parts = [np.ravel(part) for part in _in_order(spec, weights)]
    filled = _aligned((sum(int(kernels.padded(part.size)) for part in parts),))
    at = 0
    for part in parts:
        filled[at : at + part.size] = part
        at += int(kernels.padded(part.size))
    return filled


def _in_order(spec: NetworkSpec, w: Mapping[str, F32]) -> Iterator[F32]:
    heads = [f"head.{h.name}" for h in spec.heads]
    n_classes = [len(h.classes) for h in spec.heads]
    yield from (w["scaler.fill"], w["scaler.shift"], w["scaler.scale"], w["scaler.clip"])
    if spec.channels:
        yield from (w["input.bias"], w["input.weight"].T)
        yield from _residual(w, "trunk")
    for number in range(len(spec.cells)):
        for part in ("encode", "enter", "recur"):
            yield from (w[f"cell.{number}.{part}.bias"], w[f"cell.{number}.{part}.weight"].T)
    refined = spec.head_channels > 0
    enter = [w[f"{h}.enter.weight"] for h in heads] if refined else []  # each (n + D, G): probabilities, then the trunk
    yield np.concatenate([w[f"{h}.{part}.bias"] for part in ("first", "enter")[: 1 + refined] for h in heads])
    yield np.concatenate(
        [w[f"{h}.first.weight"].T for h in heads] + [e[n:].T for e, n in zip(enter, n_classes, strict=refined)]
    )
    for i, (h, n) in enumerate(zip(heads, n_classes, strict=True)):
        if refined:
            yield enter[i][:n]
            yield from _residual(w, h)
            yield from (w[f"{h}.leave.bias"], w[f"{h}.leave.weight"].T)
        yield from (w[f"{h}.calibration.scale"], w[f"{h}.calibration.shift"])


def _residual(w: Mapping[str, F32], name: str) -> Iterator[F32]:
    for layer, conv in enumerate(w[f"{name}.conv.weight"]):  # (K, C_in, C_out)
        yield from (w[f"{name}.conv.bias"][layer], conv.reshape(-1, conv.shape[-1]).T)
        yield from (w[f"{name}.mix.bias"][layer], w[f"{name}.mix.weight"][layer].T)


def _aligned(shape: tuple[int, ...]) -> F32:
    """Zeros that begin at a cache line."""
    size = int(np.prod(shape))
    room = np.zeros(size + kernels.LINE, np.float32)
    start = -room.ctypes.data // room.itemsize % kernels.LINE
    return room[start : start + size].reshape(shape)
