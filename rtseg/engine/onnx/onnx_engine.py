"""The step in ONNX Runtime: a second, independent engine, on its CPU provider or any other that it offers.

For each layer the caches of all slots lie one after the other in one array. A step runs windows of neighbouring slots
(`slot_windows`), bound to that array as input and output, so that no state is copied. Each batch size has a session of
its own, made at load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.network import NetworkSpec
from rtseg.config import OnnxSettings
from rtseg.engine.base import Engine
from rtseg.engine.onnx import onnx_graph, step_interface
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.onnx.slot_windows import Window, cover_slots, rows_for
from rtseg.engine.onnx.step_interface import Form
from rtseg.engine.rounds import rounds
from rtseg.errors import EngineError, needs_extra

F32 = NDArray[np.float32]
CALL_COST_ROWS = 4.0
"""What a call costs in addition to its rows, in rows: for rats58 some 100 of the 130 us of one row; a row costs 26."""
PROVIDER_SUFFIX = "ExecutionProvider"


class OnnxEngine(Engine):
    """ONNX Runtime with all state in arrays of this engine. Not `exact`: bits may depend on the size of the window.

    form: how the graph keeps its caches; `shifted`, for comparison, runs row by row. model: the step in place with an
    open batch (a bundle's step.onnx); None = it is made here, which needs the package onnx. precision, scales: of that
    model, or of the one to be made (`onnx_graph.step_model`). settings: batch sizes, threads and provider; for any
    provider but the CPU's, state is copied there and back. Raises EngineError for a provider that is missing or a model
    that ONNX Runtime refuses, RtsegError for a missing package.
    """

    name = "onnx"
    exact = False  # a product of 16 rows may sum in another order than one of a single row

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
        self._rows = rows_for(capacity, self._sizes)
        if model is None:
            open_batch, on_cpu = step_interface.OPEN, settings.provider == "cpu"
            made = onnx_graph.step_model(spec, weights, form, open_batch, precision, scales, emulate_float16=on_cpu)
            model = made.SerializeToString()
        self._rows_per_stream = [shape[0] for shape in step_interface.cache_shapes(spec, form, 1)]
        # With its batch size fixed a session gives the same bits as a graph that was written for that size.
        self._sessions = {
            size: _load_session(model, size, set(self._rows_per_stream) | {1}, settings)
            for size in self._sizes
            if size <= self._rows
        }
        dtypes = step_interface.cache_dtypes(spec, precision)
        shapes = step_interface.cache_shapes(spec, form, self._rows)
        # Shifted, an output must not overlap an input: two sets of caches take turns, frame by frame.
        self._cache_sets: list[list[NDArray[Any]]] = [
            [np.zeros(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)]
            for _ in range(2 if form == "shifted" else 1)
        ]
        self._features = np.zeros((self._rows, spec.n_features), np.float32)
        self._frames = np.zeros(self._rows, np.int64)
        self._probabilities = np.zeros((self._rows, spec.n_outputs), np.float32)
        self._bindings: dict[tuple[Window, int], Any] = {}

    def step(self, features: F32, slots: NDArray[np.int32], out: F32) -> None:
        # A recording of one stream: `rounds` would sort all of its rows to find rounds of one row each.
        if len(slots) and (slots == slots[0]).all():
            self._step_one_stream(features, int(slots[0]), out)
            return
        for rows in rounds(slots):
            here = slots[rows]
            self._features[here] = features[rows]
            # Windows read and write this engine's arrays; rows of slots without a frame hold their last features.
            for window in cover_slots(np.sort(here).tolist(), self._sizes, self._rows, CALL_COST_ROWS):
                self._run_window(window)
            self._frames[here] += 1
            out[rows] = self._probabilities[here]

    def reset(self, slots: NDArray[np.int32]) -> None:
        self._frames[slots] = 0
        for layer in range(len(self._rows_per_stream)):
            for slot in slots:
                # Frame 0 reads the first set.
                self._cache(0, layer, int(slot))[:] = 0

    def snapshot(self, slot: int) -> bytes:
        parts = [self._frames[slot].tobytes()]
        for layer in range(len(self._rows_per_stream)):
            cache = self._cache(self._current_set(slot), layer, slot)
            if self._form == "in_place":
                # The row that is written next is not part of the state: a step without a frame may have written it.
                cache = cache.copy()
                cache[:, :, self._frames[slot] % cache.shape[2]] = 0
            parts.append(cache.tobytes())
        return b"".join(parts)

    def restore(self, slot: int, data: bytes) -> None:
        sizes = [self._cache(0, layer, slot).nbytes for layer in range(len(self._rows_per_stream))]
        if len(data) != 8 + sum(sizes):
            raise EngineError(
                f"a snapshot of this network has {8 + sum(sizes)} bytes, got {len(data)}: another engine's?"
            )
        self._frames[slot] = np.frombuffer(data, np.int64, 1)[0]
        at = 8
        for layer, size in enumerate(sizes):
            cache = self._cache(self._current_set(slot), layer, slot)
            cache[:] = np.frombuffer(data[at : at + size], cache.dtype).reshape(cache.shape)
            at += size

    def _step_one_stream(self, features: F32, slot: int, out: F32) -> None:
        """Frames of one slot, one after the other."""
        for row in range(len(features)):
            self._features[slot] = features[row]
            self._run_window((slot, 1))
            self._frames[slot] += 1
            out[row] = self._probabilities[slot]

    def _run_window(self, window: Window) -> None:
        key = window, self._current_set(window[0])
        # Kept, because the same windows come again and again.
        binding = self._bindings.get(key)
        if binding is None:
            binding = self._bindings[key] = self._bind(*key)
        self._sessions[window[1]].run_with_iobinding(binding)

    def _current_set(self, slot: int) -> int:
        """Which set of caches holds the slot's state."""
        return int(self._frames[slot]) % len(self._cache_sets)

    def _cache(self, number: int, layer: int, first: int, size: int = 1) -> NDArray[Any]:
        """A layer's caches of `size` slots from `first` on, in one of the sets."""
        rows_per_stream = self._rows_per_stream[layer]
        return self._cache_sets[number][layer][first * rows_per_stream : (first + size) * rows_per_stream]

    def _bind(self, window: Window, now: int) -> Any:
        """A window's arrays bound to its session, reading the set of caches that holds its state."""
        first, size = window
        binding, here = self._sessions[size].io_binding(), slice(first, first + size)

        def bind_input(name: str, array: NDArray[Any]) -> None:
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        def bind_output(name: str, array: NDArray[Any]) -> None:
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        bind_input(step_interface.FEATURES, self._features[here])
        if self._form == "in_place":
            bind_input(step_interface.FRAME, self._frames[here])
        bind_output(step_interface.PROBABILITIES, self._probabilities[here])
        for layer in range(len(self._rows_per_stream)):
            bind_input(step_interface.past_name(layer), self._cache(now, layer, first, size))
            # now - 1: of two sets the other one, of one set the same, which is then written in place.
            bind_output(step_interface.present_name(layer), self._cache(now - 1, layer, first, size))
        return binding


def providers() -> dict[str, str]:
    """The providers of ONNX Runtime here: short name -> full name, as cpu -> CPUExecutionProvider."""
    try:
        import onnxruntime
    except ImportError:
        raise needs_extra("onnxruntime", "onnx", "the onnx engine") from None
    return {name.removesuffix(PROVIDER_SUFFIX).lower(): name for name in onnxruntime.get_available_providers()}


def _load_session(model: bytes, batch: int, rows_per_stream: set[int], settings: OnnxSettings) -> Any:
    """The model for one batch size: its open dimensions are fixed, as if it had been written for that size.

    rows_per_stream: of all its inputs.
    """
    known = providers()
    if settings.provider not in known:
        raise EngineError(f"ONNX Runtime has no provider {settings.provider!r} here; there are: {', '.join(known)}")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # int8 exactly as the graph says, on every processor: the numbers that TensorRT computes, and faster on a CPU than
    # the integer kernels that ONNX Runtime would put in its place.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    for n in rows_per_stream:
        options.add_free_dimension_override_by_name(step_interface.row_name(n), n * batch)
    chosen = known[settings.provider]
    try:
        session = onnxruntime.InferenceSession(model, options, list(dict.fromkeys((chosen, known["cpu"]))))
    except Exception as error:  # its exceptions have no common base class
        raise EngineError(f"ONNX Runtime {onnxruntime.__version__} does not take the step: {error}") from None
    # Where a provider cannot start, ONNX Runtime goes on with the CPU's: the user asked for this one.
    if chosen not in session.get_providers():
        raise EngineError(f"ONNX Runtime's provider {settings.provider!r} cannot start here")
    return session
