"""Matrix products of a step: right, and with bits that no neighbouring row changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled.lanes import LANES
from rtseg.compiled.products import product

F32 = NDArray[np.float32]


@njit
def multiplied(weights: Any, s: F32, x: Any, y: Any, shape: Any) -> Any:
    return product(weights, (np.uintp(0), np.uintp(0)), s, x, y, shape)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("groups", "n_in", "n_out"), [(1, 7, 40), (1, 5, 90), (1, 9, 3), (5, 6, 16), (3, 4, 20)])
def test_a_product_s_rows_do_not_depend_on_how_many_there_are(half: bool, groups: int, n_in: int, n_out: int) -> None:
    rng = np.random.default_rng(groups + n_in)
    wide, most = -(-n_out // LANES) * LANES, 24
    weight = np.zeros((groups, n_in, wide), np.float16)
    weight[:, :, :n_out] = rng.normal(size=(groups, n_in, n_out))
    matrices = weight.reshape(groups, n_in, -1, LANES).transpose(0, 2, 1, 3).ravel()
    bias = rng.normal(size=(groups, wide)).astype(np.float32)
    weights = (bias.ravel(), matrices.view(np.uint16) if half else matrices.astype(np.float32))
    x = rng.normal(size=(most, groups * n_in)).astype(np.float32)

    def of(rows: int) -> F32:
        s = np.concatenate([x[:rows].ravel(), np.full(rows * groups * wide, np.nan, np.float32)])
        places = [np.uintp(n) for n in (0, groups * n_in, n_in)]
        y = np.uintp(x[:rows].size), np.uintp(groups * wide)
        end = multiplied(weights, s, tuple(places), y, tuple(np.uintp(n) for n in (rows, groups, n_in, n_out)))
        assert end == (bias.size, matrices.size)
        return s[x[:rows].size :].reshape(rows, groups, wide)

    whole = of(most)
    parts = x.reshape(most, groups, n_in).astype(np.float64)
    np.testing.assert_allclose(whole, np.einsum("rgi,gio->rgo", parts, weight.astype(np.float64)) + bias, atol=1e-5)
    for rows in range(1, most):
        assert of(rows).tobytes() == whole[:rows].tobytes()
