"""Recurrent networks: scaled features through a stack of cells, forwards or (not causal) both ways."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.base import LinearHeadsModel
from rtseg.recordings.heads import Head


class Recurrent(LinearHeadsModel):
    """`depth` recurrent layers of `channels`; their state begins with zeros, as a fresh stream's would."""

    def __init__(
        self, n_features: int, heads: Sequence[Head], settings: ModelSettings, cells: type[nn.LSTM] | type[nn.GRU]
    ) -> None:
        directions = 1 if settings.causal else 2
        super().__init__(n_features, heads, settings.channels * directions, settings.causal, settings.dropout)
        self.cells = cells(
            n_features, settings.channels, settings.depth, batch_first=True, bidirectional=not settings.causal
        )

    def trunk(self, features: Tensor) -> Tensor:
        """The last layer's outputs."""
        # bfloat16 would round the state anew at every frame.
        with torch.autocast("cpu", enabled=False):
            hidden: Tensor = self.cells(self.drop(self.scale(features), self.dropout / 2))[0]
        return self.drop(hidden, self.dropout)
