"""The step in plain torch on a GPU: all streams in one batch, eager or as one captured CUDA graph.

For comparison with the engines, written as one would write it in torch: batched products, gathers and scatters. Runs on
the CPU as well. It is only timed and compared with the CPU engine, and never serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.base import Engine
from rtseg.errors import EngineError

F32 = NDArray[np.float32]


class BatchedTorch(Engine):
    """One batch of fixed size `capacity`; missing rows step an extra slot that no stream uses."""

    exact = False

    def __init__(
        self, spec: NetworkSpec, weights: Mapping[str, F32], capacity: int, device: str, graph: bool = False
    ) -> None:
        super().__init__(spec, capacity)
        self.name = "torch, CUDA graph" if graph else "torch, eager"
        torch.backends.cuda.matmul.allow_tf32 = False
        self._w = {name: torch.from_numpy(np.array(value)).to(device) for name, value in weights.items()}
        self._step = _Step(spec, self._w, capacity + 1, device)
        self._device, pinned = device, device == "cuda"
        self._in = torch.zeros((capacity, spec.n_features), pin_memory=pinned)
        self._slots = torch.full((capacity,), capacity, dtype=torch.int64, pin_memory=pinned)
        self._out = torch.zeros((capacity, spec.n_outputs), pin_memory=pinned)
        self._on_device = [tensor.to(device, copy=True) for tensor in (self._in, self._slots)]
        self._graph: Any = None
        with torch.inference_mode():
            if graph:
                self._capture()

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        n = len(slots)
        self._in.numpy()[:n] = features
        self._slots.numpy()[:n] = slots
        self._slots.numpy()[n:] = self.capacity
        with torch.inference_mode():
            if self._graph is None:
                self._enqueue()
            else:
                self._graph.replay()
        if self._device == "cuda":
            torch.cuda.synchronize()
        out[:] = self._out.numpy()[:n]

    def reset(self, slots: NDArray[np.int32]) -> None:
        with torch.inference_mode():
            for tensor in (*self._step.rings, *self._step.states, self._step.frames):
                tensor[torch.from_numpy(slots.astype(np.int64)).to(self._device)] = 0

    def snapshot(self, slot: int) -> bytes:
        raise EngineError(f"{self.name} is only timed: it has no snapshots")

    def restore(self, slot: int, data: bytes) -> None:
        raise EngineError(f"{self.name} is only timed: it has no snapshots")

    def _enqueue(self) -> None:
        for host, device in zip((self._in, self._slots), self._on_device, strict=True):
            device.copy_(host, non_blocking=True)
        self._out.copy_(self._step(*self._on_device), non_blocking=True)

    def _capture(self) -> None:
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):  # allocations and cuBLAS's workspaces come before the capture
                self._enqueue()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._enqueue()
        self._graph = graph
        self.reset(np.arange(self.capacity, dtype=np.int32))


class _Step:
    """features (B, F), slots (B,) -> probabilities (B, P); rings (S, depth, H, C) and states (S, period, R) move on."""

    def __init__(self, spec: NetworkSpec, w: Mapping[str, Any], n_slots: int, device: str) -> None:
        self.spec, self.w = spec, w
        names = [f"head.{head.name}" for head in spec.heads]
        blocks = [(d, 1, spec.channels) for d in spec.dilations]
        blocks += [(d, len(names), spec.head_channels) for d in spec.head_dilations]
        depths = [(spec.kernel - 1) * d + 1 for d, _, _ in blocks]
        self.rings = [
            torch.zeros((n_slots, s, h, c), device=device) for s, (_, h, c) in zip(depths, blocks, strict=True)
        ]
        self.states = [torch.zeros((n_slots, cell.period, cell.hidden), device=device) for cell in spec.cells]
        self.frames = torch.zeros(n_slots, dtype=torch.int64, device=device)
        self.taps = [torch.arange(spec.kernel, device=device) * d + 1 for d, _, _ in blocks]
        views = torch.tensor(spec.views or [list(range(1, spec.n_features + 1))], device=device)
        self.columns, self.signs = views.abs() - 1, views.sign().float()
        self.trunk = [w[f"trunk.{p}"][:, None] for p in _BLOCK] if spec.dilations else []
        stacked = spec.head_dilations
        self.heads = [torch.stack([w[f"{n}.{p}"] for n in names], 1) for p in _BLOCK] if stacked else []

    def __call__(self, features: Any, slots: Any) -> Any:
        w, spec, frame = self.w, self.spec, self.frames[slots]
        known = torch.where(torch.isnan(features), w["scaler.fill"], features)
        clip = w["scaler.clip"]
        z = torch.clamp((known - w["scaler.shift"]) * w["scaler.scale"], -clip, clip)
        parts = []
        if spec.channels:
            x = (z @ w["input.weight"] + w["input.bias"])[None]
            parts.append(self.block(x, self.trunk, 0, slots, frame)[0])
        if spec.cells:
            views = z[:, self.columns] * self.signs  # (B, V, F)
            parts += [self.cell(i, views, slots, frame) for i in range(len(spec.cells))]
        h = torch.cat(parts, 1)
        answers = self.answers(h, slots, frame)
        self.frames[slots] = frame + 1
        return answers

    def block(self, x: Any, weights: list[Any], first: int, slots: Any, frame: Any) -> Any:
        """x (H, B, C) through residual layers; weights: conv (L, H, K, C, C), its bias, mix (L, H, C, C), its bias."""
        for layer in range(len(weights[0]) if weights else 0):
            conv, conv_bias, mix, mix_bias = (part[layer] for part in weights)
            ring, taps = self.rings[first + layer], self.taps[first + layer]
            depth = ring.shape[1]
            ring[slots, frame % depth] = x.transpose(0, 1)
            window = ring[slots[:, None], (frame[:, None] + taps) % depth]  # (B, K, H, C)
            window = window.permute(2, 0, 1, 3).flatten(2)
            y = torch.relu(torch.baddbmm(conv_bias[:, None], window, conv.flatten(1, 2)))
            x = x + torch.baddbmm(mix_bias[:, None], y, mix)
        return x

    def cell(self, i: int, views: Any, slots: Any, frame: Any) -> Any:
        w, name, phase = self.w, f"cell.{i}", frame % self.spec.cells[i].period
        codes = torch.relu(views @ w[f"{name}.encode.weight"] + w[f"{name}.encode.bias"])
        mean = codes.mean(1)
        e = torch.cat((mean, codes.amax(1) - mean), 1) if self.spec.views else mean
        before = self.states[i][slots, phase]
        from_x = (e @ w[f"{name}.enter.weight"] + w[f"{name}.enter.bias"]).chunk(3, 1)
        from_h = (before @ w[f"{name}.recur.weight"] + w[f"{name}.recur.bias"]).chunk(3, 1)
        reset, update = (torch.sigmoid(a + b) for a, b in zip(from_x[:2], from_h[:2], strict=True))
        state = (1 - update) * torch.tanh(from_x[2] + reset * from_h[2]) + update * before
        self.states[i][slots, phase] = state
        return state

    def answers(self, h: Any, slots: Any, frame: Any) -> Any:
        w, spec = self.w, self.spec
        names = [f"head.{head.name}" for head in spec.heads]
        logits = [h @ w[f"{n}.first.weight"] + w[f"{n}.first.bias"] for n in names]
        if spec.head_channels:
            entering = [torch.cat((torch.softmax(q, 1), h), 1) for q in logits]
            parts = zip(entering, names, strict=True)
            r = torch.stack([e @ w[f"{n}.enter.weight"] + w[f"{n}.enter.bias"] for e, n in parts])
            r = self.block(r, self.heads, len(spec.dilations), slots, frame)
            left = [x @ w[f"{n}.leave.weight"] + w[f"{n}.leave.bias"] for x, n in zip(r, names, strict=True)]
            logits = [q + x for q, x in zip(logits, left, strict=True)]
        calibrated = [
            q * w[f"{n}.calibration.scale"] + w[f"{n}.calibration.shift"] for q, n in zip(logits, names, strict=True)
        ]
        return torch.cat([torch.softmax(q, 1) for q in calibrated], 1)


_BLOCK = ("conv.weight", "conv.bias", "mix.weight", "mix.bias")
