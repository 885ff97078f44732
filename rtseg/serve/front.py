"""The front of several workers: one address for clients, streams spread by a hash of their names, nothing lost.

Hands messages on and looks into them only to know their stream. What a worker would need to go on where another one
ended is kept here (`workers.stream_backups`, `workers.pending_requests`). The one that is started in its place is sent
that, steps again what came after the last state, and what was published before is not published twice.
"""

from __future__ import annotations

import contextlib
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
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.workers.bundle_rollout import BundleRollout
from rtseg.serve.workers.front_sockets import FrontSockets, receive_waiting
from rtseg.serve.workers.pending_requests import PendingRequests
from rtseg.serve.workers.pending_status import PendingStatus
from rtseg.serve.workers.request_router import RequestRouter
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.stream_owners import REVOKED, StreamOwners
from rtseg.serve.workers.subscriptions import Subscriptions
from rtseg.serve.workers.worker_pool import FIRST_S, STOP_S, Worker, WorkerPool
from rtseg.serve.workers.worker_protocol import (
    NO_CLIENT,
    Answers,
    BundlePrepared,
    EndStream,
    Stop,
    StreamEnded,
    StreamState,
    decode,
)
from rtseg.system.shutdown import DRAIN_S, QUIET_MS, print_line, stopped_by_signals

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 20
LOOK_NS = 5_000_000
"""How often workers are looked after, and whatever else is due."""
RETRY_S = 1.0
"""A worker that ends before it serves is started again after so long."""


