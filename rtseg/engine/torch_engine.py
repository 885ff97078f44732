"""The reference: the network in torch, stepped with the rings as plain tensors. Never used for serving.

Slow and obvious. Every other engine is compared with it, and with torch's offline form in `rtseg.model.tcn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.engine.base import Engine
from rtseg.errors import EngineError, needs_extra
from rtseg.network import NetworkSpec

F32 = NDArray[np.float32]


class TorchEngine(Engine):
    """torch eager, one stream after the other, one tensor of past inputs per layer."""

    name = "torch"

    def __init__(self, spec: NetworkSpec, weights: Mapping[str, F32], capacity: int) -> None:
        try:
            import torch
        except ImportError:
            raise needs_extra("torch", "train", "the torch engine") from None
        super().__init__(spec, capacity)
        self._torch = torch
        self._w: dict[str, Any] = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        self._blocks = [("trunk", spec.channels, spec.dilations)]
        self._blocks += [(f"head.{h.name}", spec.head_channels, spec.head_dilations) for h in spec.heads]
        self._past: list[list[Any]] = [self._fresh() for _ in range(capacity)]

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        with self._torch.inference_mode():
            for row, slot in enumerate(slots):
                out[row] = self._step(self._torch.from_numpy(features[row]), self._past[slot]).numpy()

    def reset(self, slots: NDArray[np.int32]) -> None:
        for slot in slots:
            self._past[slot] = self._fresh()

    def snapshot(self, slot: int) -> bytes:
        return b"".join(past.numpy().tobytes() for past in self._past[slot])

    def restore(self, slot: int, data: bytes) -> None:
        fresh, at = self._fresh(), 0
        if len(data) != sum(past.numel() * 4 for past in fresh):
            raise EngineError(f"the snapshot has {len(data)} bytes: other bundle or engine?")
        for past in fresh:
            size = past.numel()
            past.view(-1)[:] = self._torch.from_numpy(np.frombuffer(data, np.float32, size, at).copy())
            at += size * 4
        self._past[slot] = fresh

    def _fresh(self) -> list[Any]:
        """Per block and layer the last (kernel - 1) * dilation inputs, oldest first: (depth, C) zeros."""
        depth = self.spec.kernel - 1
        return [self._torch.zeros(depth * d, c) for _, c, dilations in self._blocks for d in dilations]

    def _step(self, features: Any, past: list[Any]) -> Any:
        torch, w = self._torch, self._w
        known = torch.where(torch.isnan(features), w["scaler.fill"], features)
        clip = w["scaler.clip"]
        z = torch.clamp((known - w["scaler.shift"]) * w["scaler.scale"], -clip, clip)
        at, answers = 0, []
        h = z @ w["input.weight"] + w["input.bias"]
        h, at = self._layers("trunk", h, self.spec.dilations, past, at)
        for head in self.spec.heads:
            name = f"head.{head.name}"
            q = h @ w[f"{name}.first.weight"] + w[f"{name}.first.bias"]
            r = torch.cat((torch.softmax(q, -1), h)) @ w[f"{name}.enter.weight"] + w[f"{name}.enter.bias"]
            r, at = self._layers(name, r, self.spec.head_dilations, past, at)
            q = q + r @ w[f"{name}.leave.weight"] + w[f"{name}.leave.bias"]
            q = q * w[f"{name}.calibration.scale"] + w[f"{name}.calibration.shift"]
            answers.append(torch.softmax(q, -1))
        return torch.cat(answers)

    def _layers(self, name: str, x: Any, dilations: tuple[int, ...], past: list[Any], at: int) -> tuple[Any, int]:
        torch, w = self._torch, self._w
        for layer, dilation in enumerate(dilations):
            window = torch.cat((past[at], x[None]))  # (depth + 1, C)
            past[at] = window[1:]
            taps = window[::dilation].flatten()
            y = taps @ w[f"{name}.conv.weight"][layer].flatten(0, 1) + w[f"{name}.conv.bias"][layer]
            x = x + torch.relu(y) @ w[f"{name}.mix.weight"][layer] + w[f"{name}.mix.bias"][layer]
            at += 1
        return x, at
