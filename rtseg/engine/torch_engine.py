"""The reference: the network in torch, stepped with the rings as plain tensors. Never used for serving.

Slow and obvious. Every other engine is compared with it, and with torch's offline form in `rtseg.model.tcn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.base import Engine
from rtseg.errors import EngineError, needs_extra

F32 = NDArray[np.float32]


class TorchEngine(Engine):
    """torch in eager mode, one stream after the other, with one tensor of past inputs for each layer."""

    name = "torch"

    spec: NetworkSpec

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
        self._views = [
            (torch.tensor([abs(c) - 1 for c in view]), torch.tensor([1.0 if c > 0 else -1.0 for c in view]))
            for view in spec.views
        ]
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
        """Per block and layer the last (kernel - 1) * dilation inputs, oldest first, (depth, C); per cell the last
        `period` states, (period, R): zeros.
        """
        depth, zeros = self.spec.kernel - 1, self._torch.zeros
        # Shifted by one frame at each step, which is slow and plain; other engines have rings in its place.
        past = [zeros(depth * d, c) for _, c, dilations in self._blocks for d in dilations]
        return past + [zeros(cell.period, cell.hidden) for cell in self.spec.cells]

    def _step(self, features: Any, past: list[Any]) -> Any:
        torch, w = self._torch, self._w
        known = torch.where(torch.isnan(features), w["scaler.fill"], features)
        clip = w["scaler.clip"]
        z = torch.clamp((known - w["scaler.shift"]) * w["scaler.scale"], -clip, clip)
        at, answers, parts = 0, [], []
        if self.spec.channels:
            x, at = self._layers("trunk", z @ w["input.weight"] + w["input.bias"], self.spec.dilations, past, at)
            parts.append(x)
        parts += [self._cell(i, z, past) for i in range(len(self.spec.cells))]
        h = torch.cat(parts)
        for head in self.spec.heads:
            name = f"head.{head.name}"
            q = h @ w[f"{name}.first.weight"] + w[f"{name}.first.bias"]
            if self.spec.head_channels:
                r = torch.cat((torch.softmax(q, -1), h)) @ w[f"{name}.enter.weight"] + w[f"{name}.enter.bias"]
                r, at = self._layers(name, r, self.spec.head_dilations, past, at)
                q = q + r @ w[f"{name}.leave.weight"] + w[f"{name}.leave.bias"]
            # Last of all: the refinement reads the first probabilities uncalibrated, as it was trained.
            q = q * w[f"{name}.calibration.scale"] + w[f"{name}.calibration.shift"]
            answers.append(torch.softmax(q, -1))
        return torch.cat(answers)

    def _layers(self, name: str, x: Any, dilations: tuple[int, ...], past: list[Any], at: int) -> tuple[Any, int]:
        torch, w = self._torch, self._w
        for layer, dilation in enumerate(dilations):
            window = torch.cat((past[at], x[None]))  # (depth + 1, C), oldest first
            past[at] = window[1:]
            taps = window[::dilation].flatten()  # (kernel * C,)
            y = taps @ w[f"{name}.conv.weight"][layer].flatten(0, 1) + w[f"{name}.conv.bias"][layer]
            x = x + torch.relu(y) @ w[f"{name}.mix.weight"][layer] + w[f"{name}.mix.bias"][layer]
            at += 1
        return x, at

    def _cell(self, number: int, z: Any, past: list[Any]) -> Any:
        torch, w, name = self._torch, self._w, f"cell.{number}"
        views = [z[columns] * signs for columns, signs in self._views] or [z]
        codes = torch.relu(torch.stack(views) @ w[f"{name}.encode.weight"] + w[f"{name}.encode.bias"])
        mean = codes.mean(0)
        # Mean and maximum do not depend on the order of the views, so neither does the answer.
        e = torch.cat((mean, codes.amax(0) - mean)) if self._views else mean
        at = len(past) - len(self.spec.cells) + number
        before = past[at][0]  # the state of `period` frames ago
        r, u, n = (e @ w[f"{name}.enter.weight"] + w[f"{name}.enter.bias"]).chunk(3)
        past_r, past_u, past_n = (before @ w[f"{name}.recur.weight"] + w[f"{name}.recur.bias"]).chunk(3)
        reset, update = torch.sigmoid(r + past_r), torch.sigmoid(u + past_u)
        state = (1 - update) * torch.tanh(n + reset * past_n) + update * before
        past[at] = torch.cat((past[at][1:], state[None]))
        return state
