"""Windows and pooled convolutions with their gradients: against torch's own calls, and by finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rtseg.model.residual import windows
from tests.model.residual import plain

EXTRA = st.integers(1, 12)
"""Frames beyond those that one result needs."""


def arguments(frames: int, width: int, taps: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight, bias; weights beside bfloat16 are float32."""
    torch.manual_seed(frames + width)
    own = torch.float32 if dtype == torch.bfloat16 else dtype
    x = torch.randn(2, frames, width, dtype=torch.float64).to(dtype)
    weight, bias = torch.randn(6, taps * width, dtype=own) / math.sqrt(taps * width), torch.randn(6, dtype=own) / 2
    return x.requires_grad_(), weight.requires_grad_(), bias.requires_grad_()


def gradients(result: Tensor, given_to: tuple[Tensor, ...]) -> list[Tensor]:
    torch.manual_seed(1)
    pull = torch.randn(result.shape, dtype=torch.float64).to(result.dtype)
    return list(torch.autograd.grad(result, given_to, pull))


@given(EXTRA, st.integers(1, 5), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_results_and_gradients_are_those_of_torchs_calls(extra: int, width: int, taps: int, spacing: int) -> None:
    given_to = arguments(taps * spacing + extra, width, taps)
    mine, reference = (of.pooled_convolution(*given_to, spacing) for of in (windows, plain))
    torch.testing.assert_close(mine, reference)
    torch.testing.assert_close(gradients(mine, given_to), gradients(reference, given_to))
    x = given_to[:1]
    mine, reference = (of.side_by_side(*x, taps, spacing) for of in (windows, plain))
    assert torch.equal(mine, reference)
    torch.testing.assert_close(gradients(mine, x), gradients(reference, x))


def test_gradients_are_those_of_finite_differences() -> None:
    x, weight, bias = arguments(13, 3, 3)
    assert torch.autograd.gradcheck(lambda *given_to: windows.pooled_convolution(*given_to, 2), [x, weight, bias])
    assert torch.autograd.gradcheck(lambda x: windows.side_by_side(x, 3, 2), [x])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_of_two_that_are_equal_each_gets_half(dtype: torch.dtype) -> None:
    """As torch shares out; in bfloat16 that is common."""
    x = torch.ones(1, 5, 2, dtype=dtype, requires_grad=True)
    weight, bias = torch.ones(3, 2), torch.zeros(3)
    mine, reference = (of.pooled_convolution(x, weight.to(dtype), bias.to(dtype), 2) for of in (windows, plain))
    assert torch.equal(mine, reference)
    assert torch.equal(*(torch.autograd.grad(r, x, torch.ones_like(r))[0] for r in (mine, reference)))


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-3)])
def test_rounding_is_no_worse_than_torchs(dtype: torch.dtype, floor: float) -> None:
    given_to = arguments(90, 16, 5, dtype)
    exact = tuple(t.detach().double().requires_grad_() for t in given_to)
    truth = plain.pooled_convolution(*exact, 4)
    results = [of.pooled_convolution(*given_to, 4) for of in (windows, plain)]
    for mine, reference, right in zip(
        *([r, *gradients(r, given_to)] for r in results), [truth, *gradients(truth, exact)], strict=True
    ):
        assert mine.dtype == reference.dtype
        error, torchs = ((t.double() - right).norm() / right.norm() for t in (mine, reference))
        assert error <= max(1.5 * torchs, floor)


def test_under_autocast_products_are_of_its_type() -> None:
    x, weight, bias = arguments(30, 4, 3, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        result = windows.pooled_convolution(x, weight, bias, 2)
    assert result.dtype == torch.bfloat16
    assert [g.dtype for g in gradients(result, (x, weight, bias))] == [torch.float32] * 3


@pytest.mark.parametrize("at", [0, 2, 4])
def test_what_is_no_number_stays_visible(at: int) -> None:
    x, weight, bias = arguments(6, 1, 1, torch.float32)
    spoilt = x.detach().clone()
    spoilt[0, at] = math.nan
    result = windows.pooled_convolution(spoilt, weight, bias, 2)
    assert [bool(result[0, t].isnan().all()) for t in range(4)] == [at in (t, t + 2) for t in range(4)]
