"""An engine over steps of fixed batch sizes on a device: where each slot's state lies, and which step advances it.

Every slot has a fixed place in ring buffers that stay on the device. A step of batch size b works on the first b places
of a block; the smallest step that holds all slots of a batch is taken. If even the largest step is too small, the slots
are divided into blocks of its size, and each block is stepped. Places without a frame are stepped too, but their frame
number stays, so they lose nothing (`onnx_graph` says why). All steps share the rings, so that changing from one to
another copies nothing.

Knows neither TensorRT nor CUDA: it gets a `Device` and the steps that were loaded there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.base import Engine
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.onnx.step_interface import (
    FEATURES,
    FRAME,
    PROBABILITIES,
    cache_dtypes,
    cache_shapes,
    past_name,
    present_name,
)
from rtseg.engine.rounds import rounds
from rtseg.engine.tensorrt.device import Device, Enqueue
from rtseg.errors import EngineError

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

ALIGNED = 256
"""Every tensor's address is a multiple of this many bytes, as TensorRT requires."""


class Step(Protocol):
    """The network's step for a fixed batch, loaded on a device."""

    batch: int
    scratch_bytes: int
    """Working memory; steps that do not run at the same time may share it."""

    def bind(self, addresses: Mapping[str, int], scratch: int) -> tuple[Enqueue, bool]:
        """Bind tensors (name -> address): what enqueues the step on them, and whether that may be captured."""


