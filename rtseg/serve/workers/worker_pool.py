"""The worker processes of a front, and its sockets to them: started, watched, and started again.

Knows nothing of streams. A worker that comes back has other addresses than before, so that nothing meant for the dead
one can reach it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, cast

import zmq

from rtseg.config import ServeSettings, WorkerPlace
from rtseg.errors import ServeError
from rtseg.serve.workers.worker_protocol import FRONT_ID, NO_CLIENT, messages

LOG = logging.getLogger("rtseg.serve")
FIRST_S = 120.0
"""A start may compile."""
AWAKE_S = 0.25
AT_ONCE = 64
"""Clients' messages in one to a worker, at most."""
STOP_S = 10.0
"""How long workers may take to drain."""


class Worker:
    """One worker's process. ready: whether it serves; about: what it said then. starts: how often it was started.

    board: of the process that served last, "" = none; ended_board: of the one before. silent_s: since something came
    from it, as the front has been awake to hear it; the front sets it back. refused: what it did not take (`hand_on`);
    the front empties it.
    """

    def __init__(self, place: WorkerPlace, bundle: Path, settings: ServeSettings, folder: Path) -> None:
        self.number, self.ready, self.starts = place.number, False, 0
        self._place, self._bundle, self._settings, self._folder = place, bundle, settings, folder
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.commands: zmq.Socket[bytes] | None = None
        self.topics: zmq.Socket[bytes] | None = None
        self.board = self.ended_board = ""
        self._held: list[tuple[str, bytes, int, bytes]] = []
        self.refused: list[tuple[str, bytes]] = []
        self.start()

    def start(self) -> None:
        """A fresh process; it is of use when `look` says so."""
        if self.starts:
            self._out.close()
        self.hang_up()
        self.ready, self.silent_s = False, 0.0
        self.starts += 1
        self.started_s = time.monotonic()
        self.about: dict[str, Any] = {}
        here = f"ipc://{self._folder}/{self.number}.{self.starts}"
        cores = self._settings.cpus
        mine = replace(
            self._settings,
            frames=here + "f",
            predictions=here + "p",
            workers=1,
            http="",
            keys="",  # the front has seen them
            cpus=cores[self.number % len(cores) :][:1] if cores else (),
        )
        about = {
            "bundle": str(self._bundle),
            "settings": asdict(mine),
            "place": asdict(replace(self._place, is_replacement=self.starts > 1, status_file=self._board())),
        }
        self._addresses = mine.frames, mine.predictions
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rtseg.serve.worker", json.dumps(about)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # The service manager hears from the front alone.
            env={name: value for name, value in os.environ.items() if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")},
        )
        os.set_blocking(self._out.fileno(), False)
        self._said = b""

    def look(self) -> bool:
        """Whether it has just become ready."""
        if self.ready:
            return False
        self._said += self._out.read() or b""
        if b"\n" not in self._said:
            return False
        if not self._said.startswith(b"ready "):
            raise ServeError(f"worker {self.number} said {self._said[:200]!r} where `ready` was expected")
        self.about = json.loads(self._said.partition(b"\n")[0].removeprefix(b"ready "))
        self.commands = self._connect(zmq.DEALER, self._addresses[0])
        self.topics = self._connect(zmq.XSUB, self._addresses[1])
        self.ready, self.silent_s = True, 0.0
        if self.ended_board:  # the one that ended last is still read by whoever has not heard of the new one
            Path(self.ended_board).unlink(missing_ok=True)
        self.ended_board, self.board = self.board, self._board()
        return True

    def hold(self, stream: str, owner: bytes, now_ns: int, data: bytes) -> None:
        """A client's message for it, which leaves with the next `hand_on`, or before whatever else it is sent."""
        self._held.append((stream, owner, now_ns, data))

    def hand_on(self) -> None:
        """Send what is held; what it does not take is `refused`: stream and owner of each message."""
        held, self._held = self._held, []
        for start in range(0, len(held), AT_ONCE):
            some = held[start : start + AT_ONCE]
            if not self._send([NO_CLIENT, messages([(owner, now_ns, data) for _, owner, now_ns, data in some])]):
                self.refused += [(stream, owner) for stream, owner, _, _ in some]

    def send(self, parts: list[bytes]) -> bool:
        """Hand it something, without waiting; whether it took it."""
        self.hand_on()
        return self._send(parts)

    def _send(self, parts: list[bytes]) -> bool:
        if self.commands is None:
            return False
        try:
            self.commands.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def serve_from_now(self, bundle: str, model: str) -> None:
        """What it serves, and the one that is started in its place. model: the bundle's hash."""
        self._bundle = Path(bundle)
        self.about |= {"model": model}

    def hangs(self, passed_s: float) -> bool:
        """Whether it has been silent for too long. passed_s: since this was asked last.

        A front that was held up itself can't blame its workers: of a longer while only AWAKE_S count.
        """
        self.silent_s += min(passed_s, AWAKE_S)
        limit_s = self._settings.worker_silence_s if self.ready else FIRST_S
        if self.silent_s < limit_s:
            return False
        LOG.error("worker %d has given no sign of life for %.1f s: it is killed", self.number, self.silent_s)
        self.silent_s = 0.0
        return True

    @property
    def dead(self) -> bool:
        """Whether its process has ended."""
        return self.process.poll() is not None

    def hang_up(self) -> None:
        """Close the sockets to it."""
        for socket in (self.commands, self.topics):
            if socket is not None:
                socket.close(linger=0)
        self.commands = self.topics = None
        self._held.clear()  # the front keeps the frames, and what was asked

    def end(self) -> None:
        """Make sure that it has ended."""
        if not self.dead:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self.hang_up()

    def _board(self) -> str:
        """Of the process started last."""
        return f"{self._folder}/{self.number}.{self.starts}.board" if self._settings.http else ""

    @property
    def _out(self) -> IO[bytes]:
        return cast(IO[bytes], self.process.stdout)

    def _connect(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        if kind == zmq.DEALER:
            socket.setsockopt(zmq.ROUTING_ID, FRONT_ID)
        socket.connect(address)
        return socket


class WorkerPool:
    """All workers of a front. Raises ServeError where one can't even start."""

    def __init__(self, bundle: Path, settings: ServeSettings, predictions: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rtseg-workers-")
        folder = Path(self._folder.name)
        run, since_ns, every_s = secrets.token_hex(8), time.time_ns(), settings.worker_snapshot_s
        self.workers: list[Worker] = []
        try:
            for number in range(settings.workers):
                place = WorkerPlace(predictions, every_s, os.getpid(), number, run, since_ns, False, "")
                self.workers.append(Worker(place, bundle, settings, folder))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all of them; those that were told to and have not are killed."""
        for worker in self.workers:
            worker.end()
        self._folder.cleanup()
