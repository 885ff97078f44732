"""Plans on disk: how their files are called, what stands beside each, and which of them fit a bundle on a machine.

A plan is a file of TensorRT's with a JSON sidecar. Its name ends with a digest of all that it depends on, so that plans
of several libraries, drivers and states of a bundle may lie side by side. Loads no TensorRT; never deletes.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from rtseg.bundle.bundle import Bundle
from rtseg.engine.onnx import onnx_graph, onnx_nodes, precisions
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.tensorrt import tensorrt_library
from rtseg.engine.tensorrt.tensorrt_library import Flavour
from rtseg.errors import EngineError
from rtseg.system import nvidia
from rtseg.system.files import write_json_atomically

SCHEMA = 1
KIND = "rtseg plan"
CONFIGURATION = "no TF32; strongly typed; memory from the user"
"""How every plan is built; another text means other plans."""
DIGITS = 10
"""Of the key, in a file's name."""
NO_SCALES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Wanted:
    """All that a plan depends on, but for its batch and its graph.

    target: the kind of GPU, as `sm_86`. gpu, driver: '' where a plan was built ahead of time for every GPU of its kind.
    version: of the flavour's library.
    """

    bundle: str
    flavour: Flavour
    version: str
    precision: Precision
    target: str
    gpu: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan and what its sidecar says of it.

    model: the bundle's hash when it was built; a bundle whose decoding or card changed since still fits. graph: digest
    of all that the ONNX graph was written from; onnx: of the graph. in_place: caches that are updated where they lie.
    seconds: that building took.
    """

    file: Path
    wanted: Wanted
    batch: int
    graph: str
    model: str
    onnx: str = ""
    sha256: str = ""
    size_bytes: int = 0
    in_place: int = 0
    seconds: float = 0.0

    def data(self) -> bytes:
        """What TensorRT reads. Raises EngineError where the file is missing, changed or cut."""
        try:
            data = self.file.read_bytes()
        except OSError:
            raise EngineError(f"the plan {self.file} is missing: rtseg build makes it again") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise EngineError(f"the plan {self.file} was changed or cut: rtseg build makes it again")
        return data


def default_folder() -> Path:
    """Where plans are kept unless RTSEG_PLANS names another folder."""
    named = os.environ.get("RTSEG_PLANS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(named).expanduser() if named else cache / "rtseg" / "plans"


def graph_digest(bundle: Bundle, batch: int, precision: Precision, scales: Mapping[str, float] = NO_SCALES) -> str:
    """Digest of all that a step's ONNX is written from: the network, its weights, the files that write it.

    So a plan can be told to be stale without the `onnx` package.
    """
    digest = hashlib.sha256(_writers().encode())
    about = [SCHEMA, bundle.network.to_dict(), batch, precision, sorted(scales.items())]
    digest.update(json.dumps(about).encode())
    for name in sorted(bundle.weights):
        digest.update(name.encode() + np.ascontiguousarray(bundle.weights[name]).tobytes())
    return digest.hexdigest()


def wanted(bundle: Bundle, flavour: Flavour, precision: Precision, target: str) -> Wanted:
    """What a plan for this kind of GPU depends on here. Raises RtsegError where the flavour is missing."""
    version = tensorrt_library.installed(flavour) or str(tensorrt_library.library(flavour).__version__)
    found = nvidia.gpus()
    if flavour == "tensorrt_rtx" or isinstance(found, str):
        return Wanted(bundle.name, flavour, version, precision, target)
    return Wanted(bundle.name, flavour, version, precision, target, found[0].name, nvidia.driver_version() or "")


def scales_of(bundle: Bundle, precision: Precision) -> Mapping[str, float]:
    """The scales of int8 that a bundle was accepted with; none for other precisions. Raises EngineError without."""
    return precisions.scales_of(bundle, precision) if precision == "int8" else {}


def planned(wanted: Wanted, bundle: Bundle, batch: int, graph: str, folder: Path) -> Plan:
    """The plan that is to be built, with the name of its file."""
    about = [SCHEMA, CONFIGURATION, asdict(wanted), batch, graph]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:DIGITS]
    name = f"{wanted.bundle}-{wanted.flavour}-{wanted.precision}-b{batch}-{wanted.target}-{key}.plan"
    return Plan(folder / name.replace(os.sep, "_"), wanted, batch, graph, bundle.hash)


def sidecar(file: Path) -> Path:
    """Where a plan's description stands."""
    return file.with_suffix(".json")


def write_sidecar(plan: Plan) -> None:
    """Describe a plan that lies there; whoever reads meanwhile sees the old text or the new one."""
    about = {"schema": SCHEMA, "kind": KIND, "configuration": CONFIGURATION, **asdict(plan), "file": plan.file.name}
    write_json_atomically(sidecar(plan.file), about)


