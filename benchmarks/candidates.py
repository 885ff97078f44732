"""The ways of stepping a bundle's network that benchmarks/engines.py compares, one function each.

A function takes a bundle and a batch size and returns a step: features (B, F) of B streams, each at its next frame ->
probabilities (B, P). All run on one thread. One that cannot run here raises EngineError with the reason, or whatever
its library raises.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.engine.onnx import onnx_graph, step_interface
from rtseg.engine.onnx.onnx_engine import OnnxEngine
from rtseg.errors import EngineError

sys.path.insert(0, str(Path(__file__).parent / "gpu"))

F32 = NDArray[np.float32]
Step = Callable[[F32], F32]
COMPILED = (1,)
"""Batch sizes for torch.compile; each takes it minutes."""
WIDTH = 64
"""Channels of pytorch-tcn's network."""


def numba(bundle: Bundle, batch: int) -> Step:
    """rtseg's engine for the CPU."""
    return _of_engine(NumbaEngine(bundle.network, bundle.weights, batch), batch)


def onnx_in_place(bundle: Bundle, batch: int) -> Step:
    """rtseg's onnx engine: rings written in place (opset 24)."""
    return _of_engine(OnnxEngine(bundle.network, bundle.weights, batch, "in_place"), batch)


def onnx_shifted(bundle: Bundle, batch: int) -> Step:
    """ONNX Runtime, the whole batch in one call, caches concatenated and cut, bound as inputs and outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = onnx_graph.step_model(bundle.network, bundle.weights, "shifted", batch).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    features, out, sets = _arrays(bundle, batch)

    def binding(past: list[F32], present: list[F32]) -> Any:
        bound = session.io_binding()
        put = [(step_interface.FEATURES, features), *((step_interface.past_name(i), a) for i, a in enumerate(past))]
        get = [
            (step_interface.PROBABILITIES, out),
            *((step_interface.present_name(i), a) for i, a in enumerate(present)),
        ]
        for bind, pairs in ((bound.bind_input, put), (bound.bind_output, get)):
            for name, array in pairs:
                bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        return bound

    bindings = [binding(sets[0], sets[1]), binding(sets[1], sets[0])]

    def run(turn: int) -> None:
        session.run_with_iobinding(bindings[turn])

    return _in_turns(features, out, run, sets)


def openvino(bundle: Bundle, batch: int) -> Step:
    """OpenVINO from the same graph (caches concatenated and cut); the caches are shared with it, not copied."""
    import openvino as ov

    model = onnx_graph.step_model(bundle.network, bundle.weights, "shifted", batch).SerializeToString()
    core = ov.Core()
    config = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model), "CPU", config)
    features, out, sets = _arrays(bundle, batch)

    def request(past: list[F32], present: list[F32]) -> Any:
        made = compiled.create_infer_request()
        made.set_tensor(step_interface.FEATURES, ov.Tensor(features, shared_memory=True))
        made.set_tensor(step_interface.PROBABILITIES, ov.Tensor(out, shared_memory=True))
        for i, (before, after) in enumerate(zip(past, present, strict=True)):
            made.set_tensor(step_interface.past_name(i), ov.Tensor(before, shared_memory=True))
            made.set_tensor(step_interface.present_name(i), ov.Tensor(after, shared_memory=True))
        return made

    requests = [request(sets[0], sets[1]), request(sets[1], sets[0])]
    return _in_turns(features, out, lambda turn: requests[turn].infer(), sets)


def torch_eager(bundle: Bundle, batch: int) -> Step:
    """torch, eager: the batch's products, gathers and scatters on rings (benchmarks/gpu/torch_step.py)."""
    import torch
    from torch_step import BatchedTorch

    torch.set_num_threads(1)
    return _of_engine(BatchedTorch(bundle.network, bundle.weights, batch, "cpu"), batch)


def torch_compiled(bundle: Bundle, batch: int) -> Step:
    """The same step under torch.compile (inductor)."""
    if batch not in COMPILED:
        raise EngineError(f"compiled for a batch of {' or '.join(map(str, COMPILED))} only: each takes minutes")
    import torch
    from torch_step import BatchedTorch

    torch.set_num_threads(1)
    engine = BatchedTorch(bundle.network, bundle.weights, batch, "cpu")
    engine._step = torch.compile(engine._step)
    return _of_engine(engine, batch)


