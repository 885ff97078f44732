"""The processes of a benchmark and what they say to the one that started them: lines `word {json}`, in an agreed order.

Both ends are here: `start_process` and `BenchProcess` for the parent, `say` and the sockets for the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import zmq

import rtseg
from rtseg.client import QUEUE_MESSAGES
from rtseg.errors import RtsegError

LINE_S = 120.0
"""A process that says nothing for so long has failed; the first start compiles."""
END_S = 10.0
"""How long a process may take to end after SIGTERM."""


class BenchProcess:
    """A running process that says `word {json}` as it gets on."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name, self._process = name, process

    def wait_for(self, word: str, timeout_s: float = LINE_S) -> dict[str, Any]:
        """The values of the next line, which must be this word. Raises RtsegError with what it said instead."""
        out = self._process.stdout
        assert out is not None
        # With a limit: a process that hangs must not hang the benchmark.
        limit = threading.Timer(timeout_s, self._process.kill)
        limit.start()
        line = out.readline()
        limit.cancel()
        if not line.startswith(word + " "):
            self._process.kill()
            last_lines = (line + self._process.communicate()[1]).strip().splitlines()[-3:]
            raise RtsegError(f"bench: the process {self._name!r} did not get to {word!r}: {' | '.join(last_lines)}")
        values: dict[str, Any] = json.loads(line.removeprefix(word))
        return values

    def cpu_s(self) -> float | None:
        """Processor time so far, all threads, in the system's ticks (Linux)."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        # utime and stime, counted after the command's name, which may hold blanks and brackets.
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def go(self) -> None:
        """Send the line that the process waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def start_process(name: str, arguments: Sequence[str], core: int | None) -> Iterator[BenchProcess]:
    """A Python process, on one core if asked; terminated at the end, and killed if that fails."""
    # The child imports this very package, installed or not.
    home = str(Path(rtseg.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    before = os.sched_getaffinity(0) if core is not None else None
    if core is not None:
        # Set here and inherited, rather than set on the child: so the threads that ZeroMQ starts there have it too.
        os.sched_setaffinity(0, {core})
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
    try:
        yield BenchProcess(name, process)
        process.terminate()
        process.communicate(timeout=END_S)
    finally:
        process.kill()
        process.communicate()


def say(word: str, values: dict[str, Any]) -> None:
    """The child's side of `BenchProcess.wait_for`."""
    print(f"{word} {json.dumps(values)}", flush=True)


def open_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """A socket with a client's limits, so that every side of a comparison queues alike."""
    socket: zmq.Socket[bytes] = context.socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = QUEUE_MESSAGES
    return socket


def bound_address(socket: zmq.Socket[bytes]) -> str:
    """Where a socket is bound, with the port that the system chose."""
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))
