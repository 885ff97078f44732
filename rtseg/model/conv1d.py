"""The 1D convolutional baseline (paper, IV.A and Table I; CalMS21's): convolutions and pooling over a window.

CalMS21's cuts a window of 100 frames to each side, every second of them, around every frame and puts it through three
convolutions of 128, 64 and 32 channels (kernel 5), each followed by a maximum over pairs. Here all windows of a
sequence go through at once: after each pooling the taps lie twice as far apart, and no window is computed twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.config import ModelSettings
from rtseg.errors import SettingError
from rtseg.model.base import LinearHeadsModel, for_rectifier
from rtseg.model.residual.windows import pooled_convolution, side_by_side
from rtseg.recordings.heads import Head


class Conv1D(LinearHeadsModel):
    """Three convolutions with pooling over a window, to both sides or (causal) to the past only.

    No padding inside a window and no batch normalisation, unlike CalMS21's. Raises SettingError for a window that the
    convolutions use up.
    """

    def __init__(self, n_features: int, heads: Sequence[Head], settings: ModelSettings) -> None:
        c, kernel, spacing = settings.channels, settings.kernel, settings.window_stride
        widths = (n_features, 2 * c, c, max(c // 2, 1))
        reach = settings.window_frames // spacing
        n, span = (1 if settings.causal else 2) * reach + 1, 0
        # Each convolution uses up kernel - 1 taps; each pooling halves what is left and doubles the taps' distance.
        for _ in widths[1:]:
            n -= kernel - 1
            span += (kernel - 1) * spacing + spacing
            n, spacing = n // 2, spacing * 2
        if n < 1:
            raise SettingError(
                f"model.window_frames = {settings.window_frames} with window_stride = {settings.window_stride} is too "
                f"short for three convolutions of kernel {kernel} with pooling: lengthen it, or take a smaller kernel"
            )
        super().__init__(n_features, heads, n * widths[-1], settings.causal, settings.dropout)
        self.kernel, self.stride, self.positions = kernel, settings.window_stride, n
        self.span = span + (n - 1) * spacing  # frames from the oldest to the newest that a window uses
        self.after = 0 if settings.causal else self.span - reach * settings.window_stride
        self.convolutions = nn.ModuleList(
            for_rectifier(nn.Linear(kernel * n_in, n_out)) for n_in, n_out in itertools.pairwise(widths)
        )

    def trunk(self, features: Tensor) -> Tensor:
        """What is left of each frame's window, side by side."""
        h = F.pad(self.scale(features), (0, 0, self.span - self.after, self.after))
        spacing = self.stride
        for convolution in self.convolutions:
            assert isinstance(convolution, nn.Linear)
            # No stride: every frame has a window of its own, and the pairs of all windows are computed at once.
            h = pooled_convolution(h, convolution.weight, convolution.bias, spacing)
            spacing *= 2
        return self.drop_channels(side_by_side(h, self.positions, spacing), self.dropout)
