"""Hours of stream time as fast as the machine allows: do memory or slow answers grow?

`python benchmarks/soak.py --hours 24 --streams 8 [--bundle engines/rats58]` writes `results/soak.json`. A real daemon
gets one frame of every stream, and the next ones once all are answered, so that the time from receipt to publishing is
work, not waiting. For each hour of stream time: the daemon's resident memory, and percentiles of that time.
"""

from __future__ import annotations

import argparse
import json
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from rtseg.bench.walk import N_FRAMES, walk
from rtseg.bundle.bundle import load_bundle
from rtseg.client import ask_status
from rtseg.errors import RtsegError
from rtseg.system.machine import describe_run, load_average
from rtseg.wire.messages import Hello, frame_message

RESULT = Path(__file__).parent / "results" / "soak.json"
ANSWER_S = 30.0
PACKAGES = ("rtseg", "numpy", "numba", "pyzmq", "msgpack")
MARK = 2**62
"""In place of `seq` and `t_source_ns` in packed frames: as long as any number that is put there."""


def memory_kb(pid: int) -> int:
    """Resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RtsegError(f"process {pid} has no VmRSS: has it ended?")


class Cameras:
    """All streams over one connection, with frames that are packed in advance."""

    def __init__(self, bundle: Path, frames: str, predictions: str, n_streams: int) -> None:
        served = load_bundle(bundle)
        self.names = [f"cage {i:03d}" for i in range(n_streams)]
        self.context = zmq.Context()
        self.sender, self.subscriber = self.context.socket(zmq.DEALER), self.context.socket(zmq.SUB)
        self.subscriber.rcvtimeo = int(ANSWER_S * 1000)
        self.subscriber.subscribe(b"cage")
        self.subscriber.connect(predictions)
        self.sender.connect(frames)
        for name in self.names:
            self.sender.send(msgpack.packb(Hello(name, served.skeleton, served.fps).to_message()))
            answer = msgpack.unpackb(self.sender.recv())
            if answer["type"] != "accepted":
                raise RtsegError(f"{name}: {answer}")
        keypoints, confidence = walk(served)
        self.frames = [
            [
                bytearray(
                    msgpack.packb(frame_message(name, MARK, MARK, keypoints[at].tobytes(), confidence[at].tobytes()))
                )
                for at in ((t + 61 * i) % N_FRAMES for t in range(N_FRAMES))
            ]
            for i, name in enumerate(self.names)
        ]
        first = self.frames[0][0].index(struct.pack(">Q", MARK))
        self.places = first, self.frames[0][0].index(struct.pack(">Q", MARK), first + 8)
        self.number = struct.Struct(">Q")

    def step(self, seq: int, took_ns: Any, t_ns: int) -> None:
        """Send one frame of every stream and wait for all answers; their times inside the daemon into took_ns."""
        for own in self.frames:
            data = own[seq % N_FRAMES]
            for place, value in zip(self.places, (seq, t_ns), strict=True):
                self.number.pack_into(data, place, value)
            self.sender.send(bytes(data))
        for i in range(len(self.names)):
            while True:
                message = msgpack.unpackb(self.subscriber.recv_multipart()[1])
                if "seq" in message and "type" not in message:
                    break
            if message["seq"] != seq:
                raise RtsegError(f"expected answers to frame {seq}, got one to {message['seq']}")
            took_ns[i] = message["t_pub_ns"] - message["t_recv_ns"]


def soak(bundle: Path, hours: float, n_streams: int, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Results with a row for each hour of stream time. keep: called with the results so far after each row."""
    fps = load_bundle(bundle).fps
    with tempfile.TemporaryDirectory(prefix="rtseg-") as folder:
        settings = {"frames": f"ipc://{folder}/f", "predictions": f"ipc://{folder}/p", "capacity": n_streams}
        changes = [text for key, value in settings.items() for text in ("--set", f"{key}={json.dumps(value)}")]
        command = [sys.executable, "-m", "rtseg", "serve", str(bundle), *changes]
        daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert daemon.stdout is not None
            ready = json.loads(daemon.stdout.readline().removeprefix("ready "))
            cameras = Cameras(bundle, ready["frames"], ready["predictions"], n_streams)
            rows = _rows(cameras, daemon.pid, hours, fps, keep)
            counters = ask_status(ready["frames"])["counters"]
            daemon.send_signal(signal.SIGTERM)
            if daemon.wait(30) != 0:
                raise RtsegError(f"the daemon ended with status {daemon.returncode}")
        finally:
            daemon.kill()
            daemon.wait()
    return {"rows": rows, "counters": counters, "fps": fps} | _verdict(rows)


def _rows(
    cameras: Cameras, pid: int, hours: float, fps: float, keep: Callable[[dict[str, Any]], None]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    per_hour = round(3600 * fps)
    seq, total = 0, round(hours * per_hour)
    warm_up = min(per_hour // 4, total // 10)
    while seq < total:
        frames = warm_up if seq == 0 else min(per_hour, total - seq)
        took_ns = np.zeros((frames, len(cameras.names)), np.int64)
        started_s = time.monotonic()
        for t in range(frames):
            cameras.step(seq, took_ns[t], round(seq * 1e9 / fps))
            seq += 1
        wall_s = time.monotonic() - started_s
        p50, p99, p999 = np.percentile(took_ns, (50, 99, 99.9)) / 1e3
        rows.append(
            {
                "stream_hours": seq / per_hour,
                "memory_kb": memory_kb(pid),
                "p50_us": p50,
                "p99_us": p99,
                "p99.9_us": p999,
                "max_us": int(took_ns.max()) / 1e3,
                "frames_per_s": took_ns.size / wall_s,
                "load_average": load_average(),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        keep({"rows": rows, "fps": fps} | _verdict(rows))
    return rows


def _verdict(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth of memory and tail after the first row, which is the warm-up."""
    counted = rows[1:] or rows
    return {
        "memory_growth_kb": counted[-1]["memory_kb"] - rows[0]["memory_kb"],
        "p99_last_over_first": counted[-1]["p99_us"] / counted[0]["p99_us"],
    }


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("engines/rats58"))
    parser.add_argument("--hours", type=float, default=24.0, help="of stream time")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--json", type=Path, default=RESULT)
    chosen = parser.parse_args()
    result = {"kind": "soak", **describe_run(PACKAGES), "bundle": chosen.bundle.name}
    result |= {"hours_asked": chosen.hours, "streams": chosen.streams}  # the rows say how far it came
    chosen.json.parent.mkdir(parents=True, exist_ok=True)

    def keep(found: dict[str, Any]) -> None:
        result.update(found)
        result["machine"]["load_average_after"] = load_average()
        chosen.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    keep(soak(chosen.bundle.absolute(), chosen.hours, chosen.streams, keep))
    growth, drift = result["memory_growth_kb"], result["p99_last_over_first"]
    print(f"memory after warm-up: {growth:+d} kB (aim under 1024); p99 last / first: {drift:.3f} (aim 0.9 to 1.1)")


if __name__ == "__main__":
    main()
