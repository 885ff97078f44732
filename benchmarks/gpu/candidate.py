"""One candidate of the GPU run, in a process of its own, so that a crash stops no other candidate.

`python candidate.py JSON` prints one JSON line for each result; the first says whether the candidate can run at all.
Started by run.py.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.engine.base import Engine
from rtseg.errors import EngineError, RtsegError
from rtseg.system import nvidia

WARM_UP_S = 0.5
MIN_STEPS = 20
"""At least so many steps of each batch size are timed."""
LARGEST_ON_CPU = 1024
"""Larger batches only take longer there, and show nothing new."""
PARITY_STREAMS = 16


def make_candidate(name: str, bundle: Bundle, batch: int, device: str) -> Engine:
    """The engine of a candidate. Raises EngineError where it cannot run here."""
    if name.startswith("torch"):
        return _torch(name, bundle, batch, device)
    from rtseg.engine.select import make_engine

    return make_engine(bundle, name, batch)


def build_candidate_plans(name: str, bundle: Bundle, batches: list[int]) -> None:
    """Build plans for a TensorRT candidate in the first flavour that can. Raises EngineError where none can."""
    from rtseg.engine.tensorrt.build import build_plans, parse_build_options
    from rtseg.engine.tensorrt.tensorrt_library import FLAVOURS, installed_version

    reasons = []
    for flavour in (flavour for flavour in FLAVOURS if installed_version(flavour) is not None):
        sizes = ",".join(map(str, {PARITY_STREAMS, *batches}))
        try:
            report = build_plans(bundle, *parse_build_options(flavour, name.partition(":")[2], sizes, ""))
        except RtsegError as error:
            reasons.append(f"{flavour}: {error}")
            continue
        problems = [f"batch {outcome.plan.batch}: {outcome.problem}" for outcome in report.outcomes if outcome.problem]
        _say({"plans": len(report.outcomes) - len(problems), "not_built": problems})
        if report.failed < len(report.outcomes):
            return
        reasons.append(f"{flavour}: {problems[0]}")
    if reasons:
        raise EngineError("; ".join(reasons))


def _torch(name: str, bundle: Bundle, batch: int, device: str) -> Engine:
    import torch
    from torch_step import BatchedTorch

    graph = name == "torch graph"
    if graph and device == "cpu":
        raise EngineError("CUDA graphs need an NVIDIA GPU, and this is a run on the CPU")
    if device == "cuda" and not torch.cuda.is_available():
        raise EngineError(f"torch {torch.__version__} sees no NVIDIA GPU here")
    return BatchedTorch(bundle.network, bundle.weights, batch, device, graph)


def time_steps(engine: Engine, bundle: Bundle, batch: int, seconds: float) -> dict[str, Any]:
    """p50, p99 and rate of whole steps, from arrays on the host to arrays on the host."""
    rng = np.random.default_rng(batch)
    scale = bundle.weights["scaler.scale"]
    spread = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale != 0)
    sets = [
        (bundle.weights["scaler.shift"] + spread * rng.normal(size=(batch, len(scale)))).astype(np.float32)
        for _ in range(4)
    ]
    slots, out = np.arange(batch, dtype=np.int32), np.empty((batch, bundle.network.n_outputs), np.float32)
    durations: list[int] = []
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < WARM_UP_S + seconds or len(durations) < MIN_STEPS:
        features = sets[len(durations) % len(sets)]
        start = time.perf_counter_ns()
        engine.step(features, slots, out)
        if now >= WARM_UP_S:
            durations.append(time.perf_counter_ns() - start)
    if not np.isfinite(out).all():
        raise EngineError(f"an answer is not a finite number at batch {batch}")
    p50, p99 = np.percentile(durations, (50, 99)) / 1e3
    rate = batch * len(durations) / (sum(durations) / 1e9)
    return {"batch": batch, "count": len(durations), "p50_us": p50, "p99_us": p99, "frames_per_s": rate}


def main(name: str, bundle: str, batches: list[int], seconds: float, device: str) -> None:
    if name == "floors":
        _floors(bundle, batches)
        return
    from rtseg.engine.parity import MARGIN, largest_difference
    from rtseg.engine.tensorrt.tensorrt_engine import TOLERANCES

    loaded = load_bundle(bundle)
    if name.startswith("tensorrt") and not isinstance(nvidia.gpus(), str):
        build_candidate_plans(name, loaded, batches)
    engine = make_candidate(name, loaded, PARITY_STREAMS, device)
    worst = largest_difference(engine, loaded)
    tolerance = next((t for precision, t in TOLERANCES.items() if name.endswith(precision)), loaded.tolerance)
    bound = MARGIN * tolerance
    flavour = getattr(engine, "flavour", None)
    _say({"parity": worst, "bound": bound, "agrees": bool(worst <= bound), "flavour": flavour})
    on_cpu = device == "cpu" or name == "numba"
    for batch in [batch for batch in batches if not on_cpu or batch <= LARGEST_ON_CPU]:
        started = time.perf_counter()
        engine = make_candidate(name, loaded, batch, device)
        load_s = time.perf_counter() - started
        _say({"row": {**time_steps(engine, loaded, batch, seconds), "load_s": load_s}})
        del engine


def _floors(bundle: str, batches: list[int]) -> None:
    import torch
    from floors import floors

    if not torch.cuda.is_available():
        raise EngineError(f"torch {torch.__version__} sees no NVIDIA GPU here")
    _say({"floors": floors(load_bundle(bundle).network, batches)})


def _say(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    run: Callable[..., None] = main
    try:
        run(**json.loads(sys.argv[1]))
    except Exception as error:  # a driver, compiler or library may raise anything: it is the candidate's result
        text = next((line for line in reversed(str(error).strip().splitlines()) if line.strip()), repr(error))
        _say({"impossible": text if isinstance(error, RtsegError) else f"{type(error).__name__}: {text}"})
        sys.exit(1)
