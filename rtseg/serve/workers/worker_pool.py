"""The worker processes of a front, and its sockets to them: started, watched, and started again.

Knows nothing of streams. A worker that is started again has other addresses than before, so that nothing meant for the
dead one can reach it, and nothing late of the dead one is taken for the new one's.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import zmq

import rtseg
from rtseg.config import ServeSettings, WorkerPlace
from rtseg.errors import ServeError
from rtseg.serve.recording.resume import finish_files
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.workers.worker_protocol import (
    FRONT_ID,
    NO_CLIENT,
    NOT_CLOSED,
    ClientMessage,
    ClientMessages,
    FromFront,
    Stop,
    encode,
)
from rtseg.system.capabilities import why_no_workers
from rtseg.system.child_process import module_command, module_environment

LOG = logging.getLogger("rtseg.serve")
FIRST_S = 120.0
"""How long a worker may take to serve: it may have to compile."""
AWAKE_S = 0.25
"""Of the time between two looks at a worker, at most so much counts as its silence."""
AT_ONCE = 64
"""Clients' messages in one to a worker, at most."""
TROUBLE_EVERY_NS = 10_000_000_000
"""That a worker cannot be started or connected to is logged this often."""
STOP_S = 10.0
"""How long workers may take to end after the time to drain."""


class Undelivered(NamedTuple):
    """A client's message that a worker did not take: the stream that it is about, and the client."""

    stream: str
    client: bytes