def read_plan(file: Path) -> Plan:
    """A plan by its sidecar; the plan itself is not read. Raises EngineError for a sidecar that is none."""
    try:
        about = json.loads(sidecar(file).read_text(encoding="utf-8"))
        schema, kind = about["schema"], about["kind"]
        if (schema, kind) != (SCHEMA, KIND):
            raise EngineError(
                f"{sidecar(file)}: {kind!r} of schema {schema!r}; this rtseg reads {SCHEMA}: build it again"
            )
        kept = {name: about[name] for name in (f.name for f in fields(Plan)) if name not in ("file", "wanted")}
        plan = Plan(file, Wanted(**about["wanted"]), **kept)
        if plan.wanted.flavour not in tensorrt_library.FLAVOURS or plan.wanted.precision not in onnx_nodes.PRECISIONS:
            raise ValueError(f"{plan.wanted.flavour} {plan.wanted.precision}")
    except OSError:
        raise EngineError(f"{file.name} has no {sidecar(file).name} beside it: rtseg build makes both") from None
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{sidecar(file)} does not describe a plan ({error}): rtseg build writes it anew") from None
    if about["configuration"] != CONFIGURATION:
        raise EngineError(f"{file.name} was built with other settings ({about['configuration']}): build it again")
    return plan


def plans_in(folder: Path) -> Iterator[Plan | str]:
    """Every plan of a folder, in the order of names, or what is wrong with it."""
    for file in sorted(folder.glob("*.plan")):
        try:
            yield read_plan(file)
        except EngineError as error:
            yield str(error)


def find(
    folder: Path, bundle: Bundle, wanted: Wanted, scales: Mapping[str, float] = NO_SCALES
) -> tuple[list[Plan], list[str]]:
    """The plans that fit, smallest batch first; and for each that was meant for this bundle and GPU why it does not."""
    found: dict[int, Plan] = {}
    stale: list[str] = []
    for plan in plans_in(folder):
        if isinstance(plan, str):
            stale.append(plan)
            continue
        meant = (plan.wanted.bundle, plan.wanted.flavour, plan.wanted.precision, plan.wanted.target)
        if meant != (wanted.bundle, wanted.flavour, wanted.precision, wanted.target):
            continue
        graph = graph_digest(bundle, plan.batch, wanted.precision, scales)
        reason = why_stale(plan, wanted, bundle, graph)
        if reason is None:
            found[plan.batch] = plan
        else:
            stale.append(f"{plan.file.name} is stale: {reason}")
    return [found[batch] for batch in sorted(found)], stale


def why_stale(plan: Plan, wanted: Wanted, bundle: Bundle, graph: str) -> str | None:
    """The first thing that a plan was built for and is not here; None = it fits."""
    if plan.graph != graph:
        if plan.model != bundle.hash:
            return f"built from model {plan.model[:12] or '?'}, this is {bundle.hash[:12] or '?'}"
        return "built by another rtseg, whose step is written otherwise, or from other int8 ranges"
    return why_not_here(plan, wanted)


def why_not_here(plan: Plan, wanted: Wanted) -> str | None:
    """What of the library and the machine is otherwise than where a plan was built for; None = nothing."""
    for field, name in (("version", wanted.flavour), ("gpu", "GPU"), ("driver", "driver")):
        built, here = getattr(plan.wanted, field), getattr(wanted, field)
        if built != here:
            return f"built with {name} {built or 'of any kind'}, here is {here or 'none'}"
    return None


def why_outdated(plan: Plan, bundle: Bundle | None = None) -> str | None:
    """Why a plan serves nowhere like here any more: another library, or a bundle that is no longer the same."""
    version = tensorrt_library.installed(plan.wanted.flavour)
    if version and version != plan.wanted.version:
        return f"{plan.wanted.flavour} is {version} now"
    if bundle is None:
        return None
    try:
        graph = graph_digest(bundle, plan.batch, plan.wanted.precision, scales_of(bundle, plan.wanted.precision))
    except EngineError as error:
        return str(error)
    return why_stale(plan, plan.wanted, bundle, graph)


def remembered(plan: Plan, result: Mapping[str, Any], onnx: str) -> Plan:
    """A plan with what its building brought."""
    known = {name: result[name] for name in ("sha256", "size_bytes", "in_place", "seconds")}
    return replace(plan, onnx=onnx, **known)


@lru_cache(maxsize=1)
def _writers() -> str:
    """Digest of the files that write the graph."""
    texts = [Path(str(module.__file__)).read_bytes() for module in (onnx_graph, onnx_nodes)]
    return hashlib.sha256(b"".join(texts)).hexdigest()
