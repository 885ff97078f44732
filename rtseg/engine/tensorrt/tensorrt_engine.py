"""The `tensorrt` engine: plans that `rtseg build` made, stepped on an NVIDIA GPU, in either flavour.

Loads plans and compares them with the CPU engine, batch size by batch size, before they serve. `device_engine` decides
where slots lie and which batch size is taken; `device` has the memory, copies and captured graphs.

Never run on a GPU so far: everything around TensorRT's own execution is tested with the same graph in ONNX Runtime,
plans are built ahead of time and parsed, and the calls below were checked against the libraries' own signatures.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.bundle import Bundle
from rtseg.bundle.network import NetworkSpec
from rtseg.engine import parity
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.onnx.step_interface import (
    FEATURES,
    FRAME,
    PROBABILITIES,
    cache_dtypes,
    cache_shapes,
    past_name,
    present_name,
)
from rtseg.engine.tensorrt import plans, tensorrt_library
from rtseg.engine.tensorrt.device import CudaDevice, Device, Enqueue
from rtseg.engine.tensorrt.device_engine import DeviceEngine, batches_for
from rtseg.engine.tensorrt.plans import Plan, Wanted
from rtseg.engine.tensorrt.tensorrt_library import FLAVOURS, Flavour
from rtseg.errors import EngineError
from rtseg.system import nvidia

TOLERANCES: Mapping[Precision, float] = {"fp16": 0.01, "int8": 0.1}
"""How far a probability may be from float32's on random frames; fp32 has the bundle's own tolerance."""

TensorTypes = dict[str, tuple[tuple[int, ...], type]]
"""Tensor name -> shape and numpy's type."""


def why_unavailable(flavours: Sequence[Flavour] = FLAVOURS) -> str | None:
    """Why this engine cannot serve here, in one line; None = it can if there are plans. Loads no library."""
    found = nvidia.gpus()
    if isinstance(found, str):
        return found
    if not any(tensorrt_library.installed_version(flavour) is not None for flavour in flavours):
        return f"the package {' or '.join(repr(f.replace('_', '-')) for f in flavours)} is not installed"
    return None


class TensorRTEngine(DeviceEngine):
    """A bundle's plans on the first GPU.

    flavours: in the order in which they are tried. folder: of the plans; None = `plans.default_folder`. The attribute
    flavour describes what serves, for people to read. Raises EngineError, in one line, where there is no GPU, no
    library or no plan that fits, and where the answers are wrong.
    """

    def __init__(
        self,
        bundle: Bundle,
        capacity: int,
        precision: Precision = "fp32",
        flavours: Sequence[Flavour] = FLAVOURS,
        folder: Path | None = None,
    ) -> None:
        reason = why_unavailable(flavours)
        if reason is not None:
            raise _cannot_run(reason)
        found, wanted = find_serving_plans(
            bundle, precision, flavours, plans.default_folder() if folder is None else folder
        )
        # Only those are loaded: each takes memory on the GPU.
        chosen = batches_for(capacity, [plan.batch for plan in found])
        device = CudaDevice()
        # GPU memory of an engine that a bundle swap replaced must not wait for the process to end.
        self._finalizer = weakref.finalize(self, device.close)
        self._finalizer.atexit = False  # at the end of the process the driver frees everything itself
        loader = _PlanLoader(tensorrt_library.import_library(wanted.flavour), device)
        steps = [loader.load_step(plan, bundle.network) for plan in found if plan.batch in chosen]
        super().__init__("tensorrt", bundle.network, capacity, steps, device, precision)
        self.flavour = f"{wanted.flavour} {wanted.version}, {precision}, batches {', '.join(map(str, self.batches))}"
        require_parity_of_batches(self, bundle, precision)


def find_serving_plans(
    bundle: Bundle, precision: Precision, flavours: Sequence[Flavour], folder: Path
) -> tuple[list[Plan], Wanted]:
    """The plans to serve with and what they were built for: those of the first installed flavour that has any.

    Raises EngineError that names, for each flavour, what is missing or stale.
    """
    reasons: list[str] = []
    gpus = nvidia.gpus()
    if isinstance(gpus, str):
        raise _cannot_run(gpus)
    for flavour in flavours:
        if tensorrt_library.installed_version(flavour) is None:
            continue
        wanted = plans.wanted_for(bundle, flavour, precision, nvidia.target(gpus[0]))
        found, stale = plans.find_plans(folder, bundle, wanted, plans.int8_scales(bundle, precision))
        if found:
            return found, wanted
        none = f"no {precision} plan of {bundle.name} for {wanted.target} in {folder}"
        more = f" (and {len(stale) - 1} more)" if len(stale) > 1 else ""
        reasons.append(f"{flavour}: {stale[0]}{more}" if stale else f"{flavour}: {none}")
    raise _cannot_run(f"{'; '.join(reasons)}: rtseg build makes plans")


