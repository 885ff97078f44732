"""A gated recurrent unit over whole sequences, with a backward pass of its own, where training spends its time.

The same sums as `torch.gru`, which on a CPU keeps a graph of every frame. Here the frames are two compiled loops
(`gru_kernels`), and everything that does not wait for the frame before is one product over all frames.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from rtseg.compiled.lanes import LANES
from rtseg.model.recurrence import gru_kernels
from rtseg.model.recurrence.gru_kernels import Array, Gradients, Passed, Rows


def gru(x: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor, period: int = 1) -> Tensor:
    """States (B, T, R) of a unit that begins at zero and is fed x (B, T, I).

    float32, or float64. With x in bfloat16 products over all frames are bfloat16's, and states stay float32: they would
    be rounded again at every frame.

    enter (I, 3R), recur (R, 3R) and their biases (3R,) hold the reset, update and new gates side by side:
    h = (1 - u) * tanh(i_n + r * s_n) + u * h', where i = x @ enter + bias comes from the input and
    s = h' @ recur + bias from the state h' of `period` frames ago.
    """
    n = recur.shape[0]
    padding = -n % LANES
    enter, recur, enter_bias, recur_bias = (
        F.pad(weight.reshape(*weight.shape[:-1], 3, n), (0, padding)).flatten(-2)
        for weight in (enter, recur, enter_bias, recur_bias)
    )
    states: Tensor = _Recurrence.apply(x, enter, recur, enter_bias, recur_bias, period)  # type: ignore[no-untyped-call]
    return states[..., :n]


class _Recurrence(torch.autograd.Function):
    """x (B, T, I), weights (I, 3W) and (R, 3W), biases (3W,), W = R padded to whole LANES -> states (B, T, W)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor, period: int
    ) -> Tensor:
        batch, frames, width = x.shape[0], x.shape[1], enter.shape[1] // 3
        gates = (x @ enter.to(x.dtype)).to(enter.dtype).contiguous()  # opened in place
        states = enter.new_empty(batch, period + frames, width)
        states[:, :period] = 0  # before anything came
        own = enter.new_empty(batch, frames, width)
        passed = Passed(gates.numpy(), states.numpy(), own.numpy())
        # Of the reset and update gates only the sum of both biases counts; the reset gate multiplies one of the new's.
        both = 2 * width
        bias = torch.cat([enter_bias[:both] + recur_bias[:both], recur_bias[both:], enter_bias[both:]]).numpy()
        panels = _panels(recur)

        def compute(scratch: Array, rows: Rows) -> None:
            gru_kernels.forward(passed, bias, panels, scratch, rows)

        _share_among_threads(compute, passed, period, len(recur))
        ctx.save_for_backward(x, enter, recur, gates, states, own)
        ctx.period = period
        return states[:, period:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor, None]:
        x, enter, recur, gates, states, own = ctx.saved_tensors
        given = gradients[0].contiguous()
        grad_sums, grad_own = torch.empty_like(gates), torch.empty_like(own)
        passed = Passed(gates.numpy(), states.numpy(), own.numpy())
        wanted = Gradients(given.numpy(), grad_sums.numpy(), grad_own.numpy())
        zeros, panels = np.zeros(own.shape[2], wanted.own.dtype), _panels(recur.t())

        def compute(scratch: Array, rows: Rows) -> None:
            gru_kernels.backward(passed, wanted, zeros, panels, scratch, rows)

        _share_among_threads(compute, passed, ctx.period, len(recur))
        # What is left is one product each over all frames. The reset and update gates' sums have the same gradient
        # whether they come from the input or from the state.
        n, both = len(recur), 2 * own.shape[2]
        grad_enter_bias = grad_sums.sum((0, 1))
        grad_recur_bias = torch.cat([grad_enter_bias[:both], grad_own.sum((0, 1))])
        before = states[:, : own.shape[1], :n].transpose(1, 2).to(x.dtype)
        sums, from_state = grad_sums.to(x.dtype), grad_own.to(x.dtype)
        parts = [(before @ part).to(recur.dtype).sum(0) for part in (sums[..., :both], from_state)]
        grad_enter = (x.flatten(0, 1).t() @ sums.flatten(0, 1)).to(enter.dtype)
        grad_x = sums @ enter.t().to(x.dtype) if ctx.needs_input_grad[0] else None
        return grad_x, grad_enter, torch.cat(parts, -1), grad_enter_bias, grad_recur_bias, None


def _panels(weights: Tensor) -> Array:
    """Weights (n, outputs) as `compiled.products` wants them: LANES of outputs side by side."""
    padded = F.pad(weights, (0, -weights.shape[1] % LANES))
    panels: Array = padded.reshape(len(weights), -1, LANES).transpose(0, 1).contiguous().numpy()
    return panels


def _share_among_threads(compute: Callable[[Array, Rows], None], passed: Passed, period: int, inputs: int) -> None:
    """Let torch's number of threads take some sequences each; nothing depends on how many there are."""
    batch, width = passed.own.shape[0], passed.own.shape[2]
    n = max(1, min(torch.get_num_threads(), batch))
    ends = [batch * i // n for i in range(n + 1)]
    shares = [Rows(first, last, period, inputs) for first, last in pairwise(ends)]
    scratches = [np.empty(gru_kernels.scratch_size(rows, width), passed.own.dtype) for rows in shares]
    if n == 1:
        compute(scratches[0], shares[0])
        return
    with ThreadPoolExecutor(n) as pool:
        list(pool.map(compute, scratches, shares))