class DeviceEngine(Engine):
    """Its answers differ from the CPU engine's by rounding: not `exact`.

    steps: of different batch sizes. smallest_batch: steps of smaller batches are not used; raising it lets a comparison
    reach each step in turn. Raises EngineError where the device has too little memory.
    """

    exact = False

    def __init__(
        self, name: str, spec: NetworkSpec, capacity: int, steps: Sequence[Step], device: Device, precision: Precision
    ) -> None:
        super().__init__(spec, capacity)
        self.name, self.smallest_batch = name, 1
        self._device = device
        chosen = {step.batch: step for step in steps if step.batch in batches_for(capacity, [s.batch for s in steps])}
        self.batches = sorted(chosen)
        self._largest = self.batches[-1]
        # Frame numbers stay on the host: a step copies them in with the features, and only slots with a frame count on.
        self._frames = np.zeros(-(-capacity // self._largest) * self._largest, np.int64)
        # Whole blocks: the last one has places beyond the capacity, which are never used.
        self._rings = [
            _Rings(device, spec, self._largest, precision) for _ in range(len(self._frames) // self._largest)
        ]
        self._staging = device.allocate_pinned(max(self._rings[0].slot_bytes, 1))
        # Steps run one after the other, so they can share their working memory.
        scratch = device.allocate(max(step.scratch_bytes for step in chosen.values()))
        # Smaller steps are bound to the first block only: slots beyond it are stepped in whole blocks.
        smaller = [_BoundStep(device, chosen[b], spec, self._rings[0], 0, scratch) for b in self.batches[:-1]]
        step, size = chosen[self._largest], self._largest
        self._blocks = [_BoundStep(device, step, spec, ring, i * size, scratch) for i, ring in enumerate(self._rings)]
        self._bound_steps = [*smaller, self._blocks[0]]

    def step(self, features: F32, slots: I32, out: F32) -> None:
        self._device.make_current()
        for rows in rounds(slots):
            self._step_round(features, slots, out, rows)

    def reset(self, slots: I32) -> None:
        self._device.make_current()
        # Neighbouring slots lie side by side in every ring, so one fill a layer clears a run of them.
        for first, n in _consecutive_slots(slots, self._largest):
            self._rings[first // self._largest].clear(self._device, first % self._largest, n)
        self._device.synchronize()
        self._frames[slots] = 0

    def snapshot(self, slot: int) -> bytes:
        self._device.make_current()
        for staged, address in self._slot_memory(slot):
            # One copy a layer, and one wait for all of them.
            self._device.copy_to_host(staged, address)
        self._device.synchronize()
        return bytes(self._frames[slot].tobytes() + self._staging.tobytes())

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + self._rings[0].slot_bytes
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this network has {expected} bytes, got {len(data)}: other bundle, engine or precision?"
            )
        self._device.make_current()
        self._staging[:] = np.frombuffer(data, np.uint8, offset=8)
        for staged, address in self._slot_memory(slot):
            self._device.copy_to_device(address, staged)
        self._device.synchronize()
        self._frames[slot] = np.frombuffer(data, np.int64, 1)[0]

    def _step_round(self, features: F32, slots: I32, out: F32, rows: I32 | slice) -> None:
        """Step rows of different slots: one launch, or one for each block that has any of them."""
        chosen = slots[rows]
        # Usually one step holds all slots: a session pool hands out low slots first.
        bound = self._smallest_step_for(int(chosen.max()))
        if bound is not None:
            bound.launch(features[rows], chosen, self._frames)
            self._device.synchronize()
            out[rows] = bound.out[chosen]
            self._frames[chosen] += 1
            return
        numbers = np.arange(len(slots), dtype=np.int32)[rows]
        block_of = chosen // self._largest
        parts = [(self._blocks[block], numbers[block_of == block]) for block in np.unique(block_of)]
        # All launches first, one wait for all: blocks have buffers of their own, so none overwrites another's answers.
        for bound, part in parts:
            bound.launch(features[part], slots[part], self._frames)
        self._device.synchronize()
        for bound, part in parts:
            out[part] = bound.out[slots[part] - bound.first_slot]
        self._frames[chosen] += 1

    def _smallest_step_for(self, highest: int) -> _BoundStep | None:
        """The smallest step that holds all slots up to `highest`; None = even the largest is too small."""
        needed = max(highest + 1, self.smallest_batch)
        return next((bound for bound in self._bound_steps if bound.batch >= needed), None)

    def _slot_memory(self, slot: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """For each layer's ring of a slot, its part of the staging memory and its address on the device."""
        rings, place, at = self._rings[slot // self._largest], slot % self._largest, 0
        for address, n_bytes in rings.stretches(place, 1):
            yield self._staging[at : at + n_bytes], address
            at += n_bytes


class _Rings:
    """The ring buffers of a block of slots: for each layer one stretch of memory, slot after slot."""

    def __init__(self, device: Device, spec: NetworkSpec, places: int, precision: Precision) -> None:
        shapes, dtypes = cache_shapes(spec, "in_place", 1), cache_dtypes(spec, precision)
        self._sizes = [int(np.prod(s)) * np.dtype(d).itemsize for s, d in zip(shapes, dtypes, strict=True)]
        self._addresses = [device.allocate(places * size) for size in self._sizes]
        self.slot_bytes = sum(self._sizes)

    def bindings(self) -> dict[str, int]:
        """Tensor name -> address. A layer's cache before and after the step is the same memory: no state is copied."""
        names = [(past_name(i), present_name(i)) for i in range(len(self._sizes))]
        return {name: address for pair, address in zip(names, self._addresses, strict=True) for name in pair}

    def stretches(self, place: int, n: int) -> Iterator[tuple[int, int]]:
        """For each layer the address and the bytes of `n` neighbouring places."""
        for address, size in zip(self._addresses, self._sizes, strict=True):
            yield address + place * size, n * size

    def clear(self, device: Device, place: int, n: int) -> None:
        """Fill `n` places with zeros, the state of streams that have seen nothing."""
        for address, n_bytes in self.stretches(place, n):
            device.zero(address, n_bytes)


class _BoundStep:
    """A step bound to the first places of a block, with its buffers on host and device and its captured graph.

    first_slot: the slot of its first place. out (batch, P): the answers, once the device was waited for.
    """

    def __init__(
        self, device: Device, step: Step, spec: NetworkSpec, rings: _Rings, first_slot: int, scratch: int
    ) -> None:
        self.batch, self.first_slot = step.batch, first_slot
        rows, features_bytes = step.batch, 4 * step.batch * spec.n_features
        # Features and frame numbers share one buffer, so that one copy brings both to the device.
        frames_offset = -(-features_bytes // ALIGNED) * ALIGNED
        host_in = device.allocate_pinned(frames_offset + 8 * rows)
        host_out = device.allocate_pinned(4 * rows * spec.n_outputs)
        device_in, device_out = device.allocate(host_in.nbytes), device.allocate(host_out.nbytes)
        self._features = host_in[:features_bytes].view(np.float32).reshape(rows, spec.n_features)
        self._frames = host_in[frames_offset:].view(np.int64)
        self.out = host_out.view(np.float32).reshape(rows, spec.n_outputs)
        addresses = {FEATURES: device_in, FRAME: device_in + frames_offset, PROBABILITIES: device_out}
        enqueue_step, may_capture = step.bind(addresses | rings.bindings(), scratch)

        def enqueue() -> None:
            device.copy_to_device(device_in, host_in)
            enqueue_step()
            device.copy_to_host(host_out, device_out)

        # The first run does what a capture must not contain. No frame number moves on, so no stream loses anything.
        enqueue()
        device.synchronize()
        self._launch: Enqueue = device.capture(enqueue) if may_capture else enqueue

    def launch(self, features: F32, slots: I32, frames: NDArray[np.int64]) -> None:
        """Enqueue the step of all its places, with `features` for the slots that have a frame."""
        # Other places keep the features of an earlier frame: they are stepped too, and their answers are not read.
        self._features[slots - self.first_slot] = features
        self._frames[:] = frames[self.first_slot : self.first_slot + self.batch]
        self._launch()


def batches_for(capacity: int, batches: Sequence[int]) -> list[int]:
    """The batch sizes, ascending, that serve `capacity` streams: none larger than the smallest that holds them all."""
    known = sorted(set(batches))
    enough = [batch for batch in known if batch >= capacity]
    return [batch for batch in known if batch <= (enough or known)[0 if enough else -1]]


def _consecutive_slots(slots: I32, block: int) -> Iterator[tuple[int, int]]:
    """The slots as runs (first slot, number of slots) that lie side by side within one block."""
    ordered = np.unique(slots)
    ends = np.flatnonzero((np.diff(ordered) != 1) | (ordered[1:] % block == 0)) + 1
    for run in np.split(ordered, ends):
        if len(run):
            yield int(run[0]), len(run)
