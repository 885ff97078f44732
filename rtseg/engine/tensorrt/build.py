"""Building plans, each in a child process, into the folder where engines look for them.

The libraries end their process on some networks: such a plan fails with one line, and the others are built. The RTX
flavour builds for named kinds of GPU on a machine without one.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from rtseg.bundle.bundle import Bundle
from rtseg.engine.onnx.onnx_graph import step_model
from rtseg.engine.onnx.onnx_nodes import PRECISIONS, Precision
from rtseg.engine.onnx.step_interface import cache_shapes
from rtseg.engine.tensorrt import plans, tensorrt_library
from rtseg.engine.tensorrt.plans import Plan, Wanted
from rtseg.engine.tensorrt.tensorrt_library import Flavour
from rtseg.errors import EngineError
from rtseg.system import nvidia
from rtseg.system.child_process import module_command, module_environment
from rtseg.system.files import replace_atomically

TIMEOUT_S = 900.0
"""For one plan. The RTX flavour takes tenths of a second, the other takes minutes."""
BATCHES = (1, 64, 1024)
"""Default batch sizes: how many streams a plan steps at once."""


@dataclass(frozen=True)
class PlanOutcome:
    """The result for one plan. caches: how many it must update in place. problem: why it failed; '' = it did not."""

    plan: Plan
    state: Literal["built", "there already", "failed"]
    caches: int
    problem: str = ""


@dataclass(frozen=True)
class BuildReport:
    """All outcomes, and a line for each plan of this bundle in the folder that no longer fits it."""

    outcomes: tuple[PlanOutcome, ...]
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
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> BuildReport:
    """Build plans of a bundle for every precision, batch size and target into a folder (None = where engines look).

    targets: as `sm_86`; none = the GPU that is here. scales: of int8 (`onnx_nodes.GraphBuilder`); None = the bundle's
    own. on_progress: called with the numbers of finished and of all plans. A plan that exists and fits is left as it
    is. Raises EngineError for a target or a batch size that is not possible, int8 without scales, or no target and no
    GPU; RtsegError where the library or `onnx` is missing.
    """
    _ = bundle.network  # trees are refused before a library is asked for
    folder = plans.default_folder() if folder is None else folder
    targeted = wanted_plans(bundle, flavour, precisions, targets)
    if not batches or min(batches) < 1:
        raise EngineError(f"a plan steps 1 stream or more at once, got the batches {list(batches)}")
    # Found for all precisions first: a bundle without int8 scales is refused before the first plan is built.
    given = {"int8": scales} if scales else {}
    scales_of = {p: plans.int8_scales(bundle, p) if scales is None else given.get(p, {}) for p in precisions}
    folder.mkdir(parents=True, exist_ok=True)
    outcomes: list[PlanOutcome] = []
    jobs = list(product(targeted, sorted(set(batches))))
    with tempfile.TemporaryDirectory(prefix="rtseg-build-") as scratch:
        models = _StepModels(bundle, Path(scratch))
        for number, (wanted, batch) in enumerate(jobs):
            on_progress(number, len(jobs))
            graph = plans.graph_digest(bundle, batch, wanted.precision, scales_of[wanted.precision])
            plan = plans.plan_to_build(wanted, bundle, batch, graph, folder)
            outcomes.append(_build_one(plan, models, scales_of[wanted.precision], Path(scratch)))
        on_progress(len(jobs), len(jobs))
    # Looked for after building: what was just built again is no longer stale.
    stale = [plans.find_plans(folder, bundle, wanted, scales_of[wanted.precision])[1] for wanted in targeted]
    return BuildReport(tuple(outcomes), tuple(dict.fromkeys(line for lines in stale for line in lines)))


def parse_build_options(
    engine: str, precisions: str, batches: str, targets: str
) -> tuple[Flavour, list[Precision], list[int], list[str]]:
    """The options of `rtseg build`, lists with commas, as `build_plans` takes them. Raises EngineError for bad ones."""
    flavours: dict[str, Flavour] = {name: name for name in tensorrt_library.FLAVOURS}
    if engine not in flavours:
        raise EngineError(f"plans are built by {' or '.join(flavours)}, got {engine!r}")
    known: dict[str, Precision] = {name: name for name in PRECISIONS}
    unknown = [word for word in _split_list(precisions) if word not in known]
    if unknown:
        raise EngineError(f"unknown precision {unknown[0]!r}; there are: {', '.join(known)}")
    try:
        sizes = [int(word) for word in _split_list(batches)]
    except ValueError:
        raise EngineError(f"--batch takes whole numbers with commas, got {batches!r}") from None
    return flavours[engine], [known[word] for word in _split_list(precisions)], sizes, _split_list(targets)


def wanted_plans(
    bundle: Bundle, flavour: Flavour, precisions: Sequence[Precision], targets: Sequence[str]
) -> list[Wanted]:
    """What to build for each precision and kind of GPU, whatever the batch size. Raises as `build_plans`."""
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
    return [plans.wanted_for(bundle, flavour, precision, target) for precision, target in product(precisions, chosen)]


class _StepModels:
    """The ONNX files that plans are built from; each is written once, whatever the number of targets."""

    def __init__(self, bundle: Bundle, scratch: Path) -> None:
        self.bundle, self._scratch = bundle, scratch

    def file(self, precision: Precision, batch: int, scales: Mapping[str, float]) -> Path:
        """The file of the step for this precision and batch size."""
        file = self._scratch / f"{precision}-b{batch}.onnx"
        # A file, not bytes: the child reads it.
        if not file.is_file():
            spec, weights = self.bundle.network, self.bundle.weights
            file.write_bytes(step_model(spec, weights, "in_place", batch, precision, scales).SerializeToString())
        return file


def _build_one(plan: Plan, models: _StepModels, scales: Mapping[str, float], scratch: Path) -> PlanOutcome:
    caches = len(cache_shapes(models.bundle.network, "in_place", 1))
    existing = _existing_plan(plan)
    if existing is not None:
        return PlanOutcome(existing, "there already", caches)
    model = models.file(plan.wanted.precision, plan.batch, scales)
    job = {"model": str(model), "flavour": plan.wanted.flavour, "target": plan.wanted.target}
    try:
        # Renamed into place: an engine that loads meanwhile never finds half a plan.
        with replace_atomically(plan.file) as part:
            result = build_in_child({**job, "plan": str(part)}, scratch)
            if "problem" in result:
                raise EngineError(str(result["problem"]))
            # A plan that copies a cache would give right answers, and move all state at every step.
            if result["in_place"] != caches:
                raise EngineError(f"{result['in_place']} of {caches} caches are updated in place")
    except EngineError as error:
        return PlanOutcome(plan, "failed", caches, str(error))
    plan = plans.with_build_result(plan, result, hashlib.sha256(model.read_bytes()).hexdigest())
    plans.write_sidecar(plan)
    return PlanOutcome(plan, "built", caches)


def build_in_child(job: Mapping[str, str], scratch: Path, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """The result of `tensorrt_library.run_build_job` in a child process; {'problem': one line} however that ended."""
    job_file, result_file = scratch / "job.json", scratch / "result.json"
    # A crash leaves no result: the one of the plan before must not be taken for this one's.
    result_file.unlink(missing_ok=True)
    job_file.write_text(json.dumps({**job, "result": str(result_file)}), encoding="utf-8")
    # A fresh interpreter: no library is loaded there yet, and a crash ends this one plan only.
    command = module_command("rtseg.engine.tensorrt.tensorrt_library", str(job_file))
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=module_environment(),
        )
    except subprocess.TimeoutExpired:
        return {"problem": f"the builder did not end within {timeout_s:g} s"}
    # A file, not stdout, where the libraries may print.
    if result_file.is_file():
        result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8"))
        return result
    return {"problem": f"the builder {_describe_exit(done.returncode)}{_last_line(done.stderr)}"}


def _describe_exit(code: int) -> str:
    if code >= 0:  # below 0 is the number of the signal that ended it
        return f"ended with {code}"
    known = {member.value: member.name for member in signal.Signals}
    return f"was ended by {known.get(-code, f'signal {-code}')}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f": {lines[-1]}" if lines else " and said nothing"


def _existing_plan(plan: Plan) -> Plan | None:
    """The plan as it was built before; None where it was not, or is damaged."""
    try:
        existing = plans.read_plan(plan.file)
        existing.read_data()
    except EngineError:
        return None
    return existing if existing.graph == plan.graph else None


def _split_list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
