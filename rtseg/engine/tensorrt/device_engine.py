"""An engine over steps of fixed batches on a device: which slot lies where, and which batch steps it.

Every slot has a place in rings that lie on the device for good. A step of batch b works on the first b places of a
block of them; the smallest batch that holds the slots in question is taken, and where they are more than the largest
batch has places, blocks of it are stepped. Places that are not asked are stepped along and do not move on, which takes
nothing from them (`onnx_graph` says why). Batches share the rings, so changing from one to another costs nothing.

Knows no TensorRT and no CUDA: it is handed a `Device` and what was loaded there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.base import Engine
from rtseg.engine.onnx.onnx_graph import (
    FEATURES,
    FRAME,
    PROBABILITIES,
    cache_dtypes,
    cache_shapes,
    past_name,
    present_name,
)
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.rounds import rounds
from rtseg.engine.tensorrt.device import Device, Work
from rtseg.errors import EngineError

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

ALIGNED = 256
"""Bytes that every tensor's address is a multiple of, as TensorRT wants it."""


class Step(Protocol):
    """The network's step for a fixed batch, loaded on a device."""

    batch: int
    scratch_bytes: int
    """Memory that it works in; steps that do not run at the same time may share it."""

    def bound(self, addresses: Mapping[str, int], scratch: int) -> tuple[Work, bool]:
        """What enqueues it on tensors at these addresses, by name; and whether that may be recorded."""


