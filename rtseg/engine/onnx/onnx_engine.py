"""The step in ONNX Runtime: a second, independent engine, on its CPU provider or any other that it offers.

All slots' caches lie slot by slot in one piece of memory for each layer, and a step runs windows of neighbouring slots
(`slot_windows`) bound to that memory as input and output: no state is copied. One session a batch size, made at load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.config import OnnxSettings
from rtseg.engine.base import Engine
from rtseg.engine.onnx import onnx_graph
from rtseg.engine.onnx.onnx_graph import Form
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.onnx.slot_windows import Window, cover, n_rows
from rtseg.engine.rounds import rounds
from rtseg.errors import EngineError, needs_extra

F32 = NDArray[np.float32]
CALL_ROWS = 4.0
"""What a call costs beside its rows, in rows: some 100 of 130 microseconds at one row of rats58, 26 a row beyond."""
PROVIDER = "ExecutionProvider"


class OnnxEngine(Engine):
    """form: how the graph keeps its caches; `shifted`, the yardstick, runs row by row.

    model: of the step, in place and with an open batch (a bundle's step.onnx); None = it is made here, which takes the
    package onnx. precision and scales: of that model, or of the one to be made (`onnx_graph.step_model`). settings:
    batch sizes, threads and provider; what a provider other than the CPU's computes is copied there and back. Raises
    EngineError for a provider that is not there or a model that ONNX Runtime does not take, RtsegError for a missing
    package.
    """

    name = "onnx"
    exact = False  # a product of 16 rows may add in another order than one of a single row

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Mapping[str, F32],
        capacity: int,
        form: Form = "in_place",
        settings: OnnxSettings | None = None,
        *,
        model: bytes | None = None,
        precision: Precision = "fp32",
        scales: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(spec, capacity)
        settings = settings or OnnxSettings()
        self._form, self._sizes = form, settings.batches if form == "in_place" else (1,)
        self._rows = n_rows(capacity, self._sizes)
        if model is None:
            open_batch, on_cpu = onnx_graph.OPEN, settings.provider == "cpu"
            made = onnx_graph.step_model(spec, weights, form, open_batch, precision, scales, spelled=on_cpu)
            model = made.SerializeToString()
        per_stream = onnx_graph.cache_shapes(spec, form, 1)
        self._copies = [shape[0] for shape in per_stream]
        self._sessions = {
            size: _session(model, size, set(self._copies) | {1}, settings) for size in self._sizes if size <= self._rows
        }
        dtypes = onnx_graph.cache_dtypes(spec, precision)
        shapes = onnx_graph.cache_shapes(spec, form, self._rows)
        # Shifted, an output may not lie where an input does: two sets of caches trade places at every frame.
        self._sets: list[list[NDArray[Any]]] = [
            [np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
            for _ in range(2 if form == "shifted" else 1)
        ]
        self._features = np.zeros((self._rows, spec.n_features), np.float32)
        self._frame = np.zeros(self._rows, np.int64)
        self._probabilities = np.zeros((self._rows, spec.n_outputs), np.float32)
        self._bindings: dict[tuple[Window, int], Any] = {}

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        if len(slots) and (slots == slots[0]).all():
            self._one_stream(features, int(slots[0]), out)
            return
        for rows in rounds(slots):
            here = slots[rows]
            self._features[here] = features[rows]
            for window in cover(np.sort(here).tolist(), self._sizes, self._rows, CALL_ROWS):
                self._run(window)
            self._frame[here] += 1
            out[rows] = self._probabilities[here]

    def reset(self, slots: NDArray[np.int32]) -> None:
        self._frame[slots] = 0
        for layer in range(len(self._copies)):
            for slot in slots:
                self._cache(0, layer, int(slot))[:] = 0

    def snapshot(self, slot: int) -> bytes:
        parts = [self._frame[slot].tobytes()]
        for layer in range(len(self._copies)):
            cache = self._cache(self._now(slot), layer, slot)
            if self._form == "in_place":
                # The row that is written next and never read before holds whatever the slot was run along with.
                cache = cache.copy()
                cache[:, :, self._frame[slot] % cache.shape[2]] = 0
            parts.append(cache.tobytes())
        return b"".join(parts)

    def restore(self, slot: int, data: bytes) -> None:
        sizes = [self._cache(0, layer, slot).nbytes for layer in range(len(self._copies))]
        if len(data) != 8 + sum(sizes):
            raise EngineError(
                f"a snapshot of this network has {8 + sum(sizes)} bytes, got {len(data)}: another engine's?"
            )
        self._frame[slot] = np.frombuffer(data, np.int64, 1)[0]
        at = 8
        for layer, size in enumerate(sizes):
            cache = self._cache(self._now(slot), layer, slot)
            cache[:] = np.frombuffer(data[at : at + size], cache.dtype).reshape(cache.shape)
            at += size

    def _one_stream(self, features: F32, slot: int, out: F32) -> None:
        """Frames of one slot, one after the other."""
        for row in range(len(features)):
            self._features[slot] = features[row]
            self._run((slot, 1))
            self._frame[slot] += 1
            out[row] = self._probabilities[slot]

    def _run(self, window: Window) -> None:
        key = window, self._now(window[0])
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(*key)
        self._sessions[window[1]].run_with_iobinding(binding)

    def _now(self, slot: int) -> int:
        """Which set of caches is the past."""
        return int(self._frame[slot]) % len(self._sets)

    def _cache(self, number: int, layer: int, first: int, size: int = 1) -> NDArray[Any]:
        """The part of a layer's caches that belongs to a window of slots."""
        copies = self._copies[layer]
        return self._sets[number][layer][first * copies : (first + size) * copies]

    def _bind(self, window: Window, now: int) -> Any:
        first, size = window
        binding, here = self._sessions[size].io_binding(), slice(first, first + size)

        def put(name: str, array: NDArray[Any]) -> None:
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def get(name: str, array: NDArray[Any]) -> None:
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        put(onnx_graph.FEATURES, self._features[here])
        if self._form == "in_place":
            put(onnx_graph.FRAME, self._frame[here])
        get(onnx_graph.PROBABILITIES, self._probabilities[here])
        for layer in range(len(self._copies)):
            put(onnx_graph.past_name(layer), self._cache(now, layer, first, size))
            get(onnx_graph.present_name(layer), self._cache(now - 1, layer, first, size))
        return binding


def providers() -> dict[str, str]:
    """What ONNX Runtime offers here: short name -> its own, as cpu -> CPUExecutionProvider."""
    try:
        import onnxruntime
    except ImportError:
        raise needs_extra("onnxruntime", "onnx", "the onnx engine") from None
    return {name.removesuffix(PROVIDER).lower(): name for name in onnxruntime.get_available_providers()}


def _session(model: bytes, batch: int, copies: set[int], settings: OnnxSettings) -> Any:
    """The model for a batch of one size: what is open in it is fixed, as if it had been written so."""
    known = providers()
    if settings.provider not in known:
        raise EngineError(f"ONNX Runtime has no provider {settings.provider!r} here; there are: {', '.join(known)}")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # int8 as it is written, whatever the processor has: the same numbers as TensorRT's, and faster here than its own.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    for n in copies:
        options.add_free_dimension_override_by_name(onnx_graph.row_name(n), n * batch)
    chosen = known[settings.provider]
    try:
        session = onnxruntime.InferenceSession(model, options, list(dict.fromkeys((chosen, known["cpu"]))))
    except Exception as error:  # its own kinds have no common name
        raise EngineError(f"ONNX Runtime {onnxruntime.__version__} does not take the step: {error}") from None
    if chosen not in session.get_providers():
        raise EngineError(f"ONNX Runtime's provider {settings.provider!r} cannot start here")
    return session
