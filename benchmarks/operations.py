"""The cost of monitoring, loads and keys: `python benchmarks/operations.py --json results/operations.json BUNDLE`.

One stream of 200 frames per second through real daemons, from sending a frame to receiving its answer. The cases take
turns, so that other load on the machine affects all of them alike:

- quiet: nothing else happens;
- scraped: /metrics is requested 20 times a second, two hundred times as often as Prometheus does;
- beside: the same requests to a server of its own, whose status no daemon writes: what the requests alone cost on a
  machine whose cores they share with the daemon and its client;
- loading: a bundle is loaded for another stream, again and again;
- keys: a daemon with keys, so that every message is encrypted and its key looked up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber, ask_load
from rtseg.serve.monitoring.http_process import HealthProcess
from rtseg.serve.monitoring.shared_status import STREAM_COUNTS, SharedStatus
from rtseg.serve.timing.latency import BOUNDS_NS
from rtseg.system.machine import describe_run
from rtseg.wire.keys import ClientKey, KeyStore
from rtseg.wire.messages import PredictionMessage

RATE = 200.0
TURN_S = 3.0
SCRAPES = 20.0


@contextmanager
def daemon(bundle: Path, **settings: Any) -> Iterator[dict[str, Any]]:
    """Run a daemon; its `ready` line."""
    plain = {"frames": "tcp://127.0.0.1:*", "predictions": "tcp://127.0.0.1:*", "engine": "numba", **settings}
    changes = [word for key, value in plain.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "rtseg", "serve", str(bundle), *changes]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline().removeprefix("ready "))
    finally:
        process.terminate()
        process.wait(30)


class TimedStream:
    """A stream to a daemon whose answers are timed."""

    def __init__(self, frames: str, bundle: Path, key: ClientKey | None = None) -> None:
        described = load_bundle(bundle)
        self.shape = (*described.skeleton.shape, 2)
        self.rng = np.random.default_rng(0)
        self.publisher = Publisher(frames, "timed", described.skeleton, described.fps, key=key)
        self.subscriber = Subscriber(self.publisher.served.predictions, "timed", key=key)

    def turn(self, seconds: float) -> list[float]:
        """Latencies of a turn in us; the first tenth is warm-up and not counted."""
        taken = []
        due = time.monotonic()
        for _ in range(int(seconds * RATE)):
            due += 1 / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            points = self.rng.uniform(100, 500, self.shape)
            began = time.perf_counter_ns()
            self.publisher.send(points)
            while not isinstance(self.subscriber.receive(10), PredictionMessage):
                pass
            taken.append((time.perf_counter_ns() - began) / 1e3)
        return taken[len(taken) // 10 :]


@contextmanager
def repeat_meanwhile(work: Callable[[], object], every_s: float) -> Iterator[list[int]]:
    """Call `work` again and again on a thread; the list counts the calls."""
    done, stop = [0], threading.Event()

    def run() -> None:
        while not stop.wait(every_s):
            work()
            done[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@contextmanager
def health_beside() -> Iterator[str]:
    """An HTTP server over a status of the same size that no daemon writes; its URL."""
    shared = SharedStatus()
    try:
        stages = {stage: [0] * (len(BOUNDS_NS) + 1) for stage in ("decode", "step", "publish", "total")}
        streams = {name: [0] * (len(STREAM_COUNTS) + 1) for name in ("timed", "beside")}
        piece = {"started_ns": 0, "capacity": 256, "counters": {"frames": 0}, "latency": stages, "streams": streams}
        shared.write_all(lambda: iter([piece]), time.monotonic_ns())
        process = HealthProcess(shared.path, "127.0.0.1:0")
        try:
            yield process.url
        finally:
            process.close()
    finally:
        shared.close()


@contextmanager
def scraped(url: str) -> Iterator[None]:
    """Request the metrics from a separate process, as Prometheus does."""
    code = (
        "import sys, time, urllib.request\n"
        "while True:\n"
        f"    urllib.request.urlopen({url + '/metrics'!r}).read(); time.sleep({1 / SCRAPES})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        urllib.request.urlopen(url + "/metrics").close()
        yield
    finally:
        process.kill()
        process.wait()


def run(bundle: Path, turns: int) -> dict[str, Any]:
    """Latencies of all cases, measured in turns."""
    taken: dict[str, list[float]] = {"quiet": [], "scraped": [], "beside": [], "loading": [], "keys": []}
    loads = 0
    with tempfile.TemporaryDirectory() as folder:
        store = KeyStore(Path(folder) / "keys")
        key = store.new("bench", ["publish", "subscribe"])
        with (
            daemon(bundle, http="127.0.0.1:0", fresh_s=60.0) as plain,
            daemon(bundle, keys=str(store.folder)) as keyed,
            health_beside() as unrelated,
        ):
            stream, encrypted = TimedStream(plain["frames"], bundle), TimedStream(keyed["frames"], bundle, key)
            described = load_bundle(bundle)
            with Publisher(plain["frames"], "beside", described.skeleton, described.fps) as beside:
                for _ in range(turns):
                    taken["quiet"] += stream.turn(TURN_S)
                    for case, url in (("scraped", plain["http"]), ("beside", unrelated)):
                        with scraped(url):
                            taken[case] += stream.turn(TURN_S)

                    def swap() -> None:
                        ask_load(plain["frames"], bundle.resolve(), stream="beside")

                    with repeat_meanwhile(swap, 0.05) as done:
                        taken["loading"] += stream.turn(TURN_S)
                    loads += done[0]
                    taken["keys"] += encrypted.turn(TURN_S)
                    beside.send(np.ones(stream.shape))
    rows = {case: _row(values) for case, values in taken.items()}
    for row in rows.values():
        row |= {f"{name}_ratio": round(row[name] / rows["quiet"][name], 3) for name in ("p50_us", "p99_us", "p99.9_us")}
    return {"rows": rows, "loads": loads, "rate": RATE, "turn_s": TURN_S, "turns": turns}


def _row(values: list[float]) -> dict[str, float]:
    p50, p99, p999 = np.percentile(values, (50, 99, 99.9))
    return {
        "count": len(values),
        "p50_us": round(float(p50), 1),
        "p99_us": round(float(p99), 1),
        "p99.9_us": round(float(p999), 1),
        "max_us": round(max(values), 1),
    }


def main() -> None:
    """Parse the options, run, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("engines/rats58"))
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    head = {**describe_run(("pyzmq", "prometheus-client", "numba")), "bundle": str(chosen.bundle)}
    text = json.dumps({**head, **run(chosen.bundle, chosen.turns)}, indent=1)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
