"""The daemon: frames in over one socket, predictions out over another, on one thread (docs/wire.md).

Its life: bind, compile, say `ready`, serve, drain, close. With what serves beside it the only part of rtseg that reads
a clock, and that has broad excepts: whatever one client sends or loads, the other streams go on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, cast

import zmq

import rtseg
from rtseg.classifier import Classifier
from rtseg.config import ServeSettings
from rtseg.errors import RtsegError
from rtseg.frames import Frame
from rtseg.predictions import Prediction
from rtseg.serve import relay as relaying
from rtseg.serve.addresses import bind, remove_ipc_file
from rtseg.serve.board import stream_counts
from rtseg.serve.guard import AccessError, Guard
from rtseg.serve.keys import KeyStore
from rtseg.serve.latency import Histogram
from rtseg.serve.load import CapacityError, Gauge
from rtseg.serve.messages import (
    Hello,
    MessageError,
    Served,
    parse_beat,
    parse_bye,
    parse_frame,
    parse_load,
    parse_to_daemon,
)
from rtseg.serve.models import Loader, LoadRequest, Model
from rtseg.serve.outlet import Outlet
from rtseg.serve.past import same_source
from rtseg.serve.realtime import Collector, Grants
from rtseg.serve.rehearsal import Rehearsal
from rtseg.serve.relay import NOBODY, Relay
from rtseg.serve.streams import Stream, StreamError, Streams
from rtseg.serve.tape import Tape
from rtseg.serve.upkeep import Upkeep
from rtseg.serve.vigil import Vigil
from rtseg.serve.zap import FRAMES, PREDICTIONS, Gatekeeper

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 100
"""How soon a signal is seen while nothing comes."""
QUIET_MS = 10
DRAIN_S = 0.5
"""Stopping: the sockets are read until they are quiet for QUIET_MS, for DRAIN_S at most."""
LINGER_MS = 1000
"""How long unsent messages may hold up the end."""
IDLE_LOOK_NS = 1_000_000_000
TAPE_LOOK_NS = 2_000_000
STREAMS_A_PIECE = 16
TAKEN_AT_ONCE = 4
"""Messages read before the next batch is stepped, in batches: when a frame came is known as soon as it came."""
SPINS = 20
OVERLOAD_EVERY_NS = 1_000_000_000
_Waiting = tuple[Stream, Frame, int, int, bytes]
"""A frame with the times of its receipt and of its decoding, and as it came."""


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Begin to end; called from a signal handler."""


