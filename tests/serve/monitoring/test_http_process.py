"""/metrics, /healthz and /readyz of a daemon that runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket as plain_socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import pytest

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7
from rtseg.serve.monitoring import http_process
from rtseg.serve.monitoring.http_process import MOST_CONNECTIONS, HealthProcess
from rtseg.serve.monitoring.shared_status import SharedStatus
from tests.live import HELLO, REPO, TIMEOUT_S, Child, Raw, children_of, daemon, no_descriptor_left, random_walk

ASKS_AT_THE_READY_LINE = """
import json, os, signal, sys, urllib.request
from pathlib import Path
from rtseg.config import ServeSettings
from rtseg.inference.classifier import load
from rtseg.serve.daemon import serve
from rtseg.serve.front import serve_with_workers

def ask(line):
    kind, _, about = line.partition(" ")
    if kind == "ready":
        print(urllib.request.urlopen(json.loads(about)["http"] + "/readyz").read().decode(), flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

bundle, workers = Path(sys.argv[1]), int(sys.argv[2])
free = "tcp://127.0.0.1:*"
settings = ServeSettings(frames=free, predictions=free, http="127.0.0.1:0", workers=workers)
if workers > 1:
    serve_with_workers(bundle, settings, ask)
else:
    serve(load(bundle, "numba", settings.slots), settings, ask)
"""


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, http="127.0.0.1:0", fresh_s=0.5) as child:
        yield child


def get(child: Child, path: str, **headers: str) -> tuple[int, str]:
    try:
        asked = urllib.request.Request(child.about["http"] + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_for_ever(child: Child) -> None:
    while True:
        get(child, "/healthz")


def until(child: Child, path: str, wanted: str) -> tuple[int, str]:
    """What the path says once it says this: the shared status follows the loop by a fraction of a second."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status, text = get(child, path)
        if wanted in text:
            return status, text
    raise AssertionError(f"{path} never said {wanted!r}, but {text}")


@pytest.mark.parametrize("workers", [1, 2])
def test_ready_from_the_ready_line_on(tiny_bundle: Path, workers: int) -> None:
    command = [sys.executable, "-c", ASKS_AT_THE_READY_LINE, str(tiny_bundle), str(workers)]
    asked = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=2 * TIMEOUT_S, check=False)
    assert asked.returncode == 0, asked.stderr  # a 503 is an error of urllib's
    assert json.loads(asked.stdout)["ready"] is True


