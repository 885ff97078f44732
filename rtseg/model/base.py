"""The contract that every network keeps: raw features of whole sequences in, logits per head and stage out.

The loop, the losses and the comparisons know networks by this contract alone. Here is no layer but the linear
outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rtseg.recordings.heads import Head, output_offsets

Stage = dict[str, Tensor]
"""Logits (B, T, classes) per head."""


class SequenceModel(nn.Module, ABC):
    """A network over sequences: a trunk that sees the features, and logits made from its hidden layer.

    heads: in the order of the P outputs. width: C of the hidden layer. causal: the answer about frame t depends on no
    later frame, and never on the length of the sequence; so no layer normalises over time. frame_stride: the sequences
    hold every n-th frame; training sets it, for networks all of whose distances in time are multiples of n. phases: a
    network of another kind that was trained on every n-th frame must be given every n-th frame for an answer too, and
    so each of n phases apart.

    The scaler is made of buffers, filled from the training recordings: z = clip((x - shift) * scale), NaN = fill.
    """

    def __init__(self, n_features: int, heads: Sequence[Head], width: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.n_features, self.heads, self.width = n_features, tuple(heads), width
        self.causal, self.dropout = causal, dropout
        self.frame_stride = self.phases = 1
        # "/" because a buffer's name may hold no dot; `weight` gives them by the names that a bundle uses.
        self.register_buffer("scaler/fill", torch.zeros(n_features))
        self.register_buffer("scaler/shift", torch.zeros(n_features))
        self.register_buffer("scaler/scale", torch.ones(n_features))
        self.register_buffer("scaler/clip", torch.ones(1))

    @abstractmethod
    def trunk(self, features: Tensor) -> Tensor:
        """Raw features (B, T, F), NaN = unknown, to the hidden layer (B, T, C)."""

    @abstractmethod
    def stage_logits(self, hidden: Tensor) -> list[Stage]:
        """The hidden layer to the logits of every stage; the answer is the last, earlier ones are trained as well."""

    def stages(self, features: Tensor) -> list[Stage]:
        """Raw features (B, T, F), NaN = unknown, to the logits of every stage, the answer last."""
        return self.stage_logits(self.trunk(features))

    def forward(self, features: Tensor) -> list[Stage]:
        """What `stages` gives."""
        return self.stages(features)

    def probabilities(self, features: Tensor) -> Tensor:
        """Probabilities (B, T, P) of all heads side by side."""
        last = self.stages(features)[-1]
        return torch.cat([torch.softmax(last[h.name], -1) for h in self.heads], -1)

    @property
    def n_outputs(self) -> int:
        """P."""
        return self.offsets[-1]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each head begins in the outputs, and P at the end. Length H + 1."""
        return output_offsets(self.heads)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds that one frame of one stream needs where everything older is kept: each weight is used once.

        Plus `context_multiply_adds`, where frames are compared with one another.
        """
        # Vectors are biases and norms, which are added or scale channels; they are not counted.
        return sum(p.numel() for p in self.parameters() if p.ndim > 1) + self.context_multiply_adds

    @property
    def context_multiply_adds(self) -> int:
        """Multiply-adds of a frame's comparisons with the other frames that it attends to."""
        return 0

    def weight(self, name: str) -> Tensor:
        """A parameter or buffer that was registered under this name with "/" for dots."""
        tensor: Tensor = getattr(self, name.replace(".", "/"))
        return tensor

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Every weight and buffer as a copy, under dotted names."""
        return {n.replace("/", "."): t.detach().float().cpu().numpy().copy() for n, t in self.state_dict().items()}

    def scale(self, features: Tensor, columns: Sequence[int] | slice = slice(None)) -> Tensor:
        """Raw features (B, T, F), NaN = not known, to scaled and clipped ones. columns: which they are; none = all."""
        fill, shift, scale = (self.weight(f"scaler.{name}")[columns] for name in ("fill", "shift", "scale"))
        clip = float(self.weight("scaler.clip"))
        # First of all: one NaN would spread over every later frame that a layer can see it from. In place from there:
        # memory for a batch costs more than its arithmetic.
        return torch.where(torch.isnan(features), fill, features).sub_(shift).mul_(scale).clamp_(-clip, clip)

    def split_heads(self, logits: Tensor) -> Stage:
        """Logits (B, T, P) of all heads side by side, per head."""
        sizes = [len(h.classes) for h in self.heads]
        return dict(zip((h.name for h in self.heads), torch.split(logits, sizes, -1), strict=True))

    def head_probabilities(self, logits: Tensor) -> Tensor:
        """Logits (B, T, P) to each head's probabilities, side by side: what a refining stage is given."""
        parts = self.split_heads(logits).values()
        return torch.cat([torch.softmax(part, -1) for part in parts], -1).to(logits.dtype)

    def drop_channels(self, x: Tensor, share: float) -> Tensor:
        """Drop whole channels of a sequence (B, T, C): neighbouring frames are too alike for dropping single values."""
        factors = self.channel_factors(x, share)
        return x if factors is None else x * factors

    def channel_factors(self, x: Tensor, share: float) -> Tensor | None:
        """What dropping channels multiplies a sequence (B, T, C) by: (B, 1, C); None = nothing is dropped."""
        if not self.training or share == 0:
            return None
        # One row of factors for all frames: the same channels are dropped throughout the crop.
        return F.dropout(torch.ones(len(x), 1, x.shape[-1], dtype=x.dtype), share)


def for_rectifier(layer: nn.Linear) -> nn.Linear:
    """The layer with weights as large as a rectifier after it needs to pass signals on (He et al. 2015), biases 0.

    torch's own are smaller by a factor of 2.4: after three layers on features of [0, 1] an answer hardly depends on
    them, and the first hundreds of batches teach nothing.
    """
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)
    return layer


class LinearHeadsModel(SequenceModel):
    """A network whose logits are one linear layer on the hidden layer: one stage."""

    def __init__(self, n_features: int, heads: Sequence[Head], width: int, causal: bool, dropout: float) -> None:
        super().__init__(n_features, heads, width, causal, dropout)
        self.outputs = nn.Linear(width, self.n_outputs)

    def stage_logits(self, hidden: Tensor) -> list[Stage]:
        """One stage."""
        return [self.split_heads(self.outputs(hidden))]
