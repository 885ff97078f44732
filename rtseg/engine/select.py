"""The one place where an engine is chosen. A backend is imported here, and only once it is needed.

So serving on the CPU never loads torch, ONNX or a GPU library, and a machine without them can serve.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence

from rtseg.bundle.bundle import NO_NETWORK, Bundle
from rtseg.bundle.trees import TreesSpec
from rtseg.config import OnnxSettings
from rtseg.engine.base import Engine
from rtseg.errors import EngineError, RtsegError
from rtseg.system import nvidia

log = logging.getLogger(__name__)

ENGINES = ("numba", "onnx", "torch", "tensorrt", "cuda")
ON_GPU = ("tensorrt", "cuda")
"""What `auto` tries before the CPU, in this order."""
TENSORRT = ("tensorrt", "tensorrt_rtx")
"""The engine `tensorrt` serves with whichever flavour has plans, `tensorrt_rtx` with that flavour only."""


def make_engine(bundle: Bundle, name: str = "auto", capacity: int = 1) -> Engine:
    """An engine for a bundle, with slots for `capacity` streams.

    name: one of ENGINES, or `auto`: tensorrt or cuda where they run here and agree with the CPU engine, else numba,
    with the reasons in the log where there is a GPU. tensorrt and tensorrt_rtx (that flavour only) take a precision,
    `tensorrt:fp16`; onnx one that the bundle was accepted in and a provider of ONNX Runtime, `onnx:int8`, `onnx:cuda`,
    `onnx:cuda:fp16`.
    Raises EngineError for an unknown name and where a named engine cannot run here, RtsegError where its library is
    missing.
    """
    if name == "auto":
        return _fastest(bundle, capacity)
    kind, _, precision = name.partition(":")
    if kind in (*TENSORRT, *ENGINES) and (unsuited := why_unsuited(kind, bundle)) is not None:
        raise EngineError(f"engine {kind!r}: bundle {unsuited}")
    if kind in TENSORRT:
        return _tensorrt(bundle, capacity, precision or "fp32", kind)
    if kind not in ENGINES or (precision and kind != "onnx"):
        raise EngineError(f"unknown engine {name!r}; there are: auto, {', '.join(ENGINES)}")
    if kind == "onnx":
        return _onnx(bundle, capacity, precision.split(":") if precision else [])
    makers: dict[str, Callable[[Bundle, int], Engine]] = {"numba": _numba, "torch": _torch}
    return (makers | {"cuda": _cuda})[kind](bundle, capacity)


def why_unsuited(name: str, bundle: Bundle) -> str | None:
    """Why an engine steps no bundle of this kind, on any machine; None where it does."""
    if name != "numba" and isinstance(bundle.architecture, TreesSpec):
        return f"{bundle.name!r} {NO_NETWORK}"
    return None


def why_unavailable(name: str) -> str | None:
    """Why an engine cannot run here, in one line; None = nothing speaks against it. Loads none of its libraries."""
    if name == "tensorrt":
        from rtseg.engine.tensorrt import tensorrt_engine

        return tensorrt_engine.why_unavailable()
    if name == "cuda":
        from rtseg.engine.cuda import cuda_engine

        return cuda_engine.why_unavailable()
    needs = {"onnx": ("onnxruntime",), "torch": ("torch",)}.get(name, ())
    missing = [package for package in needs if importlib.util.find_spec(package) is None]
    return f"the package {missing[0]!r} is not installed" if missing else None


def log_unused_library(name: str) -> None:
    """Log one line where a TensorRT library is installed and cannot be used: engine `auto` and no GPU.

    Only a daemon calls this: other commands would repeat it at every start. A GPU that is not used is logged by
    `make_engine`.
    """
    installed = any(importlib.util.find_spec(library) is not None for library in TENSORRT)
    # `nvidia.gpus()` gives the reason as a text where there is no GPU.
    if name == "auto" and installed and isinstance(nvidia.gpus(), str):
        log.info(
            "engine: numba, on the CPU (%s)", format_reasons({name: why_unavailable(name) or "" for name in ON_GPU})
        )


def choose_engine(bundle: Bundle, capacity: int = 1) -> tuple[Engine, dict[str, str]]:
    """The engine that `auto` stands for, and for each GPU engine that was passed over the reason, in one line."""
    makers: dict[str, Callable[[Bundle, int], Engine]] = {"tensorrt": _tensorrt, "cuda": _cuda}
    reasons: dict[str, str] = {}
    for name in ON_GPU:
        reason = why_unavailable(name)
        if reason is None:
            # Whatever a GPU engine refuses, a plan that is missing or wrong answers, `auto` goes on with the next one.
            try:
                return makers[name](bundle, capacity), reasons
            except RtsegError as error:
                reason = str(error)
        reasons[name] = reason
    return _numba(bundle, capacity), reasons


def format_reasons(reasons: Mapping[str, str]) -> str:
    """Reasons (engine -> why it cannot run) in one line; engines with the same reason share it."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"no {' or '.join(group)}: {reason}" for reason, group in names.items())


