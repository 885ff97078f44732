"""Every way of stepping a bundle's network on a CPU, measured in turns in one process, on one thread.

`python benchmarks/engines.py [BUNDLE ...] [--seconds 200] [--batches 1,16,64,256] [--out benchmarks/results/engines]`
writes OUT.json, OUT.md and OUT.png. For every batch size it also measures the least that a step could cost there
(`rtseg.bench.roofline`). A candidate that cannot run, or whose single step takes longer than SLOWEST_S, is listed with
the reason; it is tried in a process of its own first, because some libraries crash. Answers are compared with the numba
engine's before anything is timed. OUT.json is written after every case.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before any library counts the cores

import numpy as np
from candidates import CANDIDATES, F32, Step, tcn_size

from rtseg.bench.roofline import Work, near
from rtseg.bench.walk import walk
from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.features.extractor import FeatureExtractor
from rtseg.system import machine

TURNS = 12
SETTLE_CALLS = 3
"""Calls at the start of a turn that are not counted, unless they are slow: caches hold the previous case's data."""
SLOW_S = 0.02
SLOWEST_S = 2.0
TRIAL_S = 600
LONGEST_TURN_S = 1.5
COMPARED_FRAMES = 40
PACKAGES = ("numba", "llvmlite", "numpy", "onnx", "onnxruntime", "openvino", "torch", "pytorch-tcn")


def compare_answers(step: Step, reference: Step, frames: Sequence[F32]) -> float:
    """The largest difference of a candidate's probabilities from the numba engine's, both from a fresh state."""
    apart = 0.0
    for number, frame in enumerate(frames):
        started = time.perf_counter()
        got = step(frame)
        took_s = time.perf_counter() - started
        if number and took_s > SLOWEST_S:
            raise TimeoutError(f"one step took {took_s:.1f} s")
        expected = reference(frame)
        if got.shape != expected.shape or not np.isfinite(got).all():
            raise ValueError(f"answers of shape {got.shape}, expected {expected.shape}, or no numbers")
        apart = max(apart, float(np.abs(got - expected).max()))
    return apart


def why_impossible(path: Path, batch: int, name: str) -> str:
    """Why a candidate cannot run, "" if it can: tried in a process of its own, which may crash."""
    command = [sys.executable, __file__, str(path), "--batches", str(batch), "--try", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_S, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {TRIAL_S} s"
    if done.returncode < 0:
        return f"its process died of {signal.Signals(-done.returncode).name}"
    if done.returncode:
        return (done.stdout.strip() or done.stderr.strip()).splitlines()[-1][:200]
    return ""


def make_candidate(bundle: Bundle, batch: int, name: str, frames: Sequence[F32]) -> tuple[Step, dict[str, Any]]:
    """A candidate's step, and how far its answers are from numba's. Raises whatever a library raises."""
    make, module, same = CANDIDATES[name]
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"{module} is not installed")
    step, reference = make(bundle, batch), CANDIDATES["numba"][0](bundle, batch)
    apart = compare_answers(step, reference, frames[: COMPARED_FRAMES if same else 2])
    return step, {"apart": apart} if same else {}


def make_candidates(
    path: Path, bundle: Bundle, batch: int, without: Sequence[str], say: Callable[[str], None]
) -> tuple[Any, Any]:
    """The candidates that run: name -> step; and for all of them, name -> reason or difference."""
    frames = frames_of(bundle, batch)
    steps: dict[str, Step] = {}
    known: dict[str, dict[str, Any]] = {}
    for name in CANDIDATES:
        say(f"{bundle.name}, {batch}: making {name}")
        reason = "left out by --without" if name in without else ""
        if not reason and name != "numba":
            reason = why_impossible(path, batch, name)
        if reason:
            known[name] = {"reason": reason}
            continue
        try:
            steps[name], known[name] = make_candidate(bundle, batch, name, frames)
        except Exception as error:  # a library may raise anything; the other candidates go on
            known[name] = {"reason": _first_line(error)}
    return steps, known


