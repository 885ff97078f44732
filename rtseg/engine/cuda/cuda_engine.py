"""The `cuda` engine: a whole step of all streams in one launch of a Triton kernel, on an NVIDIA GPU.

Needs torch with CUDA (device memory, graphs) and Triton, which comes with it: what `why_unavailable` looks for. For each
batch size of a fixed row there is one captured CUDA graph: copy in, kernel, copy out; a step replays it and waits once.
Smaller batches are filled up with rows that are not there. With TRITON_INTERPRET=1 the kernel runs on the CPU instead,
slowly, and without graphs: that is for tests.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
from collections.abc import Mapping
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
    """How the kernel is cut: streams per program (1, or 16 and more), places at once, tile of a product, warps."""

    streams: int
    places: int
    inputs: int
    outputs: int
    warps: int


TILES = ((64, Tiles(1, 512, 128, 64, 16)), (2048, Tiles(16, 64, 32, 64, 4)), (1 << 31, Tiles(64, 32, 32, 64, 8)))
"""Up to so many rows: few streams get a program each, so that weights stream in wide; many share what is loaded."""
GROWTH = 4
"""Batch sizes: 1, 4, 16, ... up to the capacity."""


def interpreted() -> bool:
    """Whether Triton's interpreter is asked for."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def why_unavailable() -> str | None:
    """Why this engine cannot run here, in one line; None = nothing speaks against it. Loads neither library."""
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
    """The fused step. Float32 throughout (no TF32); sums run in another order than in numba: not `exact`.

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
            self._device = _Device(torch, self._program, spec, capacity)
        except RuntimeError as error:  # torch's, for CUDA's errors and for memory that is not there
            raise EngineError(f"the cuda engine cannot run here: {str(error).splitlines()[0]}") from error

    def step(self, features: F32, slots: I32, out: F32) -> None:
        for rows in rounds(slots):
            self._device.step(features, slots, out, rows)

    def reset(self, slots: I32) -> None:
        with self._device.in_order():
            index = self._torch.from_numpy(np.asarray(slots, np.int64)).to(self._device.memory.device)
            self._device.memory[index] = 0.0
            self._device.frames[index] = 0

    def snapshot(self, slot: int) -> bytes:
        with self._device.in_order():
            frame = self._device.frames[slot].cpu().numpy()
            rings = self._device.memory[slot].cpu().numpy()
        return bytes(frame.tobytes() + rings.tobytes())

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + 4 * self._program.ring_floats
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this network has {expected} bytes, got {len(data)}: other bundle or engine?"
            )
        with self._device.in_order():
            self._device.frames[slot] = int(np.frombuffer(data, np.int64, 1)[0])
            rings = self._torch.from_numpy(np.frombuffer(data, np.float32, offset=8).copy())
            self._device.memory[slot].copy_(rings)


class _Device:
    """What lies on the GPU: weights, program, every slot's rings; and a graph for each batch size."""

    def __init__(self, torch: Any, program: StepProgram, spec: NetworkSpec, capacity: int) -> None:
        self._torch = torch
        where = "cpu" if interpreted() else "cuda"
        self._stream = None if interpreted() else torch.cuda.Stream()
        self.memory = torch.zeros((capacity, max(program.ring_floats, 1)), device=where)
        self.frames = torch.zeros(capacity, dtype=torch.int64, device=where)
        self._code = torch.from_numpy(program.code).to(where)
        self._weights = torch.from_numpy(program.weights).to(where)
        self._program = program
        with self.in_order():
            self._batches = [_Batch(self, torch, spec, rows, where) for rows in batch_sizes(capacity)]

    def step(self, features: F32, slots: I32, out: F32, rows: I32 | slice) -> None:
        """One launch for rows of different slots, or several where they are more than the largest batch."""
        chosen = slots[rows]
        largest = self._batches[-1].rows
        for first in range(0, len(chosen), largest):
            part = rows if len(chosen) <= largest else np.arange(len(slots), dtype=np.int32)[rows][first:][:largest]
            n = min(len(chosen) - first, largest)
            batch = next(batch for batch in self._batches if batch.rows >= n)
            batch.features[:n] = features[part]
            batch.slots[:n] = slots[part]
            batch.slots[n:] = -1
            batch.go()
            out[part] = batch.out[:n]

    def in_order(self) -> Any:
        """Work in here comes after all steps before it and is done when this is left."""
        return _InOrder(self._torch, self._stream)

    def launch(self, features: Any, slots: Any, out: Any, scratch: Any, tiles: Tiles) -> None:
        from rtseg.engine.cuda.cuda_kernel import step_kernel

        blocks = len(slots) // tiles.streams
        programs = len(scratch) // tiles.streams
        widest = max(2, 1 << (self._program.widest - 1).bit_length())
        constants = {"BB": tiles.streams, "BI": tiles.places, "BK": tiles.inputs, "BN": tiles.outputs, "NP": widest}
        tensors = (features, slots, self.frames, self.memory, out, self._code, self._weights, scratch)
        step_kernel[(programs,)](*tensors, blocks, **constants, num_warps=tiles.warps, num_stages=1)

    def scratch(self, rows: int, tiles: Tiles) -> Any:
        """A scratch row for every stream that is in work at once: all of a small batch, some of a large one."""
        programs = rows // tiles.streams
        if self._stream is not None:
            cores = self._torch.cuda.get_device_properties(self._stream.device).multi_processor_count
            programs = min(programs, 2 * cores)
        shape = (programs * tiles.streams, self._program.scratch_floats)
        return self._torch.zeros(shape, device=self.memory.device)


