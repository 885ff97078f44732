"""A dilated convolution with its rectifier, and a mixed residual sum, as one differentiable function each.

The same sums as torch's calls one by one, which is how `tests/model/residual` writes them: between the products every
value is read and written once (`kernels`), no gradient is spread over zeros first, and no product is given a bias, with
which it takes half as long again.
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


def add_mixed(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, factors: Tensor | None) -> Tensor:
    """x + linear(h) * factors: x (B, T, C), h (B, T, D), factors (B, 1, C), constants, or None for 1.

    weight: (C, D), bias: (C,). Products are of h's type.
    """
    if factors is None:
        factors = x.new_ones(len(x), 1, x.shape[2])
    result: Tensor = _MixedSum.apply(x, h, weight, bias, factors)  # type: ignore[no-untyped-call]
    return result


class _RectifiedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, spacing: int, after: int) -> Tensor:
        batch, frames, width = x.shape
        n = weight.shape[1] // width
        before = (n - 1) * spacing - after
        taps = x.new_empty(batch, frames, n, width)
        kernels.fill_taps(array_of(x), spacing, before, array_of(taps))
        rows, narrow = taps.view(batch * frames, -1), weight.to(x.dtype)
        rectified = (rows @ narrow.t()).view(batch, frames, -1)
        kernels.rectify(array_of(rectified), array_of(bias))
        ctx.save_for_backward(rows, weight, bias, rectified)
        ctx.places = spacing, before, x.shape
        return rectified

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        rows, weight, bias, rectified = ctx.saved_tensors
        spacing, before, shape = ctx.places
        passed = rectified.new_empty(rectified.shape)
        kernels.block(array_of(gradients[0]), array_of(rectified), array_of(passed))
        flat = passed.flatten(0, 1)
        # Turned round: with the longer side first the product takes a quarter less.
        of_weight, of_bias = (rows.t() @ flat).t().to(weight.dtype), flat.sum(0).to(bias.dtype)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, of_bias, None, None
        taps = (flat @ weight.to(flat.dtype)).view(*shape[:2], -1, shape[2])
        of_x = flat.new_empty(shape)
        kernels.sum_taps(array_of(taps), spacing, before, array_of(of_x))
        return of_x, of_weight, of_bias, None, None


class _MixedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, factors: Tensor) -> Tensor:
        rows = h.flatten(0, 1)
        mixed = (rows @ weight.to(h.dtype).t()).view(x.shape)
        total = x.new_empty(x.shape)  # contiguous, even where x is not
        kernels.add_scaled(array_of(x), array_of(mixed), array_of(bias), array_of(factors.squeeze(1)), array_of(total))
        ctx.save_for_backward(rows, weight, bias, factors)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        (given,), (rows, weight, bias, factors) = gradients, ctx.saved_tensors
        scaled = given.new_empty(given.shape)
        kernels.scale(array_of(given), array_of(factors.squeeze(1)), array_of(scaled))
        flat = scaled.flatten(0, 1).to(rows.dtype)
        of_weight, of_bias = (rows.t() @ flat).t().to(weight.dtype), flat.sum(0).to(bias.dtype)
        of_h = (flat @ weight.to(flat.dtype)).view(*given.shape[:2], -1)
        return given, of_h, of_weight, of_bias, None


def array_of(tensor: Tensor) -> kernels.Array:
    """The same numbers for compiled code, bfloat16 as its bits; a copy of those that lie apart in memory."""
    tensor = tensor.detach().contiguous()
    array: kernels.Array = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array