class Daemon:
    """Serves one classifier. Binds at once; raises ServeError where it cannot.

    latency: per stage; `decode` of a frame, `step` and `publish` of a batch, `total` from receipt to publishing.
    """

    def __init__(self, classifier: Classifier, settings: ServeSettings, relay: Relay | None = None) -> None:
        self._relay, self._kept_ns = relay, 0
        self._keeping: deque[str] = deque()
        self._settings = settings
        self._queue: deque[_Waiting] = deque()
        self._vigil: Vigil[Stream] = Vigil()
        self._gauge, self._collector = Gauge(settings.max_load), Collector()
        self._rehearsal: Rehearsal | None = None
        self._worked_ns = self._beat_ns = 0
        self._stopping = False
        self._started_ns = self._looked_ns = time.monotonic_ns()
        self._context = zmq.Context()
        self._addresses: list[str] = []
        self._gatekeeper: Gatekeeper | None = None
        self._upkeep: Upkeep | None = None
        self._tape: Tape | None = None
        self._tape_ns = 0
        self._grants: Grants | None = None
        try:
            self._grants = Grants(settings, self._context)
            if settings.keys:
                self._gatekeeper = Gatekeeper(self._context, KeyStore(settings.keys))
            self._router = self._listen(zmq.ROUTER, settings.frames, FRAMES)
            self._xpub = self._listen(zmq.XPUB, settings.predictions, PREDICTIONS)
            self._upkeep = Upkeep(settings, self._pieces)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)
        self.frames, predictions = self._addresses
        if relay is not None:
            predictions = relay.predictions
        places = min(settings.capacity, classifier.pool.capacity - settings.rehearses)
        self._streams = Streams(Model(classifier, predictions, places))
        self._loader = Loader(settings, predictions)
        self._guard: Guard | None = None
        if self._gatekeeper is not None:
            self._guard = Guard(self._gatekeeper, settings, self._addresses)
            self._gatekeeper.start()
        self._outlet = Outlet(self._router, self._xpub, self._served_to, self._guard)
        self._outlet.relayed = relay is not None
        try:
            self._tape = self._outlet.tape = Tape(self._streams.model, settings) if settings.record else None
        except BaseException:
            self.close()
            raise
        self._counters = self._outlet.counters
        self._decode, self._step, self._publish = Histogram(), Histogram(), Histogram()
        self.latency = {
            "decode": self._decode,
            "step": self._step,
            "publish": self._publish,
            "total": self._outlet.total,
        }

    @property
    def served(self) -> Served:
        """What answers the streams to come."""
        return self._streams.model.served

    def warm_up(self) -> None:
        """Compile everything that a frame's way needs, and ask the system for what the loop is to have."""
        self._streams.model.warm_up()
        if self._settings.rehearses:
            self._rehearsal = Rehearsal(self._streams.model)
            for _ in range(100):
                self._rehearsal.once()
        if self._grants is not None:
            self._grants.enter()

    def run(self) -> None:
        """Serve until `stop`, then drain: answer what has arrived, publish what is owed, tell everybody."""
        self._started_ns = time.monotonic_ns()
        upkeep = self._upkeep
        assert upkeep is not None
        upkeep.ready(self._started_ns, f"serving {self.served.model[:12]} at {self.frames}")
        self._collector.begin()
        try:
            while not self._stopping:
                self._turn(self._wait_ms())
                self._look_around(upkeep)
        finally:
            self._collector.end()
        upkeep.stopping(time.monotonic_ns())
        deadline = time.monotonic() + DRAIN_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline:
            pass
        self._step_all()
        owners = {stream.owner for stream in self._streams}
        for stream in self._streams:
            self._end(stream, "stopping")
        for owner in owners:
            self._outlet.answer(owner, {"type": "stopping"})
        self._outlet.announce_end()
        if self._tape is not None:
            self._tape.close()

    def _look_around(self, upkeep: Upkeep) -> None:
        """Whatever is due besides frames; each look costs a comparison or two."""
        now_ns = time.monotonic_ns()
        self._look_for_silent_streams(now_ns)
        self._look_for_idle_streams(now_ns)
        self._look_for_orders()
        self._look_at_tape()
        self._keep_state(now_ns)
        if now_ns - self._beat_ns > self._settings.heartbeat_s * 1e9:
            self._beat_ns = now_ns
            self._outlet.beat(self._about_stream)
        if self._collector.due(now_ns, quiet=not self._queue):
            self._collector.collect(now_ns)
        upkeep.turn(now_ns, self._router)

    @property
    def url(self) -> str:
        """Of /metrics, /healthz and /readyz; "" where they are not served."""
        return "" if self._upkeep is None else self._upkeep.url

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Close the sockets, giving what is unsent LINGER_MS, and remove ipc files."""
        if self._tape is not None:
            self._tape.close()
        if self._upkeep is not None:
            self._upkeep.close()
        if self._gatekeeper is not None:
            self._gatekeeper.close()
        if self._grants is not None:
            self._grants.release()
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def status(self) -> dict[str, Any]:
        """Counters and latencies since the start."""
        return {
            "uptime_s": (time.monotonic_ns() - self._started_ns) / 1e9,
            **self.served.to_fields(),
            "capacity": self._streams.model.places,
            "loop": self.granted,
            "load": round(self._gauge.load()[0], 4),
            "streams": {stream.name: stream.counters() for stream in self._streams},
            "clocks": {stream.name: stream.clock.summary() for stream in self._streams},
            "stale": [stream.name for stream in self._streams if stream.stale],
            "drift": {stream.name: stream.drift() for stream in self._streams},
            "models": {stream.name: stream.model.served.model for stream in self._streams},
            "counters": self._counted(),
            "latency": {stage: histogram.summary() for stage, histogram in self.latency.items()},
            **({} if self._tape is None else {"recording": self._tape.status()}),
        }

    def _listen(self, kind: int, address: str, domain: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
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
        return {} if self._grants is None else self._grants.told()

    def _wait_ms(self) -> int:
        """How long to wait for messages: until somebody has been silent for too long, POLL_MS at most."""
        next_ns = self._vigil.next_ns()
        if self._queue:
            return 0
        if next_ns is None:
            return POLL_MS
        return min(POLL_MS, max(0, -(-(next_ns - time.monotonic_ns()) // 1_000_000)))

    def _turn(self, timeout_ms: int) -> bool:
        """Wait for messages, take those that have come, step a batch; whether there was anything to do."""
        ready = self._spin(timeout_ms) if self._settings.busy_poll else dict(self._poller.poll(timeout_ms))
        if not ready and not self._queue:
            return False
        started_ns = time.monotonic_ns()
        if self._xpub in ready:
            self._outlet.hear_subscriptions()
        if self._router in ready:
            self._take_what_waits()
        stepped = self._step_batch()
        self._worked_ns = time.monotonic_ns()
        self._gauge.add(self._worked_ns - started_ns, stepped, self._worked_ns)
        return True

    def _spin(self, timeout_ms: int) -> dict[Any, int]:
        """The same as the poller, without ever sleeping."""
        end_ns, clock = time.monotonic_ns() + timeout_ms * 1_000_000, time.monotonic_ns
        rehearse_ns = self._settings.rehearse_us * 1000
        while True:
            for _ in range(SPINS):
                if cast(int, self._router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                    return {self._router: zmq.POLLIN}
            if cast(int, self._xpub.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return {self._xpub: zmq.POLLIN}
            now_ns = clock()
            if now_ns >= end_ns or self._stopping:
                return {}
            if self._rehearsal is not None and now_ns - self._worked_ns > rehearse_ns:
                self._rehearsal.once()
                self._worked_ns = clock()

    def _take_what_waits(self) -> None:
        router, guard, clock = self._router, self._guard, time.monotonic_ns
        if len(self._queue) >= self._settings.queue_messages:
            return  # what has not been read yet is ZeroMQ's to hold, and its sender's to hear of
        for _ in range(TAKEN_AT_ONCE * self._settings.max_batch):
            parts = router.recv_multipart() if guard is None else guard.receive(router)
            t_recv_ns = clock()
            if self._relay is not None and parts is not None:
                parts = parts[1:]
                if len(parts) == 2 and parts[0] == NOBODY:
                    self._hear_front(parts[1], t_recv_ns)
                    parts = None
            if parts is None:
                pass
            elif len(parts) == 2:
                self._take(parts[0], parts[1], t_recv_ns)
            else:
                several = MessageError(f"expected one message part, got {len(parts) - 1}")
                self._outlet.complain(parts[0], None, None, several)
            if not cast(int, router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                break

    def _take(self, owner: bytes, data: bytes, t_recv_ns: int) -> None:
        """One message: a frame joins the queue, anything else is done at once, after the frames before it."""
        kind: str = "frame"
        message: dict[str, Any] = {}
        try:
            kind, message = parse_to_daemon(data)
            if self._guard is not None:
                self._guard.check(kind, message.get("stream"), t_recv_ns)
            if kind == "frame":
                wire = parse_frame(message)
                stream = self._streams.of(owner, wire.stream)
                self._accept_frame(stream, stream.frame(wire), t_recv_ns, data)
                return
            self._step_all()
            if kind == "hello":
                self._hello(owner, message, t_recv_ns)
            elif kind == "bye":
                self._bye(owner, message)
            elif kind == "beat":
                self._hear_beat(owner, message, t_recv_ns)
            else:
                self._control(owner, kind, message)
        except Exception as error:
            # Somebody waits for the answer to a bye; nobody wants thirty complaints a second about frames.
            self._refuse(owner, message.get("stream"), message.get("seq"), error, limited=kind == "frame")

    def _accept_frame(self, stream: Stream, frame: Frame, t_recv_ns: int, data: bytes) -> None:
        self._queue.append((stream, frame, t_recv_ns, time.monotonic_ns(), data))
        stream.waiting += 1
        stream.last_ns = t_recv_ns
        if stream.waiting - stream.dropping > self._settings.backlog_frames:
            stream.dropping += 1  # the oldest one, when its turn comes
        if frame.seq > stream.newest_seq:
            stream.newest_seq = frame.seq
            if stream.clock.note(frame.t_source_ns, t_recv_ns):
                self._outlet.announce(stream.topic, {"type": "clock", "seq": frame.seq, **stream.clock.summary()})
        if not stream.watched:
            if stream.stale:
                self._outlet.announce(stream.topic, {"type": "fresh", "seq": frame.seq})
            self._vigil.watch(stream)

    def _next_batch(self) -> list[_Waiting]:
        """The frames whose turn it is; those that have waited behind too many others are left out and counted."""
        batch: list[_Waiting] = []
        queue, most = self._queue, self._settings.max_batch
        while queue and len(batch) < most:
            row = queue.popleft()
            stream = row[0]
            if stream.dropping:
                stream.dropping -= 1
                stream.waiting -= 1
                stream.dropped += 1
                self._counters["dropped frames"] += 1
                self._say_overload(stream, row[1].seq)
            elif stream.closed:
                stream.waiting -= 1
            else:
                batch.append(row)
        return batch

    def _say_overload(self, stream: Stream, seq: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - stream.overload_ns < OVERLOAD_EVERY_NS:
            return
        stream.overload_ns = now_ns
        share = self._gauge.load()[0]
        about = {"seq": seq, "dropped": stream.dropped, "load": round(share, 3)}
        self._outlet.announce(stream.topic, {"type": "overload", **about})
        behind = CapacityError(
            f"more than {self._settings.backlog_frames} frames of stream {stream.name!r} wait (backlog_frames): the "
            f"oldest is left out; {stream.dropped} so far"
        )
        self._outlet.complain(stream.owner, stream.name, seq, behind)

    def _step_all(self) -> None:
        while self._queue:
            self._step_batch()

    def _step_batch(self) -> int:
        """Step the frames that wait longest, in the order in which they came, and publish the answers; how many."""
        batch = self._next_batch()
        if not batch:
            return 0
        started_ns = time.monotonic_ns()
        if self._tape is not None:
            for _, _, t_recv_ns, _, data in batch:
                self._tape.frame(data, t_recv_ns)
        try:
            answers = _step(batch)
        except Exception as error:
            for stream, frame, _, _, _ in batch:
                stream.waiting -= 1
                self._refuse(stream.owner, stream.name, frame.seq, error)
            return len(batch)
        stepped_ns = time.monotonic_ns()
        publish = self._outlet.publish
        for (stream, frame, t_recv_ns, _, _), predictions in zip(batch, answers, strict=True):
            stream.note(frame.seq, t_recv_ns)
            stream.waiting -= 1
            keep_back = stream.waiting > 0 and stream.hello.policy == "newest"
            for prediction in predictions:
                publish(stream, prediction, t_recv_ns, keep_back=keep_back)
        # What is counted is counted when nobody waits for it.
        self._publish.add(time.monotonic_ns() - stepped_ns)
        self._step.add(stepped_ns - started_ns)
        for _, _, t_recv_ns, decoded_ns, _ in batch:
            self._decode.add(decoded_ns - t_recv_ns)
        self._counters["batches"] += 1
        self._counters["frames"] += len(batch)
        return len(batch)

    def _refuse(self, owner: bytes, name: object, seq: object, error: Exception, *, limited: bool = True) -> None:
        known = name[:200] if isinstance(name, str) else None
        stream = self._streams.find(known or "")
        if stream is not None and stream.owner == owner:
            stream.refused += 1
        number = seq if type(seq) is int else None
        said = self._outlet.complain(owner, known, number, error, limited=limited)
        if said and not isinstance(error, RtsegError):
            LOG.error("a message of stream %r could not be handled", known, exc_info=error)

    def _hello(self, owner: bytes, message: dict[str, Any], now_ns: int) -> None:
        try:
            hello = Hello.from_message(message)
            points = self._streams.check(hello)
            before = self._streams.find(hello.stream)
            if before is not None and self._goes_on(before, owner, hello):
                return
            if before is not None:
                # A live owner hears that somebody wants its stream; a dead one cannot be reached and has lost it.
                contested = {"type": "contested", "stream": hello.stream}
                if before.owner != owner and self._outlet.answer(before.owner, contested):
                    raise StreamError(f"stream {hello.stream!r} is open from another connection: choose another name")
                self._end(before, "reopened" if before.owner == owner else "taken over")
            declared_fps = sum(1e9 / stream.interval_ns for stream in self._streams)
            self._gauge.admit(hello.stream, hello.fps, declared_fps)
            stream = self._streams.open(owner, hello, points, now_ns)
            last_seq, waiting = (None, []) if self._tape is None else self._tape.begin(stream, now_ns)
        except RtsegError as error:
            self._counters["refused hellos"] += 1
            LOG.info("hello refused: %s", error)
            name = message.get("stream")
            refused = {"type": "refused", "stream": name if isinstance(name, str) else None, "reason": str(error)}
            self._outlet.answer(owner, refused)
            return
        if self._guard is not None:
            self._guard.opened(stream.name)
        LOG.info("stream %r opened", stream.name)
        self._counters["hellos"] += 1
        arena = None if hello.arena is None else list(hello.arena)
        about = {"clock": hello.clock, "arena": arena, "resumed": last_seq}
        self._outlet.announce(stream.topic, {"type": "opened", **about})
        self._accept(stream, last_seq)
        for data in waiting:
            self._take(owner, data, now_ns)
        self._step_all()

    def _accept(self, stream: Stream, last_seq: int | None) -> None:
        accepted: dict[str, Any] = {"type": "accepted", "stream": stream.name, "resumed": last_seq}
        accepted["policy"] = stream.hello.policy
        delay_s = stream.session.delay_s
        resampled = {"from": stream.hello.fps, "to": stream.model.bundle.fps, "delay_s": delay_s}
        accepted["resampled"] = resampled if stream.session.is_resampled else None
        self._outlet.answer(stream.owner, accepted | stream.model.served.to_fields())

    def _goes_on(self, stream: Stream, owner: bytes, hello: Hello) -> bool:
        """Whether a hello only brings an open stream's source back, over another connection; it is answered then."""
        if not hello.resume or not same_source(stream.hello, hello):
            return False
        if stream.owner != owner and self._outlet.answer(stream.owner, {"type": "contested", "stream": stream.name}):
            return False
        stream.owner = owner
        if self._guard is not None:
            self._guard.opened(stream.name)
        LOG.info("stream %r goes on over another connection", stream.name)
        self._counters["hellos"] += 1
        self._accept(stream, stream.session.last_seq)
        return True

    def _bye(self, owner: bytes, message: dict[str, Any]) -> None:
        stream = self._streams.of(owner, parse_bye(message))
        self._end(stream, "bye")
        self._outlet.answer(owner, {"type": "goodbye", "stream": stream.name, "counters": stream.counters()})

    def _hear_front(self, data: bytes, now_ns: int) -> None:
        """A client that is gone, or a stream that comes back from a worker that died."""
        message = relaying.unpack(data)
        if message["type"] == "gone":
            self._outlet.gone.add(message["owner"])
            return
        hello = relaying.hello_of(message)
        stream = self._streams.open(message["owner"], hello, self._streams.check(hello), now_ns)
        if message["state"] is not None:
            stream.session.restore(message["state"])
        stream.answers = message["answers"]
        LOG.info("stream %r is restored", stream.name)

    def _keep_state(self, now_ns: int) -> None:
        """Give the front the state of a stream whose turn it is: one at a time, all of them every `every_s`."""
        if self._relay is None or self._queue:
            return
        if not self._keeping:
            if now_ns - self._kept_ns > self._relay.every_s * 1e9:
                self._kept_ns = now_ns
                self._keeping.extend(stream.name for stream in self._streams)
            return
        stream = self._streams.find(self._keeping.popleft())
        if stream is not None and stream.newest_seq >= 0:
            self._outlet.tell_front(relaying.snapshot(stream))

    def _hear_beat(self, owner: bytes, message: dict[str, Any], now_ns: int) -> None:
        """A source that has no frame to send says that it is there; the times let it compare clocks."""
        name, t_source_ns = parse_beat(message)
        stream = self._streams.of(owner, name)
        stream.alive_ns = now_ns
        times = {"t_source_ns": t_source_ns, "t_recv_ns": now_ns, "t_pub_ns": time.monotonic_ns()}
        self._outlet.answer(owner, {"type": "beat", "stream": name, **times})

    def _about_stream(self, name: str) -> dict[str, Any]:
        """For a heartbeat."""
        stream = self._streams.find(name)
        if stream is None:
            return {}
        seq = stream.newest_seq if stream.newest_seq >= 0 else None
        return {"stale": stream.stale, "seq": seq, "clock": stream.clock.summary()}

    def _control(self, owner: bytes, kind: str, message: dict[str, Any]) -> None:
        if kind == "status":
            self._outlet.answer(owner, {"type": "status", **self.status()})
            return
        if self._guard is None and not self._settings.control:
            raise AccessError(f"{kind} is not taken here: the daemon was started with control = false")
        if kind == "stop":
            LOG.info("asked to stop%s", "" if self._guard is None else f" by key {self._guard.sender()!r}")
            self._outlet.answer(owner, {"type": "stopping"})
            self.stop()
            return
        folder, name = parse_load(message)
        if name is not None and self._streams.find(name) is None:
            raise StreamError(f"stream {name!r} is not open"[:300])
        LOG.info("asked to load %s%s", folder, "" if self._guard is None else f" by key {self._guard.sender()!r}")
        self._loader.start(LoadRequest(owner, Path(folder), name))

    def _look_for_orders(self) -> None:
        """What other threads have found out: keys that were revoked, a bundle that is loaded."""
        if self._guard is not None:
            for name in self._guard.revoked():
                revoked = self._streams.find(name)
                if revoked is not None:
                    self._end(revoked, "key revoked")
        done = self._loader.done()
        if done is not None:
            self._swap(*done)

    def _swap(self, request: LoadRequest, result: Model | Exception) -> None:
        """Let a loaded model answer: from the next frame on, for one stream or for all and those to come."""
        try:
            if isinstance(result, Exception):
                raise result
            streams = [stream for stream in self._streams if request.stream in (None, stream.name)]
            if request.stream is not None and not streams:
                raise StreamError(f"stream {request.stream!r} has been closed in the meantime"[:300])
            points = [self._streams.check_swap(stream, result) for stream in streams]  # all of them, or none
        except Exception as error:
            self._counters["refused loads"] += 1
            unforeseen = None if isinstance(error, RtsegError) else error
            LOG.warning("bundle %s is not taken: %s", request.bundle, error, exc_info=unforeseen)
            self._outlet.answer(request.owner, {"type": "refused", "stream": request.stream, "reason": str(error)})
            return
        self._step_all()  # frames that wait are in the old model's order of points
        for stream, index in zip(streams, points, strict=True):
            owed = partial(self._outlet.publish, stream, t_recv_ns=stream.last_ns)
            self._streams.swap(stream, result, index, owed)
            self._outlet.announce(stream.topic, {"type": "model", **result.served.to_fields()})
            if self._tape is not None:
                self._tape.note(stream, time.monotonic_ns())
        if request.stream is None:
            self._streams.model = result
            if self._rehearsal is not None:
                self._rehearsal = Rehearsal(result)
        self._counters["loads"] += 1
        LOG.info("model %s answers %s", result.served.model[:12], request.stream or "all streams")
        about = {"stream": request.stream, "streams": [stream.name for stream in streams]}
        self._outlet.answer(request.owner, {"type": "loaded", **about, **result.served.to_fields()})

    def _served_to(self, name: str) -> Served:
        """What answers a stream, or would."""
        stream = self._streams.find(name)
        return self.served if stream is None else stream.model.served

    def _counted(self) -> dict[str, int]:
        counted = dict(self._counters)
        if self._gatekeeper is not None and self._guard is not None:
            counted["refused connections"] = self._gatekeeper.refused
            counted["revoked messages"] = self._guard.ignored
        if self._tape is not None:
            counted |= self._tape.counted()
        return counted

    def _pieces(self) -> Iterator[dict[str, Any]]:
        """The board's pieces: each takes microseconds, for frames may come in between."""
        yield {
            "model": self.served.model,
            "engine": self.served.engine,
            "version": rtseg.__version__,
            "started_ns": self._started_ns,
            "capacity": self._streams.model.places,
            "fresh_s": self._settings.fresh_s,
            "ready": True,
            "stopping": self._stopping,
            "counters": self._counted(),
            "streams": {},
        }
        for stage, histogram in self.latency.items():
            yield {"latency": {stage: histogram.cumulative()}}
        streams = list(self._streams)
        for start in range(0, len(streams), STREAMS_A_PIECE):
            some = streams[start : start + STREAMS_A_PIECE]
            yield {"streams": {s.name: [s.last_ns, *stream_counts(s.session.counters, s.refused)] for s in some}}

    def _end(self, stream: Stream, reason: str) -> None:
        """Publish what a lookahead still owes, close the stream, and say so."""
        for prediction in stream.session.finish():
            self._outlet.publish(stream, prediction, stream.last_ns)
        drift = stream.drift()
        self._streams.close(stream)
        if self._tape is not None:
            self._tape.end(stream)
        if self._guard is not None:
            self._guard.closed(stream.name)
        if self._relay is not None:
            self._outlet.tell_front(relaying.ended(stream.name))
        LOG.info("stream %r closed: %s", stream.name, reason)
        if drift.get("out_of_range"):
            LOG.warning("stream %r: %s", stream.name, _told(drift))
        about = {"reason": reason, "counters": stream.counters(), "drift": drift}
        self._outlet.announce(stream.topic, {"type": "closed", **about})

    def _look_at_tape(self) -> None:
        """Note the state of a stream whose turn it is, between two frames, and tell everybody of a full disk."""
        if self._tape is None:
            return
        now_ns = time.monotonic_ns()
        if now_ns - self._tape_ns < TAPE_LOOK_NS:
            return
        self._tape_ns = now_ns
        name = self._tape.due(now_ns)
        stream = None if name is None else self._streams.find(name)
        if stream is not None:
            self._tape.note(stream, now_ns)
        news = self._tape.news(now_ns)
        if news is not None:
            for stream in self._streams:
                self._outlet.announce(stream.topic, news)

    def _look_for_silent_streams(self, now_ns: int) -> None:
        next_ns = self._vigil.next_ns()
        if next_ns is None or now_ns < next_ns or self._queue:
            return
        if cast(int, self._router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return  # the frame that is missed may have come already
        for stream in self._vigil.overdue(now_ns):
            about = {"seq": stream.newest_seq, "silent_ms": round((now_ns - stream.last_ns) / 1e6, 1)}
            self._outlet.announce(stream.topic, {"type": "stale", **about})

    def _look_for_idle_streams(self, now_ns: int) -> None:
        limit_ns = int(self._settings.idle_timeout_s * 1e9)
        if now_ns - self._looked_ns < min(limit_ns, IDLE_LOOK_NS):
            return
        self._looked_ns = now_ns
        for stream in self._streams:
            if now_ns - max(stream.last_ns, stream.alive_ns) > limit_ns:
                self._end(stream, "idle")


def _step(batch: list[_Waiting]) -> list[list[Prediction]]:
    """The answers to the frames of a batch, row by row; each model steps its own in one go."""
    first = batch[0][0].model
    if all(row[0].model is first for row in batch):
        return first.pool.step([row[0].session for row in batch], [row[1] for row in batch])
    answers: list[list[Prediction]] = [[] for _ in batch]
    for model in {id(row[0].model): row[0].model for row in batch}.values():
        places = [place for place, row in enumerate(batch) if row[0].model is model]
        stepped = model.pool.step([batch[p][0].session for p in places], [batch[p][1] for p in places])
        for place, predictions in zip(places, stepped, strict=True):
            answers[place] = predictions
    return answers


def _told(drift: dict[str, Any]) -> str:
    """A stream's drift in one line."""
    worst = ", ".join(f"{f['feature']} in {f['frames']} ({f['farthest']:+.2g} widths)" for f in drift["features"])
    return f"{drift['out_of_range']} of {drift['frames']} frames unlike training's; out of range were {worst}"


def serve(
    classifier: Classifier,
    settings: ServeSettings,
    announce: Callable[[str], None] | None = None,
    relay: Relay | None = None,
) -> dict[str, Any]:
    """Run a daemon until SIGINT or SIGTERM; returns its last status.

    announce gets two lines, `ready {json}` and `stopped {json}`; they go to stdout where it is None. Raises ServeError
    where an address cannot be had. relay: for a worker behind a front. A second signal ends the process at once, with
    status 1.
    """
    say = announce or _print
    daemon = Daemon(classifier, settings, relay)
    try:
        with stopped_by_signals(daemon):
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


@contextlib.contextmanager
def stopped_by_signals(daemon: Stoppable) -> Iterator[None]:
    """SIGINT and SIGTERM stop the daemon; a second one raises SystemExit. Outside the main thread: nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise SystemExit(1)
        asked = True
        daemon.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(line: str) -> None:
    print(line, flush=True)
