"""A network of gated recurrent units: not in the paper, and the strongest causal comparison of its size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rtseg.config import ModelSettings
from rtseg.model.recurrent import Recurrent
from rtseg.recordings.heads import Head


class GRU(Recurrent):
    """`depth` layers of `channels` gated recurrent units."""

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        super().__init__(n_features, heads, settings, nn.GRU)
