"""The `cuda` engine: a whole step of all streams in one launch of a Triton kernel, on an NVIDIA GPU.

Needs torch with CUDA (device memory, graphs) and Triton, which comes with it. For each of a few batch sizes there is
one captured CUDA graph (copy in, kernel, copy out): a step replays the smallest that holds its rows, marks the rest as
unused, and waits once. With TRITON_INTERPRET=1 the kernel runs on the CPU instead, slowly and without graphs, for
tests.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.base import Engine
from rtseg.engine.cuda.step_program import StepProgram, step_program
from rtseg.engine.rounds import rounds
from rtseg.errors import EngineError
from rtseg.system import nvidia

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]


@dataclass(frozen=True)
class Tiles:
    """How the kernel divides its work.

    streams: of a program, 1 or at least 16 (what a matrix product on a GPU takes). places: numbers that an elementwise
    operation takes at once. inputs, outputs: of a product's tile. warps: of a program.
    """

    streams: int
    places: int
    inputs: int
    outputs: int
    warps: int


TILES = ((64, Tiles(1, 512, 128, 64, 16)), (2048, Tiles(16, 64, 32, 64, 4)), (1 << 31, Tiles(64, 32, 32, 64, 8)))
"""By rows of a batch, at most: few streams get a program each and read weights in wide loads; many share each load."""
GROWTH = 4
"""Batch sizes are 1, 4, 16, ... up to the capacity: more would cost loading time, fewer would fill too many rows."""


def interpreted() -> bool:
    """Whether the environment asks for Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_unavailable() -> str | None:
    """Why this engine cannot run here, in one line; None = nothing speaks against it. Loads no library."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if not interpreted():
        found = nvidia.gpus()
        if isinstance(found, str):
            return found
    if missing:
        return f"the package {missing[0]!r} is not installed (PyTorch for CUDA brings both torch and triton)"
    version = importlib.metadata.version("torch")
    if version.endswith("+cpu") and not interpreted():
        return f"torch {version} is built without CUDA: install PyTorch for CUDA"
    return None


class CudaEngine(Engine):
    """The step in one kernel. Float32 throughout (no TF32); sums have another order than in numba: not `exact`.

    Raises EngineError where it cannot run: no GPU, no torch with CUDA, no Triton, or too little device memory.
    """

    name = "cuda"
    exact = False

    def __init__(self, spec: NetworkSpec, weights: Mapping[str, F32], capacity: int) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise EngineError(f"the cuda engine cannot run here: {reason}")
        import torch

        if not interpreted() and not torch.cuda.is_available():
            built = torch.version.cuda
            raise EngineError(
                "the cuda engine cannot run here: "
                + (f"torch {torch.__version__} does not reach the GPU" if built else "this torch is built without CUDA")
            )
        super().__init__(spec, capacity)
        self._torch = torch
        self._program = step_program(spec, weights)
        try:
            self._device = _DeviceState(torch, self._program, spec, capacity)
        except RuntimeError as error:  # torch raises it for all errors of CUDA, too little memory included
            raise EngineError(f"the cuda engine cannot run here: {str(error).splitlines()[0]}") from error

    def step(self, features: F32, slots: I32, out: F32) -> None:
        # A launch steps a slot once: its programs run in any order.
        for rows in rounds(slots):
            self._device.step(features, slots, out, rows)

    def reset(self, slots: I32) -> None:
        with self._device.on_stream():
            index = self._torch.from_numpy(np.asarray(slots, np.int64)).to(self._device.memory.device)
            self._device.memory[index] = 0.0
            self._device.frames[index] = 0

    def snapshot(self, slot: int) -> bytes:
        with self._device.on_stream():
            frame = self._device.frames[slot].cpu().numpy()
            rings = self._device.memory[slot].cpu().numpy()
        return bytes(frame.tobytes() + rings.tobytes())

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + 4 * self._program.ring_floats
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this network has {expected} bytes, got {len(data)}: other bundle or engine?"
            )
        with self._device.on_stream():
            self._device.frames[slot] = int(np.frombuffer(data, np.int64, 1)[0])
            rings = self._torch.from_numpy(np.frombuffer(data, np.float32, offset=8).copy())
            self._device.memory[slot].copy_(rings)


class _DeviceState:
    """Everything on the GPU: weights, program, every slot's rings and frame number, and a graph for each batch size."""

    def __init__(self, torch: Any, program: StepProgram, spec: NetworkSpec, capacity: int) -> None:
        self._torch = torch
        where = "cpu" if interpreted() else "cuda"
        # A stream of its own: torch's default stream cannot be captured.
        self._stream = None if interpreted() else torch.cuda.Stream()
        self.memory = torch.zeros((capacity, max(program.ring_floats, 1)), device=where)
        self.frames = torch.zeros(capacity, dtype=torch.int64, device=where)
        self._code = torch.from_numpy(program.code).to(where)
        self._weights = torch.from_numpy(program.weights).to(where)
        self._program = program
        with self.on_stream():
            self._batches = [_Batch(self, torch, spec, rows, where) for rows in batch_sizes(capacity)]

    def step(self, features: F32, slots: I32, out: F32, rows: I32 | slice) -> None:
        """Step rows of different slots: one launch, or several where they are more than the largest batch."""
        chosen = slots[rows]
        largest = self._batches[-1].rows
        for first in range(0, len(chosen), largest):
            # The usual case keeps the slice: views of the rows instead of copies.
            part = rows if len(chosen) <= largest else np.arange(len(slots), dtype=np.int32)[rows][first:][:largest]
            n = min(len(chosen) - first, largest)
            batch = next(batch for batch in self._batches if batch.rows >= n)
            batch.features[:n] = features[part]
            batch.slots[:n] = slots[part]
            # The buffers still hold the slots of the batch before.
            batch.slots[n:] = -1
            batch.run()
            out[part] = batch.out[:n]

    @contextmanager
    def on_stream(self) -> Iterator[None]:
        """Work inside runs after all steps before it, and is done when the context is left."""
        if self._stream is None:
            yield
            return
        with self._torch.cuda.stream(self._stream):
            try:
                yield
            finally:
                self._stream.synchronize()

    def launch(self, features: Any, slots: Any, out: Any, scratch: Any, tiles: Tiles) -> None:
        """Enqueue the kernel for one batch, whose rows are a multiple of the tiles' streams."""
        # Here, not at the top: whether this engine can run is asked where Triton is not installed.
        from rtseg.engine.cuda.cuda_kernel import step_kernel

        blocks = len(slots) // tiles.streams
        programs = len(scratch) // tiles.streams
        widest = max(2, 1 << (self._program.widest - 1).bit_length())  # Triton's ranges are powers of two
        constants = {"BB": tiles.streams, "BI": tiles.places, "BK": tiles.inputs, "BN": tiles.outputs, "NP": widest}
        tensors = (features, slots, self.frames, self.memory, out, self._code, self._weights, scratch)
        step_kernel[(programs,)](*tensors, blocks, **constants, num_warps=tiles.warps, num_stages=1)

    def scratch(self, rows: int, tiles: Tiles) -> Any:
        """A scratch row for every stream that runs at once: all streams of a small batch, some of a large one."""
        programs = rows // tiles.streams
        if self._stream is not None:
            cores = self._torch.cuda.get_device_properties(self._stream.device).multi_processor_count
            programs = min(programs, 2 * cores)  # more would wait for a free core anyway
        shape = (programs * tiles.streams, self._program.scratch_floats)
        return self._torch.zeros(shape, device=self.memory.device)


