"""Building plans: each in a child process, into the folder where loading engines look for them.

The libraries end their process on some networks: such a plan fails with one line, and the others are built. Without any
GPU the RTX flavour builds for those that are named.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from rtseg.bundle.bundle import Bundle
from rtseg.engine.onnx.onnx_graph import cache_shapes, step_model
from rtseg.engine.onnx.onnx_nodes import PRECISIONS, Precision
from rtseg.engine.tensorrt import plans, tensorrt_library
from rtseg.engine.tensorrt.plans import Plan, Wanted
from rtseg.engine.tensorrt.tensorrt_library import Flavour
from rtseg.errors import EngineError
from rtseg.system import nvidia
from rtseg.system.files import replace_atomically

TIMEOUT_S = 900.0
"""One plan takes tenths of a second for the RTX flavour, minutes for the other."""
BATCHES = (1, 64, 1024)
"""Streams that a plan steps at once, where nobody says otherwise."""


@dataclass(frozen=True)
class Outcome:
    """What became of one plan. caches: that it must update in place. problem: why there is none; '' = there is one."""

    plan: Plan
    state: Literal["built", "there already", "failed"]
    caches: int
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """All outcomes, and the plans of this bundle in the folder that fit it no more, a line each."""

    outcomes: tuple[Outcome, ...]
    stale: tuple[str, ...]

    @property
    def failed(self) -> int:
        return sum(outcome.state == "failed" for outcome in self.outcomes)


def build_plans(
    bundle: Bundle,
    flavour: Flavour,
    precisions: Sequence[Precision] = ("fp32",),
    batches: Sequence[int] = BATCHES,
    targets: Sequence[str] = (),
    folder: Path | None = None,
    scales: Mapping[str, float] | None = None,
    told: Callable[[int, int], object] = lambda done, total: None,
) -> Report:
    """Plans of a bundle for every precision, batch and target, into a folder (None = where engines look).

    targets: as `sm_86`; none = the GPU that is here. scales: of int8 (`onnx_nodes.Nodes`); None = the bundle's own.
    told: (done, in all) while it works. A plan that is there and fits is kept. Raises EngineError for a target or a
    batch that cannot be, int8 without scales, or no target and no GPU; RtsegError where the library or `onnx` is
    missing.
    """
    folder = plans.default_folder() if folder is None else folder
    wishes = wanted_plans(bundle, flavour, precisions, targets)
    if not batches or min(batches) < 1:
        raise EngineError(f"a plan steps 1 stream or more at once, got the batches {list(batches)}")
    given = {"int8": scales} if scales else {}
    needed = {p: plans.scales_of(bundle, p) if scales is None else given.get(p, {}) for p in precisions}
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = []
    jobs = [(wanted, batch) for wanted, batch in product(wishes, sorted(set(batches)))]
    with tempfile.TemporaryDirectory(prefix="rtseg-build-") as scratch:
        models = _Models(bundle, Path(scratch))
        for number, (wanted, batch) in enumerate(jobs):
            told(number, len(jobs))
            graph = plans.graph_digest(bundle, batch, wanted.precision, needed[wanted.precision])
            plan = plans.planned(wanted, bundle, batch, graph, folder)
            outcomes.append(_one(plan, models, needed[wanted.precision], Path(scratch)))
        told(len(jobs), len(jobs))
    found = [plans.find(folder, bundle, wanted, needed[wanted.precision])[1] for wanted in wishes]
    return Report(tuple(outcomes), tuple(dict.fromkeys(line for lines in found for line in lines)))


def asked(
    engine: str, precisions: str, batches: str, targets: str
) -> tuple[Flavour, list[Precision], list[int], list[str]]:
    """A user's words, lists with commas, as `build_plans` takes them. Raises EngineError for what means nothing."""
    flavours: dict[str, Flavour] = {name: name for name in tensorrt_library.FLAVOURS}
    if engine not in flavours:
        raise EngineError(f"plans are built by {' or '.join(flavours)}, got {engine!r}")
    known: dict[str, Precision] = {name: name for name in PRECISIONS}
    strangers = [word for word in _words(precisions) if word not in known]
    if strangers:
        raise EngineError(f"unknown precision {strangers[0]!r}; there are: {', '.join(known)}")
    try:
        sizes = [int(word) for word in _words(batches)]
    except ValueError:
        raise EngineError(f"--batch takes whole numbers with commas, got {batches!r}") from None
    return flavours[engine], [known[word] for word in _words(precisions)], sizes, _words(targets)