def test_metrics_count_what_was_served(child: Child) -> None:
    walk = random_walk(30, 1)
    with (
        Publisher(child.frames, "counted", MICE7, 30.0) as publisher,
        Subscriber(child.predictions, "counted", timeout_s=30) as subscriber,
    ):
        before = ask_status(child.frames)["counters"].get("frames", 0)
        for t in range(30):
            publisher.send(walk.keypoints[t])
            next(iter(subscriber))
        until(child, "/metrics", f"rtseg_frames_total {before + 30:.1f}")  # its pieces are not of one moment
        until(child, "/metrics", f'le="+Inf",stage="total"}} {before + 30:.1f}')
        status, text = until(child, "/metrics", 'rtseg_stream_frames_total{stream="counted"} 30.0')
        assert status == 200
        lines = text.splitlines()
        model = child.about["model"]
        assert any(line.startswith("rtseg_info{") and f'model="{model}"' in line for line in lines)
        assert f"rtseg_frames_total {before + 30:.1f}" in lines
        assert "rtseg_streams_open 1.0" in lines
        assert f'rtseg_latency_seconds_bucket{{le="+Inf",stage="total"}} {before + 30:.1f}' in lines
        buckets = [
            float(s.split()[-1]) for s in lines if s.startswith("rtseg_latency_seconds_bucket") and '"step"' in s
        ]
        assert buckets == sorted(buckets)
        assert len(buckets) == 25
    status, openmetrics = get(child, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert openmetrics.endswith("# EOF\n")


def test_ready_says_which_input_is_stale(child: Child) -> None:
    assert until(child, "/readyz", '"ready": true')[0] == 200
    assert get(child, "/healthz")[0] == 200
    with Raw(child.frames) as raw:
        assert raw.ask(HELLO | {"stream": "silent"})["type"] == "accepted"
        status, text = until(child, "/readyz", "silent")
        assert status == 503
        assert json.loads(text)["stale"] == ["silent"]
        assert "no frame for more than 0.5 s from 1 of 1 streams" in text
        assert raw.ask({"v": 1, "type": "bye", "stream": "silent"})["type"] == "goodbye"
    assert until(child, "/readyz", '"ready": true')[0] == 200


def test_other_paths_other_names_and_other_methods(child: Child) -> None:
    assert get(child, "/")[0] == 404
    assert get(child, "/healthz", Host="evil.example")[0] == 403
    assert get(child, "/healthz", Host="localhost:9464")[0] == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(child.about["http"] + "/metrics", data=b"x", timeout=30)
    with refused.value:
        assert refused.value.code == 501


def test_connections_without_a_request_keep_nobody_out(child: Child) -> None:
    port = int(child.about["http"].rpartition(":")[2])
    with contextlib.ExitStack() as idle:
        first, *_ = [
            idle.enter_context(plain_socket.create_connection(("127.0.0.1", port), TIMEOUT_S))
            for _ in range(2 * MOST_CONNECTIONS)
        ]
        assert get(child, "/healthz")[0] == 200
        assert first.recv(1) == b""  # it has made room, long before its time was over


def test_a_loop_that_hangs_is_seen_and_the_server_goes_with_the_daemon(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, http="127.0.0.1:0") as child:
        assert until(child, "/readyz", '"ready": true')[0] == 200
        child.signal(signal.SIGSTOP)
        status, _ = until(child, "/healthz", "no sign of life from the daemon's loop for")
        assert status == 503
        child.signal(signal.SIGCONT)
        assert until(child, "/healthz", '"alive": true')[0] == 200
        child.signal(signal.SIGKILL)
        child.process.wait(30)
        with pytest.raises((OSError, HTTPException)):
            ask_for_ever(child)


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "9464", "127.0.0.1:port", "example.org:1", "127.0.0.1:99999"])
def test_http_is_for_loopback_only(tmp_path: Path, address: str) -> None:
    with pytest.raises(ServeError, match=f"http = {address!r}: expected HOST:PORT on loopback"):
        HealthProcess(tmp_path / "status", address)


def test_an_http_port_in_use(tiny_bundle: Path) -> None:
    with plain_socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        out, err, code = Child(tiny_bundle, http=f"127.0.0.1:{taken.getsockname()[1]}").rest()
    assert (code, out) == (3, "")
    assert "Address already in use" in err


def test_it_is_started_again_and_says_nothing_of_connections_that_break_off(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, http="127.0.0.1:0") as child:
        assert until(child, "/readyz", '"ready": true')[0] == 200
        port = int(child.about["http"].rpartition(":")[2])
        for sent in (
            b"",
            b"GET /metrics HTTP/1.1\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
            b"\xff" * 99,
        ):
            for _ in range(5):
                with plain_socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(sent)
                    # Closed like this it is reset.
                    connection.setsockopt(plain_socket.SOL_SOCKET, plain_socket.SO_LINGER, struct.pack("ii", 1, 0))
        server = next(pid for pid in children_of(child.process.pid) if b"http_process" in command_of(pid))
        os.kill(server, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while True:
            try:
                assert get(child, "/readyz")[0] == 200
                break
            except (OSError, HTTPException):
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert server not in children_of(child.process.pid)  # nor is it left as a zombie
        child.signal(signal.SIGTERM)
        _, err, code = child.rest()
    assert code == 0
    assert "Traceback" not in err
    assert "the process that serves HTTP ended with status -9: started again" in err


def test_where_no_descriptor_is_left_it_is_started_again_once_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(http_process, "RESTART_S", 0.0)
    shared = SharedStatus(tmp_path / "status")
    with contextlib.closing(shared), contextlib.closing(HealthProcess(shared.path, "127.0.0.1:0")) as server:
        (pid,) = (pid for pid in children_of(os.getpid()) if b"http_process" in command_of(pid))
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with no_descriptor_left():
            for _ in range(3):
                server.restart_if_ended()
        server.restart_if_ended()
        deadline, port = time.monotonic() + TIMEOUT_S, int(server.url.rpartition(":")[2])
        while True:
            try:
                plain_socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert caplog.text.count("the process that serves HTTP ended with status -9") == 1


def command_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