class _Batch:
    """One batch size: its buffers on the host (pinned) and on the GPU, and its captured graph.

    features, slots, out: numpy views of the host's buffers.
    """

    def __init__(self, device: _DeviceState, torch: Any, spec: NetworkSpec, rows: int, where: str) -> None:
        self.rows, self._synchronize = rows, torch.cuda.synchronize
        tiles = tiles_of(rows)
        on_gpu = where == "cuda"
        n_floats = rows * spec.n_features
        # Features and slots share one buffer of 32-bit numbers, so that one copy brings both to the GPU.
        host_in = torch.zeros(n_floats + rows, dtype=torch.int32, pin_memory=on_gpu)
        host_out = torch.zeros((rows, spec.n_outputs), pin_memory=on_gpu)
        device_in, device_out = host_in.to(where, copy=True), host_out.to(where, copy=True)
        features = device_in[:n_floats].view(torch.float32).view(rows, spec.n_features)
        self.features = host_in[:n_floats].view(torch.float32).view(rows, spec.n_features).numpy()
        self.slots, self.out = host_in[n_floats:].numpy(), host_out.numpy()
        self.slots[:] = -1  # all rows unused
        scratch = device.scratch(rows, tiles)

        def enqueue() -> None:
            device_in.copy_(host_in, non_blocking=True)
            device.launch(features, device_in[n_floats:], device_out, scratch, tiles)
            host_out.copy_(device_out, non_blocking=True)

        self._enqueue, self._graph = enqueue, None
        if on_gpu:
            # Compiling cannot be captured, so the kernel runs once before. All rows are unused: no slot is stepped.
            enqueue()
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=device._stream):
                enqueue()

    def run(self) -> None:
        """Step the rows that are in use, and wait."""
        if self._graph is None:
            self._enqueue()
            return
        self._graph.replay()
        self._synchronize()


def batch_sizes(capacity: int) -> list[int]:
    """Rows of the fixed batches, ascending: 1, 4, 16, ... and `capacity`, each rounded up to whole blocks."""
    wanted = [1]
    while wanted[-1] * GROWTH < capacity:
        wanted.append(wanted[-1] * GROWTH)
    blocks = [(size, tiles_of(size).streams) for size in (*wanted, capacity)]
    return sorted({-(-size // streams) * streams for size, streams in blocks})


def tiles_of(rows: int) -> Tiles:
    """How the kernel divides a batch of this many rows."""
    return next(tiles for most, tiles in TILES if rows <= most)
