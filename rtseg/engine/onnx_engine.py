"""The step in ONNX Runtime on the CPU: a second, independent engine, and what the numba engine is timed beside.

One session for one stream; every slot owns its caches and bindings to them, so a step copies no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.engine import onnx_graph
from rtseg.engine.base import Engine
from rtseg.engine.onnx_graph import Form
from rtseg.errors import EngineError, needs_extra
from rtseg.network import NetworkSpec

F32 = NDArray[np.float32]


class OnnxEngine(Engine):
    """Batch rows are run one after the other. form: how the graph keeps its caches. threads: inside one operator."""

    name = "onnx"

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Mapping[str, F32],
        capacity: int,
        form: Form = "in_place",
        threads: int = 1,
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise needs_extra("onnxruntime", "onnx", "the onnx engine") from None
        super().__init__(spec, capacity)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        model = onnx_graph.step_model(spec, weights, form).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._slots = [_Slot(self._session, spec, form) for _ in range(capacity)]

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        for row, slot in enumerate(slots):
            self._slots[slot].step(self._session, features[row], out[row])

    def reset(self, slots: NDArray[np.int32]) -> None:
        for slot in slots:
            self._slots[slot].reset()

    def snapshot(self, slot: int) -> bytes:
        return self._slots[slot].snapshot()

    def restore(self, slot: int, data: bytes) -> None:
        self._slots[slot].restore(data)


class _Slot:
    """One stream's caches, and the bindings of the session to them.

    In place there is one set of caches, bound as input and output. Shifted there are two that trade places, for an
    output may not lie where an input does.
    """

    def __init__(self, session: Any, spec: NetworkSpec, form: Form) -> None:
        self._features = np.zeros((1, spec.n_features), np.float32)
        self._frame = np.zeros(1, np.int64)
        self._probabilities = np.zeros((1, spec.n_outputs), np.float32)
        shapes = onnx_graph.cache_shapes(spec, form, 1)
        sets = [[np.zeros(shape, np.float32) for shape in shapes] for _ in range(2 if form == "shifted" else 1)]
        self._caches = sets
        self._bindings = [self._bind(session, form, past, sets[i - 1]) for i, past in enumerate(sets)]

    def _bind(self, session: Any, form: Form, past: list[F32], present: list[F32]) -> Any:
        binding = session.io_binding()

        def put(name: str, array: NDArray[Any]) -> None:
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def get(name: str, array: NDArray[Any]) -> None:
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        put(onnx_graph.FEATURES, self._features)
        if form == "in_place":
            put(onnx_graph.FRAME, self._frame)
        get(onnx_graph.PROBABILITIES, self._probabilities)
        for layer, (before, after) in enumerate(zip(past, present, strict=True)):
            put(onnx_graph.past_name(layer), before)
            get(onnx_graph.present_name(layer), after)
        return binding

    def step(self, session: Any, features: F32, out: F32) -> None:
        self._features[0] = features
        session.run_with_iobinding(self._bindings[self._now])
        out[:] = self._probabilities[0]
        self._frame[0] += 1

    @property
    def _now(self) -> int:
        """Which set of caches is the past."""
        return int(self._frame[0]) % len(self._caches)

    def reset(self) -> None:
        self._frame[0] = 0
        for cache in self._caches[0]:
            cache[:] = 0.0

    def snapshot(self) -> bytes:
        past = self._caches[self._now]
        return self._frame.tobytes() + b"".join(cache.tobytes() for cache in past)

    def restore(self, data: bytes) -> None:
        expected = 8 + sum(cache.nbytes for cache in self._caches[0])
        if len(data) != expected:
            raise EngineError(f"a snapshot of this network has {expected} bytes, got {len(data)}: another engine's?")
        self._frame[0] = np.frombuffer(data, np.int64, 1)[0]
        at = 8
        for cache in self._caches[self._now]:
            cache.ravel()[:] = np.frombuffer(data, np.float32, cache.size, at)
            at += cache.nbytes
