"""Plans on disk: the names of their files, their JSON sidecars, and which of them fit a bundle on a machine.

A plan is a network that TensorRT has compiled. Its file's name ends with a digest of all that it depends on, so that
plans for several libraries, drivers and states of a bundle can be kept in one folder. Loads no TensorRT, deletes
nothing.
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
from rtseg.engine.onnx import onnx_graph, onnx_nodes, precisions, step_interface
from rtseg.engine.onnx.onnx_nodes import Precision
from rtseg.engine.tensorrt import tensorrt_library
from rtseg.engine.tensorrt.tensorrt_library import Flavour
from rtseg.errors import EngineError
from rtseg.system import nvidia
from rtseg.system.files import write_json_atomically

SCHEMA = 1
KIND = "rtseg plan"
CONFIGURATION = "no TF32; strongly typed; memory from the user"
"""How every plan is built. Change the text with the settings: plans of another text are not loaded."""
KEY_DIGITS = 10
"""How many digits of the key stand in a file's name."""
NO_SCALES: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Wanted:
    """All that a plan depends on, except its batch size and its graph.

    target: the kind of GPU, as `sm_86`. gpu, driver: their names; '' where a plan is built ahead of time for every GPU
    of its kind. version: of the flavour's library. The names of the fields are keys of the sidecar.
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
    """A plan and what its sidecar says about it. The names of the fields are keys of the sidecar.

    model: the bundle's hash when the plan was built; a bundle of which only decoding or card changed since still fits.
    graph: digest of all that the ONNX graph was written from. onnx, sha256: digests of the graph and of the plan.
    in_place: how many caches it updates in place. seconds: how long building took.
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

    def read_data(self) -> bytes:
        """The bytes that TensorRT loads. Raises EngineError where the file is missing, changed or cut."""
        try:
            data = self.file.read_bytes()
        except OSError:
            raise EngineError(f"the plan {self.file} is missing: rtseg build makes it again") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise EngineError(f"the plan {self.file} was changed or cut: rtseg build makes it again")
        return data


