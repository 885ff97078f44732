"""TensorRT and TensorRT-RTX: the two flavours, and building a plan with one. The only file that imports either.

`python -m rtseg.engine.tensorrt.tensorrt_library JOB.json` builds one plan in a process of its own (see `build.py`):
the libraries end their process on some networks, and that must fail one plan only.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rtseg.errors import EngineError, needs_extra
from rtseg.system import nvidia

Flavour = Literal["tensorrt", "tensorrt_rtx"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
"""In the order in which an engine looks for plans."""
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120")
"""Kinds of GPU that the RTX flavour builds for without having one; for any other it builds only on that GPU."""


@dataclass(frozen=True)
class BuiltPlan:
    """A serialized engine. in_place: how many caches it updates in place. version: of the library."""

    data: bytes
    in_place: int
    version: str


def installed_version(flavour: Flavour) -> str | None:
    """The installed version of a flavour, found without loading it; None = not installed, '' = without metadata."""
    if importlib.util.find_spec(flavour) is None:
        return None
    try:
        return importlib.metadata.version(flavour)
    except importlib.metadata.PackageNotFoundError:
        return ""


def import_library(flavour: Flavour) -> Any:
    """The module of a flavour.

    Raises RtsegError that names the extra to install where it is missing, EngineError where it does not load.
    """
    package = flavour.replace("_", "-")
    try:
        return importlib.import_module(flavour)
    except ImportError as error:
        if importlib.util.find_spec(flavour) is None:
            raise needs_extra(package, package, f"the {flavour} flavour") from None
        raise EngineError(f"{package} is installed and does not load: {error}") from error


def check_target(flavour: Flavour, target: str) -> None:
    """Raise EngineError unless plans for this kind of GPU can be built: ahead of time, or because it is here."""
    if flavour == "tensorrt_rtx" and target not in TARGETS and not _is_here(target):
        raise EngineError(f"unknown GPU {target!r}; plans are built ahead of time for {', '.join(TARGETS)}")


def build_plan(model: bytes, target: str, flavour: Flavour = "tensorrt_rtx") -> BuiltPlan:
    """Build a serialized step model (`onnx_graph.step_model`, in place) for one kind of GPU.

    target: one of TARGETS; the flavour `tensorrt` builds for the GPU that is here, whatever the target says.
    tensorrt-rtx 1.7.1 ends the process on some networks of odd widths. Raises EngineError for an unknown target and
    where the parser or the builder refuses the model, RtsegError where the library is missing.
    """
    check_target(flavour, target)
    trt = import_library(flavour)
    who = f"{flavour.replace('_', '-')} {trt.__version__}"
    # Builder and parser point at the logger, and the network at the parser's weights: all must live until it is built.
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # TensorRT 11 is always strongly typed and has no flag for it.
    strongly_typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly_typed is None else 1 << int(strongly_typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"{who} does not take the step: {problems}")
    # The parser turns a linear TensorScatter into this layer where it can update the cache in place.
    cache_update = getattr(trt.LayerType, "KV_CACHE_UPDATE", None)
    in_place = sum(network.get_layer(i).type == cache_update for i in range(network.num_layers))
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    on_host = [tensor.name for tensor in inputs if tensor.is_shape_tensor]
    if on_host:
        raise EngineError(f"{who} wants {', '.join(on_host)} in the host's memory, where no captured step can read it")
    config = builder.create_builder_config()
    # TF32 would round what float32 products read to ten bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    if flavour == "tensorrt_rtx":
        # Capturing a step as a CUDA graph needs it: memory that the library allocates itself cannot be captured.
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        config.num_compute_capabilities = 1
        kind = target.replace("_", "").upper() if target in TARGETS else "CURRENT"
        config.set_compute_capability(getattr(trt.ComputeCapability, kind), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{who} could not build the step for {target}")
    return BuiltPlan(bytes(plan), in_place, str(trt.__version__))


def _is_here(target: str) -> bool:
    found = nvidia.gpus()
    return not isinstance(found, str) and nvidia.target(found[0]) == target


def run_build_job(job: dict[str, str]) -> dict[str, Any]:
    """Build what a job names, write the plan, and describe it (in_place, version, seconds, size_bytes, sha256).

    job: model (file of the ONNX), flavour, target, plan (file to write).
    """
    flavour: Flavour = "tensorrt_rtx" if job["flavour"] == "tensorrt_rtx" else "tensorrt"
    began = time.perf_counter()
    built = build_plan(Path(job["model"]).read_bytes(), job["target"], flavour)
    seconds = time.perf_counter() - began
    Path(job["plan"]).write_bytes(built.data)
    # Of the bytes in memory: a file that was cut while it was written does not fit this digest.
    digest = hashlib.sha256(built.data).hexdigest()
    return {
        "in_place": built.in_place,
        "version": built.version,
        "seconds": round(seconds, 3),
        "size_bytes": len(built.data),
        "sha256": digest,
    }


def main(job_file: str) -> int:
    """The child process: write the result, or `problem` in one line, to the file that the job names as `result`."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        result: dict[str, Any] = run_build_job(job)
    except Exception as error:  # a library may raise anything; it is the result of this one plan
        result = {"problem": " ".join(str(error).split()) or type(error).__name__}
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    return int("problem" in result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
