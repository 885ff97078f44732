"""The multitask network in torch: the offline form that is trained and that every engine is checked against.

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

from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.errors import SettingError
from rtseg.model.base import SequenceModel, Stage
from rtseg.model.recurrence.gru_autograd import gru
from rtseg.model.residual.layer import add_mixed, rectified_convolution


class MultitaskTCN(SequenceModel):
    """Shared predictor generator, one refinement head per annotator and per behaviour (paper, IV.C and IV.D).

    The generator is made of dilated convolutions, of recurrent cells, or of both side by side; `bundle.network` says
    what a step computes. No normalisation over time, so that a frame's answer never depends on later frames nor on the
    length of the crop. Parameters carry the names and shapes of `NetworkSpec.shapes`; the scaler and the calibration
    are buffers. causal: false pads both sides of every convolution alike; no engine can step such a network.

    Raises SettingError for recurrent cells that are not causal.
    """

    def __init__(self, spec: NetworkSpec, dropout: float = 0.0, causal: bool = True) -> None:
        super().__init__(spec.n_features, spec.heads, spec.width, causal, dropout)
        if spec.cells and not causal:
            raise SettingError("multitask-tcn: recurrent cells are causal; set model.cells = [] or causal = true")
        self.spec = spec
        columns = np.abs(np.array(spec.views, np.int64)) - 1
        self.register_buffer("view/columns", torch.from_numpy(columns), persistent=False)
        self.register_buffer("view/signs", torch.from_numpy(np.sign(spec.views).astype(np.float32)), persistent=False)
        for name, shape in spec.shapes().items():
            if not name.startswith("scaler"):
                self._put(name, shape)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one step."""
        return self.spec.multiply_adds

    def _put(self, name: str, shape: tuple[int, ...]) -> None:
        flat = name.replace(".", "/")  # a parameter's name may hold no dot
        if ".calibration." in name:
            self.register_buffer(flat, torch.ones(shape) if name.endswith("scale") else torch.zeros(shape))
        elif name.endswith("bias"):
            self.register_parameter(flat, nn.Parameter(torch.zeros(shape)))
        else:
            inputs = math.prod(shape[1:-1]) if ".conv." in name else shape[-2]
            # Residual branches and logits start small: a deep stack begins near the identity, a head near even odds.
            small = {"mix": 0.5, "first": 0.1, "leave": 0.1, "conv": math.sqrt(2.0), "encode": 1.2, "recur": 0.6}
            gain = small.get(name.split(".")[-2], 1.0)
            self.register_parameter(flat, nn.Parameter(torch.randn(shape) * gain / math.sqrt(inputs)))

    def load_weights(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Take over a bundle's weights."""
        with torch.no_grad():
            for name in self.spec.shapes():
                self.weight(name).copy_(torch.from_numpy(np.array(tensors[name])))

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """The weights for a bundle."""
        return {n: self.weight(n).detach().float().cpu().numpy().copy() for n in self.spec.shapes()}

    def trunk(self, features: Tensor) -> Tensor:
        """The predictor generator's hidden layer (B, T, D)."""
        z = self.drop_channels(self.scale(features), self.dropout / 2)
        parts = []
        if self.spec.channels:
            x = self._linear("input", z)
            parts.append(self._residual_layers("trunk", x, self.spec.dilations))
        if self.spec.cells:
            parts += [self._recurrent(f"cell.{i}", cell, z) for i, cell in enumerate(self.spec.cells)]
        return torch.cat(parts, -1)

    def stage_logits(self, hidden: Tensor) -> list[Stage]:
        """The logits of each of several parts of the generator alone, the generator's, and the refined ones.

        The generator's logits are the mean of its parts', so that parts are an ensemble within one network. Calibration
        is not applied here; `probabilities` does.
        """
        widths = [n for n in (self.spec.channels, *(cell.hidden for cell in self.spec.cells)) if n]
        parts: list[Stage] = [{} for _ in widths] if len(widths) > 1 else []
        ends = np.cumsum(widths)
        first, refined = {}, {}
        for head in self.spec.heads:
            name = f"head.{head.name}"
            q = self._linear(f"{name}.first", hidden)
            weight, bias = self.weight(f"{name}.first.weight"), self.weight(f"{name}.first.bias")
            for part, width, end in zip(parts, widths, ends, strict=bool(parts)):
                own = slice(end - width, end)
                # Times the number of parts, so that the mean over the parts is the whole's logit.
                part[head.name] = F.linear(hidden[..., own] * len(parts), weight[own].t(), bias)
            first[head.name] = q
            if not self.spec.head_channels:
                continue
            r = self._linear(f"{name}.enter", torch.cat((torch.softmax(q, -1).to(hidden.dtype), hidden), -1))
            r = self._residual_layers(name, r, self.spec.head_dilations)
            refined[head.name] = q + self._linear(f"{name}.leave", r)
        return [*parts, first, refined] if refined else [*parts, first]

    def probabilities(self, features: Tensor) -> Tensor:
        """Calibrated probabilities (B, T, P) of all heads side by side.

        What an engine's step gives, for whole sequences.
        """
        last = self.stages(features)[-1]
        return torch.cat(
            [
                torch.softmax(
                    last[h.name] * self.weight(f"head.{h.name}.calibration.scale")
                    + self.weight(f"head.{h.name}.calibration.shift"),
                    -1,
                )
                for h in self.spec.heads
            ],
            -1,
        )

    def _encoded(self, name: str, z: Tensor) -> Tensor:
        """Scaled features (B, T, F) as codes (B, T, E); with views their mean, and the maximum less it: (B, T, 2E)."""
        if not self.spec.views:
            return F.relu(self._linear(f"{name}.encode", z))
        weight, bias = self.weight(f"{name}.encode.weight"), self.weight(f"{name}.encode.bias")
        columns, signs = self.weight("view.columns"), self.weight("view.signs")
        # A view of the features is a view of the weights' rows, which are far fewer: one product for all views. Divided
        # by their number there, so that no sum over frames has to be.
        n = len(columns)
        turned = [(weight * s[:, None].to(weight.dtype))[c.argsort()] for c, s in zip(columns, signs, strict=True)]
        codes = F.relu(F.linear(z, torch.cat(turned, 1).t() / n, bias.repeat(n) / n))
        views = codes.chunk(n, -1)
        # Neither mean nor maximum depends on which animal is named first.
        if n == 2:  # half the difference is the same, and its gradient asks of no value whether it is the maximum
            return torch.cat((views[0] + views[1], (views[0] - views[1]).abs()), -1)
        mean = torch.stack(views).sum(0)
        return torch.cat((mean, torch.stack(views).amax(0) * n - mean), -1)

    def _recurrent(self, name: str, cell: Cell, z: Tensor) -> Tensor:
        """A cell's states (B, T, R)."""
        e = self._encoded(name, z)
        e = self.drop_channels(e, self.dropout)
        # A cell with a period of p frames has p states. In bfloat16 they would be rounded again at every frame.
        with torch.autocast("cpu", enabled=False):
            parts = ("enter.weight", "recur.weight", "enter.bias", "recur.bias")
            enter, recur, enter_bias, recur_bias = (self.weight(f"{name}.{part}") for part in parts)
            states = gru(e, enter, recur, enter_bias, recur_bias, self._strided(cell.period))
        return self.drop_channels(states, self.dropout)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weight(f"{name}.weight").t(), self.weight(f"{name}.bias"))

    def _residual_layers(self, name: str, x: Tensor, dilations: tuple[int, ...]) -> Tensor:
        conv, conv_biases = self.weight(f"{name}.conv.weight"), self.weight(f"{name}.conv.bias")
        mix, mix_biases = self.weight(f"{name}.mix.weight"), self.weight(f"{name}.mix.bias")
        kernel = conv.shape[1]
        for conv_weight, mix_weight, conv_bias, mix_bias, frames in zip(
            conv.flatten(1, 2).mT, mix.mT, conv_biases, mix_biases, dilations, strict=True
        ):
            # Zeros before the first frame are what a fresh stream's rings hold.
            dilation = self._strided(frames)
            after = 0 if self.causal else (kernel - 1) * dilation // 2
            h = rectified_convolution(x, conv_weight, conv_bias, dilation, after)
            x = add_mixed(x, h, mix_weight, mix_bias, self.channel_factors(x, self.dropout))
        return x

    def _strided(self, frames: int) -> int:
        """A distance in frames as a distance in the sequence, which holds every `frame_stride`-th frame."""
        assert frames % self.frame_stride == 0, "make_model checked that the stride divides it"
        return frames // self.frame_stride
