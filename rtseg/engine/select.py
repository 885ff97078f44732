"""The one place where an engine is chosen; each backend is imported only here and only when asked for."""

from __future__ import annotations

from rtseg.bundle import Bundle
from rtseg.engine.base import Engine
from rtseg.errors import EngineError

ENGINES = ("numba", "onnx", "torch")


def make_engine(bundle: Bundle, name: str = "auto", capacity: int = 1) -> Engine:
    """An engine for a bundle. name: one of ENGINES, or `auto` for the fastest that runs here.

    Raises EngineError for an unknown name, RtsegError where a library is missing.
    """
    if name in ("auto", "numba"):
        from rtseg.engine.numba_engine import NumbaEngine

        return NumbaEngine(bundle.network, bundle.weights, capacity)
    if name == "onnx":
        from rtseg.engine.onnx_engine import OnnxEngine

        return OnnxEngine(bundle.network, bundle.weights, capacity)
    if name == "torch":
        from rtseg.engine.torch_engine import TorchEngine

        return TorchEngine(bundle.network, bundle.weights, capacity)
    raise EngineError(f"unknown engine {name!r}; there are: auto, {', '.join(ENGINES)}")
