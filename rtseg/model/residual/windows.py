"""Windows of a sequence, and convolutions within them pooled over pairs of frames, with backward passes of their own.

torch spreads the gradient of every slice over a tensor of zeros, and takes five passes to share out that of a maximum:
together several times what the products take. Nothing is padded here, so that every result is shorter than its input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rtseg.model.residual import kernels
from rtseg.model.residual.layer import array_of


def side_by_side(x: Tensor, taps: int, spacing: int) -> Tensor:
    """Frames t, t + spacing, ... of (B, T, C) in one row: (B, T - (taps - 1) * spacing, taps * C)."""
    result: Tensor = _SideBySide.apply(x, taps, spacing)  # type: ignore[no-untyped-call]
    return result


def pooled_convolution(x: Tensor, weight: Tensor, bias: Tensor, spacing: int) -> Tensor:
    """The larger of relu(convolution) at frames t and t + spacing: x (B, T, C) to (B, T - K * spacing, D).

    weight: (D, K * C), the taps side by side, the earliest first, `spacing` frames apart; bias: (D,). float32, float64
    or bfloat16: the products are of x's type, or of autocast's where that is on.
    """
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    result: Tensor = _PooledConvolution.apply(x, weight, bias, spacing)  # type: ignore[no-untyped-call]
    return result


class _SideBySide(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: int, spacing: int) -> Tensor:
        ctx.taps, ctx.spacing = taps, spacing
        return _windows(x, taps, spacing)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _sum_of_windows(gradients[0], ctx.taps, ctx.spacing), None, None


class _PooledConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, spacing: int) -> Tensor:
        taps = weight.shape[1] // x.shape[2]
        windows = _windows(x, taps, spacing)
        rectified = windows @ weight.to(x.dtype).t()
        kernels.rectify(array_of(rectified), array_of(bias))
        larger = rectified.new_empty(len(x), rectified.shape[1] - spacing, rectified.shape[2])
        kernels.pool_pairs(array_of(rectified), spacing, array_of(larger))
        ctx.save_for_backward(windows, weight, bias, rectified)
        ctx.taps, ctx.spacing = taps, spacing
        return larger

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        windows, weight, bias, rectified = ctx.saved_tensors
        passed = rectified.new_empty(rectified.shape)
        kernels.share_pairs(array_of(gradients[0]), array_of(rectified), ctx.spacing, array_of(passed))
        kernels.block(array_of(passed), array_of(rectified), array_of(passed))
        rows, flat = windows.flatten(0, 1), passed.flatten(0, 1)
        of_weight, of_bias = (rows.t() @ flat).t().to(weight.dtype), flat.sum(0).to(bias.dtype)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None
        return _sum_of_windows(passed @ weight.to(flat.dtype), ctx.taps, ctx.spacing), of_weight, of_bias, None


def _windows(x: Tensor, taps: int, spacing: int) -> Tensor:
    n = x.shape[1] - (taps - 1) * spacing
    return torch.cat([x[:, tap * spacing : tap * spacing + n] for tap in range(taps)], -1)


def _sum_of_windows(windows: Tensor, taps: int, spacing: int) -> Tensor:
    """(B, N, taps * C) to (B, N + (taps - 1) * spacing, C)."""
    apart = windows.reshape(*windows.shape[:2], taps, -1)
    x = windows.new_empty(len(windows), windows.shape[1] + (taps - 1) * spacing, apart.shape[-1])
    # Summed in float32 and rounded once, however many windows a frame is in.
    sums = torch.empty(x.shape[-1], dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    kernels.sum_windows(array_of(apart), spacing, array_of(sums), array_of(x))
    return x