def torch_window(bundle: Bundle, batch: int) -> Step:
    """torch, the offline network over a window of the last frames at every frame, as closed-loop tools do.

    The window is as long as training's crops (the bundle's warm-up). The network would see further back, so the answers
    differ a little.
    """
    import torch

    from rtseg.model.tcn import MultitaskTCN

    torch.set_num_threads(1)
    model = MultitaskTCN(bundle.network).eval()
    model.load_weights(bundle.weights)
    window = torch.full((batch, bundle.warmup_frames, bundle.network.n_features), float("nan"))

    def step(features: F32) -> F32:
        with torch.inference_mode():
            window[:, :-1] = window[:, 1:].clone()
            window[:, -1] = torch.from_numpy(features)
            out: F32 = model.probabilities(window)[:, -1].numpy()
            return out

    return step


def pytorch_tcn(bundle: Bundle, batch: int) -> Step:
    """pytorch-tcn's streaming mode, with a network of its own: it has neither these blocks nor recurrent cells.

    Its blocks are 64 channels wide with dilations of 1 to 128; as many as come nearest to the bundle's multiply-adds.
    """
    if batch != 1:
        raise EngineError("its streaming mode takes one stream only")
    import torch
    from pytorch_tcn import TCN

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers, _ = tcn_size(bundle)
    spec = bundle.network
    model = TCN(
        spec.n_features,
        [WIDTH] * layers,
        kernel_size=3,
        dilations=[2 ** (layer % 8) for layer in range(layers)],
        dropout=0.0,
        use_norm=None,
        output_projection=spec.n_outputs,
    ).eval()

    def step(features: F32) -> F32:
        with torch.inference_mode():
            known = torch.nan_to_num(torch.from_numpy(features))
            out: F32 = model(known[:, :, None], inference=True)[:, :, 0].numpy()
            return out

    return step


def tcn_size(bundle: Bundle) -> tuple[int, int]:
    """How many blocks pytorch-tcn's network has, and its multiply-adds, the nearest to the bundle's."""
    n, p = bundle.network.n_features, bundle.network.n_outputs
    first, more = (3 * n + 3 * WIDTH + n + p) * WIDTH, 6 * WIDTH * WIDTH
    layers = 1 + max(0, round((bundle.network.multiply_adds - first) / more))
    return layers, first + (layers - 1) * more


def _of_engine(engine: Any, batch: int) -> Step:
    slots, out = np.arange(batch, dtype=np.int32), np.zeros((batch, engine.spec.n_outputs), np.float32)

    def step(features: F32) -> F32:
        engine.step(features, slots, out)
        return out

    return step


def _arrays(bundle: Bundle, batch: int) -> tuple[F32, F32, list[list[F32]]]:
    """Features, probabilities and two sets of caches, all zero."""
    spec = bundle.network
    shapes = step_interface.cache_shapes(spec, "shifted", batch)
    sets = [[np.zeros(shape, np.float32) for shape in shapes] for _ in range(2)]
    return np.zeros((batch, spec.n_features), np.float32), np.zeros((batch, spec.n_outputs), np.float32), sets


def _in_turns(features: F32, out: F32, run: Callable[[int], object], sets: list[list[F32]]) -> Step:
    """A step that copies its input to `features`, runs with the two sets of caches in turn, and returns `out`."""
    turn = 0

    def step(frame: F32) -> F32:
        nonlocal turn
        assert sets  # keeps them alive: a binding only knows their addresses
        features[:] = frame
        run(turn)
        turn = 1 - turn
        return out

    return step


CANDIDATES: dict[str, tuple[Callable[[Bundle, int], Step], str, bool]] = {
    "numba": (numba, "numba", True),
    "onnx, in place": (onnx_in_place, "onnxruntime", True),
    "onnx, shifted": (onnx_shifted, "onnxruntime", True),
    "openvino": (openvino, "openvino", True),
    "torch, compiled": (torch_compiled, "torch", True),
    "torch, eager": (torch_eager, "torch", True),
    "pytorch-tcn": (pytorch_tcn, "pytorch_tcn", False),
    "torch, window": (torch_window, "torch", False),
}
"""Name -> the function that makes its step, the module it needs, and whether its answers are the network's own."""
