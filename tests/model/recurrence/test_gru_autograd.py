"""The compiled unit and its backward pass: against the formulas, by finite differences, and its bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rtseg.model.recurrence.gru_autograd import gru
from tests.model.recurrence import plain

SHAPES = [(1, 1, 3, 2), (3, 17, 7, 5), (2, 9, 4, 16), (5, 6, 2, 33)]
"""Sequences, frames, inputs and states: below, at and above a padded size."""


def arguments(shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float64, seed: int = 4) -> list[Tensor]:
    batch, frames, inputs, n = shape
    torch.manual_seed(seed)
    sizes = ((batch, frames, inputs), (inputs, 3 * n), (n, 3 * n), (3 * n,), (3 * n,))
    return [(torch.randn(size, dtype=torch.float64) / 2).to(dtype).requires_grad_() for size in sizes]


@pytest.mark.parametrize("period", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_states_and_gradients_are_those_of_the_formulas(shape: tuple[int, int, int, int], period: int) -> None:
    given_to = arguments(shape)
    ours, theirs = gru(*given_to, period), plain.gru(*given_to, period)
    torch.testing.assert_close(ours, theirs)
    pull = torch.randn_like(theirs)
    ours_back, theirs_back = (torch.autograd.grad((states * pull).sum(), given_to) for states in (ours, theirs))
    for mine, reference in zip(ours_back, theirs_back, strict=True):
        torch.testing.assert_close(mine, reference)


def test_a_period_of_one_is_torchs_unit() -> None:
    x, enter, recur, enter_bias, recur_bias = given_to = arguments(SHAPES[1])
    weights = [enter.t().contiguous(), recur.t().contiguous(), enter_bias, recur_bias]
    fresh = torch.zeros(1, len(x), len(recur), dtype=x.dtype)
    torch.testing.assert_close(gru(*given_to), torch.gru(x, fresh, weights, True, 1, 0.0, True, False, True)[0])


def test_gradients_are_those_of_finite_differences() -> None:
    given_to = arguments((2, 5, 3, 4))
    assert torch.autograd.gradcheck(lambda *tensors: gru(*tensors, 2), given_to)


@pytest.mark.parametrize("period", [1, 2])
def test_float32_is_float64_rounded(period: int) -> None:
    exact, rounded = arguments((3, 60, 20, 24)), arguments((3, 60, 20, 24), torch.float32)
    for mine, reference in zip(with_gradients(rounded, period), with_gradients(exact, period), strict=True):
        # Relative to the whole: single gradients may be sums of large numbers that nearly cancel.
        assert (mine - reference).abs().max() <= 2e-5 * reference.abs().max()


def test_bfloat16_is_for_products_over_all_frames_alone() -> None:
    x, *weights = arguments((3, 60, 20, 24), torch.float32)
    narrow = x.detach().bfloat16().requires_grad_()
    exact = with_gradients([narrow.detach().float().requires_grad_(), *weights], 1)
    rounded = with_gradients([narrow, *weights], 1)
    assert [tensor.dtype for tensor in rounded] == [torch.float32, torch.bfloat16, *4 * [torch.float32]]
    for mine, reference in zip(rounded, exact, strict=True):
        # Eight bits of each product's inputs and outputs.
        assert (mine - reference).abs().max() <= 0.03 * reference.abs().max()


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(1, 9),
    frames=st.integers(1, 12),
    size=st.integers(1, 40),
    period=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_no_bit_depends_on_the_other_sequences_or_on_the_threads(
    batch: int, frames: int, size: int, period: int, seed: int
) -> None:
    x, enter, *others = arguments((batch, frames, 3, size), torch.float32, seed)
    # Torch's product of these two adds up in an order that depends on the shape, on some processors: eighths are exact.
    x, enter = (((8 * t.detach()).round() / 8).requires_grad_() for t in (x, enter))
    weights = [enter, *others]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone, of_all = gru(x[:1], *weights, period), with_gradients([x, *weights], period)
        torch.set_num_threads(3)
        of_threads = with_gradients([x, *weights], period)
    finally:
        torch.set_num_threads(before)
    # The gradients of the weights are sums over all frames, which torch adds up in an order of its own.
    assert torch.equal(of_all[0], of_threads[0])
    assert torch.equal(of_all[0][:1], alone.detach())
    for one, other in zip(of_all[1:], of_threads[1:], strict=True):
        torch.testing.assert_close(one, other)


def with_gradients(tensors: list[Tensor], period: int) -> list[Tensor]:
    """The states, and the gradients of the sum of their squares, as float64 where they are compared."""
    states = gru(*tensors, period)  # type: ignore[arg-type]
    return [states.detach(), *torch.autograd.grad(states.square().sum(), tensors)]