def require_parity_of_batches(engine: DeviceEngine, bundle: Bundle, precision: Precision) -> None:
    """Compare every batch size of an engine with the CPU engine. Raises EngineError that names one that differs."""
    for batch in engine.batches:
        # The comparison uses few slots, which the smallest step would always take.
        engine.smallest_batch = batch
        try:
            parity.require_parity(engine, bundle, TOLERANCES.get(precision))
        except EngineError as error:
            raise EngineError(f"batch {batch}: {error}") from None
    engine.smallest_batch = 1


def step_tensors(spec: NetworkSpec, precision: Precision, batch: int) -> TensorTypes:
    """All inputs and outputs of a step in place."""
    caches = zip(cache_shapes(spec, "in_place", batch), cache_dtypes(spec, precision), strict=True)
    found: TensorTypes = {
        FEATURES: ((batch, spec.n_features), np.float32),
        FRAME: ((batch,), np.int64),
        PROBABILITIES: ((batch, spec.n_outputs), np.float32),
    }
    for number, cache in enumerate(caches):
        found |= {past_name(number): cache, present_name(number): cache}
    return found


class _PlanLoader:
    """Loads plans onto the GPU. library: the flavour's module."""

    def __init__(self, library: Any, device: Device) -> None:
        self._library, self._device = library, device
        # The runtime points at the logger: both must live as long as this.
        self._logger = library.Logger(library.Logger.ERROR)
        self._runtime = library.Runtime(self._logger)

    def load_step(self, plan: Plan, spec: NetworkSpec) -> _LoadedStep:
        """A plan, ready to be bound. Raises EngineError where TensorRT refuses it or it is not this network's."""
        engine = self._runtime.deserialize_cuda_engine(plan.read_data())
        if engine is None:  # TensorRT logs the reason and raises nothing
            raise _cannot_run(
                f"{plan.wanted.flavour} does not load {plan.file.name} on this GPU: rtseg build makes it anew"
            )
        problem = self._mismatch(engine, step_tensors(spec, plan.wanted.precision, plan.batch))
        if problem:
            raise _cannot_run(f"{plan.file.name}: {problem}: rtseg build makes it anew")
        return _LoadedStep(self._library, engine, plan, self._device)

    def _mismatch(self, engine: Any, expected: TensorTypes) -> str:
        """The first thing about a loaded plan that differs from the step; '' = nothing."""
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        if set(names) != set(expected):
            return f"its tensors are {', '.join(names)}"
        kinds: dict[type, Any] = {np.float32: self._library.DataType.FLOAT, np.float16: self._library.DataType.HALF}
        for name, (shape, dtype) in expected.items():
            kind = kinds.get(dtype, self._library.DataType.INT64)
            found = tuple(engine.get_tensor_shape(name)), engine.get_tensor_dtype(name)
            if found != (shape, kind):
                return f"{name} is {found[0]} {found[1]}, expected {shape} {kind}"
            if engine.get_tensor_location(name) != self._library.TensorLocation.DEVICE:
                return f"{name} is wanted in the host's memory"
        # Otherwise every step would copy its caches. Not every version can tell.
        aliased: Callable[[str], object] | None = getattr(engine, "get_aliased_input_tensor", None)
        # Three tensors are no caches (features, frame numbers, probabilities); every cache has two.
        for number in range((len(expected) - 3) // 2):
            if aliased is not None and aliased(present_name(number)) != past_name(number):
                return f"{present_name(number)} does not lie where {past_name(number)} does"
        return ""


class _LoadedStep:
    """One plan on the GPU; see `device_engine.Step`."""

    def __init__(self, library: Any, engine: Any, plan: Plan, device: Device) -> None:
        self._library, self._engine, self._plan, self._device = library, engine, plan, device
        self.batch, self.scratch_bytes = plan.batch, int(engine.device_memory_size_v2)

    def bind(self, addresses: Mapping[str, int], scratch: int) -> tuple[Enqueue, bool]:
        name, stream = self._plan.file.name, self._device.stream
        context = self._engine.create_execution_context(self._library.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise _cannot_run(f"{name}: no room on the GPU for its context")
        # All contexts share one scratch memory: their steps never run at the same time.
        context.set_device_memory(scratch, self.scratch_bytes)
        for tensor, address in addresses.items():
            if not context.set_tensor_address(tensor, address):
                raise _cannot_run(f"{name}: {tensor} is refused at {address:#x}")

        def enqueue() -> None:
            if not context.execute_async_v3(stream):
                raise EngineError(f"{name}: TensorRT could not enqueue the step")

        capturable = getattr(context, "is_stream_capturable", None)  # only in the RTX flavour
        return enqueue, capturable is None or bool(capturable(stream))


def _cannot_run(reason: str) -> EngineError:
    return EngineError(f"the tensorrt engine cannot run here: {reason}")
