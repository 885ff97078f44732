"""The step in float16 and int8 in ONNX Runtime, and streams without a frame in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtseg.engine.onnx.onnx_graph import instrumented_model, step_model
from rtseg.engine.onnx.onnx_nodes import F32, GraphBuilder, Precision
from rtseg.engine.onnx.step_interface import cache_dtypes, cache_shapes, past_name, present_name
from rtseg.errors import EngineError
from tests.engine.networks import SPECS, bundle_of, features_of

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")

SPEC = SPECS["cells beside convolutions"]
WEIGHTS = bundle_of(SPEC).weights
FRAMES = 120


def rolled(model: Any, precision: Precision, features: F32, active: Any = None, watch: tuple[str, ...] = ()) -> Any:
    """Answers (T, B, P) to features (T, B, F), and the watched tensors; active (T, B): which streams have a frame."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 as written, whatever the processor has
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    batch = features.shape[1]
    shapes, dtypes = cache_shapes(SPEC, "in_place", batch), cache_dtypes(SPEC, precision)
    caches = [np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
    names = ["probabilities", *(present_name(i) for i in range(len(caches))), *watch]
    frame, answers, seen = np.zeros(batch, np.int64), [], []
    for t, row in enumerate(features):
        feeds = {past_name(i): cache for i, cache in enumerate(caches)} | {"features": row, "frame": frame}
        answer, *rest = session.run(names, feeds)
        caches = rest[: len(caches)]
        answers.append(answer)
        seen.append(rest[len(caches) :])
        frame = frame + (1 if active is None else active[t])
    return np.array(answers), seen


@pytest.fixture(scope="module")
def features() -> F32:
    return np.stack([features_of(SPEC, FRAMES, seed=s) for s in range(2)], 1)


@pytest.fixture(scope="module")
def plain(features: F32) -> F32:
    return np.asarray(rolled(step_model(SPEC, WEIGHTS, batch=2), "fp32", features)[0])


def test_float16_is_close(features: F32, plain: F32) -> None:
    answers, _ = rolled(step_model(SPEC, WEIGHTS, batch=2, precision="fp16"), "fp16", features)
    assert 1e-6 < np.abs(answers - plain).max() < 0.01, "rounded, and not far off"


def test_int8_with_scales_from_observed_ranges_is_close(features: F32, plain: F32) -> None:
    model, products = instrumented_model(SPEC, WEIGHTS, 2)
    tensors = tuple(sorted({tensor for some in products.values() for tensor in some}))
    _, seen = rolled(model, "fp32", features, watch=tensors)
    largest = {tensor: max(float(np.abs(row[i]).max()) for row in seen) for i, tensor in enumerate(tensors)}
    scales = {name: max(largest[tensor] for tensor in some) / 127 for name, some in products.items()}
    answers, _ = rolled(step_model(SPEC, WEIGHTS, batch=2, precision="int8", scales=scales), "int8", features)
    difference = np.abs(answers - plain)
    assert 1e-4 < difference.max() < 0.2
    assert difference.mean() < 0.02


def test_int8_without_scales_or_with_unknown_ones_is_refused() -> None:
    with pytest.raises(EngineError, match="needs the scales"):
        step_model(SPEC, WEIGHTS, precision="int8")
    with pytest.raises(EngineError, match=r"products that the network has not: nobody; it has input"):
        step_model(SPEC, WEIGHTS, precision="int8", scales={"nobody": 1.0})


def test_a_stream_without_a_frame_loses_nothing_in_a_batch(features: F32, plain: F32) -> None:
    """Stream 1 gets a frame of its own at every third step, and another's features in between."""
    active = np.ones((3 * FRAMES, 2), np.int64)
    active[:, 1] = np.arange(3 * FRAMES) % 3 == 0
    stretched = np.repeat(features, 3, axis=0)
    stretched[active[:, 1] == 0, 1] = 1e3
    answers, _ = rolled(step_model(SPEC, WEIGHTS, batch=2), "fp32", stretched, active)
    np.testing.assert_allclose(answers[::3, 1], plain[:, 1], rtol=0, atol=1e-6)


def test_emulated_float16_rounds_what_a_product_reads_and_gives() -> None:
    """ONNX Runtime on a CPU leaves the rounding out where it is written as float16: here it must not."""
    import onnx

    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(5, 24)).astype(np.float32), rng.normal(size=(24, 7)).astype(np.float16)
    graph = GraphBuilder(onnx, "fp16", emulate_float16=True)
    product = graph.product("x", weight.astype(np.float32), "p")
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    ends = [info("x", kind, x.shape)], [info(product, kind, (5, 7))]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "product", *ends, graph.constants),
        opset_imports=[onnx.helper.make_opsetid("", 24)],
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"x": x})
    expected = (x.astype(np.float16).astype(np.float64) @ weight.astype(np.float64)).astype(np.float16)
    np.testing.assert_allclose(answer, expected.astype(np.float32), rtol=2**-10)
    assert np.array_equal(answer.astype(np.float16).astype(np.float32), answer), "rounded"
    assert not np.allclose(answer, x @ weight.astype(np.float32), rtol=1e-5)
