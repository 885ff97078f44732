"""The causal multitask TCN in torch: the offline form that is trained and that every engine is checked against.

Whole sequences in, logits out; zero padding at the start is what a fresh stream's empty rings mean. Serving never
imports this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rtseg.network import NetworkSpec


class MultitaskTCN(nn.Module):
    """Shared predictor generator, one refinement head per annotator and per behaviour (paper, IV.C and IV.D).

    No normalisation over time, so that a frame's answer never depends on later frames nor on the length of the crop.
    Parameters carry the names and shapes of `NetworkSpec.shapes`; the scaler and the calibration are buffers.
    """

    def __init__(self, spec: NetworkSpec, dropout: float = 0.0) -> None:
        super().__init__()
        self.spec, self.dropout = spec, dropout
        for name, shape in spec.shapes().items():
            self._put(name, shape)

    def _put(self, name: str, shape: tuple[int, ...]) -> None:
        flat = name.replace(".", "/")  # a parameter's name may hold no dot
        if name.startswith("scaler") or ".calibration." in name:
            ones = name.endswith("scale") or name.endswith("clip")
            self.register_buffer(flat, torch.ones(shape) if ones else torch.zeros(shape))
        elif name.endswith("bias"):
            self.register_parameter(flat, nn.Parameter(torch.zeros(shape)))
        else:
            inputs = math.prod(shape[1:-1]) if ".conv." in name else shape[-2]
            # Residual branches and answers start small: a deep stack begins near the identity, a head near doubt.
            small = {"mix": 0.5, "first": 0.1, "leave": 0.1, "conv": math.sqrt(2.0)}
            gain = small.get(name.split(".")[-2], 1.0)
            self.register_parameter(flat, nn.Parameter(torch.randn(shape) * gain / math.sqrt(inputs)))

    def weight(self, name: str) -> Tensor:
        """A tensor by its name in `NetworkSpec.shapes`."""
        tensor: Tensor = getattr(self, name.replace(".", "/"))
        return tensor

    def load(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over a bundle's weights."""
        with torch.no_grad():
            for name in self.spec.shapes():
                self.weight(name).copy_(torch.from_numpy(np.array(tensors[name])))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The weights for a bundle."""
        return {n: self.weight(n).detach().float().cpu().numpy().copy() for n in self.spec.shapes()}

    def scale(self, features: Tensor) -> Tensor:
        """Raw features (B, T, F), NaN = not known, to scaled and clipped ones."""
        known = torch.where(torch.isnan(features), self.weight("scaler.fill"), features)
        clip = self.weight("scaler.clip")
        return torch.clamp((known - self.weight("scaler.shift")) * self.weight("scaler.scale"), -clip, clip)

    def forward(self, features: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Raw features (B, T, F) to logits (B, T, classes) per head: of the generator, and refined.

        Calibration is not applied here; `probabilities` does.
        """
        x = self._drop(self.scale(features), self.dropout / 2)
        h = self._linear("input", x)
        h = self._residual_layers("trunk", h, self.spec.dilations)
        first, refined = {}, {}
        for head in self.spec.heads:
            name = f"head.{head.name}"
            q = self._linear(f"{name}.first", h)
            r = self._linear(f"{name}.enter", torch.cat((torch.softmax(q, -1).to(h.dtype), h), -1))
            r = self._residual_layers(name, r, self.spec.head_dilations)
            first[head.name] = q
            refined[head.name] = q + self._linear(f"{name}.leave", r)
        return first, refined

    def probabilities(self, features: Tensor) -> Tensor:
        """Calibrated probabilities (B, T, P) of all heads side by side.

        What an engine's step gives, for whole sequences.
        """
        _, refined = self(features)
        return torch.cat(
            [
                torch.softmax(
                    refined[h.name] * self.weight(f"head.{h.name}.calibration.scale")
                    + self.weight(f"head.{h.name}.calibration.shift"),
                    -1,
                )
                for h in self.spec.heads
            ],
            -1,
        )

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(f"{name}.weight").t(), self.weight(f"{name}.bias"))

    def _residual_layers(self, name: str, x: Tensor, dilations: tuple[int, ...]) -> Tensor:
        conv, conv_bias = self.weight(f"{name}.conv.weight"), self.weight(f"{name}.conv.bias")
        mix, mix_bias = self.weight(f"{name}.mix.weight"), self.weight(f"{name}.mix.bias")
        kernel, t = conv.shape[1], x.shape[1]
        for layer, dilation in enumerate(dilations):
            padded = F.pad(x, (0, 0, (kernel - 1) * dilation, 0))
            # All taps side by side and one product: the sum that a streaming step makes, and on a CPU no slower than
            # conv1d.
            taps = torch.cat([padded[:, tap * dilation : tap * dilation + t] for tap in range(kernel)], -1)
            y = F.linear(taps, conv[layer].flatten(0, 1).t(), conv_bias[layer])
            y = F.linear(F.relu(y), mix[layer].t(), mix_bias[layer])
            x = x + self._drop(y, self.dropout)
        return x

    def _drop(self, x: Tensor, share: float) -> Tensor:
        """Whole channels of a sequence (B, T, C): neighbouring frames are too alike for a frame's dropout to matter."""
        if not self.training or share == 0:
            return x
        return x * F.dropout(torch.ones(len(x), 1, x.shape[-1], dtype=x.dtype), share)
