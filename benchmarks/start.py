"""How long `rtseg serve` takes to start: until it is ready, and until the first frame is answered.

`python benchmarks/start.py [BUNDLE ...] [--rounds 5] [--json benchmarks/results/start.json]`. The first start compiles
into an empty cache of compiled code, the later ones load from it. For comparison, in turns with the later starts, it
measures the least that they could take: Python alone, and Python that imports numpy, numba and zmq. At the end it
times the dry session of README (`rtseg run engines/demo-experiment.toml --replay simulated`), the first time and
later, and `rtseg --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from result_file import print_result

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber
from rtseg.system.machine import describe_run, load_average
from rtseg.wire.messages import PredictionMessage

FLOORS = {"python": "pass", "python and imports": "import numpy, numba, zmq"}
PACKAGES = ("rtseg", "numpy", "numba", "llvmlite", "pyzmq")


def time_start(bundle: Path, cache: Path) -> tuple[float, float]:
    """Seconds from starting a daemon until it is ready, and until it has answered its first frame."""
    described = load_bundle(bundle)
    points = np.full((*described.skeleton.shape, 2), 100.0, np.float32)
    command = [sys.executable, "-m", "rtseg", "serve", str(bundle), "--engine", "numba"]
    for end in ("frames", "predictions"):
        command += ["--set", f'{end}="tcp://127.0.0.1:*"']
    began = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        ready = time.perf_counter() - began
        addresses = json.loads(line.removeprefix("ready "))
        with (
            Subscriber(addresses["predictions"], "first") as subscriber,
            Publisher(addresses["frames"], "first", described.skeleton, described.fps) as publisher,
        ):
            publisher.send(points)
            while not isinstance(subscriber.receive(10), PredictionMessage):
                pass
        return ready, time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def time_python(*words: str) -> float:
    """Seconds that Python takes with these arguments, from start to end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def time_session(cache: Path, folder: Path) -> float:
    """Seconds that the shipped experiment takes with its simulated recording, from start to page."""
    words = ("run", "engines/demo-experiment.toml", "--replay", "simulated", "--set", f'record="{folder}"')
    began = time.perf_counter()
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, "-m", "rtseg", *words], check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def time_sessions(rounds: int) -> dict[str, float]:
    """Seconds of the first session on a machine, and the median of later ones."""
    with tempfile.TemporaryDirectory() as name:
        first, *later = (time_session(Path(name) / "cache", Path(name) / str(i)) for i in range(1 + rounds))
    return {"first_s": first, "later_s": float(np.median(later)), "count": rounds}


def run(bundle: Path, rounds: int) -> dict[str, Any]:
    """Seconds of the first start of a bundle, and medians of later starts and of the floors."""
    with tempfile.TemporaryDirectory() as folder:
        first = time_start(bundle, Path(folder))
        later: list[tuple[float, float]] = []
        floors: dict[str, list[float]] = {name: [] for name in FLOORS}
        for _ in range(rounds):
            later.append(time_start(bundle, Path(folder)))
            for name, code in FLOORS.items():
                floors[name].append(time_python("-c", code))
    ready, answered = np.median(later, axis=0).tolist()
    return {
        "first_start": {"ready_s": first[0], "first_answer_s": first[1]},
        "later_starts": {"count": rounds, "ready_s": ready, "first_answer_s": answered, "most_s": max(later)[1]},
        "floors_s": {name: float(np.median(values)) for name, values in floors.items()},
    }


def main() -> None:
    """Parse the options, run, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="*", default=[Path("engines/rats58"), Path("engines/mice-sim")])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    result = {"schema": 1, "kind": "start", **describe_run(PACKAGES)}
    result["bundles"] = {load_bundle(path).name: run(path, chosen.rounds) for path in chosen.bundles}
    result["dry_session"] = time_sessions(chosen.rounds)
    helps = [time_python("-m", "rtseg", "--help") for _ in range(chosen.rounds)]
    result |= {"help_s": float(np.median(helps)), "load_average_after": load_average()}
    print_result(result, chosen.json)


if __name__ == "__main__":
    main()
