"""The fully connected baseline (paper, IV.A; CalMS21's): one answer from the frames of a short window, side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.model.base import LinearHeadsModel, for_rectifier
from rtseg.model.convolution import DilatedConv
from rtseg.recordings.heads import Head


class FullyConnected(LinearHeadsModel):
    """Hidden layers over a window of every `window_stride`-th frame, to both sides or (causal) to the past only.

    Hidden layers are 4 * `channels` wide, the last `channels`.
    """

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        super().__init__(n_features, heads, settings.channels, settings.causal, settings.dropout)
        reach = settings.window_frames // settings.window_stride  # taps to one side
        taps, after = (reach + 1, 0) if settings.causal else (2 * reach + 1, reach * settings.window_stride)
        widths = [settings.channels * 4] * settings.depth + [settings.channels]
        # A dense layer over the window is a convolution with as many taps, which computes all frames in one product.
        self.window = DilatedConv(n_features, widths[0], taps, settings.window_stride, after)
        for_rectifier(self.window.mix)
        self.layers = nn.ModuleList(for_rectifier(nn.Linear(n, n_next)) for n, n_next in itertools.pairwise(widths))

    def trunk(self, features: Tensor) -> Tensor:
        """The last hidden layer."""
        h = torch.relu(self.window(self.scale(features)))
        for layer in self.layers:
            h = torch.relu(layer(self.drop_channels(h, self.dropout)))
        return self.drop_channels(h, self.dropout)