class Worker:
    """The front's end of one worker, whose process may be started several times.

    ready: whether it serves. is_told_to_stop: whether this process is to drain and end. announced: the fields of its
    `ready` line, {} before. starts: how often it was started. started_s: when that was tried last; has_process: whether
    it could be. dealer: the socket to it, None while it does not serve. status_file: where
    the process that served last shares its status, "" = nowhere; ended_status_file: the same of the process before.
    recordings: the files that its processes have recorded into.
    """

    def __init__(self, place: WorkerPlace, bundle: Path, settings: ServeSettings, folder: Path) -> None:
        self.number, self.ready, self.starts = place.number, False, 0
        self._place, self._bundle, self._settings, self._folder = place, bundle, settings, folder
        self._model = ""  # what it serves, "" before it has served
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.dealer: zmq.Socket[bytes] | None = None
        self.status_file = self.ended_status_file = ""
        self.recordings: list[Path] = []
        self._held: list[ClientMessage] = []
        self._held_streams: list[str] = []  # of each held message
        self._undelivered: list[Undelivered] = []
        self._trouble = Periodic(TROUBLE_EVERY_NS)
        self.start()
        if not self.has_process:
            raise ServeError(self.problem)

    def start(self) -> None:
        """Start a fresh process; it serves once `check_ready` says so.

        Where the system grants none (file descriptors, memory), that is logged, and `has_process` is False: to be
        called again after a while.
        """
        if self.starts:
            self._out.close()
        self.disconnect()
        self.ready, self.is_told_to_stop, self._silent_s = False, False, 0.0
        self.started_s = time.monotonic()
        self.announced: dict[str, Any] = {}
        # The number of starts is part of the addresses: see above.
        address = f"ipc://{self._folder}/{self.number}.{self.starts + 1}"
        cores = self._settings.cpus
        settings = replace(
            self._settings,
            frames=address + "f",
            predictions=address + "p",
            workers=1,
            http="",  # the front's server shows its workers' status as well
            keys="",  # the front has checked them
            cpus=cores[self.number % len(cores) :][:1] if cores else (),
        )
        place = replace(self._place, is_replacement=self.starts > 0, status_file=self._new_status_file(self.starts + 1))
        argument: dict[str, Any] = {"bundle": str(self._bundle), "settings": asdict(settings), "place": asdict(place)}
        argument["log_level"] = LOG.getEffectiveLevel()
        self._address = settings.frames
        command = module_command("rtseg.serve.worker", json.dumps(argument))
        # The service manager hears from the front alone.
        env = {
            name: value
            for name, value in module_environment().items()
            if name not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")
        }
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=env)
        except OSError as error:
            self.has_process, self.problem = False, f"worker {self.number} cannot be started: {error}"
            if self._trouble.restart_if_due(time.monotonic_ns()):
                LOG.error("%s; tried again until it can", self.problem)
            return
        self.has_process, self.starts = True, self.starts + 1
        os.set_blocking(self._out.fileno(), False)  # the front looks for the `ready` line between two messages
        self._output = b""

    def check_ready(self) -> bool:
        """Whether it has begun to serve since the last call; its socket is connected then."""
        if self.ready:
            return False
        self._output += self._out.read() or b""
        if b"\n" not in self._output:
            return False
        if not self._output.startswith(b"ready "):
            raise ServeError(f"worker {self.number} said {self._output[:200]!r} where `ready` was expected")
        announced = json.loads(self._output.partition(b"\n")[0].removeprefix(b"ready "))
        if self._model not in ("", announced["model"]):
            # Its streams would be answered by a model that nobody has chosen, and that the other workers have not.
            self.process.kill()
            self._output = b""
            if self._trouble.restart_if_due(time.monotonic_ns()):
                LOG.error(
                    "worker %d: %s holds model %s by now, and %s is served: its streams wait; put that bundle back "
                    "(tried again until it is there), or start the daemon again",
                    *(self.number, self._bundle, announced["model"][:12], self._model[:12]),
                )
            return False
        try:
            self.dealer = self._connect()
        except zmq.ZMQError as error:
            self.disconnect()
            if self._trouble.restart_if_due(time.monotonic_ns()):
                LOG.error("worker %d cannot be connected to: %s; tried again until it can", self.number, error)
            return False
        self.announced, self._model = announced, announced["model"]
        self.recordings += [Path(announced["recording"])] if announced["recording"] else []
        self.ready, self._silent_s = True, 0.0
        # The status of the process that ended last stays until here: it is read by whoever has not seen the new one.
        if self.ended_status_file:
            Path(self.ended_status_file).unlink(missing_ok=True)
        self.ended_status_file, self.status_file = self.status_file, self._new_status_file(self.starts)
        return True

    def hold_message(self, stream: str, client: bytes, t_recv_ns: int, data: bytes) -> None:
        """Take a client's message for it, which leaves with `send_held`, or before whatever else it is sent."""
        self._held.append((client, t_recv_ns, data))
        self._held_streams.append(stream)

    def send_held(self) -> None:
        """Send what is held, without waiting."""
        held, streams, self._held, self._held_streams = self._held, self._held_streams, [], []
        for start in range(0, len(held), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            if not self._send(encode(ClientMessages(held[part]))):
                self._undelivered += [
                    Undelivered(stream, client)
                    for stream, (client, _, _) in zip(streams[part], held[part], strict=True)
                ]

    def take_undelivered(self) -> list[Undelivered]:
        """The messages that it has not taken since the last call."""
        undelivered, self._undelivered = self._undelivered, []
        return undelivered

    def tell(self, message: FromFront, *, wait: bool = False) -> bool:
        """Send it a message of the front's own; whether it took it. wait: until there is room for it."""
        # Held messages first: what the front says stands among the frames in the order in which they came.
        self.send_held()
        return self._send(encode(message), 0 if wait else zmq.NOBLOCK)

    def tell_to_stop(self, drain_s: float) -> None:
        """Let it drain, for so long at most, and end; to be called again where it has no room for the message."""
        self.is_told_to_stop = self.tell(Stop(max(0.0, drain_s)))

    def set_bundle(self, bundle: str, model: str) -> None:
        """What it serves from now on, as does the process that is started in its place. model: the bundle's hash."""
        self._bundle, self._model = Path(bundle), model
        self.announced |= {"model": model}

    def reset_silence(self) -> None:
        """Something has come from it."""
        self._silent_s = 0.0

    def add_silence(self, passed_s: float) -> bool:
        """Nothing has come from it for this time more; whether that is too long, so that it hangs.

        A front that was held up itself could not hear its workers: of a longer time only AWAKE_S count.
        """
        self._silent_s += min(passed_s, AWAKE_S)
        limit_s = self._settings.worker_silence_s if self.ready else FIRST_S
        if self._silent_s < limit_s:
            return False
        LOG.error("worker %d has given no sign of life for %.1f s: it is killed", self.number, self._silent_s)
        self._silent_s = 0.0
        return True

    @property
    def has_ended(self) -> bool:
        """Whether its process has."""
        return self.process.poll() is not None

    @property
    def has_stopped(self) -> bool:
        """Whether it has ended as it was told, all its streams answered."""
        return self.is_told_to_stop and self.process.poll() in (0, NOT_CLOSED)

    def disconnect(self) -> None:
        """Close the socket to it and forget what is held: the front keeps frames and requests elsewhere."""
        if self.dealer is not None:
            self.dealer.close(linger=0)
        self.dealer = None
        self._held.clear()
        self._held_streams.clear()

    def end(self) -> None:
        """Make sure that it has ended."""
        if not self.has_ended:
            self.process.kill()
            self.process.wait()
        self._out.close()
        self.disconnect()

    def _send(self, data: bytes, flags: int = zmq.NOBLOCK) -> bool:
        if self.dealer is None:
            return False
        try:
            # A full queue is a worker that hangs or is far too slow: the others must not wait for it.
            self.dealer.send_multipart([NO_CLIENT, data], flags)
        except zmq.Again:
            return False
        return True

    def _new_status_file(self, start: int) -> str:
        """Of its process of this number, counted from 1."""
        return f"{self._folder}/{self.number}.{start}.board" if self._settings.http else ""

    @property
    def _out(self) -> IO[bytes]:
        return cast(IO[bytes], self.process.stdout)

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        socket.setsockopt(zmq.ROUTING_ID, FRONT_ID)
        socket.connect(self._address)
        return socket


class WorkerPool:
    """All workers of a front. predictions: the front's address. Raises ServeError where one can't even start."""

    def __init__(self, bundle: Path, settings: ServeSettings, predictions: str) -> None:
        if reason := why_no_workers():
            raise ServeError(f"workers = {settings.workers}: {reason}")
        self._folder = tempfile.TemporaryDirectory(prefix="rtseg-workers-")
        run_id = secrets.token_hex(8)
        self.workers: list[Worker] = []
        try:
            for number in range(settings.workers):
                place = WorkerPlace(
                    predictions=predictions,
                    snapshot_s=settings.worker_snapshot_s,
                    front_pid=os.getpid(),
                    number=number,
                    run_id=run_id,
                    is_replacement=False,
                    status_file="",
                )
                self.workers.append(Worker(place, bundle, settings, Path(self._folder.name)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all of them; those that were told to stop and have not are killed."""
        for worker in self.workers:
            worker.end()
        self._folder.cleanup()


def unfinished_recordings(workers: Sequence[Worker]) -> list[str]:
    """The files of these workers, which have all ended, that are not whole.

    Those of workers that could not close theirs, and those that the writer of one that was killed has left: these are
    finished here, where they can be.
    """
    told = [path for worker in workers if worker.process.returncode == NOT_CLOSED for path in worker.recordings[-1:]]
    others = [path for worker in workers for path in worker.recordings if path not in told and path.exists()]
    return [str(path) for path in told + finish_files(others)]


def worker_fields(workers: Sequence[Worker]) -> dict[str, Any]:
    """For the shared status: which workers there are, and what is the same of all."""
    served = next((worker.announced for worker in workers if worker.announced), {})
    return {
        "model": served.get("model", ""),
        "engine": served.get("engine", ""),
        "version": rtseg.__version__,
        "capacity": 0,
        "ready": True,
        "streams": {},
        "workers": [{"ready": w.ready, "starts": w.starts, "status_file": w.status_file} for w in workers],
    }
