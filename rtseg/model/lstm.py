"""The LSTM baseline (paper, IV.A)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from rtseg.config import ModelSettings
from rtseg.model.recurrent import Recurrent
from rtseg.recordings.heads import Head


class LSTM(Recurrent):
    """`depth` layers of `channels` long short-term memory cells."""

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        super().__init__(n_features, heads, settings, nn.LSTM)