class _Batch:
    """One batch size: host memory that the GPU reads and writes (pinned), its copies there, and the captured graph.

    features, slots, out: numpy views of the host memory. Features and slots lie together, so that one copy takes both.
    """

    def __init__(self, device: _Device, torch: Any, spec: NetworkSpec, rows: int, where: str) -> None:
        self.rows, self._wait = rows, torch.cuda.synchronize
        tiles = tiles_of(rows)
        pinned = where == "cuda"
        n_floats = rows * spec.n_features
        host_in = torch.zeros(n_floats + rows, dtype=torch.int32, pin_memory=pinned)
        host_out = torch.zeros((rows, spec.n_outputs), pin_memory=pinned)
        there_in, there_out = host_in.to(where, copy=True), host_out.to(where, copy=True)
        features = there_in[:n_floats].view(torch.float32).view(rows, spec.n_features)
        self.features = host_in[:n_floats].view(torch.float32).view(rows, spec.n_features).numpy()
        self.slots, self.out = host_in[n_floats:].numpy(), host_out.numpy()
        self.slots[:] = -1
        scratch = device.scratch(rows, tiles)

        def work() -> None:
            there_in.copy_(host_in, non_blocking=True)
            device.launch(features, there_in[n_floats:], there_out, scratch, tiles)
            host_out.copy_(there_out, non_blocking=True)

        self._work, self._graph = work, None
        if pinned:
            work()  # compiles; no row is there yet, so that nothing is stepped
            torch.cuda.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=device._stream):
                work()

    def go(self) -> None:
        """Step the rows that are there, and wait."""
        if self._graph is None:
            self._work()
            return
        self._graph.replay()
        self._wait()


class _InOrder:
    def __init__(self, torch: Any, stream: Any) -> None:
        self._stream = stream
        self._inside = torch.cuda.stream(stream) if stream is not None else None

    def __enter__(self) -> None:
        if self._inside is not None:
            self._inside.__enter__()

    def __exit__(self, *error: object) -> None:
        if self._inside is not None:
            self._inside.__exit__(*error)
            self._stream.synchronize()


def batch_sizes(capacity: int) -> list[int]:
    """Rows of the fixed batches: 1, 4, 16, ... and `capacity`, each rounded up to whole blocks."""
    wanted = [1]
    while wanted[-1] * GROWTH < capacity:
        wanted.append(wanted[-1] * GROWTH)
    blocks = [(size, tiles_of(size).streams) for size in (*wanted, capacity)]
    return sorted({-(-size // streams) * streams for size, streams in blocks})


def tiles_of(rows: int) -> Tiles:
    """How the kernel is cut for a batch of so many rows."""
    return next(tiles for most, tiles in TILES if rows <= most)