def frames_of(bundle: Bundle, batch: int) -> list[F32]:
    """Features (batch, F) of some frames; every stream is at another frame of the same recording."""
    keypoints, confidence = walk(bundle)
    features = FeatureExtractor(bundle.skeleton, bundle.features, bundle.fps, bundle.body_size).run(
        keypoints, confidence, bundle.arena
    )
    places = (np.arange(len(features))[:, None] + 7 * np.arange(batch)) % len(features)
    return [np.ascontiguousarray(features[row]) for row in places]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def in_turns(cases: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[tuple[int, int]]]:
    """Time single calls in turns, A B A B ..., for about `seconds`; slow cases at least once a turn.

    For each call its duration and the processor time of all threads, in ns. Other load on the machine changes the
    latter only through the caches.
    """
    clock, used = time.perf_counter_ns, time.process_time_ns
    timed: dict[str, list[tuple[int, int]]] = {name: [] for name in cases}
    slow = {}
    for name, case in cases.items():
        case()
        started = clock()
        case()
        slow[name] = clock() - started > SLOW_S * 1e9
    turn_ns = int(seconds / TURNS / len(cases) * 1e9)
    for _ in range(TURNS):
        for name, case in cases.items():
            for _ in range(0 if slow[name] else SETTLE_CALLS):
                case()
            started, end = 0, clock() + min(turn_ns, int(LONGEST_TURN_S * 1e9))
            while started < end:
                began = used()
                started = clock()
                case()
                took = clock() - started
                timed[name].append((took, used() - began))
    return timed


