"""A gated recurrent unit over whole sequences, its backward pass written by hand, where training spends its time.

The same sums as `torch.gru`, which on a CPU keeps a graph of every frame and adds up the weights' gradients frame by
frame; here a frame costs one small product each way, and the weights' gradients are one product over all frames.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def gru(x: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor) -> Tensor:
    """States (B, T, R) of a unit that begins at zero and is fed x (B, T, I).

    enter (I, 3R), recur (R, 3R) and their biases (3R,) hold the reset, update and new gates side by side:
    h = (1 - u) * tanh(i_n + r * s_n) + u * h', where i = x @ enter + bias comes from the input and
    s = h' @ recur + bias from the state.
    """
    from_input = F.linear(x.transpose(0, 1), enter.t(), enter_bias)
    states: Tensor = _Recurrence.apply(from_input, recur, recur_bias)  # type: ignore[no-untyped-call]
    return states.transpose(0, 1)


class _Recurrence(torch.autograd.Function):
    """from_input (T, B, 3R), time first so that a frame lies in one piece -> states (T, B, R)."""

    @staticmethod
    def forward(ctx: Any, from_input: Tensor, recur: Tensor, bias: Tensor) -> Tensor:
        frames, batch, n = from_input.shape[0], from_input.shape[1], recur.shape[0]
        gates = from_input.contiguous().clone()  # becomes r, u and the new value, in place
        states = from_input.new_zeros(frames + 1, batch, n)  # row 0: before anything came
        from_state = from_input.new_empty(frames, batch, 3 * n)
        # All views of single frames at once: made frame by frame they take as long as the sums.
        both, own_both = gates[:, :, : 2 * n].unbind(), from_state[:, :, : 2 * n].unbind()
        reset, update, new = (gate.unbind() for gate in torch.split(gates, n, 2))
        own_new, owns, rows = from_state[:, :, 2 * n :].unbind(), from_state.unbind(), states.unbind()
        for t, own in enumerate(owns):
            torch.addmm(bias, rows[t], recur, out=own)
            both[t].add_(own_both[t]).sigmoid_()
            new[t].addcmul_(reset[t], own_new[t]).tanh_()
            torch.lerp(new[t], rows[t], update[t], out=rows[t + 1])
        # Of the sums from the state only the new gate's part is needed again: the reset gate multiplies it.
        ctx.save_for_backward(gates, states, from_state[:, :, 2 * n :], recur)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates, states, from_state_new, recur = ctx.saved_tensors
        (gradient,), n = gradients, recur.shape[0]
        reset, update, new = gates.split(n, 2)
        # How the gates' sums change with the state, without the state's own gradient: computed for all frames at once.
        by_new = (1 - update) * (1 - new * new)
        by_update = (states[:-1] - new) * update * (1 - update)
        by_reset = by_new * from_state_new * reset * (1 - reset)
        factors = torch.stack((by_reset, by_update, by_new * reset), 2)  # (T, B, 3, R), in the order of `recur`
        grad_from_state = torch.empty_like(factors)
        back = recur.t().contiguous()
        later = torch.zeros_like(states[0])
        frames, batch = gradient.shape[:2]
        after = torch.empty_like(gradient)  # the whole gradient of every state
        given, here, here_for_gates = gradient.unbind(), after.unbind(), after[:, :, None].unbind()
        factor, kept, by_gate = factors.unbind(), update.unbind(), grad_from_state.unbind()
        by_sum = grad_from_state.view(frames, batch, 3 * n).unbind()
        # Only what depends on the following frame's gradient is left for the loop.
        for t in range(frames - 1, -1, -1):
            torch.add(given[t], later, out=here[t])
            torch.mul(factor[t], here_for_gates[t], out=by_gate[t])
            # To the state before: through the share of it that is kept, and through the gates.
            torch.mul(here[t], kept[t], out=later)
            later.addmm_(by_sum[t], back)
        grad_from_input = torch.cat((grad_from_state[:, :, 0], grad_from_state[:, :, 1], after * by_new), 2)
        flat = grad_from_state.view(frames * batch, 3 * n)
        grad_recur = states[:-1].reshape(frames * batch, n).t() @ flat
        return grad_from_input, grad_recur, flat.sum(0)
