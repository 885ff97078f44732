"""The self-attention baseline (paper, IV.A): blocks of attention to the frames near by, and nothing convolved."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.errors import SettingError
from rtseg.model.attention import LocalAttention
from rtseg.model.base import LinearHeadsModel
from rtseg.recordings.heads import Head

ATTENTION_HEADS = 4


class SelfAttention(LinearHeadsModel):
    """`depth` blocks of attention and feed-forward layers (Vaswani et al. 2017), normalised over channels first.

    attention_window frames are seen: before the frame, or half of them to either side. Raises SettingError where the
    channels can't be divided evenly among the heads of attention.
    """

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        c = settings.channels
        super().__init__(n_features, heads, c, settings.causal, settings.dropout)
        if c % ATTENTION_HEADS:
            raise SettingError(
                f"model.channels must be a multiple of {ATTENTION_HEADS}, the heads of attention; got {c}"
            )
        reach = settings.attention_window if settings.causal else settings.attention_window // 2
        self.enter = nn.Linear(n_features, c)
        # Nothing is convolved, so only the bias tells attention how long ago a frame was.
        self.attend = nn.ModuleList(
            LocalAttention(c, c, c, c, heads=ATTENTION_HEADS, reach=reach, causal=settings.causal, distance_bias=True)
            for _ in range(settings.depth)
        )
        self.widen = nn.ModuleList(nn.Linear(c, 2 * c) for _ in range(settings.depth))
        self.narrow = nn.ModuleList(nn.Linear(2 * c, c) for _ in range(settings.depth))
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in range(2 * settings.depth))

    @property
    def context_multiply_adds(self) -> int:
        """Multiply-adds of the attention of all blocks."""
        return sum(a.multiply_adds for a in self.attend if isinstance(a, LocalAttention))

    def trunk(self, features: Tensor) -> Tensor:
        """The last block's outputs."""
        h: Tensor = self.enter(self.drop_channels(self.scale(features), self.dropout / 2))
        norms = iter(self.norms)  # two a block, in the order in which they are used
        for attend, widen, narrow in zip(self.attend, self.widen, self.narrow, strict=True):
            seen = next(norms)(h)
            h = h + self.drop_channels(attend(seen, seen), self.dropout)
            h = h + self.drop_channels(narrow(torch.relu(widen(next(norms)(h)))), self.dropout)
        return h
