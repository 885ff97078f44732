"""A dilated convolution with its rectifier, and a residual sum, as one differentiable function each.

The same sums as torch's calls one by one, which is how `tests/model/residual` writes them, in half of the time: between
the products every value is read and written once (`kernels`), and no gradient is spread over zeros first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rtseg.model.residual import kernels


def rectified_convolution(x: Tensor, weight: Tensor, bias: Tensor, spacing: int, after: int) -> Tensor:
    """relu(convolution) of a sequence (B, T, C), zero before its first frame and after its last: (B, T, D).

    weight: (D, K * C), the taps side by side, the earliest first, `spacing` frames apart; bias: (D,). after: how many
    frames the last tap is ahead. float32, float64 or bfloat16: products are of x's type, as under autocast.
    """
    result: Tensor = _RectifiedConvolution.apply(x, weight, bias, spacing, after)  # type: ignore[no-untyped-call]
    return result


def add_scaled(x: Tensor, y: Tensor, factors: Tensor | None) -> Tensor:
    """x + y * factors: x, y (B, T, C), factors (B, 1, C), constants, or None for 1."""
    if factors is None:
        return x + y
    result: Tensor = _ScaledSum.apply(x, y, factors)  # type: ignore[no-untyped-call]
    return result


class _RectifiedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, spacing: int, after: int) -> Tensor:
        batch, frames, width = x.shape
        n = weight.shape[1] // width
        before = (n - 1) * spacing - after
        taps = x.new_empty(batch, frames, n, width)
        kernels.fill_taps(_array(x), spacing, before, _array(taps))
        rows, narrow = taps.view(batch * frames, -1), weight.to(x.dtype)
        rectified = torch.addmm(bias.to(x.dtype), rows, narrow.t()).view(batch, frames, -1)
        kernels.rectify(_array(rectified))
        ctx.save_for_backward(rows, weight, bias, rectified)
        ctx.places = spacing, before, x.shape
        return rectified

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        rows, weight, bias, rectified = ctx.saved_tensors
        spacing, before, shape = ctx.places
        passed = rectified.new_empty(rectified.shape)
        kernels.block(_array(gradients[0]), _array(rectified), _array(passed))
        flat = passed.flatten(0, 1)
        of_weight, of_bias = (flat.t() @ rows).to(weight.dtype), flat.sum(0).to(bias.dtype)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None, None
        taps = (flat @ weight.to(flat.dtype)).view(*shape[:2], -1, shape[2])
        of_x = flat.new_empty(shape)
        kernels.sum_taps(_array(taps), spacing, before, _array(of_x))
        return of_x, of_weight, of_bias, None, None


class _ScaledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, factors: Tensor) -> Tensor:
        total = x.new_empty(x.shape)  # contiguous, even where x is not
        kernels.add_scaled(_array(x), _array(y), _array(factors.squeeze(1)), _array(total))
        ctx.save_for_backward(factors)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (factors,) = ctx.saved_tensors
        scaled = gradients[0].new_empty(gradients[0].shape)
        kernels.scale(_array(gradients[0]), _array(factors.squeeze(1)), _array(scaled))
        return gradients[0], scaled, None


def _array(tensor: Tensor) -> kernels.Array:
    """The same numbers for compiled code, bfloat16 as its bits; a copy of those that lie apart in memory."""
    tensor = tensor.detach().contiguous()
    array: kernels.Array = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array
