"""The front of several workers: one address for clients, streams spread by a hash of their names, nothing lost.

Hands messages on and looks into them only to know their stream. What a worker would need to go on where another one
ended is kept here (`workers.stream_backups`, `workers.pending_requests`). The one that is started in its place is sent
that, steps again what came after the last state, and what was published before is not published twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.serve.access.memory_watch import LOOK_NS as CLIENTS_LOOK_NS
from rtseg.serve.monitoring.monitor import Monitor
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.resume import finish_recordings
from rtseg.serve.timing.loop_load import CapacityError, LoopLoad
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.workers.bundle_rollout import BundleRollout
from rtseg.serve.workers.front_sockets import FrontSockets, receive_waiting
from rtseg.serve.workers.front_status import FrontStatus
from rtseg.serve.workers.pending_requests import PendingRequests
from rtseg.serve.workers.pending_status import PendingStatus
from rtseg.serve.workers.request_router import RequestRouter
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.stream_owners import REVOKED, StreamOwners
from rtseg.serve.workers.subscriptions import Subscriptions
from rtseg.serve.workers.worker_pool import FIRST_S, STOP_S, Worker, WorkerPool, unfinished_recordings
from rtseg.serve.workers.worker_protocol import (
    NO_CLIENT,
    Answers,
    BundlePrepared,
    EndStream,
    NumberedAnswer,
    StreamEnded,
    StreamState,
    decode,
)
from rtseg.system.shutdown import COUNT_S, QUIET_MS, print_line, quiet_ms, stopped_by_signals

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 20
LOOK_NS = 5_000_000
"""How often workers are looked after, and whatever else is due."""
RETRY_S = 1.0
"""A worker that ends before it serves is started again after so long."""


class Front:
    """Binds the clients' addresses and starts the workers. Raises ServeError where it can't.

    frames, predictions: the addresses. workers: by their numbers. lost: streams that had no worker when the time to end
    was over, so that some of their frames are not answered.
    """

    def __init__(self, bundle: Path, settings: ServeSettings) -> None:
        self._settings, self._is_stopping, self._stop_by_s = settings, False, math.inf
        with contextlib.ExitStack() as started:  # what has been started ends where a later part cannot be had
            self._sockets = sockets = started.enter_context(contextlib.closing(FrontSockets(settings)))
            self._monitor = started.enter_context(contextlib.closing(Monitor(settings, self._status_pieces)))
            if settings.record and settings.resume:
                # Before the workers, for each of them reads all recordings, and only one may finish a file.
                finish_recordings(Path(settings.record), int(settings.idle_timeout_s * 1e9))
            pool = started.enter_context(contextlib.closing(WorkerPool(bundle, settings, sockets.predictions)))
            self._started = started.pop_all()
        self.frames, self.predictions, self.workers = sockets.frames, sockets.predictions, pool.workers
        self.lost: list[str] = []
        self._router, self._xpub = sockets.router, sockets.xpub
        self._load = LoopLoad(settings.max_load)
        self._outlet = Outlet(self._router, self._xpub, sockets.guard)
        self._status = FrontStatus(self.workers, self._load, self._own_counters, settings.fresh_s)
        self._backups, self._requests = StreamBackups(settings), PendingRequests()
        self._pending_status, self._owners = PendingStatus(), StreamOwners(sockets.guard)
        self._subscriptions = Subscriptions(self._outlet, self._backups, settings.heartbeat_s)
        self._rollout = BundleRollout(self.workers, self._outlet, self._backups, self._subscriptions.set_served)
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
        self._look, self._clients_look = Periodic(LOOK_NS), Periodic(CLIENTS_LOOK_NS)

    def wait_ready(self) -> bool:
        """Wait until all workers serve; False where it is asked to stop before. Raises ServeError where one cannot."""
        deadline = time.monotonic() + FIRST_S
        while not all(worker.ready for worker in self.workers):
            if self._is_stopping:  # looked at first: a terminal's Ctrl-C ends workers that do not ignore it yet
                return False
            for worker in self.workers:
                if worker.check_ready():
                    self._connect_worker(worker)
                elif worker.has_ended:
                    raise ServeError(f"worker {worker.number} ended at once, with status {worker.process.returncode}")
            if time.monotonic() > deadline:
                raise ServeError(f"the workers did not get ready within {FIRST_S:g} s")
            time.sleep(POLL_MS / 1000)
        if len({worker.announced["model"] for worker in self.workers}) > 1:
            raise ServeError("the bundle was changed while the workers loaded it: start the daemon again")
        self._subscriptions.set_served(self.workers[0].announced["served"])
        self._sockets.warm_up()
        return not self._is_stopping

    def mark_ready(self) -> None:
        """From now on /readyz and the service manager say that it serves. Before the `ready` line: they must agree."""
        self._status.started_ns = now_ns = time.monotonic_ns()
        self._monitor.announce_ready(now_ns, f"serving with {len(self.workers)} workers at {self.frames}")

    def ready_fields(self) -> dict[str, Any]:
        """What its `ready` line says."""
        addresses = {"frames": self.frames, "predictions": self.predictions}
        return addresses | self._status.ready_fields() | ({"http": self.url} if self.url else {})

    def run(self) -> None:
        """Serve until `stop`, then let the workers drain and tell everybody."""
        while not self._is_stopping:
            self._turn(POLL_MS)
            self._look_if_due()
        self._monitor.announce_stopping(time.monotonic_ns())
        started_s = time.monotonic()
        # Frames that have arrived are handed on before `Stop`, so workers answer them before they end.
        if not self._hand_on_arrived(started_s):
            self._count_unanswered()
        self._stop_workers(started_s)
        self._give_up_lost()
        self._rollout.refuse_unfinished()
        self._outlet.announce_stopping()

    @property
    def url(self) -> str:
        """Of /metrics, /healthz and /readyz; "" where they are not served."""
        return self._monitor.url

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._is_stopping = True

    def close(self) -> None:
        """End the workers and close the sockets. Closing twice is no error."""
        self._started.close()

    def _hand_on_arrived(self, started_s: float) -> bool:
        """Serve on until nothing of clients waits any more; False where that takes longer than `drain_s`."""
        drain_s, now_s, came_s = self._settings.drain_s, started_s, started_s
        while now_s - started_s < drain_s:
            quiet = quiet_ms(now_s - started_s, drain_s)
            came = self._router in self._turn(quiet)
            now_s = time.monotonic()
            if came:
                came_s = now_s
            elif now_s - came_s >= quiet / 1000:  # a turn also ends with a worker's message
                return True
            self._look_if_due()
        return False

    def _count_unanswered(self) -> None:
        """Count the frames that still wait in the socket, and tell their senders."""
        reason = f"the front stops, and {self._settings.drain_s:g} s (drain_s) were not enough for all that had arrived"
        refuse_frame = partial(self._request_router.refuse_frame, CapacityError(reason))
        before, deadline_s = self._outlet.counters["dropped frames"], time.monotonic() + COUNT_S
        while self._router.poll(QUIET_MS) and time.monotonic() < deadline_s:
            self._sockets.receive_messages(lambda client, data, t_recv_ns, parts: None, refuse_frame)
        if unanswered := self._outlet.counters["dropped frames"] - before:
            LOG.warning("%s: %d frames are not answered", reason, unanswered)

    def _stop_workers(self, started_s: float) -> None:
        """Let the workers drain and end. One that ends before it has answered its streams is still replaced.

        All have until `drain_s` and STOP_S after the end was asked for.
        """
        self._stop_by_s = started_s + self._settings.drain_s
        deadline_s = self._stop_by_s + STOP_S
        while not all(map(self._has_finished, self.workers)) and time.monotonic() < deadline_s:
            self._turn(QUIET_MS)
            self._look_if_due()
        for worker in self.workers:  # those that have ended may have sent more than is read so far
            self._read_rest(worker)

    def _has_finished(self, worker: Worker) -> bool:
        """Whether a worker that is to stop has ended, and no other one is needed in its place."""
        if not worker.has_ended:
            return False
        return worker.has_stopped or not self._is_needed(worker)

    def _is_needed(self, worker: Worker) -> bool:
        """Whether it has streams, or clients that wait for its answer."""
        names = [*self._backups.stream_names(), *(request.stream for request in self._requests.unanswered())]
        return any(self._request_router.worker_of(name) is worker for name in names)

    def _give_up_lost(self) -> None:
        """Say which streams no worker has ended, and how many of their frames may be without an answer."""
        self.lost = self._backups.stream_names()
        reason = "the daemon stops, and the stream's worker had died or did not end in time"
        for name in self.lost:
            backup = self._backups.find(name)
            assert backup is not None
            number = self._request_router.worker_of(name).number
            LOG.error("stream %r: worker %d has not ended it: up to %d frames lost", name, number, backup.n_frames)
            self._outlet.announce(name.encode(), {"type": "closed", "reason": reason})
        waiting = {backup.owner for name in self.lost if (backup := self._backups.find(name)) is not None}
        waiting |= {request.client for request in self._requests.unanswered()}
        for client in waiting:
            self._outlet.answer(client, {"type": "stopping"})

    def _turn(self, timeout_ms: int) -> dict[Any, int]:
        """Wait for messages and hand on those that have come; the sockets at which there were any."""
        ready = dict(self._poller.poll(timeout_ms))
        started_ns, taken = time.monotonic_ns(), 0
        if self._xpub in ready:
            self._subscriptions.receive_changes(started_ns)
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
        return ready

    def _look_if_due(self) -> None:
        """Whatever is due besides messages: workers that have ended, serve or hang; keys that were revoked."""
        now_ns = time.monotonic_ns()
        if not self._look.is_due(now_ns):
            return
        passed_s = (now_ns - self._look.last_ns) / 1e9
        self._look.restart(now_ns)
        self._monitor.run_due(now_ns, self._router)
        self._subscriptions.send_due(now_ns)
        if self._clients_look.restart_if_due(now_ns):
            self._sockets.look_after()
        for name in self._owners.revoked_streams():
            self._request_router.worker_of(name).tell(EndStream(name, REVOKED))
        for worker in self.workers:
            self._look_after(worker, passed_s)

    def _look_after(self, worker: Worker, passed_s: float) -> None:
        """A worker that has ended is replaced, one that hangs is killed. passed_s: since the last look."""
        is_stopping = self._stop_by_s < math.inf
        if worker.has_ended:
            if is_stopping and self._has_finished(worker):
                return
            if worker.ready or time.monotonic() - worker.started_s >= RETRY_S:
                self._replace_worker(worker)
        elif worker.check_ready():
            self._connect_worker(worker)
        elif worker.add_silence(passed_s) or (is_stopping and not worker.ready and not self._is_needed(worker)):
            worker.process.kill()  # replaced at the next look, where it has streams
        if is_stopping and worker.ready and not worker.is_told_to_stop:
            worker.tell_to_stop(self._stop_by_s - time.monotonic())

    def _read_rest(self, worker: Worker) -> None:
        """What a worker that has ended had sent."""
        while worker.dealer is not None and worker.dealer.poll(QUIET_MS):
            receive_waiting(worker.dealer, partial(self._take_from_worker, worker))

    def _replace_worker(self, worker: Worker) -> None:
        """Read what a dead worker had sent, then start another process in its place, or fail to until the next try."""
        if worker.has_process:  # otherwise it has been said, and starting another one has failed since
            LOG.error("worker %d ended with status %s: started again", worker.number, worker.process.returncode)
        if worker.dealer is not None:
            # States and answers that it had sent must not be lost: the next process begins where they end.
            self._read_rest(worker)
            self._poller.unregister(worker.dealer)
            worker.disconnect()
        self._rollout.worker_ended(worker)
        for client in self._pending_status.abandon_questions():
            error = ServeError("a worker ended before it answered: ask again")
            self._request_router.refuse_message(client, None, error, limited=False)
        worker.start()  # a front without file descriptors goes on with its other workers until it has some

    def _connect_worker(self, worker: Worker) -> None:
        """A worker serves, or serves again: it gets its streams back, and what its clients asked meanwhile.

        In this order: streams with their frames; which of them are to end; and requests, for a hello may open a stream
        in the place of one that ends.
        """
        assert worker.dealer is not None
        self._poller.register(worker.dealer, zmq.POLLIN)
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
            self._status.ended_totals.add_last_status(worker.ended_status_file)
        LOG.info("worker %d serves, %d streams are back", worker.number, streams_back)

    def _take_from_worker(self, worker: Worker, parts: list[bytes]) -> None:
        """For subscribers (NO_CLIENT, topic, data), for the front (NO_CLIENT, data), or for a client (its id, data)."""
        if len(parts) == 3:
            self._subscriptions.publish_event(parts[1], parts[2])
        elif parts[0] == NO_CLIENT:
            self._obey_worker(parts[1])
        else:
            self._pass_answer(parts[0], msgpack.unpackb(parts[1]))

    def _obey_worker(self, data: bytes) -> None:
        message = decode(data)
        match message:
            case Answers():
                self._publish_answers(message.answers)
            case StreamState():
                self._backups.record_state(message)
            case StreamEnded():
                self._backups.forget_stream(message.stream)
                self._owners.stream_ended(message.stream)
            case BundlePrepared():
                self._rollout.worker_prepared(message)
            case _:  # a sign of life: that something came is what counts
                pass

    def _publish_answers(self, answers: Sequence[NumberedAnswer]) -> None:
        """Predictions of a worker, those left out that another worker has given before."""
        admit, send = self._backups.admit_answer, self._outlet.send_packed
        for topic, number, data in answers:
            if admit(topic, number):
                send(topic, data)

    def _pass_answer(self, client: bytes, answer: dict[str, Any]) -> None:
        """A worker's answer to a client, or its share of a status."""
        if self._pending_status.is_question(client):
            whole = self._pending_status.add_answer(client, answer)
            if whole is not None:
                own = self._status.own_fields(whole.message) if whole.message["type"] == "status" else {}
                self._answer_status(whole.client, whole.message | own)
            return
        if answer.get("type") == "contested":
            return  # the front has told the owner, before it handed the hello on
        self._requests.record_answer(client, answer)
        is_open = self._backups.find(str(answer.get("stream"))) is not None
        self._owners.record_answer(client, answer, is_open=is_open)
        self._outlet.answer(client, answer)

    def _answer_status(self, client: bytes, message: dict[str, Any]) -> None:
        try:
            self._outlet.answer_status(client, message)
        except ServeError as error:
            self._request_router.refuse_message(client, None, error)

    def _status_pieces(self) -> Iterator[dict[str, Any]]:
        return self._status.shared_pieces(stopping=self._is_stopping)

    def _own_counters(self) -> dict[str, int]:
        return {**self._outlet.counters, **self._sockets.refusals()}


def serve_with_workers(bundle: Path, settings: ServeSettings, announce: Callable[[str], None] | None = None) -> bool:
    """Run a front and its workers until SIGINT, SIGTERM or SIGHUP, or until somebody asks it to stop.

    False where streams were lost with their worker at the very end, or recordings are not whole; the log names both.

    announce gets two lines, `ready {json}` and `stopped {json}`, the second alone where it is stopped before it serves;
    stdout where it is None. Raises ServeError where an address or a worker cannot be had.
    """
    say = announce or print_line
    with contextlib.closing(Front(bundle, settings)) as front, stopped_by_signals(front):
        if front.wait_ready():
            front.mark_ready()
            say(f"ready {json.dumps(front.ready_fields())}")
        front.run()
        front.close()  # before it is said: whoever reads it may start the next daemon at these addresses
        last = {"starts": [worker.starts for worker in front.workers], "lost": front.lost}
        last["unfinished"] = unfinished_recordings(front.workers)
        say(f"stopped {json.dumps(last)}")
        return not front.lost and not last["unfinished"]