class Front:
    """Binds the clients' addresses and starts the workers. Raises ServeError where it can't.

    frames, predictions: the addresses. workers: by their numbers.
    """

    def __init__(self, bundle: Path, settings: ServeSettings) -> None:
        self._settings, self._is_stopping = settings, False
        with contextlib.ExitStack() as started:  # what has been started ends where a later part cannot be had
            self._sockets = sockets = started.enter_context(contextlib.closing(FrontSockets(settings)))
            self._monitor = started.enter_context(contextlib.closing(Monitor(settings, self._status_pieces)))
            if settings.record and settings.resume:
                # Before the workers, for each of them reads all recordings, and only one may finish a file.
                finish_recordings(Path(settings.record), int(settings.idle_timeout_s * 1e9))
            pool = started.enter_context(contextlib.closing(WorkerPool(bundle, settings, sockets.predictions)))
            self._started = started.pop_all()
        self.frames, self.predictions, self.workers = sockets.frames, sockets.predictions, pool.workers
        self._router, self._xpub = sockets.router, sockets.xpub
        self._load, self._ended_totals = LoopLoad(settings.max_load), StatusTotals()
        self._outlet = Outlet(self._router, self._xpub)
        self._backups, self._requests = StreamBackups(settings), PendingRequests()
        self._pending_status, self._owners = PendingStatus(), StreamOwners(sockets.guard)
        self._subscriptions = Subscriptions(self.workers, self._outlet, self._backups)
        self._rollout = BundleRollout(
            self.workers, self._outlet, self._backups, self._subscriptions.update_confirmations
        )
        self._request_router = RequestRouter(
            settings,
            self.workers,
            self._outlet,
            self._backups,
            self._requests,
            self._pending_status,
            self._owners,
            self._load,
            self._rollout,
            self.stop,
        )
        # Workers' sockets are added as they connect.
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)
        self._look = Periodic(LOOK_NS)
        self._started_ns = time.monotonic_ns()

    def wait_ready(self) -> None:
        """Until all workers serve. Raises ServeError where one ends or does not get there."""
        deadline = time.monotonic() + FIRST_S
        while not all(worker.ready for worker in self.workers):
            for worker in self.workers:
                if worker.check_ready():
                    self._connect_worker(worker)
                elif worker.has_ended:
                    raise ServeError(f"worker {worker.number} ended at once, with status {worker.process.returncode}")
            if time.monotonic() > deadline:
                raise ServeError(f"the workers did not get ready within {FIRST_S:g} s")
            if self._is_stopping:
                return
            time.sleep(POLL_MS / 1000)
        self._sockets.warm_up()

    def run(self) -> None:
        """Serve until `stop`, then let the workers drain and tell everybody."""
        self._started_ns = time.monotonic_ns()
        self._monitor.announce_ready(self._started_ns, f"serving with {len(self.workers)} workers at {self.frames}")
        while not self._is_stopping:
            self._turn(POLL_MS)
            now_ns = time.monotonic_ns()
            if self._look.is_due(now_ns):
                self._look_around(now_ns)
        self._monitor.announce_stopping(time.monotonic_ns())
        # Frames that have arrived are handed on before `Stop`, so workers answer them before they end.
        deadline = time.monotonic() + DRAIN_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline:
            pass
        for worker in self.workers:
            if not worker.tell(Stop()):
                worker.process.kill()  # it has not begun to serve, or hangs
        deadline = time.monotonic() + STOP_S
        while not all(worker.has_ended for worker in self.workers) and time.monotonic() < deadline:
            self._turn(QUIET_MS)
        while self._turn(QUIET_MS):  # workers that have ended may have sent more than is read so far
            pass
        self._subscriptions.announce_stopping()

    @property
    def url(self) -> str:
        """Of /metrics, /healthz and /readyz; "" where they are not served."""
        return self._monitor.url

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._is_stopping = True

    def close(self) -> None:
        """End the workers and close the sockets."""
        self._started.close()

    def _turn(self, timeout_ms: int) -> bool:
        """Wait for messages and hand on those that have come; whether there were any."""
        ready = dict(self._poller.poll(timeout_ms))
        started_ns, taken = time.monotonic_ns(), 0
        if self._xpub in ready:
            self._sockets.receive_subscriptions(self._subscriptions.change_subscription)
        if self._router in ready:
            taken = self._sockets.receive_messages(self._request_router.route_message, self._request_router.route_frame)
        for worker in self.workers:
            # What one look at the clients has brought leaves as few messages: a worker reads them in one compiled call.
            self._request_router.send_held(worker)
            if worker.dealer is not None and worker.dealer in ready:
                receive_waiting(worker.dealer, partial(self._take_from_worker, worker))
                worker.reset_silence()  # answers count as signs of life, too
        now_ns = time.monotonic_ns()
        self._load.count_turn(now_ns - started_ns, taken, now_ns)
        return bool(ready)

    def _look_around(self, now_ns: int) -> None:
        """Whatever is due besides messages: workers that have ended, serve or hang; keys that were revoked."""
        passed_s = (now_ns - self._look.last_ns) / 1e9
        self._look.restart(now_ns)
        self._monitor.run_due(now_ns, self._router)
        self._subscriptions.forget_unwanted()
        for name in self._owners.revoked_streams():
            self._request_router.worker_of(name).tell(EndStream(name, REVOKED))
        for worker in self.workers:
            if worker.has_ended:
                if worker.ready or time.monotonic() - worker.started_s >= RETRY_S:
                    self._replace_worker(worker)
            elif worker.check_ready():
                self._connect_worker(worker)
            elif worker.add_silence(passed_s):
                worker.process.kill()  # replaced at the next look

    def _replace_worker(self, worker: Worker) -> None:
        """Read what a dead worker had sent, then start another process in its place."""
        LOG.error("worker %d ended with status %s: started again", worker.number, worker.process.returncode)
        if worker.dealer is not None:
            # States and answers that it had sent must not be lost: the next process begins where they end.
            while worker.dealer.poll(QUIET_MS):
                receive_waiting(worker.dealer, partial(self._take_from_worker, worker))
            self._poller.unregister(worker.dealer)
        self._subscriptions.worker_ended(worker)
        self._rollout.worker_ended(worker)
        for client in self._pending_status.abandon_questions():
            error = ServeError("a worker ended before it answered: ask again")
            self._request_router.refuse_message(client, None, error, limited=False)
        worker.start()

    def _connect_worker(self, worker: Worker) -> None:
        """A worker serves, or serves again: it gets its streams back, and what its clients asked meanwhile.

        Topics first, over a socket of their own. Then over the other one, in this order: streams with their frames;
        which of them are to end; and requests, for a hello may open a stream in the place of one that ends.
        """
        assert worker.dealer is not None
        self._poller.register(worker.dealer, zmq.POLLIN)
        self._subscriptions.worker_connected(worker)
        worker_of, streams_back = self._request_router.worker_of, 0
        for restore in self._backups.restore_messages():
            if worker_of(restore.state.stream) is worker:
                streams_back += 1
                worker.tell(restore, wait=True)
        for name, reason in self._owners.ending.items():
            if worker_of(name) is worker:
                worker.tell(EndStream(name, reason), wait=True)
        for client, kind, name, data in self._requests.unanswered():
            if worker_of(name) is not worker:
                continue
            if kind == "hello":
                self._request_router.send_hello(client, name, worker, time.monotonic_ns(), data)
            else:
                worker.hold_message(name, client, time.monotonic_ns(), data)
        if worker.ended_status_file:
            self._ended_totals.add_last_status(worker.ended_status_file)
        LOG.info("worker %d serves, %d streams are back", worker.number, streams_back)

    def _take_from_worker(self, worker: Worker, parts: list[bytes]) -> None:
        """For subscribers (NO_CLIENT, topic, data), for the front (NO_CLIENT, data), or for a client (its id, data)."""
        if len(parts) == 3:
            self._subscriptions.publish_event(worker, parts[1], parts[2])
        elif parts[0] == NO_CLIENT:
            self._obey_worker(parts[1])
        else:
            self._pass_answer(parts[0], msgpack.unpackb(parts[1]))

    def _obey_worker(self, data: bytes) -> None:
        message = decode(data)
        match message:
            case Answers():
                self._subscriptions.publish_answers(message.answers)
            case StreamState():
                self._backups.record_state(message)
            case StreamEnded():
                self._backups.forget_stream(message.stream)
                self._owners.stream_ended(message.stream)
            case BundlePrepared():
                self._rollout.worker_prepared(message)
            case _:  # a sign of life: that something came is what counts
                pass

    def _pass_answer(self, client: bytes, answer: dict[str, Any]) -> None:
        """A worker's answer to a client, or its share of a status."""
        if self._pending_status.is_question(client):
            whole = self._pending_status.add_answer(client, answer)
            if whole is not None:
                own = self._status_fields(whole.message) if whole.message["type"] == "status" else {}
                self._outlet.answer(whole.client, whole.message | own)
            return
        if answer.get("type") == "contested":
            return  # the front has told the owner, before it handed the hello on
        self._requests.record_answer(client, answer)
        is_open = self._backups.find(str(answer.get("stream"))) is not None
        self._owners.record_answer(client, answer, is_open=is_open)
        self._outlet.answer(client, answer)

    def _status_pieces(self) -> Iterator[dict[str, Any]]:
        """For the shared status: the front's own part, and where its workers' are."""
        own = {
            "started_ns": self._started_ns,
            "fresh_s": self._settings.fresh_s,
            "stopping": self._is_stopping,
        }
        yield own | self._ended_totals.to_fields(self._own_counters()) | _workers_fields(self.workers)

    def _status_fields(self, answer: dict[str, Any]) -> dict[str, Any]:
        """What the front adds to a status that its workers gave."""
        workers = [{"pid": w.process.pid, "starts": w.starts, "ready": w.ready} for w in self.workers]
        own = {"load": round(self._load.measured()[0], 4), "counters": self._own_counters()}
        counters = Counter(answer.get("counters", {}))
        counters.update(self._own_counters())
        return {"workers": workers, "front": own, "counters": dict(counters)}

    def _own_counters(self) -> dict[str, int]:
        return {**self._outlet.counters, **self._sockets.refusals()}


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
            first = front.workers[0].announced
            ready = {"frames": front.frames, "predictions": front.predictions, "pid": os.getpid(), "workers": pids}
            ready |= {key: first[key] for key in ("model", "engine", "loop") if key in first}
            ready |= {"http": front.url} if front.url else {}
            say(f"ready {json.dumps(ready)}")
            front.run()
            say(f"stopped {json.dumps({'starts': [worker.starts for worker in front.workers]})}")
    finally:
        front.close()


def _workers_fields(workers: Sequence[Worker]) -> dict[str, Any]:
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
