"""The front of several workers: one address for clients, streams spread by a hash of their names, nothing lost.

Hands messages on and looks into them only to know their stream. What a worker would have to know to go on where another
one died, the front has (`kept`). A worker that comes back gets it, steps what it has to step again, and what was
published before is not published twice.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

import rtseg
from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.serve.monitoring.merge import StatusTotals
from rtseg.serve.monitoring.monitor import Monitor
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.resume import finish_recordings
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.bundle_rollout import BundleRollout
from rtseg.serve.workers.front_sockets import FrontSockets, all_of
from rtseg.serve.workers.pending_status import PendingStatus
from rtseg.serve.workers.request_router import RequestRouter
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.stream_owners import REVOKED, StreamOwners
from rtseg.serve.workers.subscriptions import Subscriptions
from rtseg.serve.workers.worker_pool import FIRST_S, STOP_S, Worker, WorkerPool
from rtseg.system.shutdown import DRAIN_S, QUIET_MS, print_line, stopped_by_signals

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 20
LOOK_NS = 5_000_000
RETRY_S = 1.0
"""A worker that ends before it serves is tried again after so long."""


class Front:
    """Binds the clients' addresses and starts the workers. Raises ServeError where it can't."""

    def __init__(self, bundle: Path, settings: ServeSettings) -> None:
        self._settings = settings
        self._stopping = False
        self._backups = StreamBackups(settings)
        self._pending_status = PendingStatus()
        self._gauge, self._past = LoopLoad(settings.max_load), StatusTotals()
        self._worker_pool: WorkerPool | None = None
        self._monitor: Monitor | None = None
        self._sockets: FrontSockets | None = None
        try:
            self._sockets = doors = FrontSockets(settings)
            self.frames, self.predictions = doors.frames, doors.predictions
            self._monitor = Monitor(settings, self._pieces)
            if settings.record and settings.resume:
                finish_recordings(Path(settings.record), time.time_ns() - int(settings.idle_timeout_s * 1e9))
            self._worker_pool = WorkerPool(bundle, settings, self.predictions)
        except BaseException:
            self.close()
            raise
        self._stream_owners, self._counted = StreamOwners(doors.guard), doors.refusals
        self._router, self._xpub = doors.router, doors.xpub
        self._outlet = Outlet(self._router, self._xpub)
        self._subscriptions = Subscriptions(self.workers, self._outlet, self._backups)
        self._rollout = BundleRollout(self.workers, self._outlet, self._backups, self._subscriptions.serve)
        parts = self._outlet, self._backups, self._pending_status, self._stream_owners, self._gauge, self._rollout
        self._clients = RequestRouter(settings, self.workers, *parts, self.stop)
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)
        self._looked_ns, self._started_ns = 0, time.monotonic_ns()

    @property
    def workers(self) -> list[Worker]:
        """By their numbers."""
        return [] if self._worker_pool is None else self._worker_pool.workers

    def wait_ready(self) -> None:
        """Until all workers serve. Raises ServeError where one ends or does not get there."""
        deadline = time.monotonic() + FIRST_S
        while not all(worker.ready for worker in self.workers):
            for worker in self.workers:
                if worker.look():
                    self._connected(worker)
                elif worker.dead:
                    raise ServeError(f"worker {worker.number} ended at once, with status {worker.process.returncode}")
            if time.monotonic() > deadline:
                raise ServeError(f"the workers did not get ready within {FIRST_S:g} s")
            if self._stopping:
                return
            time.sleep(POLL_MS / 1000)
        if self._sockets is not None:
            self._sockets.warm_up()

    def run(self) -> None:
        """Serve until `stop`, then let the workers drain and tell everybody."""
        monitor = self._monitor
        assert monitor is not None
        self._started_ns = time.monotonic_ns()
        monitor.announce_ready(self._started_ns, f"serving with {len(self.workers)} workers at {self.frames}")
        while not self._stopping:
            self._turn(POLL_MS)
            self._look_around(monitor)
        monitor.announce_stopping(time.monotonic_ns())
        deadline = time.monotonic() + DRAIN_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline:
            pass
        for worker in self.workers:
            if not worker.send([worker_protocol.NO_CLIENT, worker_protocol.stop()]):
                worker.process.kill()  # it has not begun to serve, or hangs
        deadline = time.monotonic() + STOP_S
        while not all(worker.dead for worker in self.workers) and time.monotonic() < deadline:
            self._turn(QUIET_MS)
        while self._turn(QUIET_MS):
            pass
        self._subscriptions.announce_stopping()

    @property
    def url(self) -> str:
        """Of /metrics, /healthz and /readyz; "" where they are not served."""
        return "" if self._monitor is None else self._monitor.url

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """End the workers and close the sockets."""
        if self._worker_pool is not None:
            self._worker_pool.close()
        if self._monitor is not None:
            self._monitor.close()
        if self._sockets is not None:
            self._sockets.close()

    def _turn(self, timeout_ms: int) -> bool:
        doors = self._sockets
        assert doors is not None
        ready = dict(self._poller.poll(timeout_ms))
        started_ns, taken = time.monotonic_ns(), 0
        if self._xpub in ready:
            doors.take_subscriptions(lambda parts: self._subscriptions.subscription(parts[0]))
        if self._router in ready:
            taken = doors.take_messages(self._clients.take, self._clients.take_frame)
        for worker in self.workers:
            self._clients.hand_on(worker)
            if worker.commands is not None and worker.commands in ready:
                all_of(worker.commands, partial(self._said, worker))
                worker.silent_s = 0.0
        now_ns = time.monotonic_ns()
        self._gauge.count_turn(now_ns - started_ns, taken, now_ns)
        return bool(ready)

    def _look_around(self, monitor: Monitor) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_NS:
            return
        passed_s = (now_ns - self._looked_ns) / 1e9
        self._looked_ns = now_ns
        monitor.run_due(now_ns, self._router)
        self._subscriptions.forget_unwanted()
        for name in self._stream_owners.revoked():
            self._clients.worker_of(name).send([worker_protocol.NO_CLIENT, worker_protocol.end(name, REVOKED)])
        for worker in self.workers:
            if worker.dead and not worker.ready and time.monotonic() - worker.started_s < RETRY_S:
                continue
            if worker.dead:
                LOG.error("worker %d ended with status %s: started again", worker.number, worker.process.returncode)
                self._forget(worker)
                worker.start()
            elif worker.look():
                self._connected(worker)
            elif worker.hangs(passed_s):
                worker.process.kill()

    def _forget(self, worker: Worker) -> None:
        """Take what a dead worker still said, then hang up."""
        if worker.commands is not None:
            while worker.commands.poll(QUIET_MS):
                all_of(worker.commands, partial(self._said, worker))
            self._poller.unregister(worker.commands)
        self._subscriptions.forget_worker(worker)
        self._rollout.ended(worker)
        for client in self._pending_status.give_up():
            self._clients.refuse(
                client, None, ServeError("a worker ended before it answered: ask again"), limited=False
            )

    def _connected(self, worker: Worker) -> None:
        """A worker serves, or serves again: its streams come back, and what its clients asked meanwhile."""
        assert worker.commands is not None
        self._poller.register(worker.commands, zmq.POLLIN)
        self._subscriptions.connected(worker)
        back = 0
        for name, told in self._backups.restored():
            if self._clients.worker_of(name) is worker:
                back += 1
                worker.commands.send_multipart([worker_protocol.NO_CLIENT, told])
        for name, reason in self._stream_owners.ending.items():
            if self._clients.worker_of(name) is worker:
                worker.commands.send_multipart([worker_protocol.NO_CLIENT, worker_protocol.end(name, reason)])
        for owner, kind, name, data in self._backups.unanswered():
            if self._clients.worker_of(name) is worker:
                if kind == "hello":
                    self._clients.contest(owner, name, worker)
                worker.hold(name, owner, time.monotonic_ns(), data)
        if worker.ended_board:
            self._past.add_last_of(worker.ended_board)
        LOG.info("worker %d serves, %d streams are back", worker.number, back)

    def _said(self, worker: Worker, parts: list[bytes]) -> None:
        """From a worker to subscribers, to a client, or to the front itself."""
        if len(parts) == 3:
            self._subscriptions.published(worker, parts[1], parts[2])
            return
        owner, data = parts
        if owner == worker_protocol.NO_CLIENT:
            told = worker_protocol.unpack(data)
            if told["type"] == "answers":
                self._subscriptions.answered(told["of"])
                return
            if told["type"] == "prepared":
                self._rollout.prepared(told)
                return
            self._backups.note(told)
            if told["type"] == "ended":
                self._stream_owners.ended(told["stream"])
            return
        message = msgpack.unpackb(data)
        if self._pending_status.knows(owner):
            whole = self._pending_status.add(owner, message)
            if whole is not None:
                client, answer = whole
                self._outlet.answer(client, answer | (self._about(answer) if answer["type"] == "status" else {}))
            return
        if message.get("type") == "contested":
            return  # said before the hello was handed on
        self._backups.answered(owner, message)
        self._stream_owners.answered(owner, message, is_open=self._backups.find(str(message.get("stream"))) is not None)
        self._outlet.answer(owner, message)

    def _pieces(self) -> Iterator[dict[str, Any]]:
        about = {"started_ns": self._started_ns, "fresh_s": self._settings.fresh_s, "stopping": self._stopping}
        yield about | self._past.told(self._own_counters()) | told_of(self.workers)

    def _about(self, answer: dict[str, Any]) -> dict[str, Any]:
        """The front's own share of the status, which its workers gave."""
        workers = [{"pid": w.process.pid, "starts": w.starts, "ready": w.ready} for w in self.workers]
        own = {"load": round(self._gauge.measured()[0], 4), "counters": self._own_counters()}
        counters = Counter(answer.get("counters", {}))
        counters.update(self._own_counters())
        return {"workers": workers, "front": own, "counters": dict(counters)}

    def _own_counters(self) -> dict[str, int]:
        return {**self._outlet.counters, **self._counted()}


