"""The CPU engine beside its contract: batches of any make-up, and weights that are stored as halves."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.engine.cpu.numba_engine import NumbaEngine
from tests.engine.networks import SPECS, bundle_of, features_of

F32 = NDArray[np.float32]


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
