"""Recurrent networks: scaled features through a stack of LSTM or GRU layers, forwards or (not causal) both ways.

The LSTM is a baseline of the paper (IV.A); the GRU is not in it, and the strongest causal comparison of its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.base import LinearHeadsModel
from rtseg.recordings.heads import Head


class Recurrent(LinearHeadsModel):
    """`depth` recurrent layers of `channels`; their state begins with zeros, as a fresh stream's would."""

    layer: type[nn.LSTM] | type[nn.GRU]

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        directions = 1 if settings.causal else 2
        super().__init__(n_features, heads, settings.channels * directions, settings.causal, settings.dropout)
        self.cells = self.layer(
            n_features, settings.channels, settings.depth, batch_first=True, bidirectional=not settings.causal
        )

    def trunk(self, features: Tensor) -> Tensor:
        """The last layer's outputs."""
        # bfloat16 would round the state again at every frame.
        with torch.autocast("cpu", enabled=False):
            hidden: Tensor = self.cells(self.drop_channels(self.scale(features), self.dropout / 2))[0]
        return self.drop_channels(hidden, self.dropout)


class LSTM(Recurrent):
    """Long short-term memory cells."""

    layer = nn.LSTM


class GRU(Recurrent):
    """Gated recurrent units."""

    layer = nn.GRU
