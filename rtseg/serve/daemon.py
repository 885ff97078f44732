"""The daemon: frames in over one socket, predictions out over another, on one thread (docs/wire.md).

Its life: bind, compile, say `ready`, serve, drain, close. With what serves beside it the only part of rtseg that reads
a clock, and that has broad excepts: whatever one client sends or loads, the other streams go on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import zmq

from rtseg.config import ServeSettings, WorkerPlace
from rtseg.inference.classifier import Classifier
from rtseg.serve.access.guard import AccessError, Guard
from rtseg.serve.access.zap import FRAMES, PREDICTIONS, Authenticator
from rtseg.serve.loop.admission import Admission
from rtseg.serve.loop.bundle_swap import BundleSwap
from rtseg.serve.loop.cache_warming import CacheWarmer
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.front_orders import FrontOrders
from rtseg.serve.loop.polling import LoopPoller
from rtseg.serve.loop.receiver import Receiver
from rtseg.serve.loop.worker_bundle_swap import WorkerBundleSwap
from rtseg.serve.monitoring.monitor import Monitor
from rtseg.serve.monitoring.status import DaemonStatus
from rtseg.serve.publish.outlet import POLLIN, Outlet
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.timing.realtime import GarbageCollector, LoopPrivileges
from rtseg.serve.workers.front_link import FrontLink, WorkerOutlet
from rtseg.system.shutdown import DRAIN_S, LINGER_MS, QUIET_MS, print_line, stopped_by_signals
from rtseg.wire.addresses import bind, remove_ipc_file
from rtseg.wire.keys import KeyStore
from rtseg.wire.messages import Served, parse_beat, parse_frame, parse_to_daemon

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 100
"""How soon a signal is seen while nothing comes."""
PATIENCE_S = 5.0
IDLE_LOOK_NS = 1_000_000_000
TAPE_LOOK_NS = 2_000_000


class Daemon:
    """Serves one classifier. Binds at once; raises ServeError where it cannot.

    latency: per stage; `decode` of a frame, `step` and `publish` of a batch, `total` from receipt to publishing.
    """

    def __init__(
        self, classifier: Classifier, settings: ServeSettings, worker_place: WorkerPlace | None = None
    ) -> None:
        self._settings, self._worker_place = settings, worker_place
        self._gauge, self._collector = LoopLoad(settings.max_load), GarbageCollector()
        self._beat_ns = 0
        self._stopping = False
        self._looked_ns = time.monotonic_ns()
        self._context = zmq.Context()
        self._addresses: list[str] = []
        self._gatekeeper: Authenticator | None = None
        self._monitor: Monitor | None = None
        self._tape: StreamRecording | None = None
        self._tape_ns = 0
        self._grants: LoopPrivileges | None = None
        try:
            self._grants = LoopPrivileges(settings, self._context)
            if settings.keys:
                self._gatekeeper = Authenticator(self._context, KeyStore(settings.keys))
            self._router = self._listen(zmq.ROUTER, settings.frames, FRAMES)
            self._xpub = self._listen(zmq.XPUB, settings.predictions, PREDICTIONS)
            self._monitor = Monitor(settings, self._pieces, "" if worker_place is None else worker_place.status_file)
        except BaseException:
            self.close()
            raise
        self.frames, predictions = self._addresses
        if worker_place is not None:
            predictions = worker_place.predictions
        places = min(settings.capacity, classifier.pool.capacity - settings.rehearses)
        self._streams = Streams(ServedModel(classifier, predictions, places))
        self._poller = LoopPoller(settings, self._router, self._xpub)
        self._guard: Guard | None = None
        if self._gatekeeper is not None:
            self._guard = Guard(self._gatekeeper, settings, self._addresses)
            self._gatekeeper.start()
        self._front_link: FrontLink | None = None
        self._outlet = Outlet(self._router, self._xpub, self._guard)
        if worker_place is not None:
            outlet = self._outlet = WorkerOutlet(self._router, self._xpub)
            self._front_link = FrontLink(worker_place, outlet, self._streams, self.stop)
        try:
            self._tape = self._outlet.recording = (
                StreamRecording(self._streams.model, settings, worker_place) if settings.record else None
            )
        except BaseException:
            self.close()
            raise
        self._batches = FrameQueue(settings, self._streams, self._outlet, self._gauge)
        self._admission = Admission(self._streams, self._outlet, self._gauge, self._guard, self._front_link)
        front_orders: FrontOrders | None = None
        swap_parts = settings, self._streams, self._outlet, self._step_all, self._warm_caches_with
        if self._front_link is None or not isinstance(self._outlet, WorkerOutlet):
            self._swap = BundleSwap(*swap_parts)
        else:
            outlet, queue = self._outlet, self._batches
            worker_swap = self._swap = WorkerBundleSwap(
                settings, self._streams, outlet, self._step_all, self._warm_caches_with, self._front_link, self._end
            )
            front_orders = FrontOrders(
                self._front_link,
                outlet,
                self._streams,
                queue,
                self._admission,
                worker_swap,
                self._take,
                self.stop,
            )
        self.latency = self._batches.latency
        keys = None if self._gatekeeper is None or self._guard is None else (self._gatekeeper, self._guard)
        parts = self._streams, self._outlet, self.latency, self._gauge
        self._status = DaemonStatus(settings, *parts, lambda: self.granted, keys)
        self._entrance = Receiver(
            *(self._router, self._streams, self._batches, self._outlet, self._take, settings),
            *(self._guard, front_orders),
        )

    @property
    def served(self) -> Served:
        """What answers the streams to come."""
        return self._streams.model.served

    def warm_up(self) -> None:
        """Compile everything that a frame's way needs, and ask the system for what the loop is to have."""
        model = self._streams.model
        model.warm_up()
        warmer = CacheWarmer(model, self._settings, self._context)
        warmer.step_own_frame()
        warmer.close()
        self._entrance.warm_up()
        self._warm_caches_with(model)
        self._poller.warm_up()
        if self._grants is not None:
            self._grants.apply_to_loop()

    def _warm_caches_with(self, model: ServedModel) -> None:
        """What is rehearsed from now on."""
        if self._settings.rehearses:
            if self._poller.cache_warmer is not None:
                self._poller.cache_warmer.close()
            self._poller.cache_warmer = CacheWarmer(model, self._settings, self._context)

    def run(self) -> None:
        """Serve until `stop`, then drain: answer what has arrived, publish what is owed, tell everybody."""
        self._status.started_ns = time.monotonic_ns()
        monitor = self._monitor
        assert monitor is not None
        monitor.announce_ready(self._status.started_ns, f"serving {self.served.model[:12]} at {self.frames}")
        self._collector.disable_automatic()
        try:
            while not self._stopping:
                self._turn(self._wait_ms())
                self._look_around(monitor)
        finally:
            self._collector.restore_automatic()
        monitor.announce_stopping(time.monotonic_ns())
        deadline = time.monotonic() + DRAIN_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline:
            pass
        self._step_all()
        owners = {stream.owner for stream in self._streams}
        for stream in self._streams:
            self._admission.end(stream, "stopping")
        for owner in owners:
            self._outlet.answer(owner, {"type": "stopping"})
        self._outlet.announce_stopping()
        if self._tape is not None:
            self._tape.close()

    def _look_around(self, monitor: Monitor) -> None:
        """Whatever is due besides frames; each look costs a comparison or two."""
        now_ns = time.monotonic_ns()
        self._look_for_silent_streams(now_ns)
        self._look_for_idle_streams(now_ns)
        self._look_for_orders()
        self._look_at_tape()
        if self._front_link is not None:
            self._front_link.report_due(now_ns, quiet=not self._batches)
        if now_ns - self._beat_ns > self._settings.heartbeat_s * 1e9:
            self._beat_ns = now_ns
            self._outlet.publish_heartbeats(self._status.beat_fields)
        if self._collector.is_due(now_ns, quiet=not self._batches):
            self._collector.collect_garbage(now_ns)
        monitor.run_due(now_ns, self._router)

    @property
    def url(self) -> str:
        """Of /metrics, /healthz and /readyz; "" where they are not served."""
        return "" if self._monitor is None else self._monitor.url

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._stopping = self._poller.stopped = True

    def close(self) -> None:
        """Close the sockets, giving what is unsent LINGER_MS, and remove ipc files."""
        if self._tape is not None:
            self._tape.close()
        if self._monitor is not None:
            self._monitor.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        if self._grants is not None:
            self._grants.release()
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def status(self) -> dict[str, Any]:
        """Counters and latencies since the start."""
        return self._status.to_message()

    def _listen(self, kind: int, address: str, domain: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        if self._worker_place is None:  # what a front hands back of a stream may be larger than a client's message
            socket.setsockopt(zmq.MAXMSGSIZE, self._settings.max_message_bytes)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an answer to somebody who left is an error, not silence
        else:
            socket.setsockopt(zmq.XPUB_NODROP, 1)  # the outlet hears of a full queue, and drops and counts itself
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscriber is confirmed, not only a topic's first
        if self._gatekeeper is not None:
            self._gatekeeper.secure(socket, domain)
        self._addresses.append(bind(socket, address, keyed=self._gatekeeper is not None))
        return socket

    @property
    def granted(self) -> dict[str, Any]:
        """What the system gave the loop: cores, priority, polling, garbage."""
        return {} if self._grants is None else self._grants.describe()

    def _wait_ms(self) -> int:
        """How long to wait for messages: until somebody has been silent for too long, POLL_MS at most."""
        next_ns = self._batches.vigil.next_due_ns()
        if self._batches:
            return 0
        if next_ns is None:
            return POLL_MS
        return min(POLL_MS, max(0, -(-(next_ns - time.monotonic_ns()) // 1_000_000)))

    def _turn(self, timeout_ms: int) -> bool:
        """Wait for messages, take those that have come, step a batch; whether there was anything to do."""
        ready = self._poller.wait_for_messages(timeout_ms)
        started_ns = time.monotonic_ns()
        if self._router not in ready:
            self._entrance.emptied_ns = started_ns
        if not ready and not self._batches:
            return False
        if self._xpub in ready:
            self._outlet.receive_subscriptions(self._served_to)
        if self._router in ready and len(self._batches) < self._settings.queue_messages:
            self._entrance.take_what_waits()  # what is not read yet is ZeroMQ's to hold, and its sender's to hear of
        stepped = self._batches.step()
        worked_ns = self._poller.worked_ns = time.monotonic_ns()
        self._gauge.count_turn(worked_ns - started_ns, stepped, worked_ns)
        return True

    def _take(self, owner: bytes, data: bytes, t_recv_ns: int) -> None:
        """One message: a frame joins the queue, anything else is done at once, after the frames before it."""
        kind: str = "frame"
        message: dict[str, Any] = {}
        try:
            kind, message = parse_to_daemon(data)
            if self._guard is not None:
                self._guard.check_message(kind, message.get("stream"), t_recv_ns)
            if kind == "frame":
                wire = parse_frame(message)
                stream = self._streams.owned_stream(owner, wire.stream)
                self._batches.add(stream, stream.to_frame(wire), t_recv_ns, data)
                return
            self._step_all()
            if kind == "hello":
                for then_ns, waiting in self._admission.hello(owner, message, t_recv_ns):
                    self._take(owner, waiting, then_ns)
                self._step_all()
            elif kind == "bye":
                self._admission.bye(owner, message)
            elif kind == "beat":
                self._hear_beat(owner, message, t_recv_ns)
            else:
                self._control(owner, kind, message)
        except Exception as error:
            # Somebody waits for the answer to a bye; nobody wants thirty complaints a second about frames.
            self._batches.refuse(owner, message.get("stream"), message.get("seq"), error, limited=kind == "frame")

    def _end(self, stream: Stream, reason: str) -> None:
        self._admission.end(stream, reason)

    def _step_all(self) -> None:
        self._batches.step_all()

    def _hear_beat(self, owner: bytes, message: dict[str, Any], now_ns: int) -> None:
        """A source that has no frame to send says that it is there; the times let it compare clocks."""
        name, t_source_ns = parse_beat(message)
        stream = self._streams.owned_stream(owner, name)
        stream.alive_ns = now_ns
        times = {"t_source_ns": t_source_ns, "t_recv_ns": now_ns, "t_pub_ns": time.monotonic_ns()}
        self._outlet.answer(owner, {"type": "beat", "stream": name, **times})

    def _control(self, owner: bytes, kind: str, message: dict[str, Any]) -> None:
        if kind == "status":
            self._outlet.answer(owner, {"type": "status", **self.status()})
            return
        if self._guard is None and not self._settings.control:
            raise AccessError(f"{kind} is not taken here: the daemon was started with control = false")
        if kind == "stop":
            LOG.info("asked to stop%s", "" if self._guard is None else f" by key {self._guard.sender_name()!r}")
            self._outlet.answer(owner, {"type": "stopping"})
            self.stop()
            return
        self._swap.request_load(owner, message, "" if self._guard is None else f" by key {self._guard.sender_name()!r}")

    def _look_for_orders(self) -> None:
        """What other threads have found out: keys that were revoked, a bundle that is loaded."""
        if self._guard is not None:
            for name in self._guard.revoked_streams():
                revoked = self._streams.find(name)
                if revoked is not None:
                    self._admission.end(revoked, "key revoked")
        self._swap.install_loaded()

    def _served_to(self, name: str) -> Served:
        """What answers a stream, or would."""
        stream = self._streams.find(name)
        return self.served if stream is None else stream.model.served

    def _pieces(self) -> Iterator[dict[str, Any]]:
        return self._status.shared_pieces(stopping=self._stopping)

    def _look_at_tape(self) -> None:
        """Note the state of a stream whose turn it is, between two frames, and tell everybody of a full disk."""
        if self._tape is None:
            return
        now_ns = time.monotonic_ns()
        if now_ns - self._tape_ns < TAPE_LOOK_NS:
            return
        self._tape_ns = now_ns
        name = self._tape.stream_due(now_ns)
        stream = None if name is None else self._streams.find(name)
        if stream is not None:
            self._tape.record_snapshot(stream, now_ns)
        news = self._tape.changed_state(now_ns)
        if news is not None:
            for stream in self._streams:
                self._outlet.announce(stream.topic, news)

    def _look_for_silent_streams(self, now_ns: int) -> None:
        next_ns = self._batches.vigil.next_due_ns()
        if next_ns is None or now_ns < next_ns or self._batches:
            return
        if cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN:
            return  # the frame that is missed may have come already
        for stream in self._batches.vigil.fallen_silent(now_ns):
            about = {"seq": stream.newest_seq, "silent_ms": round((now_ns - stream.last_ns) / 1e6, 1)}
            self._outlet.announce(stream.topic, {"type": "stale", **about})

    def _look_for_idle_streams(self, now_ns: int) -> None:
        limit_ns = int(self._settings.idle_timeout_s * 1e9)
        if now_ns - self._looked_ns < min(limit_ns, IDLE_LOOK_NS):
            return
        self._looked_ns = now_ns
        for stream in self._streams:
            if now_ns - max(stream.last_ns, stream.alive_ns) > limit_ns:
                self._admission.end(stream, "idle")


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """Says what takes so long, where it does: what is compiled is kept for the next start."""
    told = "compiling: the first start on a machine takes about a minute, later ones two seconds"
    timer = threading.Timer(PATIENCE_S, LOG.info, [told])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def serve(
    classifier: Classifier,
    settings: ServeSettings,
    announce: Callable[[str], None] | None = None,
    worker_place: WorkerPlace | None = None,
) -> dict[str, Any]:
    """Run a daemon until SIGINT or SIGTERM; returns its last status.

    announce gets two lines, `ready {json}` and `stopped {json}`; they go to stdout where it is None. Raises ServeError
    where an address cannot be had. A second signal ends the process at once, with status 1.
    worker_place: for a worker, which its front stops, and no signal.
    """
    say = announce or print_line
    daemon = Daemon(classifier, settings, worker_place)
    try:
        with stopped_by_signals(daemon) if worker_place is None else contextlib.nullcontext():
            with _patience():
                daemon.warm_up()
            about: dict[str, Any] = {"frames": daemon.frames, "predictions": daemon.served.predictions}
            about |= {"model": daemon.served.model, "engine": daemon.served.engine, "pid": os.getpid()}
            about |= {"http": daemon.url} if daemon.url else {}
            about["loop"] = daemon.granted
            say(f"ready {json.dumps(about)}")
            daemon.run()
            status = daemon.status()
            told = ("uptime_s", "counters", "latency", "recording")
            say(f"stopped {json.dumps({key: status[key] for key in told if key in status})}")
            return status
    finally:
        daemon.close()
