"""What watchers see of several workers: sums, all streams, and a worker that is away."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from rtseg.client.publisher import Publisher
from rtseg.frames.skeleton import MICE7
from rtseg.serve.monitoring.merge import StatusTotals, merge_worker_status
from rtseg.serve.monitoring.shared_status import SharedStatus
from rtseg.serve.workers.worker_protocol import worker_of
from tests.live import TIMEOUT_S, Child, daemon, random_walk

pytest.importorskip("prometheus_client")
NAMES = ["cage2", "cage3", "cage4"]


def get(child: Child, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(child.about["http"] + path, timeout=TIMEOUT_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metrics(child: Child) -> dict[str, float]:
    """Name with labels -> value."""
    status, text = get(child, "/metrics")
    assert status == 200
    lines = [line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#"]
    return {name: float(value) for name, _, value in lines}


def wait_for(child: Child, name: str, value: float) -> dict[str, float]:
    """A status is shared a piece at a time."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while (seen := metrics(child)).get(name) != value:
        assert time.monotonic() < deadline_s, (name, value, seen)
        time.sleep(0.02)
    return seen


def test_all_workers_are_shown_as_one(tiny_bundle: Path) -> None:
    assert {worker_of(name, 2) for name in NAMES} == {0, 1}
    walk = random_walk(60, 380)
    with daemon(tiny_bundle, workers=2, http="127.0.0.1:0", fresh_s=600.0) as child:
        assert json.loads(get(child, "/readyz")[1])["ready"] is True
        publishers = [Publisher(child.frames, name, MICE7, 30.0) for name in NAMES]
        for t in range(60):
            for publisher in publishers:
                publisher.send(walk.keypoints[t], walk.confidence[t])
        seen = wait_for(child, "rtseg_frames_total", 180.0)
        assert seen["rtseg_streams_open"] == 3.0
        assert seen["rtseg_streams_capacity"] == 32.0
        assert all(seen[f'rtseg_stream_frames_total{{stream="{name}"}}'] == 60.0 for name in NAMES)
        assert seen['rtseg_latency_seconds_bucket{le="+Inf",stage="total"}'] == 180.0
        assert seen['rtseg_worker_ready{worker="0"}'] == seen['rtseg_worker_ready{worker="1"}'] == 1.0

        os.kill(child.about["workers"][0], signal.SIGKILL)
        reasons: set[str] = set()
        deadline_s = time.monotonic() + TIMEOUT_S
        while not reasons or get(child, "/readyz")[0] != 200:
            assert time.monotonic() < deadline_s
            assert get(child, "/healthz")[0] == 200  # the front lives
            status, text = get(child, "/readyz")
            if status == 503:
                reasons |= set(json.loads(text)["reasons"])
            assert metrics(child)["rtseg_frames_total"] >= 180.0  # what the dead one had counted stays
        assert reasons == {"worker 0 is being started"}
        seen = wait_for(child, 'rtseg_worker_starts_total{worker="0"}', 2.0)
        assert seen['rtseg_worker_starts_total{worker="1"}'] == 1.0
        assert wait_for(child, "rtseg_streams_open", 3.0)["rtseg_frames_total"] >= 180.0
        for publisher in publishers:
            assert publisher.close()["frames"] == 60
        os.kill(child.process.pid, signal.SIGSTOP)  # a front that hangs is seen as any daemon that does
        while get(child, "/healthz")[0] == 200:
            assert time.monotonic() < deadline_s + TIMEOUT_S
            time.sleep(0.1)
        os.kill(child.process.pid, signal.SIGCONT)


def test_shared_statuses_are_added(tmp_path: Path) -> None:
    front = {"counters": {"frames": 1}, "latency": {}, "capacity": 0, "workers": []}
    assert merge_worker_status(front, 0) is front  # a daemon without workers
    workers: list[dict[str, Any]] = []
    for number in range(3):
        shared = SharedStatus(tmp_path / f"{number}.board")
        piece = {"counters": {"frames": 10 + number}, "latency": {"step": [number, 2]}, "capacity": 4}
        shared.write_all(lambda piece=piece, n=number: iter([piece, {"streams": {f"s{n}": [0]}}]), 10**9 * (number + 1))
        workers.append({"status_file": str(shared.path), "ready": number != 1, "starts": 1})
    workers.append({"status_file": str(tmp_path / "none"), "ready": True, "starts": 1})
    whole = merge_worker_status(front | {"workers": workers}, 7 * 10**9)
    assert whole["counters"] == {"frames": 34}
    assert (whole["latency"], whole["capacity"], sorted(whole["streams"])) == ({"step": [3, 6]}, 12, ["s0", "s1", "s2"])
    assert whole["waiting"] == ["worker 0 has given no sign of life for 6.0 s", "worker 1 is being started"]
    totals = StatusTotals()
    totals.add_last_status(workers[2]["status_file"])
    totals.add_last_status(workers[3]["status_file"])
    assert totals.to_fields({"frames": 1}) == {"counters": {"frames": 13}, "latency": {"step": [2, 2]}}
