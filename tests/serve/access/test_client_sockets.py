"""What waits at the two sockets is bounded in bytes, and what a client causes in the log and the recording as well."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from rtseg.client import ask_status
from tests.live import HELLO, Child, Raw, daemon

FLOOD_S = 0.8


def resident_mb(child: Child) -> float:
    text = Path(f"/proc/{child.process.pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def flood(raw: Raw, message: dict[str, Any] | bytes, seconds: float = FLOOD_S) -> int:
    """Send as fast as it goes, read what comes; how many were sent."""
    data = message if isinstance(message, bytes) else msgpack.packb(message)
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(50):
            try:
                raw.socket.send(data, zmq.NOBLOCK)
            except zmq.Again:
                break
            sent += 1
        while raw.socket.poll(0):
            raw.socket.recv()
        raw.socket.poll(5)  # answers come meanwhile
    return sent


@pytest.mark.parametrize("workers", [1, 2])
def test_no_client_fills_the_log_or_the_recording(tiny_bundle: Path, tmp_path: Path, workers: int) -> None:
    names = {"animals": ["x" * 190 + str(i) for i in range(20)], "keypoints": ["y" * 190 + str(i) for i in range(50)]}
    with daemon(tiny_bundle, record=str(tmp_path / "recordings"), workers=workers) as child:
        with Raw(child.frames) as owner, Raw(child.frames) as stranger:
            assert owner.ask(HELLO)["type"] == "accepted"
            assert owner.ask(HELLO | {"stream": "another"})["type"] == "accepted"
            n = flood(stranger, HELLO | {"stream": "z", "skeleton": names})  # refused: the model's points are not there
            n += flood(stranger, HELLO)  # refused: the stream is the owner's
            n += flood(owner, HELLO | {"stream": "another"})  # opened anew, again and again
            n += flood(stranger, {"v": 1, "type": "load", "bundle": "/" + "x" * 4000})
            status = ask_status(child.frames, timeout_s=30)
        assert n > 2000
        child.signal(signal.SIGTERM)
        _, err, code = child.rest()
    assert code == 0
    assert len(err) < 500_000 * workers
    assert "more lines like this were left out: hello refused: %s" in err
    assert ("worker 1: " in err) == (workers > 1)
    assert status["recording"]["bytes"] < 1_000_000
    assert status["counters"]["refused hellos"] > 100


def test_a_client_that_asks_and_does_not_read_fills_no_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    with daemon(tiny_bundle, frames=f"ipc://{tmp_path}/frames", capacity=64) as child:
        with Raw(child.frames) as many, Raw(child.frames) as deaf:
            deaf.socket.sndhwm = 10_000
            for i in range(64):
                assert many.ask(HELLO | {"stream": "s" * 190 + str(i)})["type"] == "accepted"
            before_mb = resident_mb(child)
            status = msgpack.packb({"v": 1, "type": "status"})
            for _ in range(4000):  # some 30 kB each
                deaf.socket.send(status)
            most_mb, end = resident_mb(child), time.monotonic() + 3
            while time.monotonic() < end:
                ask_status(child.frames, timeout_s=60)
                most_mb = max(most_mb, resident_mb(child))
        assert most_mb < before_mb + 60  # all of it would be 120
