"""What the loop does besides frames, after each turn: whatever is due of many small tasks.

Silent and idle streams, animals of another size than training's, revoked keys, bundles that are loaded, snapshots for
the recording, heartbeats, garbage, and what others watch. A look that finds nothing due costs a comparison or two.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.access.guard import Guard
from rtseg.serve.access.memory_watch import LOOK_NS
from rtseg.serve.loop.admission import Admission
from rtseg.serve.loop.bundle_swap import BundleSwap
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.monitoring.monitor import Monitor
from rtseg.serve.monitoring.status import DaemonStatus
from rtseg.serve.publish.outlet import POLLIN, Outlet
from rtseg.serve.streams.size_watch import size_events
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.timing.realtime import GarbageCollector
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.serve.workers.front_link import FrontLink

LOG = logging.getLogger("rtseg.serve")
IDLE_CHECK_NS = 1_000_000_000
RECORDING_CHECK_NS = 2_000_000


class Housekeeping:
    """The daemon's tasks besides frames.

    router: the frames' socket. look_after_clients: is called each `memory_watch.LOOK_NS`. front_link: of a worker,
    otherwise None. stage: None where there are no triggers.
    """

    def __init__(
        self,
        settings: ServeSettings,
        router: zmq.Socket[bytes],
        streams: Streams,
        queue: FrameQueue,
        outlet: Outlet,
        admission: Admission,
        bundle_swap: BundleSwap,
        monitor: Monitor,
        status: DaemonStatus,
        garbage: GarbageCollector,
        look_after_clients: Callable[[], None],
        *,
        guard: Guard | None,
        front_link: FrontLink | None,
        stage: TriggerStage | None,
        now_ns: int,
    ) -> None:
        self._stage = stage
        self._router, self._streams, self._queue, self._outlet = router, streams, queue, outlet
        self._admission, self._bundle_swap, self._monitor, self._status = admission, bundle_swap, monitor, status
        self._garbage, self._guard, self._front_link = garbage, guard, front_link
        self._idle_ns = int(settings.idle_timeout_s * 1e9)
        # Looked at each second, or more often where a stream may be idle for less than that.
        self._idle_check = Periodic(min(self._idle_ns, IDLE_CHECK_NS), now_ns)
        self._recording_check = Periodic(RECORDING_CHECK_NS)
        self._look_after_clients, self._clients_due_ns = look_after_clients, now_ns
        self._heartbeat = Periodic(int(settings.heartbeat_s * 1e9))

    def run_due_tasks(self, now_ns: int) -> None:
        """Do whatever is due."""
        if self._stage is not None and (self._stage.watch.reports_wait or now_ns >= self._stage.watch.due_ns):
            self._stage.run_due(now_ns)  # first: a line may have to go off
        self._announce_silent_streams(now_ns)
        if self._idle_check.restart_if_due(now_ns):
            self._end_idle_streams(now_ns)
            self._announce_sizes()
        # Other threads find out that a key was revoked or a bundle is loaded. It is acted on only here, between two
        # frames: so nothing that a frame passes needs a lock.
        if self._guard is not None:
            self._end_revoked_streams(self._guard)
        self._bundle_swap.install_loaded()
        if self._outlet.recording is not None and self._recording_check.restart_if_due(now_ns):
            self._record_snapshot(now_ns)
        if now_ns >= self._clients_due_ns:  # compared here: this is passed after every frame
            self._clients_due_ns = now_ns + LOOK_NS
            self._look_after_clients()
        # Whatever takes longer waits for a moment without frames.
        quiet = not self._queue
        if self._front_link is not None:
            self._front_link.report_due(now_ns, quiet=quiet)
        if self._outlet.subscribers.unconfirmed:
            self._outlet.confirm_subscriptions(self._streams.served_to)
        if self._heartbeat.restart_if_due(now_ns):
            self._begin_heartbeats(now_ns)
        if self._outlet.beats_due:
            self._outlet.send_heartbeats(self._status.beat_fields)
        if self._garbage.is_due(now_ns, quiet=quiet):
            self._garbage.collect_garbage(now_ns)
        self._monitor.run_due(now_ns, self._router)

    def _begin_heartbeats(self, now_ns: int) -> None:
        subscribers = self._outlet.subscribers
        subscribers.forget_absent(now_ns)
        # A worker does not know who listens: its front picks out of the heartbeats of all streams.
        is_worker = self._front_link is not None
        self._outlet.begin_heartbeats([s.topic for s in self._streams] if is_worker else subscribers.topics())

    def _announce_silent_streams(self, now_ns: int) -> None:
        watch = self._queue.silence_watch
        next_ns = watch.next_due_ns()
        # While frames wait, the one that is missed may be among them.
        if next_ns is None or now_ns < next_ns or self._queue:
            return
        if self._message_waits():
            return  # or it has come, and is not read yet
        for stream in watch.fallen_silent(now_ns):
            silent_ms = round((now_ns - stream.queued.last_ns) / 1e6, 1)
            event = {"type": "stale", "seq": stream.queued.newest_seq, "silent_ms": silent_ms}
            self._outlet.announce(stream.topic, event)

    def _message_waits(self) -> bool:
        return bool(cast(int, self._router.getsockopt(zmq.EVENTS)) & POLLIN)

    def _announce_sizes(self) -> None:
        for stream, event in size_events(self._streams):
            if event["reason"]:
                LOG.warning("stream %r: %s", stream.name, event["reason"])
            self._outlet.announce(stream.topic, event)

    def _end_idle_streams(self, now_ns: int) -> None:
        if self._front_link is not None and self._message_waits():
            # A front's messages come in the order in which it got them: behind what others flood, a stream's frames may
            # wait, and that is no silence. (Where clients are connected themselves, ZeroMQ takes them in turn.)
            now_ns = min(now_ns, self._front_link.newest_receipt_ns)
        for stream in self._streams:
            if stream.silent_ns(now_ns) > self._idle_ns:
                self._admission.end_stream(stream, "idle")

    def _end_revoked_streams(self, guard: Guard) -> None:
        for name in guard.revoked_streams():
            stream = self._streams.find(name)
            if stream is not None:
                self._admission.end_stream(stream, "key revoked")

    def _record_snapshot(self, now_ns: int) -> None:
        """Record the state of a stream whose turn it is, between two frames, and tell everybody of a full disk."""
        recording = self._outlet.recording
        assert recording is not None
        name = recording.stream_due(now_ns)
        stream = None if name is None else self._streams.find(name)
        if stream is not None:
            recording.record_snapshot(stream, now_ns)
        event = recording.changed_state(now_ns)
        if event is not None:
            for stream in self._streams:
                self._outlet.announce(stream.topic, event)
