"""TensorRT and TensorRT-RTX, the only file that imports either: the two flavours, and building a plan with one of them.

`python -m rtseg.engine.tensorrt.tensorrt_library JOB.json` builds one plan in a process of its own (`build`): the
libraries
end their process on some networks, and that must be one plan's error and nobody else's end.
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
"""In the order in which a loading engine looks for them."""
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_120")
"""GPUs that the RTX flavour builds for ahead of time; others it is only asked to build for where they are."""


@dataclass(frozen=True)
class Built:
    """A serialized engine. in_place: the caches that it updates where they lie. version: of the library."""

    data: bytes
    in_place: int
    version: str


def installed(flavour: Flavour) -> str | None:
    """The version of a flavour that is installed, without loading it; None = it is not. One without metadata: ''."""
    if importlib.util.find_spec(flavour) is None:
        return None
    try:
        return importlib.metadata.version(flavour)
    except importlib.metadata.PackageNotFoundError:
        return ""


def library(flavour: Flavour) -> Any:
    """The module of a flavour. Raises RtsegError with the extra to install where it is missing."""
    package = flavour.replace("_", "-")
    try:
        return importlib.import_module(flavour)
    except ImportError as error:
        if importlib.util.find_spec(flavour) is None:
            raise needs_extra(package, package, f"the {flavour} flavour") from None
        raise EngineError(f"{package} is installed and does not load: {error}") from error


def check_target(flavour: Flavour, target: str) -> None:
    """Raise EngineError unless plans for this kind of GPU can be built: ahead of time, or since it is the one here."""
    if flavour == "tensorrt_rtx" and target not in TARGETS and not _is_here(target):
        raise EngineError(f"unknown GPU {target!r}; plans are built ahead of time for {', '.join(TARGETS)}")


def build_plan(model: bytes, target: str, flavour: Flavour = "tensorrt_rtx") -> Built:
    """Build a serialized step model (`onnx_graph.step_model`, in place) for one kind of GPU.

    target: one of TARGETS; the flavour `tensorrt` builds for the GPU that is here, whatever the target says.
    tensorrt-rtx 1.7.1 ends the process on some networks of odd widths. Raises EngineError for another target, or what
    the parser or the builder has against the model; RtsegError where the library is missing.
    """
    check_target(flavour, target)
    trt = library(flavour)
    who = f"{flavour.replace('_', '-')} {trt.__version__}"
    # Builder and parser point at the logger, and the network at the parser's weights: all must live until it is built.
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # TensorRT 11 knows nothing but strong types and needs no flag for them.
    strongly = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly is None else 1 << int(strongly))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"{who} does not take the step: {problems}")
    update = getattr(trt.LayerType, "KV_CACHE_UPDATE", None)
    in_place = sum(network.get_layer(i).type == update for i in range(network.num_layers))
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    shapes = [tensor.name for tensor in inputs if tensor.is_shape_tensor]
    if shapes:
        raise EngineError(f"{who} wants {', '.join(shapes)} in the host's memory, where no recorded step can read it")
    config = builder.create_builder_config()
    # TF32 would round what float32 products read to ten bits.
    config.clear_flag(trt.BuilderFlag.TF32)
    if flavour == "tensorrt_rtx":
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
        config.num_compute_capabilities = 1
        kind = target.replace("_", "").upper() if target in TARGETS else "CURRENT"
        config.set_compute_capability(getattr(trt.ComputeCapability, kind), 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{who} could not build the step for {target}")
    return Built(bytes(plan), in_place, str(trt.__version__))


def _is_here(target: str) -> bool:
    found = nvidia.gpus()
    return not isinstance(found, str) and nvidia.target(found[0]) == target


def build(job: dict[str, str]) -> dict[str, Any]:
    """Build what a job names and write the plan: what is known of it.

    job: model (file of the ONNX), flavour, target, plan (file to write).
    """
    flavour: Flavour = "tensorrt_rtx" if job["flavour"] == "tensorrt_rtx" else "tensorrt"
    began = time.perf_counter()
    built = build_plan(Path(job["model"]).read_bytes(), job["target"], flavour)
    seconds = time.perf_counter() - began
    Path(job["plan"]).write_bytes(built.data)
    digest = hashlib.sha256(built.data).hexdigest()
    about = {"in_place": built.in_place, "version": built.version, "seconds": round(seconds, 3)}
    return {**about, "size_bytes": len(built.data), "sha256": digest}


def main(job_file: str) -> int:
    """The child's part: the result, or `problem` in one line, into the file that the job names as `result`."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    try:
        result: dict[str, Any] = build(job)
    except Exception as error:  # whatever a library says of a plan is that plan's result
        result = {"problem": " ".join(str(error).split()) or type(error).__name__}
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    return int("problem" in result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
