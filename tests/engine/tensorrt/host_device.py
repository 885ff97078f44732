"""A device of this machine's own memory, and the step of a plan's ONNX in ONNX Runtime on it.

Whatever is enqueued is done at the next `synchronize`, as late as a GPU might do it: an answer that is read too early,
or an input that is overwritten too early, is wrong here every time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from rtseg.bundle.network import NetworkSpec
from rtseg.engine.onnx.onnx_graph import step_model
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.tensorrt.device import Bytes, Enqueue
from rtseg.engine.tensorrt.tensorrt_engine import step_tensors
from tests.engine.networks import F32

ALIGNED = 256


class HostDevice:
    """See `rtseg.engine.tensorrt.device.Device`. launches: how many captured graphs were launched."""

    stream = 0

    def __init__(self) -> None:
        self.launches = 0
        self._allocations: list[Bytes] = []
        self._pending: list[Enqueue] = []

    def allocate(self, n_bytes: int) -> int:
        self._allocations.append(np.zeros(n_bytes + ALIGNED, np.uint8))
        return -(-self._allocations[-1].ctypes.data // ALIGNED) * ALIGNED

    def allocate_pinned(self, n_bytes: int) -> Bytes:
        return np.zeros(n_bytes, np.uint8)

    def copy_to_device(self, address: int, source: Bytes) -> None:
        self.enqueue(partial(ctypes.memmove, address, source.ctypes.data, source.nbytes))

    def copy_to_host(self, target: Bytes, address: int) -> None:
        self.enqueue(partial(ctypes.memmove, target.ctypes.data, address, target.nbytes))

    def zero(self, address: int, n_bytes: int) -> None:
        self.enqueue(partial(ctypes.memset, address, 0, n_bytes))

    def enqueue(self, work: Callable[..., object]) -> None:
        self._pending.append(lambda: (work(), None)[1])

    def capture(self, enqueue: Enqueue) -> Enqueue:
        before, self._pending = self._pending, []
        enqueue()
        captured, self._pending = self._pending, before

        def launch() -> None:
            self.launches += 1
            self._pending += captured

        return launch

    def make_current(self) -> None:
        """Any thread may use it."""

    def synchronize(self) -> None:
        pending, self._pending = self._pending, []
        for work in pending:
            work()


class OrtStep:
    """See `rtseg.engine.tensorrt.device_engine.Step`. Caches lie where they are bound, before and after the step."""

    scratch_bytes = 64

    def __init__(
        self,
        spec: NetworkSpec,
        weights: Mapping[str, F32],
        batch: int,
        device: HostDevice,
        precision: Precision = "fp32",
        scales: Mapping[str, float] | None = None,
    ) -> None:
        import onnxruntime

        self.batch, self._device = batch, device
        self._tensors = step_tensors(spec, precision, batch)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 as written
        model = step_model(spec, weights, "in_place", batch, precision, scales).SerializeToString()
        self._session: Any = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])

    def bind(self, addresses: Mapping[str, int], scratch: int) -> tuple[Enqueue, bool]:
        assert set(addresses) == set(self._tensors)
        assert all(address % ALIGNED == 0 for address in (*addresses.values(), scratch))
        binding = self._session.io_binding()
        outputs = {output.name for output in self._session.get_outputs()}
        for name, (shape, dtype) in self._tensors.items():
            bind = binding.bind_output if name in outputs else binding.bind_input
            bind(name, "cpu", 0, dtype, shape, addresses[name])
        return partial(self._device.enqueue, partial(self._session.run_with_iobinding, binding)), True
