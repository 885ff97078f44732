"""Convolutions over sequences (B, T, C), causal or symmetric, zero before the first frame and after the last."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from rtseg.model.residual.layer import rectified_convolution
from rtseg.model.residual.windows import side_by_side


class DilatedConv(nn.Module):
    """One convolution, n_in to n_out channels: `kernel` taps, `dilation` frames apart.

    after: how many frames it looks into the future; 0 = causal, (kernel - 1) * dilation // 2 = symmetric.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int, after: int) -> None:
        super().__init__()
        self.kernel, self.dilation, self.after = kernel, dilation, after
        self.mix = nn.Linear(kernel * n_in, n_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, n_in) to (B, T, n_out)."""
        # All padding before the first frame is what makes a convolution causal.
        padded = F.pad(x, (0, 0, (self.kernel - 1) * self.dilation - self.after, self.after))
        # All taps side by side and one product: on a CPU no slower than conv1d, and what a streaming step sums up.
        mixed: Tensor = self.mix(side_by_side(padded, self.kernel, self.dilation))
        return mixed

    def rectified(self, x: Tensor) -> Tensor:
        """relu of what `forward` gives, in one pass."""
        return rectified_convolution(x, self.mix.weight, self.mix.bias, self.dilation, self.after)


def residual_convolution(channels: int, kernel: int, dilation: int, causal: bool) -> DilatedConv:
    """A convolution that keeps the number of channels, so that its output can be added to its input."""
    return DilatedConv(channels, channels, kernel, dilation, 0 if causal else (kernel - 1) * dilation // 2)
