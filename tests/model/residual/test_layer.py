"""The compiled layer and its gradients: against torch's own convolution, by finite differences, in every type."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rtseg.model.residual import layer
from tests.model.residual import plain

Layer = Callable[[list[Tensor], int, int], Tensor]


def arguments(batch: int, frames: int, width: int, taps: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x, weight, bias, mix, mix_bias, factors; x alone is of the type: weights beside bfloat16 are float32."""
    torch.manual_seed(batch + frames)
    own = torch.float32 if dtype == torch.bfloat16 else dtype
    x = torch.randn(batch, frames, width, dtype=torch.float64).to(dtype)
    shapes = ((width, taps * width), (width,), (width, width), (width,))
    weights = [torch.randn(shape, dtype=own) / math.sqrt(taps * width) for shape in shapes]
    factors = (torch.rand(batch, 1, width) < 0.7).to(dtype) / 0.7
    return [*(t.requires_grad_() for t in (x, *weights)), factors.to(dtype)]


def ours(given_to: list[Tensor], spacing: int, after: int) -> Tensor:
    x, weight, bias, mix, mix_bias, factors = given_to
    h = layer.rectified_convolution(x, weight, bias, spacing, after)
    return layer.add_mixed(x, h, mix, mix_bias, factors)


def theirs(given_to: list[Tensor], spacing: int, after: int) -> Tensor:
    x, weight, bias, mix, mix_bias, factors = given_to
    h = plain.rectified_convolution(x, weight, bias, spacing, after)
    return plain.add_mixed(x, h, mix, mix_bias, factors)


def with_gradients(of: Layer, given_to: list[Tensor], spacing: int, after: int) -> list[Tensor]:
    result = of(given_to, spacing, after)
    torch.manual_seed(1)
    pull = torch.randn(result.shape, dtype=torch.float64).to(result.dtype)
    return [result, *torch.autograd.grad(result, given_to[:5], pull)]


@given(st.integers(1, 3), st.integers(1, 24), st.integers(1, 5), st.integers(1, 5), st.integers(1, 30), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_results_and_gradients_are_those_of_torchs_convolution(
    batch: int, frames: int, width: int, taps: int, spacing: int, share: float
) -> None:
    """Any number of taps, taps beyond both ends, and any part of them ahead of the frame."""
    given_to = arguments(batch, frames, width, taps)
    after = round(share * (taps - 1) * spacing)
    for mine, reference in zip(
        with_gradients(ours, given_to, spacing, after), with_gradients(theirs, given_to, spacing, after), strict=True
    ):
        torch.testing.assert_close(mine, reference)


def test_gradients_are_those_of_finite_differences() -> None:
    x, weight, bias, mix, mix_bias, factors = arguments(2, 7, 3, 3)

    def function(*tensors: Tensor) -> Tensor:
        return ours([*tensors, factors], 2, 2)

    assert torch.autograd.gradcheck(function, [x, weight, bias, mix, mix_bias])


@pytest.mark.parametrize(("dtype", "floor"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-3)])
@pytest.mark.parametrize(("spacing", "after"), [(1, 1), (8, 0), (40, 40), (70, 70)])
def test_rounding_is_no_worse_than_torchs(dtype: torch.dtype, floor: float, spacing: int, after: int) -> None:
    given_to = arguments(2, 64, 48, 3, dtype)
    exact = [t.detach().double().requires_grad_() for t in given_to[:5]]
    truth = with_gradients(theirs, [*exact, given_to[5].double()], spacing, after)
    mine = with_gradients(ours, given_to, spacing, after)
    reference = with_gradients(theirs, given_to, spacing, after)
    assert [t.dtype for t in mine] == [t.dtype for t in reference]
    for one, other, right in zip(mine, reference, truth, strict=True):
        # Beside torch's own error: a sum that rounding takes across zero is rectified otherwise, and counts for more.
        error, torchs = ((t.double() - right).norm() / right.norm() for t in (one, other))
        assert error <= max(1.5 * torchs, floor)


def test_nothing_is_dropped_without_factors() -> None:
    x, _, _, mix, mix_bias, _ = arguments(2, 3, 4, 1)
    ones = torch.ones(2, 1, 4, dtype=x.dtype)
    assert torch.equal(layer.add_mixed(x, x, mix, mix_bias, None), layer.add_mixed(x, x, mix, mix_bias, ones))


def test_numbers_that_lie_apart_in_memory_give_the_same() -> None:
    x, weight, bias, mix, mix_bias, factors = arguments(2, 20, 6, 3, torch.float32)
    turned = x.detach().mT.contiguous().mT.requires_grad_()
    here = with_gradients(ours, [x, weight, bias, mix, mix_bias, factors], 3, 3)
    apart = with_gradients(ours, [turned, weight, bias, mix, mix_bias, factors], 3, 3)
    assert all(torch.equal(one, other) for one, other in zip(here, apart, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_visible(dtype: torch.dtype) -> None:
    """A training that has gone wrong must not go on with zeros."""
    x, weight, bias, *_ = arguments(1, 6, 4, 3, dtype)
    for sign in (1.0, -1.0):
        spoilt = x.detach().clone()
        spoilt[0, 3, 1] = math.copysign(math.nan, sign)
        assert layer.rectified_convolution(spoilt, weight, bias, 1, 0)[0, 3].isnan().all()
