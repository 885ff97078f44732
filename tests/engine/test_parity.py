"""Comparing an engine with the CPU engine: the same network passes, small faults are found."""

from __future__ import annotations

import pytest

from rtseg.engine import parity
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.errors import EngineError
from tests.engine.networks import SPECS, bundle_of

BUNDLE = bundle_of(SPECS["small"])


@pytest.mark.parametrize("seed", [0, 3])
def test_parity_passes_the_same_network_and_sees_a_small_change(seed: int) -> None:
    bundle = bundle_of(SPECS["cells beside convolutions"], seed)
    assert parity.require_parity(NumbaEngine(bundle.network, bundle.weights, 3), bundle) <= bundle.tolerance
    weights = {name: value.copy() for name, value in bundle.weights.items()}
    weights["cell.1.recur.weight"][2, 3] += 0.3  # matters only once a state is remembered
    with pytest.raises(EngineError, match="allowed are 2e-05"):
        parity.require_parity(NumbaEngine(bundle.network, weights, 3), bundle)


def test_parity_sees_an_engine_that_forgets_to_reset() -> None:
    class Forgetful(NumbaEngine):
        resets = 0

        def reset(self, slots: object) -> None:
            """Only the first one is done."""
            self.resets += 1
            if self.resets == 1:
                super().reset(slots)  # type: ignore[arg-type]

    with pytest.raises(EngineError, match="differ"):
        parity.require_parity(Forgetful(BUNDLE.network, BUNDLE.weights, 3), BUNDLE)
