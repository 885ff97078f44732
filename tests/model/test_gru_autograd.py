"""The hand-written backward pass against torch's own unit."""

from __future__ import annotations

import pytest
import torch

from rtseg.model.gru_autograd import gru


@pytest.mark.parametrize("shape", [(1, 1, 3, 2), (3, 17, 7, 5)])
def test_states_and_gradients_are_those_of_torchs_unit(shape: tuple[int, int, int, int]) -> None:
    batch, frames, inputs, n = shape
    torch.manual_seed(4)
    sizes = ((batch, frames, inputs), (inputs, 3 * n), (n, 3 * n), (3 * n,), (3 * n,))
    x, enter, recur, enter_bias, recur_bias = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in sizes)
    weights = [enter.t().contiguous(), recur.t().contiguous(), enter_bias, recur_bias]
    fresh = torch.zeros(1, batch, n, dtype=torch.float64)
    theirs = torch.gru(x, fresh, weights, True, 1, 0.0, True, False, True)[0]
    ours = gru(x, enter, recur, enter_bias, recur_bias)
    torch.testing.assert_close(ours, theirs)
    pull = torch.randn_like(theirs)
    all_of = (x, enter, recur, enter_bias, recur_bias)
    for mine, reference in zip(
        torch.autograd.grad((ours * pull).sum(), all_of),
        torch.autograd.grad((theirs * pull).sum(), all_of),
        strict=True,
    ):
        torch.testing.assert_close(mine, reference)


def test_a_batch_changes_nothing() -> None:
    torch.manual_seed(1)
    x = torch.randn(4, 9, 6, dtype=torch.float64)
    weights = [torch.randn(s, dtype=torch.float64) for s in ((6, 12), (4, 12), (12,), (12,))]
    torch.testing.assert_close(gru(x, *weights)[2:3], gru(x[2:3], *weights))
