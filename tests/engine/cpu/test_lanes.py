"""What the numba step is written with: the exponential's error, and products whose bits no neighbour changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from rtseg.engine.cpu import lanes
from rtseg.engine.cpu.lanes import LANES, load, store
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.engine.cpu.products import product
from tests.engine.networks import SPECS, bundle_of, features_of

F32 = NDArray[np.float32]


@njit
def applied(x: F32, which: int, y: F32) -> None:
    for at in range(0, len(x), LANES):
        value = load(x, at)
        if which == 0:
            store(y, at, lanes.exponential(value))
        elif which == 1:
            store(y, at, lanes.sigmoid(value))
        else:
            store(y, at, lanes.tanh(value))


@njit
def multiplied(tape: Any, s: F32, x: Any, y: Any, shape: Any) -> Any:
    return product(tape, (np.uintp(0), np.uintp(0)), s, x, y, shape)


def test_the_exponential_and_the_gates_are_within_their_stated_errors() -> None:
    x = np.concatenate([np.linspace(-87, 88, 1 << 16), np.linspace(-2, 2, 1 << 16)]).astype(np.float32)
    y, exact = np.empty_like(x), x.astype(np.float64)
    applied(x, 0, y)
    assert np.abs(y / np.exp(exact) - 1).max() < 2e-7
    applied(x, 1, y)
    assert np.abs(y - 1 / (1 + np.exp(-exact))).max() < 2e-7
    applied(x, 2, y)
    assert np.abs(y - np.tanh(exact)).max() < 3e-7


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("groups", "n_in", "n_out"), [(1, 7, 40), (1, 5, 90), (1, 9, 3), (5, 6, 16), (3, 4, 20)])
def test_a_product_s_rows_do_not_depend_on_how_many_there_are(half: bool, groups: int, n_in: int, n_out: int) -> None:
    rng = np.random.default_rng(groups + n_in)
    wide, most = -(-n_out // LANES) * LANES, 24
    weight = np.zeros((groups, n_in, wide), np.float16)
    weight[:, :, :n_out] = rng.normal(size=(groups, n_in, n_out))
    matrices = weight.reshape(groups, n_in, -1, LANES).transpose(0, 2, 1, 3).ravel()
    bias = rng.normal(size=(groups, wide)).astype(np.float32)
    tape = (bias.ravel(), matrices.view(np.uint16) if half else matrices.astype(np.float32))
    x = rng.normal(size=(most, groups * n_in)).astype(np.float32)

    def of(rows: int) -> F32:
        s = np.concatenate([x[:rows].ravel(), np.full(rows * groups * wide, np.nan, np.float32)])
        places = [np.uintp(n) for n in (0, groups * n_in, n_in)]
        y = np.uintp(x[:rows].size), np.uintp(groups * wide)
        end = multiplied(tape, s, tuple(places), y, tuple(np.uintp(n) for n in (rows, groups, n_in, n_out)))
        assert end == (bias.size, matrices.size)
        return s[x[:rows].size :].reshape(rows, groups, wide)

    whole = of(most)
    parts = x.reshape(most, groups, n_in).astype(np.float64)
    np.testing.assert_allclose(whole, np.einsum("rgi,gio->rgo", parts, weight.astype(np.float64)) + bias, atol=1e-5)
    for rows in range(1, most):
        assert of(rows).tobytes() == whole[:rows].tobytes()


@pytest.mark.parametrize("name", ["deep", "cells beside convolutions", "nothing refined"])
def test_batches_of_any_size_and_order_give_the_bits_of_single_steps(name: str) -> None:
    """Five slots, some twice or more in one batch, batches larger than a block."""
    spec = SPECS[name]
    bundle, features = bundle_of(spec), features_of(spec, 400)
    rng = np.random.default_rng(1)
    slots = rng.integers(0, 5, 400).astype(np.int32)
    outs = []
    for largest in (1, 7, 90):
        engine, out, at = NumbaEngine(spec, bundle.weights, 5), np.empty((400, spec.n_outputs), np.float32), 0
        while at < 400:
            here = slice(at, at + int(rng.integers(1, largest + 1)))
            engine.step(features[here], slots[here], out[here])
            at = min(here.stop, 400)
        outs.append(out.tobytes())
    assert outs[0] == outs[1] == outs[2]


def test_weights_that_are_halves_are_kept_as_halves_and_give_the_same_bits() -> None:
    spec = SPECS["small"]
    bundle, features = bundle_of(spec), features_of(spec, 200)
    assert NumbaEngine(spec, bundle.weights, 1).stored == "float32"
    rounded = {n: v.astype(np.float16).astype(np.float32) for n, v in bundle.weights.items()}
    halves = NumbaEngine(spec, rounded, 1)
    assert halves.stored == "float16"
    whole = NumbaEngine(spec, rounded, 1)
    whole._matrices = halves._matrices.view(np.float16).astype(np.float32)
    assert halves.run(features).tobytes() == whole.run(features).tobytes()
