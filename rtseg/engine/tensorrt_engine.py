"""TensorRT, the only file that knows it: plans of the step, built ahead of time by the RTX flavour without any GPU.

Stepping such a plan is not written yet: `available` says so, and the chooser goes on to the next engine.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import NoReturn

from rtseg.bundle import Bundle
from rtseg.errors import EngineError, needs_extra

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120")
"""GPUs that the RTX flavour builds for ahead of time."""
NOT_YET = "this rtseg builds TensorRT plans and cannot step them yet"


@dataclass(frozen=True)
class Plan:
    """A serialized engine. in_place: the caches that it updates where they lie. library: its name and version."""

    data: bytes
    in_place: int
    library: str
    target: str


def available() -> str | None:
    """Why the engine cannot serve here, in one line; None = it can."""
    return NOT_YET


class TensorRTEngine:
    """Refuses, with the reason, until plans can be stepped."""

    def __new__(cls, bundle: Bundle, capacity: int, precision: str = "fp32", cache_dir: str | None = None) -> NoReturn:
        raise EngineError(f"the tensorrt engine cannot run here: {NOT_YET}")


def build_plan(model: bytes, target: str) -> Plan:
    """Build a serialized step model (`onnx_graph.step_model`, in place) for one kind of GPU, named as in TARGETS.

    The library (1.7.1) ends the process on some networks of odd widths; the shipped ones build.
    Raises EngineError for another target, or what the parser or the builder has against the model; RtsegError where
    tensorrt-rtx is missing.
    """
    if target not in TARGETS:
        raise EngineError(f"unknown GPU {target!r}; plans are built ahead of time for {', '.join(TARGETS)}")
    try:
        trt = importlib.import_module("tensorrt_rtx")
    except ImportError:
        raise needs_extra("tensorrt-rtx", "tensorrt-rtx", "building a plan without a GPU") from None
    # Builder and parser point at the logger, and the network at the parser's weights: all must live until it is built.
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"tensorrt-rtx {trt.__version__} does not take the step: {problems}")
    in_place = sum(network.get_layer(i).type == trt.LayerType.KV_CACHE_UPDATE for i in range(network.num_layers))
    config = builder.create_builder_config()
    # TF32 would round what float32 products read to ten bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target.replace("_", "").upper()), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"tensorrt-rtx {trt.__version__} could not build the step for {target}")
    return Plan(bytes(plan), in_place, f"tensorrt_rtx {trt.__version__}", target)
