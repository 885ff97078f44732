"""The GPU run: compares every candidate's answers with the CPU engine's, then times its steps and the least possible.

Each candidate has a process of its own, so that one that is missing, wrong, crashes or hangs is reported and the others
go on. Writes benchmarks/results/gpu-BUNDLE-DEVICE.json. Ends with 1 where an engine gave wrong answers.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from rtseg.bundle.bundle import load_bundle
from rtseg.bundle.network import NetworkSpec
from rtseg.system import machine, nvidia

HERE = Path(__file__).parent
BATCHES = (1, 16, 64, 1024, 16384)
CANDIDATES = ("numba", "cuda", "tensorrt:fp32", "tensorrt:fp16", "tensorrt:int8", "torch graph", "torch eager")
BUILD_FACTOR = 4
"""How many times longer a candidate may take whose plans are built first; the next run finds them in the cache."""
PACKAGES = ("rtseg", "torch", "triton", "tensorrt", "tensorrt-rtx", "cuda-bindings", "onnx", "numba", "numpy")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="*", default=["engines/rats58", "engines/mice-sim"])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where torch's candidates run")
    parser.add_argument("--batches", default=",".join(map(str, BATCHES)))
    parser.add_argument("--only", default=",".join(CANDIDATES), help="candidates, separated by commas")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each batch size of each candidate")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for one candidate in all")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results")
    arguments = parser.parse_args()
    wrong = False
    for bundle in arguments.bundles:
        result = run(bundle, arguments)
        arguments.out.mkdir(parents=True, exist_ok=True)
        file = arguments.out / f"gpu-{result['bundle']['name']}-{_short(result['gpu'], arguments.device)}.json"
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(table(result), f"\nwritten: {file}\n", sep="", flush=True)
        wrong |= any(found.get("agrees") is False for found in result["candidates"].values())
    return int(wrong)


def run(folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The results of all candidates on one bundle."""
    bundle = load_bundle(folder)
    batches = [int(batch) for batch in arguments.batches.split(",")]
    common = {"bundle": str(Path(folder).absolute()), "batches": batches, "seconds": arguments.seconds}
    common["device"] = arguments.device
    measured = run_candidate({"name": "floors", **common}, arguments.timeout)
    floors = measured.get("floors")
    candidates = {}
    for name in arguments.only.split(","):
        print(f"{bundle.name}: {name}", file=sys.stderr, flush=True)
        longer = BUILD_FACTOR if name.startswith("tensorrt") else 1
        candidates[name] = run_candidate({"name": name, **common}, longer * arguments.timeout)
        if floors and name != "numba":
            for row in candidates[name]["rows"]:
                row |= share_of_floor(bundle.network, row, floors)
    found = nvidia.gpus()
    return {
        "schema": 1,
        "kind": "rtseg gpu run",
        **machine.describe_run(PACKAGES),
        "gpu": found if isinstance(found, str) else [vars(gpu) for gpu in found],
        "driver": nvidia.driver_version(),
        "bundle": {"name": bundle.name, "hash": bundle.hash, "multiply_adds": bundle.network.multiply_adds},
        "settings": {"seconds": arguments.seconds, "batches": batches, "device": arguments.device},
        "floors": floors or {"impossible": measured.get("impossible")},
        "candidates": candidates,
    }


def run_candidate(job: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """What a candidate's process printed: rows, parity, or `impossible` with the reason, however the process ended."""
    command = [sys.executable, str(HERE / "candidate.py"), json.dumps(job)]
    found: dict[str, Any] = {"rows": []}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
        code, printed, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as error:
        printed = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        code, errors = 0, ""
        found["impossible"] = f"did not end within {timeout_s:g} s"
    for line in printed.splitlines():  # libraries print lines of their own
        values = _json(line)
        if "row" in values:
            found["rows"].append(values["row"])
        else:
            found |= values
    if code and "impossible" not in found:
        last = (errors.strip().splitlines() or ["nothing said"])[-1]
        ended = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        found["impossible"] = f"{ended}: {last}"
    return found


def share_of_floor(spec: NetworkSpec, row: dict[str, Any], measured: dict[str, Any]) -> dict[str, float]:
    """The floors of a row's batch size, and the largest as a share of its median."""
    from floors import least_us

    least = least_us(spec, row["batch"], measured)
    return {**least, "share_of_floor": least["floor_us"] / row["p50_us"]}


def table(result: dict[str, Any]) -> str:
    """The result in lines for a terminal."""
    gpu = result["gpu"] if isinstance(result["gpu"], str) else result["gpu"][0]["name"]
    lines = [f"{result['bundle']['name']} on {gpu}; host copies included"]
    lines.append(f"{'':16}{'batch':>7}{'p50 µs':>12}{'p99 µs':>12}{'frames/s':>14}{'of floor':>10}")
    for name, found in result["candidates"].items():
        for row in found["rows"]:
            part = f"{row['share_of_floor']:.0%}" if "share_of_floor" in row else "-"
            numbers = f"{row['batch']:>7}{row['p50_us']:>12,.1f}{row['p99_us']:>12,.1f}{row['frames_per_s']:>14,.0f}"
            lines.append(f"{name:16}{numbers}{part:>10}")
        if "parity" in found:
            verdict = "agrees" if found["agrees"] else "WRONG"
            lines.append(f"{name:16}{verdict} with the CPU engine: {found['parity']:.2g} (bound {found['bound']:.2g})")
        if "impossible" in found:
            lines.append(f"{name:16}impossible: {found['impossible']}")
    if "impossible" in result["floors"]:
        lines.append(f"{'floors':16}not measured: {result['floors']['impossible']}")
    return "\n".join(lines)


def _short(gpu: Any, device: str) -> str:
    if isinstance(gpu, str) or device == "cpu":
        return "cpu"
    return "".join(c if c.isalnum() else "-" for c in str(gpu[0]["name"]).lower())


def _json(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
