"""The step as ONNX: both forms compared with torch in double, streams at their own phases, and the graph's rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.onnx.onnx_graph import OPSET, step_model
from rtseg.engine.onnx.step_interface import FORMS, Form, cache_shapes, past_name, present_name
from tests.engine.networks import F32, SPECS, bundle_of, features_of, torch_in_double

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")

every_form = pytest.mark.parametrize("form", FORMS)
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


class Roll:
    """B streams through the model, caches copied from outputs to inputs: nothing of the engine is used."""

    def __init__(self, spec: NetworkSpec, form: Form, batch: int) -> None:
        model = step_model(spec, bundle_of(spec).weights, form, batch)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        self.spec, self.form, self.batch = spec, form, batch
        self.frame = np.zeros(batch, np.int64)
        self.caches = [np.zeros(shape, np.float32) for shape in cache_shapes(spec, form, batch)]

    def step(self, features: F32) -> F32:
        feeds: dict[str, Any] = {past_name(i): cache for i, cache in enumerate(self.caches)}
        feeds |= {"features": features} | ({"frame": self.frame} if self.form == "in_place" else {})
        names = ["probabilities", *(present_name(i) for i in range(len(self.caches)))]
        probabilities, *self.caches = self.session.run(names, feeds)
        self.frame = self.frame + 1
        return np.asarray(probabilities)

    def reset(self, stream: int) -> None:
        self.frame[stream] = 0
        for cache in self.caches:
            if self.form == "in_place":
                cache.reshape(self.batch, -1)[stream] = 0.0
            else:
                cache.reshape(-1, self.batch, *cache.shape[1:])[:, stream] = 0.0


@every_form
@every_spec
def test_streams_at_their_own_phases_against_torch_in_double(spec: NetworkSpec, form: Form) -> None:
    """Four streams in one batch; some are started again on the way, one while its rings are half full."""
    batch, n_frames = 4, spec.receptive_field + 450
    starts = [[0], [0, 3], [0, 1 + spec.receptive_field // 2, 400], [0, 211]]
    inputs = np.stack([features_of(spec, n_frames, seed=s) for s in range(batch)])
    roll, answers = Roll(spec, form, batch), np.empty((n_frames, batch, spec.n_outputs), np.float32)
    for t in range(n_frames):
        for stream, at in enumerate(starts):
            if t in at[1:]:
                roll.reset(stream)
        answers[t] = roll.step(inputs[:, t])
    for stream, at in enumerate(starts):
        for lo, hi in zip(at, [*at[1:], n_frames], strict=True):
            expected = torch_in_double(bundle_of(spec), inputs[stream, lo:hi])
            np.testing.assert_allclose(answers[lo:hi, stream], expected, rtol=0, atol=1e-5)


@every_form
def test_after_thousands_of_frames_the_answers_are_torchs(form: Form) -> None:
    spec = SPECS["deep"]
    features = features_of(spec, 2000)
    roll = Roll(spec, form, 1)
    answers = np.concatenate([roll.step(row[None]) for row in features])
    np.testing.assert_allclose(answers, torch_in_double(bundle_of(spec), features), rtol=0, atol=1e-5)


@every_form
@pytest.mark.parametrize("batch", [1, 3])
def test_inputs_and_outputs_are_as_documented(form: Form, batch: int) -> None:
    spec = SPECS["thirteen heads"]
    graph = step_model(spec, bundle_of(spec).weights, form, batch).graph

    def shapes(values: Any) -> dict[str, tuple[int, ...]]:
        return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}

    caches = cache_shapes(spec, form, batch)
    phase = {"frame": (batch,)} if form == "in_place" else {}
    pasts = {past_name(i): shape for i, shape in enumerate(caches)}
    presents = {present_name(i): shape for i, shape in enumerate(caches)}
    assert shapes(graph.input) == {"features": (batch, spec.n_features)} | phase | pasts
    assert shapes(graph.output) == {"probabilities": (batch, spec.n_outputs)} | presents
    per_stream = sum(int(np.prod(shape)) for shape in caches) // batch
    assert per_stream == sum(int(np.prod(shape)) for shape in cache_shapes(spec, form, 1))


@every_spec
def test_in_place_every_cache_is_written_once_by_a_linear_scatter(spec: NetworkSpec) -> None:
    """What TensorRT turns into an update in place; `circular` it rejects. Convolutions would cost it reshapes."""
    model = step_model(spec, bundle_of(spec).weights, "in_place", batch=2)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET["in_place"])]
    scatters = [node for node in model.graph.node if node.op_type == "TensorScatter"]
    n_caches = len(spec.dilations) + len(spec.head_dilations) + len(spec.cells)
    written = {node.input[0]: node.output[0] for node in scatters}
    assert len(scatters) == n_caches
    assert written == {past_name(i): present_name(i) for i in range(n_caches)}
    for node in scatters:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"axis": 2, "mode": b"linear"}
    readers = [node for node in model.graph.node for name in node.input if name.startswith("past.")]
    # A cell reads its old state before it writes the new one, which is made of it; layers read what was written.
    assert sorted(node.op_type for node in readers) == ["GatherND"] * len(spec.cells) + ["TensorScatter"] * n_caches
    assert not [node for node in model.graph.node if node.op_type == "Conv"]


@every_form
def test_every_value_but_an_index_is_float32(form: Form) -> None:
    """Index arithmetic is int64; everything that carries a signal is float32, and no weight is hidden in a double."""
    model = step_model(SPECS["small"], bundle_of(SPECS["small"]).weights, form)
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    assert kinds == {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    n_weights = sum(value.size for value in bundle_of(SPECS["small"]).weights.values())
    n_floats = sum(np.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    assert n_weights <= n_floats < 1.2 * n_weights