class DeviceEngine(Engine):
    """Engines of this kind differ from the CPU's by rounding: not `exact`.

    steps: of different batches. least: the smallest batch that may be taken from now on, for whoever compares them one
    by one. Raises EngineError where the device has no room.
    """

    exact = False

    def __init__(
        self, name: str, spec: NetworkSpec, capacity: int, steps: Sequence[Step], device: Device, precision: Precision
    ) -> None:
        super().__init__(spec, capacity)
        self.name, self.least = name, 1
        self._device = device
        chosen = {step.batch: step for step in steps if step.batch in batches_for(capacity, [s.batch for s in steps])}
        self.batches = sorted(chosen)
        self._largest = self.batches[-1]
        self._frames = np.zeros(-(-capacity // self._largest) * self._largest, np.int64)
        self._rings = [
            _Rings(device, spec, self._largest, precision) for _ in range(len(self._frames) // self._largest)
        ]
        self._staging = device.pinned(max(self._rings[0].slot_bytes, 1))
        # Steps run one after the other: they work in the same memory.
        scratch = device.memory(max(step.scratch_bytes for step in chosen.values()))
        smaller = [_Window(device, chosen[b], spec, self._rings[0], 0, scratch) for b in self.batches[:-1]]
        step, size = chosen[self._largest], self._largest
        self._blocks = [_Window(device, step, spec, ring, i * size, scratch) for i, ring in enumerate(self._rings)]
        self._windows = [*smaller, self._blocks[0]]

    def step(self, features: F32, slots: I32, out: F32) -> None:
        self._device.enter()
        for rows in rounds(slots):
            self._round(features, slots, out, rows)

    def reset(self, slots: I32) -> None:
        self._device.enter()
        for first, n in _runs(slots, self._largest):
            self._rings[first // self._largest].clear(self._device, first % self._largest, n)
        self._device.wait()
        self._frames[slots] = 0

    def snapshot(self, slot: int) -> bytes:
        self._device.enter()
        for part, address in self._parts(slot):
            self._device.copy_out(part, address)
        self._device.wait()
        return bytes(self._frames[slot].tobytes() + self._staging.tobytes())

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + self._rings[0].slot_bytes
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this network has {expected} bytes, got {len(data)}: other bundle, engine or precision?"
            )
        self._device.enter()
        self._staging[:] = np.frombuffer(data, np.uint8, offset=8)
        for part, address in self._parts(slot):
            self._device.copy_in(address, part)
        self._device.wait()
        self._frames[slot] = np.frombuffer(data, np.int64, 1)[0]

    def _round(self, features: F32, slots: I32, out: F32, rows: I32 | slice) -> None:
        """One launch for rows of different slots, or one for each block that has any."""
        chosen = slots[rows]
        window = self._window(int(chosen.max()))
        if window is not None:
            window.go(features[rows], chosen, self._frames)
            self._device.wait()
            out[rows] = window.out[chosen]
            self._frames[chosen] += 1
            return
        numbers = np.arange(len(slots), dtype=np.int32)[rows]
        block_of = chosen // self._largest
        parts = [(self._blocks[block], numbers[block_of == block]) for block in np.unique(block_of)]
        for window, part in parts:
            window.go(features[part], slots[part], self._frames)
        self._device.wait()
        for window, part in parts:
            out[part] = window.out[slots[part] - window.first]
        self._frames[chosen] += 1

    def _window(self, highest: int) -> _Window | None:
        """The smallest that holds all slots up to this one; None = there is none."""
        needed = max(highest + 1, self.least)
        return next((window for window in self._windows if window.batch >= needed), None)

    def _parts(self, slot: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Each of a slot's rings: its part of the staging memory, and its address."""
        rings, place, at = self._rings[slot // self._largest], slot % self._largest, 0
        for address, n_bytes in rings.of(place, 1):
            yield self._staging[at : at + n_bytes], address
            at += n_bytes


class _Rings:
    """Every layer's ring for a block of slots, one stretch of memory a layer, slot after slot."""

    def __init__(self, device: Device, spec: NetworkSpec, places: int, precision: Precision) -> None:
        shapes, dtypes = cache_shapes(spec, "in_place", 1), cache_dtypes(spec, precision)
        self._sizes = [int(np.prod(s)) * np.dtype(d).itemsize for s, d in zip(shapes, dtypes, strict=True)]
        self._addresses = [device.memory(places * size) for size in self._sizes]
        self.slot_bytes = sum(self._sizes)

    def bindings(self) -> dict[str, int]:
        """Tensor -> address: a layer's cache before and after the step lie in the same memory."""
        names = [(past_name(i), present_name(i)) for i in range(len(self._sizes))]
        return {name: at for pair, at in zip(names, self._addresses, strict=True) for name in pair}

    def of(self, place: int, n: int) -> Iterator[tuple[int, int]]:
        """Address and bytes of `n` places in every layer."""
        for address, size in zip(self._addresses, self._sizes, strict=True):
            yield address + place * size, n * size

    def clear(self, device: Device, place: int, n: int) -> None:
        """Zeros: streams that have seen nothing."""
        for address, n_bytes in self.of(place, n):
            device.clear(address, n_bytes)


class _Window:
    """A step bound to the first places of a block: memory here and there for what goes in and out, and the recording.

    first: the slot of its first place. Features and frame numbers lie together, so that one copy takes both.
    """

    def __init__(self, device: Device, step: Step, spec: NetworkSpec, rings: _Rings, first: int, scratch: int) -> None:
        self.batch, self.first = step.batch, first
        rows, features_bytes = step.batch, 4 * step.batch * spec.n_features
        frames_at = -(-features_bytes // ALIGNED) * ALIGNED
        here_in = device.pinned(frames_at + 8 * rows)
        here_out = device.pinned(4 * rows * spec.n_outputs)
        there_in, there_out = device.memory(here_in.nbytes), device.memory(here_out.nbytes)
        self._features = here_in[:features_bytes].view(np.float32).reshape(rows, spec.n_features)
        self._frames = here_in[frames_at:].view(np.int64)
        self.out = here_out.view(np.float32).reshape(rows, spec.n_outputs)
        addresses = {FEATURES: there_in, FRAME: there_in + frames_at, PROBABILITIES: there_out}
        enqueue, may_record = step.bound(addresses | rings.bindings(), scratch)

        def work() -> None:
            device.copy_in(there_in, here_in)
            enqueue()
            device.copy_out(here_out, there_out)

        work()  # what is made ready at the first use must not be in the recording; nobody's frame moves on
        device.wait()
        self._launch: Callable[[], None] = device.recorded(work) if may_record else work

    def go(self, features: F32, slots: I32, frames: NDArray[np.int64]) -> None:
        """Enqueue the step of all places, with these features for some of them."""
        self._features[slots - self.first] = features
        self._frames[:] = frames[self.first : self.first + self.batch]
        self._launch()


def batches_for(capacity: int, batches: Sequence[int]) -> list[int]:
    """Those that serve so many streams: up to the smallest that holds all, or all of them, which then take turns."""
    known = sorted(set(batches))
    enough = [batch for batch in known if batch >= capacity]
    return [batch for batch in known if batch <= (enough or known)[0 if enough else -1]]


def _runs(slots: I32, block: int) -> Iterator[tuple[int, int]]:
    """First and number of slots that lie side by side in one block."""
    known = np.unique(slots)
    ends = np.flatnonzero((np.diff(known) != 1) | (known[1:] % block == 0)) + 1
    for run in np.split(known, ends):
        if len(run):
            yield int(run[0]), len(run)
