"""The lint: what TensorRT refuses is named with its node; what this package writes passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtseg.engine.onnx.onnx_graph import product_names, step_model
from rtseg.engine.onnx.onnx_lint import find_problems, require_supported
from rtseg.engine.onnx.step_interface import OPEN
from rtseg.errors import EngineError
from tests.engine.networks import SPECS, bundle_of

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
helper = pytest.importorskip("onnx.helper")

FLOAT, INT8, UINT8, INT32, INT64 = (
    getattr(onnx.TensorProto, kind) for kind in ("FLOAT", "INT8", "UINT8", "INT32", "INT64")
)


def model_of(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], **constants: Any) -> Any:
    """A small real model that onnx's own checker passes."""
    infos = [[helper.make_tensor_value_info(name, *kind) for name, kind in some.items()] for some in (inputs, outputs)]
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "small", *infos, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])
    onnx.checker.check_model(model, full_check=True)
    return model


ZERO, TENTH = np.int8(0), np.float32(0.1)


def quantised(zero: Any = ZERO, scale: Any = TENTH) -> Any:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    return model_of(nodes, {"x": (FLOAT, (2, 3))}, {"y": (FLOAT, (2, 3))}, scale=scale, zero=zero)


def scattered(mode: str = "linear", axis: int = 2, kind: int = FLOAT, shape: tuple[int, ...] = (2, 1, 5, 3)) -> Any:
    past, update = (kind, shape), (kind, (*shape[:axis], 1, *shape[axis + 1 :]))
    node = helper.make_node("TensorScatter", ["past.0", "x", "at"], ["present.0"], mode=mode, axis=axis)
    return model_of([node], {"past.0": past, "x": update, "at": (INT64, shape[:1])}, {"present.0": past})


def bias() -> Any:
    node = helper.make_node("DequantizeLinear", ["b", "scale"], ["y"])
    return model_of([node], {}, {"y": (FLOAT, (3,))}, b=np.arange(3, dtype=np.int32), scale=np.float32(0.1))


def integers() -> Any:
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    return model_of([node], {"x": (INT8, (2, 3))}, {"y": (INT32, (2, 4))}, w=np.ones((3, 4), np.int8))


def copied() -> Any:
    node = helper.make_node("Identity", ["past.0"], ["present.0"])
    kind = (FLOAT, (2, 1, 5, 3))
    return model_of([node], {"past.0": kind}, {"present.0": kind})


def doubles() -> Any:
    node = helper.make_node("Add", ["x", "c"], ["y"])
    kind = (onnx.TensorProto.DOUBLE, (2,))
    return model_of([node], {"x": kind}, {"y": kind}, c=np.ones(2))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (quantised(np.int8(3)), r"node q \(QuantizeLinear\): its zero point must be 0 .*got 3 \(and 1 more\)"),
        (quantised(np.uint8(0)), r"node q \(QuantizeLinear\): it quantises to uint8: TensorRT takes int8 only"),
        (quantised(scale=np.float32(0)), r"node q \(QuantizeLinear\): its scale scale must be finite and above 0"),
        (bias(), r"node y \(DequantizeLinear\): it gives back int32 \(a quantised bias\)"),
        (integers(), r"node y \(MatMulInteger\): integer arithmetic must be written as QuantizeLinear"),
        (scattered("circular"), r"node present\.0 \(TensorScatter\): mode must be linear, got circular"),
        (scattered(axis=1), r"node present\.0 \(TensorScatter\): axis must be 2 of 4, got 1"),
        (scattered(kind=INT8), r"node present\.0 \(TensorScatter\): a cache must hold float32, .*got INT8"),
        (scattered(shape=(2, 1, 5)), r"input past\.0: a cache has 4 dimensions, got 3"),
        (copied(), r"input past\.0: expected one TensorScatter .*found 0"),
        (doubles(), r"constant c: float64"),
        (b"no model", "expected an ONNX model, got 8 bytes that are none"),
    ],
)
def test_what_tensorrt_refuses_is_named(model: Any, said: str) -> None:
    with pytest.raises(EngineError, match=said) as caught:
        require_supported(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [quantised(), scattered(), scattered(axis=-2)])
def test_what_tensorrt_takes_passes(model: Any) -> None:
    assert find_problems(model) == []
    assert find_problems(model.SerializeToString()) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("name", ["cells beside convolutions", "thirteen heads"])
def test_every_step_that_is_written_passes(name: str, precision: Any) -> None:
    spec = SPECS[name]
    scales = dict.fromkeys(product_names(spec), 0.05) if precision == "int8" else None
    assert find_problems(step_model(spec, bundle_of(spec).weights, "in_place", OPEN, precision, scales)) == []


def test_a_step_with_a_scale_of_zero_is_never_written() -> None:
    spec = SPECS["small"]
    scales = dict.fromkeys(product_names(spec), 0.0)
    with pytest.raises(EngineError, match=r"TensorRT would refuse this step: node .*its scale .* above 0, got 0"):
        step_model(spec, bundle_of(spec).weights, precision="int8", scales=scales)
