"""The daemon: frames in over one socket, predictions out over another, on one thread (docs/wire.md).

Its life: bind, compile, say `ready`, serve, drain, close. `Daemon._turn` is a frame's way through it. Only `serve/`
reads a clock and has broad excepts: whatever one client sends or loads, the other streams go on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from rtseg.compiled.ahead import compile_missing
from rtseg.config import ServeSettings, TriggerFile, to_plain
from rtseg.inference.classifier import Classifier
from rtseg.recorder.recorder import CLOSED
from rtseg.serve.access.client_sockets import ClientSockets
from rtseg.serve.kernels import kernels_of
from rtseg.serve.loop.admission import Admission
from rtseg.serve.loop.bundle_swap import BundleSwap
from rtseg.serve.loop.cache_warming import CacheWarmer
from rtseg.serve.loop.dispatch import Dispatcher
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.housekeeping import Housekeeping
from rtseg.serve.loop.polling import LoopPoller
from rtseg.serve.loop.receiver import MessageSource, Receiver, client_source
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.monitoring.monitor import Monitor
from rtseg.serve.monitoring.prometheus import check_installed
from rtseg.serve.monitoring.status import DaemonStatus
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.publish.subscribers import CONFIRM_MS
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.timing.realtime import GarbageCollector, LoopPrivileges
from rtseg.serve.triggers.lines import open_links
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.serve.workers.front_link import FrontLink
from rtseg.sinks.link import SinkLink
from rtseg.system.shutdown import COUNT_S, LINGER_MS, QUIET_MS, print_line, quiet_ms, stopped_by_signals
from rtseg.triggers.trial import load_trigger_file
from rtseg.wire.messages import Served

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 100
"""How soon a signal is seen while nothing comes."""
PATIENCE_S = 5.0
"""A start that takes longer says why."""


class Daemon:
    """Serves one classifier. Binds at once; raises ServeError where it cannot.

    What is different in a worker stands in `worker.WorkerDaemon`, which overrides the methods from `_make_sockets` on
    and adds to `ready_fields`.

    frames: the address of the frames' socket. granted: what the system gave the loop. url: of /metrics, /healthz and
    /readyz, "" where they are not served.
    """

    def __init__(self, classifier: Classifier, settings: ServeSettings) -> None:
        self._settings, self._stopping, self._worked_ns = settings, False, 0
        self._drain_s = settings.drain_s
        # Whatever was opened is closed in the reverse order: at once where something fails here, otherwise by `close`.
        with contextlib.ExitStack() as opened:
            self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            opened.callback(self._context.destroy, LINGER_MS)
            # Before the sockets: a context's threads start with the first one, and keep what they have then.
            self._privileges = LoopPrivileges(settings, self._context)
            opened.callback(self._privileges.release)
            self._sockets = self._make_sockets()
            opened.callback(self._sockets.close)
            self._monitor = self._make_monitor()
            opened.callback(self._monitor.close)
            places = min(settings.capacity, classifier.pool.capacity - settings.rehearses)
            model = ServedModel(classifier, self._predictions_address(), places)
            self._streams = Streams(model)
            triggers = load_trigger_file(settings.triggers) if settings.triggers else None
            links = {} if triggers is None else open_links(triggers, model.bundle.heads, settings, opened)
            recording = self._make_recording(model, triggers) if settings.record else None
            if recording is not None:
                opened.callback(recording.close)
            self._compose_loop(recording, triggers, links)
            self._opened = opened.pop_all()

    def _compose_loop(
        self, recording: StreamRecording | None, triggers: TriggerFile | None, links: dict[str, SinkLink]
    ) -> None:
        """Make the parts that a frame passes, and those around them; none of these opens anything."""
        settings, streams, guard = self._settings, self._streams, self._sockets.guard
        self.frames, self.url, self.granted = self._sockets.frames, self._monitor.url, self._privileges.describe()
        self._load, self._garbage = LoopLoad(settings.max_load), GarbageCollector()
        self._outlet, link = self._make_outlet(recording)
        stage = self._stage = None if triggers is None else TriggerStage(triggers, links, streams, self._outlet)
        if recording is not None:
            recording.trigger_memory = stage
        self._poller = LoopPoller(
            settings, self._sockets.router, self._sockets.xpub, [] if stage is None else stage.descriptors
        )
        cut_events = None if stage is None else stage.cut_stream
        self._queue = FrameQueue(settings, self._outlet, self._load, cut_events)
        self._stepper = Stepper(self._queue, streams, self._outlet, stage)
        self._admission = Admission(streams, self._outlet, self._load, guard, link, stage)
        self._bundle_swap = self._make_bundle_swap()
        self._status = DaemonStatus(
            settings=settings,
            streams=streams,
            outlet=self._outlet,
            latency=self._stepper.latency,
            load=self._load,
            granted=self.granted,
            refusals=self._sockets.refusals,
            stage=stage,
        )
        self._dispatcher = Dispatcher(
            streams,
            self._queue,
            self._stepper,
            self._outlet,
            self._admission,
            self._bundle_swap,
            guard=guard,
            stage=stage,
            control=settings.control,
            status=self.status,
            stop=self.stop,
        )
        self._receiver = Receiver(self._make_source(), streams, self._queue, settings, guard)
        self._housekeeping = Housekeeping(
            settings,
            self._sockets.router,
            streams,
            self._queue,
            self._outlet,
            self._admission,
            self._bundle_swap,
            self._monitor,
            self._status,
            self._garbage,
            self._sockets.look_after,
            guard=guard,
            front_link=link,
            stage=stage,
            now_ns=time.monotonic_ns(),
        )

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping

    @property
    def served(self) -> Served:
        """What answers the streams that are opened from now on."""
        return self._streams.model.served

    def ready_fields(self) -> dict[str, Any]:
        """What its `ready` line says."""
        fields: dict[str, Any] = {"frames": self.frames, "predictions": self.served.predictions}
        fields |= {"model": self.served.model, "engine": self.served.engine, "pid": os.getpid()}
        fields |= {"http": self.url} if self.url else {}
        if self._stage is not None:
            fields["triggers"] = self._stage.status()
        return fields | {"loop": self.granted}

    def warm_up(self) -> None:
        """Compile everything that a frame passes, and ask the system for what the loop is to have."""
        model = self._streams.model
        model.warm_up()
        # A frame of the daemon's own passes, and so compiles, all that the model's warm-up does not: receiving, packing
        # and sending. Clients can connect already, and what they send waits in the socket.
        warmer = CacheWarmer(model, self._settings, self._context)
        # As many as it takes until a lookahead gives an answer, which is then packed and sent.
        for _ in range(1 + model.bundle.lookahead_frames):
            warmer.step_own_frame()
        if self._stage is not None:
            self._stage.warm_up()
        warmer.close()  # its slot is a stream's, where nothing is to keep the caches warm
        self._receiver.warm_up()
        self._keep_warm(model)
        self._poller.warm_up()
        # Last: compiling with the loop's priority would keep everything else on its core from running.
        self._privileges.apply_to_loop()

    def mark_ready(self) -> None:
        """From now on /readyz and the service manager say that it serves. Before the `ready` line: they must agree."""
        started_ns = time.monotonic_ns()
        self._status.mark_started(started_ns)
        self._monitor.announce_ready(started_ns, f"serving {self.served.model[:12]} at {self.frames}")

    def run(self) -> None:
        """Serve until `stop`, then drain: answer what has arrived, publish what is owed, tell everybody."""
        if self._stage is not None:
            LOG.info("triggers: %d, disarmed (rtseg arm)", len(self._stage.status()["triggers"]))
        with self._garbage.between_frames():
            while not self._stopping:
                self._turn(self._wait_ms())
                self._housekeeping.run_due_tasks(time.monotonic_ns())
        if self._stage is not None:
            self._stage.stop()  # before whatever takes time
        self._monitor.announce_stopping(time.monotonic_ns())
        self._drain()

    def _turn(self, timeout_ms: int) -> bool:
        """One turn of the loop, a frame's way: wait, receive, queue or dispatch, step and publish.

        False where there was nothing to do.
        """
        ready = self._poller.wait_for_messages(timeout_ms, self._worked_ns)
        started_ns = time.monotonic_ns()
        has_frames = self._sockets.router in ready
        if not has_frames:
            self._receiver.socket_is_empty(started_ns)
            if not ready and not self._queue:
                return False
        if self._stage is not None and len(ready) > has_frames + (self._sockets.xpub in ready):
            self._stage.watch.reports_wait = True
        # Subscriptions first: of frames that come together with one, its subscriber gets the predictions.
        if self._sockets.xpub in ready:
            self._outlet.receive_subscriptions(self._streams.served_to)
        # What is not read yet is ZeroMQ's to hold, and its sender hears of it when that is full as well.
        if has_frames and len(self._queue) < self._settings.queue_messages:
            self._receiver.receive(self._dispatcher.handle_message)
        # One batch a turn: between two of them the socket is looked at, so that t_recv_ns is true under load as well.
        stepped = self._stepper.step_and_publish_batch()
        worked_ns = self._worked_ns = time.monotonic_ns()
        self._load.count_turn(worked_ns - started_ns, stepped, worked_ns)
        return True

    def _wait_ms(self) -> int:
        """How long to wait for messages: not at all while frames are queued, else until a stream is to be silent."""
        if self._queue:
            return 0
        most_ms = CONFIRM_MS if self._outlet.subscribers.unconfirmed else POLL_MS
        next_ns = self._queue.silence_watch.next_due_ns()
        if self._stage is not None:
            due_ns = self._stage.watch.due_ns
            next_ns = due_ns if next_ns is None else min(next_ns, due_ns)
        if next_ns is None:
            return most_ms
        # Rounded up: a look before the time finds nobody silent, and the loop would spin until then.
        return min(most_ms, max(0, -(-(next_ns - time.monotonic_ns()) // 1_000_000)))

    def _drain(self) -> None:
        if not self._answer_arrived():
            self._count_unanswered()
        # Each owner hears of it once, however many streams it has; a subscriber's last message is `stopping`, so the
        # streams end before it.
        owners = {stream.owner for stream in self._streams}
        for stream in self._streams:
            self._admission.end_stream(stream, "stopping")
        for owner in owners:
            self._outlet.answer(owner, {"type": "stopping"})
        self._bundle_swap.refuse_unfinished()
        self._outlet.announce_stopping()
        if self._outlet.recording is not None:
            self._outlet.recording.close()  # here and not in `close`: the last status says what became of it

    def _answer_arrived(self) -> bool:
        """Serve on until nothing waits any more; False where that takes longer than `drain_s`."""
        self._receiver.hold_bursts(math.inf)  # nothing is dropped that there is time for
        passed_s, started_s = 0.0, time.monotonic()
        while passed_s < self._drain_s:
            if not self._turn(quiet_ms(passed_s, self._drain_s)):
                return True
            # Signs of life, snapshots, revoked keys: as long as frames are answered, all of these stay due.
            self._housekeeping.run_due_tasks(time.monotonic_ns())
            passed_s = time.monotonic() - started_s
        return False

    def _count_unanswered(self) -> None:
        """Leave out what still waits: count it, and tell its senders."""
        counters = self._outlet.counters
        before = counters["dropped frames"]
        reason = f"the daemon stops, and {self._drain_s:g} s (drain_s) were not enough for all that had arrived"
        self._queue.leave_out_all(self._streams, reason)
        self._receiver.hold_bursts(0.0)
        deadline_s = time.monotonic() + COUNT_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline_s:
            pass
        self._stepper.step_all()  # streams that were opened just now
        unanswered = counters["dropped frames"] - before
        if unanswered:
            LOG.warning("%s: %d frames are not answered", reason, unanswered)

    def stop(self, drain_s: float | None = None) -> None:
        """Make `run` drain and return. May be called from a signal handler.

        drain_s: how long frames that have arrived are answered at most; None = as set.
        """
        self._stopping = True
        if drain_s is not None:
            self._drain_s = drain_s
        self._poller.stop()  # with busy_poll a wait would otherwise go on to its end

    def close(self) -> None:
        """Close whatever was opened; what is unsent has LINGER_MS to leave. Closing twice is no error."""
        self._opened.close()

    def status(self) -> dict[str, Any]:
        """Counters and latencies since the start."""
        return self._status.to_message()

    def _status_pieces(self) -> Iterator[dict[str, Any]]:
        return self._status.shared_pieces(stopping=self._stopping)

    def _keep_warm(self, model: ServedModel) -> None:
        """Let frames of the daemon's own pass this model from now on, where the loop has time for them."""
        if self._settings.rehearses:
            self._poller.set_cache_warmer(CacheWarmer(model, self._settings, self._context))

    def _make_sockets(self) -> ClientSockets:
        return ClientSockets(self._settings, self._context)

    def _make_monitor(self) -> Monitor:
        return Monitor(self._settings, self._status_pieces)

    def _predictions_address(self) -> str:
        """Where clients subscribe."""
        return self._sockets.predictions

    def _make_recording(self, model: ServedModel, triggers: TriggerFile | None) -> StreamRecording:
        # As loaded: the file may name others, which are elsewhere when the recording is verified.
        text = "" if triggers is None else json.dumps(to_plain(triggers))
        return StreamRecording(model, self._settings, triggers=text)

    def _make_outlet(self, recording: StreamRecording | None) -> tuple[Outlet, FrontLink | None]:
        """What answers and publishes, and who is told of streams besides."""
        return Outlet(self._sockets.router, self._sockets.xpub, self._sockets.guard, recording), None

    def _make_bundle_swap(self) -> BundleSwap:
        step_all, keep_warm = self._stepper.step_all, self._keep_warm
        return BundleSwap(self._settings, self._streams, self._outlet, step_all, keep_warm, self._stage)

    def _make_source(self) -> MessageSource:
        shape = self._streams.model.bundle.skeleton.shape
        return client_source(self._sockets.router, self._settings, shape, self._sockets.guard)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Says what takes so long, where it does: what is compiled is kept for the next start."""
    reason = "compiling: the first start on a machine takes half a minute or more, later ones two seconds"
    timer = threading.Timer(PATIENCE_S, LOG.info, [reason])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def run_daemon(daemon: Daemon, announce: Callable[[str], None]) -> dict[str, Any]:
    """Warm a daemon up, run it until it is stopped, and close it; returns its last status.

    announce: gets two lines, `ready {json}` and `stopped {json}`; the second alone where it is stopped before.
    """
    with contextlib.closing(daemon):
        with _patience():
            daemon.warm_up()
        if not daemon.is_stopping:
            daemon.mark_ready()
            announce(f"ready {json.dumps(daemon.ready_fields())}")
        daemon.run()
        status = daemon.status()
    # Only now: whoever reads it may start the next daemon at these addresses, or trust that the lines are off.
    last = {key: status[key] for key in ("uptime_s", "counters", "latency", "recording") if key in status}
    announce(f"stopped {json.dumps(last)}")
    return status


def ended_in_order(status: dict[str, Any]) -> bool:
    """Whether a daemon's recording, where it had one, is whole. status: its last."""
    return "recording" not in status or status["recording"]["state"] == CLOSED


def serve(
    classifier: Classifier, settings: ServeSettings, announce: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Run a daemon until SIGINT, SIGTERM or SIGHUP; returns its last status.

    announce: as of `run_daemon`; the lines go to stdout where it is None. Raises ServeError where an address cannot be
    had. A second signal ends the process at once, with status 1.
    """
    if settings.http:
        check_installed()  # before what takes half a minute
    compile_missing(kernels_of(classifier.pool.engine, settings))
    with contextlib.closing(Daemon(classifier, settings)) as daemon, stopped_by_signals(daemon):
        return run_daemon(daemon, announce or print_line)
