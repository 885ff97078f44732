"""A step program gives the answers of torch for every kind of network; needs neither a GPU nor Triton."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.bundle.network import NetworkSpec
from rtseg.engine.cuda.step_program import FIELDS, HEADER, step_program
from tests.conftest import REPO
from tests.engine.cuda.programs import Interpreter
from tests.engine.networks import SPECS, bundle_of, features_of, torch_in_double


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_the_program_equals_torch_in_double(spec: NetworkSpec) -> None:
    """Rings wrap around several times; both sides are float64, so that only the layout is tested."""
    bundle = bundle_of(spec)
    features = features_of(spec, min(3 * spec.receptive_field, 120) + 20)
    interpreter = Interpreter(step_program(spec, bundle.weights), spec.n_outputs)
    answers = np.stack([interpreter.step(row) for row in features])
    np.testing.assert_allclose(answers, torch_in_double(bundle, features), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["rats58", "mice-sim"])
def test_a_shipped_bundle_becomes_a_short_program(name: str) -> None:
    """Few operations, since each costs a barrier; every weight once, padded to whole cache lines."""
    bundle = load_bundle(REPO / "engines" / name)
    program = step_program(bundle.network, bundle.weights)
    assert program.code[0] == (program.code[5] - HEADER) // FIELDS
    assert program.code[0] <= 2 * (len(bundle.network.dilations) + len(bundle.network.head_dilations)) + 16
    interpreter = Interpreter(program, bundle.network.n_outputs)
    features = features_of(bundle.network, 40)
    answers = np.stack([interpreter.step(row) for row in features])
    np.testing.assert_allclose(answers, torch_in_double(bundle, features), rtol=0, atol=1e-9)
    size = sum(value.size for value in bundle.weights.values())
    assert size <= program.weights.size <= 1.1 * size