def _fastest(bundle: Bundle, capacity: int) -> Engine:
    engine, reasons = choose_engine(bundle, capacity)
    # A GPU that stays unused is worth a warning; a machine without one is not worth a line.
    if engine.name in ON_GPU:
        log.info("engine: %s%s", engine.name, f" ({format_reasons(reasons)})" if reasons else "")
    elif not isinstance(nvidia.gpus(), str):
        log.warning("engine: %s, on the CPU (%s)", engine.name, format_reasons(reasons))
    return engine


def _numba(bundle: Bundle, capacity: int) -> Engine:
    if isinstance(bundle.architecture, TreesSpec):
        from rtseg.engine.cpu.tree_engine import TreeEngine

        return TreeEngine(bundle.architecture, bundle.weights, capacity)
    from rtseg.engine.cpu.numba_engine import NumbaEngine

    return NumbaEngine(bundle.network, bundle.weights, capacity)


def _onnx(bundle: Bundle, capacity: int, options: Sequence[str]) -> Engine:
    from rtseg.engine.onnx.onnx_engine import OnnxEngine
    from rtseg.engine.onnx.onnx_nodes import PRECISIONS, Precision
    from rtseg.engine.onnx.precisions import accepted_scales
    from rtseg.engine.onnx.step_file import step_bytes

    # Precision and provider come in any order: no provider has the name of a precision.
    chosen = [option for option in options if option not in PRECISIONS]
    precision: Precision = next((p for p in PRECISIONS if p in options), "fp32")
    if len(chosen) > 1 or len(options) - len(chosen) > 1:
        raise EngineError(
            f"onnx takes one precision ({', '.join(PRECISIONS)}) and one provider, got {', '.join(options)}"
        )
    settings = OnnxSettings(provider=chosen[0]) if chosen else OnnxSettings()
    scales = accepted_scales(bundle, precision)
    # A bundle's file holds the float32 step only; other precisions are made from the weights.
    model = step_bytes(bundle) if precision == "fp32" else None
    return OnnxEngine(
        bundle.network, bundle.weights, capacity, settings=settings, model=model, precision=precision, scales=scales
    )


def _torch(bundle: Bundle, capacity: int) -> Engine:
    from rtseg.engine.torch_engine import TorchEngine

    return TorchEngine(bundle.network, bundle.weights, capacity)


def _cuda(bundle: Bundle, capacity: int) -> Engine:
    from rtseg.engine.cuda.cuda_engine import CudaEngine, interpreted
    from rtseg.engine.parity import require_parity

    engine = CudaEngine(bundle.network, bundle.weights, capacity)
    # The interpreter takes seconds for a frame: tests compare it themselves.
    if not interpreted():
        require_parity(engine, bundle)
    return engine


def _tensorrt(bundle: Bundle, capacity: int, precision: str = "fp32", flavour: str = "tensorrt") -> Engine:
    from rtseg.engine.onnx.onnx_nodes import PRECISIONS
    from rtseg.engine.tensorrt.tensorrt_engine import TensorRTEngine
    from rtseg.engine.tensorrt.tensorrt_library import FLAVOURS

    chosen = [known for known in PRECISIONS if known == precision]
    if not chosen:
        raise EngineError(f"unknown precision {precision!r}; {flavour} has {', '.join(PRECISIONS)}")
    flavours = [known for known in FLAVOURS if flavour in ("tensorrt", known)]
    # It compares itself with the CPU engine at load: only it knows its batch sizes and the tolerance of its precision.
    return TensorRTEngine(bundle, capacity, chosen[0], flavours)
