"""What is ONNX Runtime's own in its engine: both forms, and caches that are written where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from rtseg.engine.onnx_graph import FORMS, Form
from tests.engine.networks import SPECS, bundle_of, features_of, torch_in_double

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")

from rtseg.engine.onnx_engine import OnnxEngine

SPEC = SPECS["small"]


def engine_of(form: Form, capacity: int = 1) -> OnnxEngine:
    return OnnxEngine(SPEC, bundle_of(SPEC).weights, capacity, form)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_equal_torch_in_double(form: Form) -> None:
    features = features_of(SPEC, SPEC.receptive_field + 1000)
    expected = torch_in_double(bundle_of(SPEC), features)
    np.testing.assert_allclose(engine_of(form).run(features), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("taken_at", [6, 7])
def test_snapshots_at_even_and_odd_frames(form: Form, taken_at: int) -> None:
    """Shifted, two sets of caches trade places: a snapshot must hold the one that is the past."""
    features, slots = features_of(SPEC, 60), np.zeros(60, np.int32)
    whole, engine, other = engine_of(form).run(features), engine_of(form), engine_of(form)
    out = np.empty_like(whole)
    engine.step(features[:taken_at], slots[:taken_at], out[:taken_at])
    other.step(features[:3], slots[:3], out[:3])
    other.restore(0, engine.snapshot(0))
    other.step(features[taken_at:], slots[taken_at:], out[taken_at:])
    assert out[taken_at:].tobytes() == whole[taken_at:].tobytes()


def test_in_place_a_step_writes_one_row_of_each_ring_and_leaves_the_others() -> None:
    engine = engine_of("in_place", capacity=2)
    features = features_of(SPEC, 41)
    slots = np.zeros(40, np.int32)
    engine.step(features[:40], slots, np.empty((40, SPEC.n_outputs), np.float32))
    before = np.frombuffer(engine.snapshot(0)[8:], np.float32)
    engine.step(features[40:], slots[:1], np.empty((1, SPEC.n_outputs), np.float32))
    after = np.frombuffer(engine.snapshot(0)[8:], np.float32)
    one_row_each = len(SPEC.dilations) * SPEC.channels + len(SPEC.head_dilations) * len(SPEC.heads) * SPEC.head_channels
    changed = int((before != after).sum())
    assert 0.9 * one_row_each < changed <= one_row_each
    assert not np.frombuffer(engine.snapshot(1), np.uint8).any(), "the other slot is still fresh"