def wanted_plans(
    bundle: Bundle, flavour: Flavour, precisions: Sequence[Precision], targets: Sequence[str]
) -> list[Wanted]:
    """What to build, but for the batches: one for each precision and GPU. Raises as `build_plans`."""
    found = nvidia.gpus()
    if flavour == "tensorrt":
        if isinstance(found, str):
            raise EngineError(
                f"tensorrt builds on the GPU that will serve, and there is none here ({found}); "
                "--engine tensorrt_rtx builds without one"
            )
        here = nvidia.target(found[0])
        if set(targets) - {here}:
            raise EngineError(f"tensorrt builds for the GPU that is here, {here}; got {', '.join(targets)}")
    elif not targets and isinstance(found, str):
        known = ", ".join(tensorrt_library.TARGETS)
        raise EngineError(f"for which GPU? There is none here ({found}): name it with --for, one of {known}")
    for target in targets:
        tensorrt_library.check_target(flavour, target)
    chosen = list(targets) or ([nvidia.target(found[0])] if not isinstance(found, str) else [])
    return [plans.wanted(bundle, flavour, precision, target) for precision, target in product(precisions, chosen)]


class _Models:
    """The ONNX files that are built from, each written once."""

    def __init__(self, bundle: Bundle, scratch: Path) -> None:
        self.bundle, self._scratch = bundle, scratch

    def file(self, precision: Precision, batch: int, scales: Mapping[str, float]) -> Path:
        """The step for this precision and batch."""
        file = self._scratch / f"{precision}-b{batch}.onnx"
        if not file.is_file():
            spec, weights = self.bundle.network, self.bundle.weights
            file.write_bytes(step_model(spec, weights, "in_place", batch, precision, scales).SerializeToString())
        return file


def _one(plan: Plan, models: _Models, scales: Mapping[str, float], scratch: Path) -> Outcome:
    caches = len(cache_shapes(models.bundle.network, "in_place", 1))
    kept = _kept(plan)
    if kept is not None:
        return Outcome(kept, "there already", caches)
    model = models.file(plan.wanted.precision, plan.batch, scales)
    job = {"model": str(model), "flavour": plan.wanted.flavour, "target": plan.wanted.target}
    try:
        with replace_atomically(plan.file) as part:
            result = in_child({**job, "plan": str(part)}, scratch)
            if "problem" in result:
                raise EngineError(str(result["problem"]))
            if result["in_place"] != caches:
                raise EngineError(f"{result['in_place']} of {caches} caches are updated in place")
    except EngineError as error:
        return Outcome(plan, "failed", caches, str(error))
    plan = plans.remembered(plan, result, hashlib.sha256(model.read_bytes()).hexdigest())
    plans.write_sidecar(plan)
    return Outcome(plan, "built", caches)


def in_child(job: Mapping[str, str], scratch: Path, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """What `tensorrt_library.build` says in a process of its own, or {'problem': in one line}, however that ended."""
    job_file, result_file = scratch / "job.json", scratch / "result.json"
    result_file.unlink(missing_ok=True)
    job_file.write_text(json.dumps({**job, "result": str(result_file)}), encoding="utf-8")
    command = [sys.executable, "-m", "rtseg.engine.tensorrt.tensorrt_library", str(job_file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"problem": f"the builder did not end within {timeout_s:g} s"}
    if result_file.is_file():
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        return result
    return {"problem": f"the builder {_ended(done.returncode)}{_last_line(done.stderr)}"}


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with {code}"
    known = {member.value: member.name for member in signal.Signals}
    return f"was ended by {known.get(-code, f'signal {-code}')}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else " and said nothing"


def _kept(plan: Plan) -> Plan | None:
    """The plan as it lies there already, if it is whole."""
    try:
        there = plans.read_plan(plan.file)
        there.data()
    except EngineError:
        return None
    return there if there.graph == plan.graph else None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
