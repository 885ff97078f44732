"""/metrics, /healthz and /readyz: a small HTTP server in a process of its own, which reads the daemon's status.

It shares no lock and no interpreter with the hot loop, so a scrape can't delay a frame; and it can still say that the
loop hangs. Loopback only, whatever keys there are: Prometheus's agent, or a proxy with its own keys, runs beside it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import rtseg
from rtseg.errors import ServeError
from rtseg.serve.monitoring.merge import merge_worker_status
from rtseg.serve.monitoring.prometheus import Metrics, check_installed, exposition, health, readiness
from rtseg.serve.monitoring.shared_status import SharedStatusReader
from rtseg.system.shutdown import ignore_stop_signals
from rtseg.wire.addresses import is_loopback

START_S = 20.0
REQUEST_S = 5.0
NICENESS = 10
"""A scrape yields its core to the hot loop."""


class HealthProcess:
    """The server as a child of the daemon. It ends with the daemon, however that ends, for its stdin ends then.

    address: HOST:PORT on loopback. url: where it serves. Raises ServeError where the address can't be had, RtsegError
    where the package is missing.
    """

    def __init__(self, status_file: Path, address: str) -> None:
        check_installed()
        host, port = _parse(address)
        # The child must find this very package, and the same extras, from wherever the daemon was started.
        paths = [str(Path(rtseg.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rtseg.serve.monitoring.http_process", str(status_file), host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline().decode() if readable else "failed: it did not start in time"
        if not line.startswith("http://"):
            self.close()
            raise ServeError(f"http = {address!r}: {line.strip().removeprefix('failed: ') or 'its process ended'}")
        self.url = line.strip()

    def close(self) -> None:
        """End the child."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    status: SharedStatusReader


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "rtseg"
    sys_version = ""
    timeout = REQUEST_S

    def do_GET(self) -> None:
        """Answer one of three paths."""
        host = self.headers.get("Host", "localhost").rpartition(":")
        if not is_loopback(host[0] or host[2]):  # DNS rebinding: a web page that gives a name of its own this address
            self._send(403, b"this name is not loopback\n", "text/plain; charset=utf-8")
            return
        path = self.path.partition("?")[0]
        if path not in ("/metrics", "/healthz", "/readyz"):
            self._send(404, b"there are /metrics, /healthz and /readyz\n", "text/plain; charset=utf-8")
            return
        alive_ns, status = self.server.status.read()
        now_ns = time.monotonic_ns()
        status = merge_worker_status(status, now_ns)
        if path == "/metrics":
            text, kind = exposition(Metrics(alive_ns, status, now_ns), self.headers.get("Accept", ""))
            self._send(200, text, kind)
            return
        is_well, fields = (health if path == "/healthz" else readiness)(alive_ns, status, now_ns)
        self._send(200 if is_well else 503, json.dumps(fields).encode() + b"\n", "application/json")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds would fill the log."""

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


def _parse(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535 or not is_loopback(host):
        raise ServeError(f"http = {address!r}: expected HOST:PORT on loopback, e.g. 127.0.0.1:9464 (0 = a free port)")
    return ("127.0.0.1" if host == "localhost" else host.strip("[]")), int(port)


def main() -> None:
    """The child: serve until stdin ends, which it does when the daemon does."""
    status_file, host, port = sys.argv[1:]
    ignore_stop_signals()  # the daemon drains first
    os.nice(NICENESS)
    try:
        server = _Server((host, int(port)), _Handler)
        server.status = SharedStatusReader(status_file)
    except (OSError, ServeError) as error:
        print(f"failed: {error}", flush=True)
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://{host}:{server.server_address[1]}", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