def measure(
    path: Path, bundle: Bundle, batch: int, seconds: float, without: Sequence[str], say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure one bundle at one batch size: floors, candidates, ratios."""
    frames = frames_of(bundle, batch)
    steps, known = make_candidates(path, bundle, batch, without, say)
    work = Work.of(NumbaEngine(bundle.network, bundle.weights, 1))
    near_bytes, read_near = near()
    cases: dict[str, Callable[[], object]] = {**work.floors(batch), "read near": read_near}
    for name, step in steps.items():
        cases[name] = _circling(step, frames)
    say(f"{bundle.name}, {batch}: timing")
    timed = in_turns(cases, seconds)
    rows = {name: {**known.get(name, {}), **_percentiles(values, batch)} for name, values in timed.items()}
    floors = {name: rows.pop(name) for name in ("read", "multiply", "read near")}
    limit_us = max(floors["read"]["p50_us"], floors["multiply"]["p50_us"])
    forms = [row["p50_us"] for name, row in rows.items() if name.startswith("onnx")]
    for name, row in rows.items():
        row["numba_is"] = rows["numba"]["p50_us"] / row["p50_us"]
        row["numba_is_of_cpu"] = rows["numba"]["cpu_us"] / row["cpu_us"]
        row["of_limit"] = limit_us / row["p50_us"]
        if name == "pytorch-tcn":
            row["multiply_adds"] = tcn_size(bundle)[1]
    return {
        "batch": batch,
        "rows": rows,
        "left_out": {name: about["reason"] for name, about in known.items() if "reason" in about},
        "roofline": {
            "weight_bytes": work.weight_bytes,
            "multiply_adds": work.multiply_adds * batch,
            "floors": floors,
            "limit_us": limit_us,
            "bound_by": max(("read", "multiply"), key=lambda floor: floors[floor]["p50_us"]),
            "read_gb_s": work.weight_bytes / floors["read"]["p50_us"] / 1e3,
            "read_near_gb_s": near_bytes / floors["read near"]["p50_us"] / 1e3,
            "multiply_adds_per_ns": work.multiply_adds * batch / floors["multiply"]["p50_us"] / 1e3,
            "numba_reaches": limit_us / rows["numba"]["p50_us"],
        },
        "numba_of_best_onnx": rows["numba"]["p50_us"] / min(forms) if forms else None,
    }


def _circling(step: Step, frames: Sequence[F32]) -> Callable[[], object]:
    turn = 0

    def case() -> None:
        nonlocal turn
        turn = (turn + 1) % len(frames)
        step(frames[turn])

    return case


def _percentiles(values: Sequence[tuple[int, int]], batch: int) -> dict[str, Any]:
    took, used = np.array(values).T / 1e3
    p50, p99 = (float(value) for value in np.percentile(took, (50, 99)))
    cpu = float(np.median(used))
    return {"count": len(took), "p50_us": p50, "p99_us": p99, "cpu_us": cpu, "us_a_frame": p50 / batch}


def table(result: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    about = result["machine"]
    lines = [
        "# Engines, side by side",
        "",
        f"{about['cpu']}, {about['cores_usable']} cores, one thread; load average {about['load_average_before']} "
        f"before, {about['load_average_after']} after; {result['date']}; "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
        + ".",
        "",
        "Made by `benchmarks/engines.py`. CPU: processor time of all threads in the median call. numba's share: its "
        "median as a share of the row's; of CPU: the same of processor time, which a busy machine disturbs less. "
        "Limit: the larger of reading the weights once and doing the multiply-adds, both measured in the same turns. "
        "Apart: the largest difference from numba's probabilities.",
    ]
    for name, batches in result["bundles"].items():
        for one in batches:
            roof = one["roofline"]
            reading = f"{roof['read_gb_s']:.0f} GB/s (the second cache gives {roof['read_near_gb_s']:.0f})"
            lines += [
                "",
                f"## {name}, {one['batch']} stream{'s' if one['batch'] > 1 else ''}",
                "",
                f"Limit {roof['limit_us']:,.1f} µs, by the {_BOUNDS[roof['bound_by']]}: "
                f"{roof['weight_bytes'] / 1e3:,.0f} kB of weights at {reading}, "
                f"{roof['multiply_adds'] / 1e3:,.0f} k multiply-adds at {roof['multiply_adds_per_ns']:.1f} a ns.",
                "",
                "| engine | p50 µs | p99 µs | CPU µs | µs a frame | numba's share | of CPU | of limit | apart | n |",
                "|---|---|---|---|---|---|---|---|---|---|",
            ]
            for engine, row in sorted(one["rows"].items(), key=lambda item: item[1]["p50_us"]):
                apart = f"{row['apart']:.1e}" if "apart" in row else "other answers"
                lines.append(
                    f"| {engine} | {row['p50_us']:,.1f} | {row['p99_us']:,.1f} | {row['cpu_us']:,.1f} | "
                    f"{row['us_a_frame']:,.1f} | {row['numba_is']:.4f} | {row['numba_is_of_cpu']:.4f} | "
                    f"{row['of_limit']:.1%} | {apart} | {row['count']:,} |"
                )
            lines += [
                f"| {engine} | - | - | - | - | - | - | - | {why} | - |" for engine, why in one["left_out"].items()
            ]
        lines += ["", f"pytorch-tcn for {name}: {result['tcn'][name]}."]
    return "\n".join(lines) + "\n"


_BOUNDS = {"read": "reading of the weights", "multiply": "multiply-adds"}


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Plot microseconds per frame against streams in a batch, one panel for each bundle."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(result["bundles"]), figsize=(6 * len(result["bundles"]), 4.5), squeeze=False)
    for panel, (name, batches) in zip(panels[0], result["bundles"].items(), strict=True):
        for engine in CANDIDATES:
            points = [(one["batch"], one["rows"][engine]["us_a_frame"]) for one in batches if engine in one["rows"]]
            if points:
                panel.plot(*zip(*points, strict=True), marker="o", label=engine)
        limits = [(one["batch"], one["roofline"]["limit_us"] / one["batch"]) for one in batches]
        panel.plot(*zip(*limits, strict=True), "k--", label="limit")
        panel.set(xscale="log", yscale="log", title=name, xlabel="streams in a batch", ylabel="µs a frame (median)")
        panel.grid(alpha=0.3)
    panels[0][0].legend(fontsize=8)
    figure.suptitle("One step of the network on one thread")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def _try(path: Path, batch: int, name: str) -> int:
    """The child process of `why_impossible`; its exit status."""
    bundle = load_bundle(path)
    try:
        make_candidate(bundle, batch, name, frames_of(bundle, batch))
    except Exception as error:
        print(_first_line(error))
        return 1
    return 0


def main() -> None:
    """Parse the options, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*", default=[Path("engines/rats58"), Path("engines/mice-sim")])
    parser.add_argument("--seconds", type=float, default=200.0, help="of timing in all; making the candidates is apart")
    parser.add_argument("--batches", default="1,16,64,256")
    parser.add_argument("--without", action="append", default=[], choices=list(CANDIDATES)[1:], help="a candidate")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engines"))
    parser.add_argument("--try", dest="tried", choices=list(CANDIDATES), help="only make this one and compare it")
    chosen = parser.parse_args()
    batches = [int(batch) for batch in chosen.batches.split(",")]
    if chosen.tried:
        sys.exit(_try(chosen.bundles[0], batches[0], chosen.tried))
    seconds = chosen.seconds / len(chosen.bundles) / len(batches)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", flush=True)

    result: dict[str, Any] = {
        "schema": 1,
        "kind": "engines",
        **machine.describe_run(PACKAGES),
        "seconds": chosen.seconds,
    }
    result |= {"bundles": {}, "tcn": {}}
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    for path in chosen.bundles:
        bundle = load_bundle(path)
        layers, multiply_adds = tcn_size(bundle)
        result["tcn"][bundle.name] = (
            f"{layers} blocks, {multiply_adds / 1e3:,.0f} k multiply-adds (the bundle: "
            f"{bundle.network.multiply_adds / 1e3:,.0f} k)"
        )
        cases = result["bundles"][bundle.name] = []
        for batch in batches:
            cases.append(measure(path, bundle, batch, seconds, chosen.without, say))
            result["machine"]["load_average_after"] = machine.load_average()
            chosen.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    chosen.out.with_suffix(".md").write_text(table(result), encoding="utf-8")
    draw(result, chosen.out.with_suffix(".png"))
    say(f"written: {chosen.out}.json, .md and .png")


if __name__ == "__main__":
    main()
