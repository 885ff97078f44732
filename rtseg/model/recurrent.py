"""Recurrent networks: scaled features through a stack of LSTM or GRU layers, forwards or (not causal) both ways.

The LSTM is a baseline of the paper (IV.A); the GRU is not in it, and the strongest causal comparison of its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.base import LinearHeadsModel
from rtseg.model.recurrence.gru_autograd import gru
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
            hidden = self.hidden(self.drop_channels(self.scale(features), self.dropout / 2))
        return self.drop_channels(hidden, self.dropout)

    def hidden(self, z: Tensor) -> Tensor:
        """The last layer's states (B, T, C) of scaled features (B, T, F)."""
        states: Tensor = self.cells(z)[0]
        return states


class LSTM(Recurrent):
    """Long short-term memory cells."""

    layer = nn.LSTM


class GRU(Recurrent):
    """Gated recurrent units."""

    layer = nn.GRU

    def hidden(self, z: Tensor) -> Tensor:
        """As torch's own layers, whose weights these are, several times as fast on a CPU."""
        for number in range(self.cells.num_layers):
            states = []
            for suffix in ("", "_reverse") if self.cells.bidirectional else ("",):
                enter, recur, *biases = (
                    getattr(self.cells, f"{kind}_l{number}{suffix}")
                    for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                )
                # The way back is the way forth of a sequence that is read from its end.
                x = z.flip(1) if suffix else z
                way = gru(x, enter.t(), recur.t(), *biases)
                states.append(way.flip(1) if suffix else way)
            z = torch.cat(states, -1)
        return z
