"""Plans of the shipped bundles, built ahead of time without a GPU; and an engine that says why it does not serve."""

from __future__ import annotations

import pytest

from rtseg.bundle import load_bundle
from rtseg.engine.onnx_graph import product_names, step_model
from rtseg.engine.onnx_nodes import PRECISIONS, Precision
from rtseg.engine.tensorrt_engine import TARGETS, TensorRTEngine, available, build_plan
from rtseg.errors import EngineError
from tests.conftest import REPO
from tests.engine.networks import SPECS, bundle_of

SMALL = bundle_of(SPECS["cells beside convolutions"])


def test_it_says_why_it_does_not_serve() -> None:
    reason = available()
    assert reason is not None
    with pytest.raises(EngineError, match=reason):
        TensorRTEngine(SMALL, 1)


def test_an_unknown_gpu_is_named_with_those_that_there_are() -> None:
    with pytest.raises(EngineError, match="unknown GPU 'sm_1'; plans are built ahead of time for sm_75"):
        build_plan(b"", "sm_1")


def test_what_is_no_model_is_refused() -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'rtseg[tensorrt-rtx]'")
    with pytest.raises(EngineError, match="does not take the step"):
        build_plan(b"no model", TARGETS[-1])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["rats58", "mice-sim"])
def test_a_plan_updates_one_cache_in_place_for_each_layer_and_cell(name: str, precision: Precision) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install 'rtseg[tensorrt-rtx]'")
    pytest.importorskip("onnx", reason="pip install 'rtseg[onnx]'")
    bundle = load_bundle(REPO / "engines" / name)
    spec = bundle.network
    scales = dict.fromkeys(product_names(spec), 0.05) if precision == "int8" else None
    model = step_model(spec, bundle.weights, "in_place", 4, precision, scales)
    plan = build_plan(model.SerializeToString(), "sm_86")
    assert plan.in_place == len(spec.dilations) + len(spec.head_dilations) + len(spec.cells)
    assert plan.data
