"""/metrics, /healthz and /readyz: a small HTTP server in a process of its own, which reads the daemon's status.

It shares no lock and no interpreter with the hot loop, so a scrape can't delay a frame; and it can still say that the
loop hangs. Loopback only, whatever keys there are: Prometheus's agent, or a proxy with its own keys, runs beside it.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket as plain_socket
import subprocess
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from rtseg.errors import ServeError
from rtseg.serve.monitoring.merge import merge_worker_status
from rtseg.serve.monitoring.prometheus import Metrics, check_installed, exposition, health, readiness
from rtseg.serve.monitoring.shared_status import SharedStatusReader
from rtseg.system.child_process import module_command, module_environment
from rtseg.system.shutdown import ignore_stop_signals
from rtseg.wire.addresses import is_loopback

LOG = logging.getLogger("rtseg.serve")
START_S = 20.0
RESTART_S = 2.0
"""One that ends soon after its start is started again after so long."""
REQUEST_S = 5.0
MOST_CONNECTIONS = 32
"""Each has a thread, and may stay for ever by sending a byte now and then. Beyond that the oldest makes room."""
NICENESS = 10
"""A scrape yields its core to the hot loop."""


class HealthProcess:
    """The server as a child of the daemon. It ends with the daemon, however that ends, for its stdin ends then.

    Where it ends before, `restart_if_ended` starts it again, at the same address.

    address: HOST:PORT on loopback. url: where it serves. Raises ServeError where the address can't be had, RtsegError
    where the package is missing.
    """

    def __init__(self, status_file: Path, address: str) -> None:
        check_installed()
        self._status_file = status_file
        self._host, self._port = _parse(address)
        # Those of this thread as it is now: the loop, which may start it again, has cores of its own later.
        self._cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._start()
        line = self._first_line()
        if not line.startswith("http://"):
            self.close()
            raise ServeError(f"http = {address!r}: {line.strip().removeprefix('failed: ') or 'its process ended'}")
        self.url = line.strip()
        self._port = int(self.url.rpartition(":")[2])

    def restart_if_ended(self) -> None:
        """Start it again where it has ended, without waiting until it serves."""
        code = self._process.poll()
        if code is None or time.monotonic() - self._started_s < RESTART_S:
            return
        assert self._process.stdout is not None
        if not self._process.stdout.closed:  # otherwise that has been said, and starting another one has failed since
            # What it said last; to an end, for nobody else writes there.
            last = self._process.stdout.read().decode(errors="replace").strip().rpartition("\n")[2]
            reason = f" ({last.removeprefix('failed: ')})" if last.startswith("failed: ") else ""
            LOG.error("the process that serves HTTP ended with status %s%s: started again", code, reason)
            self.close()
        with contextlib.suppress(OSError):  # not even a process can be had: the next call tries again
            self._start()

    def _first_line(self) -> str:
        """What it says of its start: its URL, or why it failed."""
        assert self._process.stdout is not None
        # Killed where it says nothing: pipes cannot be waited for with a limit on every system.
        timer = threading.Timer(START_S, self._process.kill)
        timer.start()
        line, is_in_time = self._process.stdout.readline().decode(), timer.is_alive()
        timer.cancel()
        return line if line or is_in_time else "failed: it did not start in time"

    def _start(self) -> None:
        about = [str(self._status_file), self._host, str(self._port), json.dumps(self._cores)]
        self._started_s = time.monotonic()
        self._process = subprocess.Popen(
            module_command("rtseg.serve.monitoring.http_process", *about),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=module_environment(),
        )

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
    allow_reuse_address = os.name == "posix"  # on Windows two servers would share a port then
    status: SharedStatusReader
    _explained_s = -math.inf

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: dict[plain_socket.socket, None] = {}  # open ones, oldest first
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a new connection in a thread; the oldest one ends where there are too many."""
        with self._lock:
            self._connections[request] = None
            oldest = next(iter(self._connections)) if len(self._connections) > MOST_CONNECTIONS else None
            if oldest is not None:
                del self._connections[oldest]
        if oldest is not None:
            with contextlib.suppress(OSError):  # it has just ended by itself
                oldest.shutdown(plain_socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is answered, or that was ended."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that breaks off is nothing to tell of; anything else is a bug, told once a minute."""
        if not isinstance(sys.exc_info()[1], OSError) and time.monotonic() - self._explained_s > 60:
            self._explained_s = time.monotonic()
            traceback.print_exc(limit=20)


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
    status_file, host, port, cores = sys.argv[1:]
    ignore_stop_signals()  # the daemon drains first
    with contextlib.suppress(OSError, AttributeError):  # not to be had on every system
        # The loop's own core is not for a child that the loop has started again. (Its priority is not inherited.)
        os.sched_setaffinity(0, json.loads(cores))
    if hasattr(os, "nice"):
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