def default_folder() -> Path:
    """The folder of plans: the one that RTSEG_PLANS names, else one in the user's cache."""
    # In the user's cache, not in the bundle: plans belong to a machine, and a bundle is copied to others.
    named = os.environ.get("RTSEG_PLANS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(named).expanduser() if named else cache / "rtseg" / "plans"


def graph_digest(bundle: Bundle, batch: int, precision: Precision, scales: Mapping[str, float] = NO_SCALES) -> str:
    """Digest of all that a step's ONNX is written from: the network, its weights, the source files that write it.

    The graph itself is not hashed: whether a plan is stale must be known where the package `onnx` is missing.
    """
    # Any change of those files counts, a comment too: rather one build too many than a plan that steps another graph.
    digest = hashlib.sha256(_sources_digest().encode())
    origin = [SCHEMA, bundle.architecture.to_dict(), batch, precision, sorted(scales.items())]
    digest.update(json.dumps(origin).encode())
    # By name, so that the order in which a file lists its weights does not matter.
    for name in sorted(bundle.weights):
        digest.update(name.encode() + np.ascontiguousarray(bundle.weights[name]).tobytes())
    return digest.hexdigest()


def wanted_for(bundle: Bundle, flavour: Flavour, precision: Precision, target: str) -> Wanted:
    """What a plan for this kind of GPU depends on, on this machine. Raises RtsegError where the flavour is missing."""
    version = tensorrt_library.installed_version(flavour) or str(tensorrt_library.import_library(flavour).__version__)
    found = nvidia.gpus()
    # RTX plans run on every GPU of their kind; the other flavour's only on the GPU and driver they were built with.
    if flavour == "tensorrt_rtx" or isinstance(found, str):
        return Wanted(bundle.name, flavour, version, precision, target)
    return Wanted(bundle.name, flavour, version, precision, target, found[0].name, nvidia.driver_version() or "")


def int8_scales(bundle: Bundle, precision: Precision) -> Mapping[str, float]:
    """The scales of int8 that a bundle was accepted with; none for other precisions.

    float16 needs no acceptance here: the loading engine compares every plan with the CPU engine. Raises EngineError
    where a bundle was not accepted in int8.
    """
    return precisions.accepted_scales(bundle, precision) if precision == "int8" else {}


def plan_to_build(wanted: Wanted, bundle: Bundle, batch: int, graph: str, folder: Path) -> Plan:
    """A plan that is not built yet, with the name of its file."""
    depends_on = [SCHEMA, CONFIGURATION, asdict(wanted), batch, graph]
    key = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()[:KEY_DIGITS]
    name = f"{wanted.bundle}-{wanted.flavour}-{wanted.precision}-b{batch}-{wanted.target}-{key}.plan"
    return Plan(folder / name.replace(os.sep, "_"), wanted, batch, graph, bundle.hash)


def sidecar(file: Path) -> Path:
    """The file that describes a plan."""
    return file.with_suffix(".json")


def write_sidecar(plan: Plan) -> None:
    """Write the sidecar of a plan, by rename: a concurrent reader sees the old text or the new one."""
    description = {
        "schema": SCHEMA,
        "kind": KIND,
        "configuration": CONFIGURATION,
        **asdict(plan),
        "file": plan.file.name,
    }
    write_json_atomically(sidecar(plan.file), description)


def read_plan(file: Path) -> Plan:
    """A plan by its sidecar; the plan itself is not read. Raises EngineError where that does not describe a plan."""
    try:
        stored = json.loads(sidecar(file).read_text(encoding="utf-8"))
        schema, kind = stored["schema"], stored["kind"]
        if (schema, kind) != (SCHEMA, KIND):
            raise EngineError(
                f"{sidecar(file)}: {kind!r} of schema {schema!r}; this rtseg reads {SCHEMA}: build it again"
            )
        plain = {f.name: stored[f.name] for f in fields(Plan) if f.name not in ("file", "wanted")}
        # The plan's place is where the sidecar was found: folders of plans are copied to other machines.
        plan = Plan(file, Wanted(**stored["wanted"]), **plain)
        if plan.wanted.flavour not in tensorrt_library.FLAVOURS or plan.wanted.precision not in onnx_nodes.PRECISIONS:
            raise ValueError(f"{plan.wanted.flavour} {plan.wanted.precision}")
    except OSError:
        raise EngineError(f"{file.name} has no {sidecar(file).name} beside it: rtseg build makes both") from None
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(f"{sidecar(file)} does not describe a plan ({error}): rtseg build writes it anew") from None
    if stored["configuration"] != CONFIGURATION:
        raise EngineError(f"{file.name} was built with other settings ({stored['configuration']}): build it again")
    return plan


def read_plans(folder: Path) -> Iterator[Plan | str]:
    """Every plan of a folder in the order of names; for one that cannot be read, what is wrong with it."""
    for file in sorted(folder.glob("*.plan")):
        try:
            yield read_plan(file)
        except EngineError as error:
            yield str(error)


def find_plans(
    folder: Path, bundle: Bundle, wanted: Wanted, scales: Mapping[str, float] = NO_SCALES
) -> tuple[list[Plan], list[str]]:
    """The plans that fit, smallest batch first; and a line for each that is damaged, or meant for this and stale.

    Plans of other bundles, flavours, precisions and kinds of GPU are neither.
    """
    found: dict[int, Plan] = {}
    stale: list[str] = []
    for plan in read_plans(folder):
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
    """Why a plan does not fit this bundle on this machine, in one line; None = it fits."""
    if plan.graph != graph:
        # The hash alone does not decide: it changes with the card, too, but where both differ it explains more.
        if plan.model != bundle.hash:
            return f"built from model {plan.model[:12] or '?'}, this is {bundle.hash[:12] or '?'}"
        return "built by another rtseg, whose step is written otherwise, or from other int8 ranges"
    return why_not_here(plan, wanted)


def why_not_here(plan: Plan, wanted: Wanted) -> str | None:
    """Which of library, GPU and driver differs from what a plan was built with; None = none of them."""
    for field, name in (("version", wanted.flavour), ("gpu", "GPU"), ("driver", "driver")):
        built, here = getattr(plan.wanted, field), getattr(wanted, field)
        if built != here:
            return f"built with {name} {built or 'of any kind'}, here is {here or 'none'}"
    return None


def why_outdated(plan: Plan, bundle: Bundle | None = None) -> str | None:
    """Why a plan cannot serve here any more: another version of the library, or a bundle that changed; None = it can.

    Needs no GPU and does not look at the machine's own: `rtseg doctor` also runs where plans are only built.
    """
    version = tensorrt_library.installed_version(plan.wanted.flavour)
    if version and version != plan.wanted.version:
        return f"{plan.wanted.flavour} is {version} now"
    if bundle is None:
        return None
    try:
        graph = graph_digest(bundle, plan.batch, plan.wanted.precision, int8_scales(bundle, plan.wanted.precision))
    except EngineError as error:
        return str(error)
    return why_stale(plan, plan.wanted, bundle, graph)


def with_build_result(plan: Plan, result: Mapping[str, Any], onnx: str) -> Plan:
    """A plan with the result of building it (`tensorrt_library.run_build_job`). onnx: digest of its graph."""
    measured = {name: result[name] for name in ("sha256", "size_bytes", "in_place", "seconds")}
    return replace(plan, onnx=onnx, **measured)


@lru_cache(maxsize=1)
def _sources_digest() -> str:
    """Digest of the source files that write the graph: a change in them makes every plan stale."""
    texts = [Path(str(module.__file__)).read_bytes() for module in (onnx_graph, onnx_nodes, step_interface)]
    return hashlib.sha256(b"".join(texts)).hexdigest()
