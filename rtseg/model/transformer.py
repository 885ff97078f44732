"""The Transformer with refining decoders (paper, IV.B), after ASFormer (Yi et al. 2021).

The encoder's layers see ever further: a dilated convolution as feed-forward layer, then attention to the frames near
by. Each decoder gets the probabilities before it and refines them, its queries and keys made from both its own and its
predecessor's hidden layer. ASFormer normalises over time, which looks into the future; here it is over channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.attention import LocalAttention
from rtseg.model.base import SequenceModel, Stage
from rtseg.model.convolution import residual_convolution
from rtseg.model.residual.layer import add_mixed
from rtseg.recordings.heads import Head


class Transformer(SequenceModel):
    """An encoder and `stages` - 1 decoders of `layers` each; layer i reaches 2^i frames, at most attention_window."""

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        c, p = settings.channels, sum(len(h.classes) for h in heads)
        super().__init__(n_features, heads, c, settings.causal, settings.dropout)
        decoders = range(settings.stages - 1)
        self.enter = nn.Linear(n_features, c)
        self.encoder = nn.ModuleList(_Layer(settings, i, c) for i in range(settings.layers))
        self.outputs = nn.ModuleList(nn.Linear(c, p) for _ in range(settings.stages))
        self.reenter = nn.ModuleList(nn.Linear(p, c) for _ in decoders)
        self.decoders = nn.ModuleList(
            nn.ModuleList(_Layer(settings, i, 2 * c) for i in range(settings.layers)) for _ in decoders
        )

    @property
    def context_multiply_adds(self) -> int:
        """Multiply-adds of the attention of all layers of encoder and decoders."""
        return sum(m.multiply_adds for m in self.modules() if isinstance(m, LocalAttention))

    def trunk(self, features: Tensor) -> Tensor:
        """The encoder's last layer."""
        h: Tensor = self.enter(self.drop_channels(self.scale(features), self.dropout / 2))
        for layer in self.encoder:
            h = layer(h, None, 1.0, self.channel_factors(h, self.dropout))
        return h

    def stage_logits(self, hidden: Tensor) -> list[Stage]:
        """The encoder's logits, and those of each decoder."""
        logits = self.outputs[0](hidden)
        stages = [self.split_heads(logits)]
        for number, decoder in enumerate(self.decoders):
            assert isinstance(decoder, Iterable)
            h = self.reenter[number](self.head_probabilities(logits))
            for layer in decoder:
                # ASFormer's weights: the later the decoder, the less attention to other frames counts.
                h = layer(h, hidden, math.exp(-3.0 * number), self.channel_factors(h, self.dropout))
            logits, hidden = self.outputs[number + 1](h), h
            stages.append(self.split_heads(logits))
        return stages


class _Layer(nn.Module):
    """A dilated convolution, attention beside it, and both mixed and added to what came in."""

    def __init__(self, settings: ModelSettings, number: int, n_query: int) -> None:
        super().__init__()
        c, reach = settings.channels, 2**number
        self.convolution = residual_convolution(c, settings.kernel, reach, settings.causal)
        self.norm = nn.LayerNorm(c)
        self.attention = LocalAttention(
            n_query,
            c,
            max(c // 2, 1),
            c,
            heads=1,
            reach=min(reach, settings.attention_window),
            causal=settings.causal,
        )
        self.mix = nn.Linear(c, c)

    def forward(self, x: Tensor, before: Tensor | None, share: float, factors: Tensor | None) -> Tensor:
        """x: (B, T, C). before: the stage before's hidden layer, in decoders. share: of attention.

        factors: (B, 1, C), of what is added, see `channel_factors`.
        """
        y = self.convolution.rectified(x)
        normed = self.norm(y)
        # Values come from this decoder alone: the stage before says where to look, not what to add.
        query_input = normed if before is None else torch.cat((before, normed), -1)
        seen = y + share * self.attention(query_input, normed)
        return add_mixed(x, seen, self.mix.weight, self.mix.bias, factors)
