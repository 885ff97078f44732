"""The daemons of two checkouts beside each other: is the newer one slower?

`python benchmarks/checkouts.py OLDER NEWER [--cameras 300] [--rounds 1000] [--json FILE]`, where each is the root of a
checkout with its own `.venv`. Both daemons run all the time and share a core; the client has another one. Single
frames and bursts of all cameras go to one daemon and then to the other, in random order, each answered before the next
is sent. So both see the same speed of the machine and the same other load, to within some milliseconds, and what is
compared are pairs; separate runs of `serve.py`, minutes apart, differ by ten percent on a shared machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from serve_process import open_sender, packed_frames

from rtseg.bundle.bundle import load_bundle
from rtseg.system.files import write_json_atomically
from rtseg.system.machine import describe_run, load_average

PAUSE_S = 0.005
"""Between two sendings, so that a daemon sleeps before each as it does behind a camera."""
ANSWER_S = 5.0
RESAMPLES = 2000
PACKAGES = ("rtseg", "numpy", "numba", "pyzmq", "msgpack")


class ServedCheckout:
    """The daemon of a checkout, and a client's sockets to it."""

    def __init__(self, stack: contextlib.ExitStack, root: Path, bundle: str, cameras: int) -> None:
        command = [str(root / ".venv/bin/python"), "-m", "rtseg", "serve", str(root / bundle)]
        settings = {"frames": "tcp://127.0.0.1:*", "predictions": "tcp://127.0.0.1:*", "capacity": cameras}
        for key, value in {**settings, "max_batch": 64}.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        stack.callback(process.communicate)
        stack.callback(process.terminate)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise SystemExit(f"{root}: the daemon said {line!r} where `ready` was expected")
        addresses = json.loads(line.removeprefix("ready"))
        context = stack.enter_context(zmq.Context())
        self._hear = context.socket(zmq.SUB)
        self._hear.linger = 0
        self._hear.subscribe(b"cage")
        self._hear.rcvtimeo = int(ANSWER_S * 1000)
        self._hear.connect(addresses["predictions"])
        stack.callback(context.destroy, 0)
        served = load_bundle(root / bundle)
        side = {"kind": "daemon", "frames": addresses["frames"]}
        self._send = open_sender(context, side, served, packed_frames(served, cameras), cameras)
        self._seq = 0

    def time_burst_ns(self, cameras: int) -> int:
        """From before the first frame of a burst until its last answer is here."""
        start_ns = time.perf_counter_ns()
        for camera in range(cameras):
            self._send(camera, self._seq)
        waiting = cameras
        while waiting:
            self._hear.recv()
            waiting -= self._hear.recv()[0] == 0x8C  # a prediction is a map of twelve fields; events have fewer
        self._seq += 1
        return time.perf_counter_ns() - start_ns


def measure(older: ServedCheckout, newer: ServedCheckout, cameras: int, rounds: int) -> NDArray[np.float64]:
    """(rounds, 2) microseconds of older and newer. All streams are stepped each round, so that none goes stale."""
    taken = np.zeros((rounds, 2))
    choose = random.Random(0)
    for r in range(rounds):
        sides = [(0, older), (1, newer)]
        choose.shuffle(sides)
        for at, side in sides:
            time.sleep(PAUSE_S)
            taken[r, at] = side.time_burst_ns(cameras) / 1e3
    return taken


def summary(taken: NDArray[np.float64]) -> dict[str, Any]:
    """p50 and p99 of both, their ratio newer / older, and a 95 % bootstrap interval of that ratio over rounds."""
    resamples = np.random.default_rng(0).integers(0, len(taken), (RESAMPLES, len(taken)))
    result: dict[str, Any] = {"rounds": len(taken)}
    for name, q in (("p50", 50), ("p99", 99)):
        older, newer = np.percentile(taken, q, axis=0)
        values = np.percentile(taken[resamples], q, axis=1)
        low, high = np.percentile(values[:, 1] / values[:, 0], (2.5, 97.5))
        result[name] = {"older_us": older, "newer_us": newer, "ratio": newer / older, "interval": [low, high]}
    return result


def main() -> None:
    """Measure one camera alone, then bursts of all; print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("older", type=Path)
    parser.add_argument("newer", type=Path)
    parser.add_argument("--bundle", default="engines/rats58")
    parser.add_argument("--cameras", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    roots = (asked.older, asked.newer)
    cores = sorted(os.sched_getaffinity(0))
    run = describe_run(PACKAGES)
    parts: dict[str, Any] = {}
    for name, cameras in (("one camera", 1), (f"{asked.cameras} cameras at once", asked.cameras)):
        with contextlib.ExitStack() as stack:
            os.sched_setaffinity(0, cores[:1])  # inherited by the daemons
            served = [ServedCheckout(stack, root.absolute(), asked.bundle, cameras) for root in roots]
            os.sched_setaffinity(0, cores[1:] or cores)
            measure(*served, cameras, max(asked.rounds // 10, 50))  # warm-up
            parts[name] = summary(measure(*served, cameras, asked.rounds if cameras == 1 else asked.rounds // 4))
        for q in ("p50", "p99"):
            row = parts[name][q]
            low, high = row["interval"]
            times = f"{row['older_us']:8.0f} us -> {row['newer_us']:8.0f} us"
            print(f"{name}, {q}: {times}, ratio {row['ratio']:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    head = ["git", "rev-parse", "HEAD"]
    commits = [subprocess.run(head, cwd=r, capture_output=True, text=True, check=True).stdout.strip() for r in roots]
    if asked.json is not None:
        run["machine"]["load_average_after"] = load_average()
        write_json_atomically(asked.json, {**run, "bundle": asked.bundle, "commits": commits, "parts": parts})


if __name__ == "__main__":
    main()