def serve_with_workers(bundle: Path, settings: ServeSettings, announce: Callable[[str], None] | None = None) -> None:
    """Run a front and its workers until SIGINT or SIGTERM, or until somebody asks it to stop.

    announce gets two lines, `ready {json}` and `stopped {json}`; stdout where it is None. Raises ServeError where an
    address or a worker cannot be had.
    """
    say = announce or print_line
    front = Front(bundle, settings)
    try:
        with stopped_by_signals(front):
            front.wait_ready()
            pids = [worker.process.pid for worker in front.workers]
            first = front.workers[0].about
            about = {"frames": front.frames, "predictions": front.predictions, "pid": os.getpid(), "workers": pids}
            about |= {key: first[key] for key in ("model", "engine", "loop") if key in first}
            about |= {"http": front.url} if front.url else {}
            say(f"ready {json.dumps(about)}")
            front.run()
            say(f"stopped {json.dumps({'starts': [worker.starts for worker in front.workers]})}")
    finally:
        front.close()


def told_of(workers: Sequence[Worker]) -> dict[str, Any]:
    """For the front's board: which workers there are, and what is the same of all."""
    served = next((worker.about for worker in workers if worker.about), {})
    return {
        "model": served.get("model", ""),
        "engine": served.get("engine", ""),
        "version": rtseg.__version__,
        "capacity": 0,
        "ready": True,
        "streams": {},
        "workers": [{"ready": w.ready, "starts": w.starts, "board": w.board} for w in workers],
    }
