"""Recurrent units as their formulas say, frame by frame in torch: slow, and obviously right."""

from __future__ import annotations

import torch
from torch import Tensor


def gru(x: Tensor, enter: Tensor, recur: Tensor, enter_bias: Tensor, recur_bias: Tensor, period: int = 1) -> Tensor:
    """As `rtseg.model.recurrence.gru_autograd.gru`."""
    states = [x.new_zeros(len(x), len(recur))] * period
    for frame in x.unbind(1):
        from_input = (frame @ enter + enter_bias).chunk(3, -1)
        from_state = (states[-period] @ recur + recur_bias).chunk(3, -1)
        reset, update = (torch.sigmoid(a + b) for a, b in zip(from_input[:2], from_state[:2], strict=True))
        new = torch.tanh(from_input[2] + reset * from_state[2])
        states.append((1 - update) * new + update * states[-period])
    return torch.stack(states[period:], 1)
