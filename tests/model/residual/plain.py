"""What `rtseg.model.residual` computes, as torch's calls say it one by one: slow, and obviously right."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def rectified_convolution(x: Tensor, weight: Tensor, bias: Tensor, spacing: int, after: int) -> Tensor:
    """As `rtseg.model.residual.layer.rectified_convolution`, by torch's own convolution."""
    taps = weight.shape[1] // x.shape[2]
    padded = F.pad(x.mT, ((taps - 1) * spacing - after, after))
    kernel = weight.to(x.dtype).unflatten(1, (taps, -1)).mT
    return torch.relu(F.conv1d(padded, kernel, bias.to(x.dtype), dilation=spacing)).mT


def add_mixed(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, factors: Tensor | None) -> Tensor:
    """As `rtseg.model.residual.layer.add_mixed`."""
    y = F.linear(h, weight.to(h.dtype), bias.to(h.dtype))
    return x + (y if factors is None else y * factors)


def side_by_side(x: Tensor, taps: int, spacing: int) -> Tensor:
    """As `rtseg.model.residual.windows.side_by_side`."""
    n = x.shape[1] - (taps - 1) * spacing
    return torch.cat([x[:, tap * spacing : tap * spacing + n] for tap in range(taps)], -1)


def pooled_convolution(x: Tensor, weight: Tensor, bias: Tensor, spacing: int) -> Tensor:
    """As `rtseg.model.residual.windows.pooled_convolution`."""
    windows = side_by_side(x, weight.shape[1] // x.shape[2], spacing)
    rectified = torch.relu(F.linear(windows, weight.to(x.dtype), bias.to(x.dtype)))
    return torch.maximum(rectified[:, :-spacing], rectified[:, spacing:])
