"""The daemon: frames in over one socket, predictions out over another, on one thread (docs/wire.md).

Its life: bind, compile, say `ready`, serve, drain, close. With its outlet the only part of rtseg that reads a clock,
and the only place with a broad except: whatever one client sends, the other streams go on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import numpy as np
import zmq

from rtseg import frames
from rtseg.classifier import Classifier
from rtseg.config import ServeSettings
from rtseg.errors import RtsegError
from rtseg.frames import Frame
from rtseg.serve.addresses import bind, remove_ipc_file
from rtseg.serve.latency import Histogram
from rtseg.serve.messages import Hello, MessageError, Served, parse_bye, parse_frame, parse_to_daemon
from rtseg.serve.outlet import Outlet
from rtseg.serve.streams import Stream, StreamError, Streams

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 100
"""How soon a signal is seen while nothing comes."""
QUIET_MS = 10
DRAIN_S = 0.5
"""Stopping: the sockets are read until they are quiet for QUIET_MS, for DRAIN_S at most."""
LINGER_MS = 1000
"""How long unsent messages may hold up the end."""
IDLE_LOOK_NS = 1_000_000_000


class Daemon:
    """Serves one classifier. Binds at once; raises ServeError where it cannot.

    latency: per stage; `decode` of a frame, `step` and `publish` of a batch, `total` from receipt to publishing.
    """

    def __init__(self, classifier: Classifier, settings: ServeSettings) -> None:
        bundle = self._bundle = classifier.bundle
        self._pool, self._settings = classifier.pool, settings
        self._streams = Streams(bundle, self._pool)
        self._batch: list[tuple[Stream, Frame, int, int]] = []  # with the times of receipt and of decoding
        self._stopping = False
        self._started_ns = self._looked_ns = time.monotonic_ns()
        self._context = zmq.Context()
        self._addresses: list[str] = []
        try:
            self._router = self._listen(zmq.ROUTER, settings.frames)
            self._xpub = self._listen(zmq.XPUB, settings.predictions)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)
        self.frames, predictions = self._addresses
        self.served = Served(
            heads={head.name: head.classes for head in bundle.heads},
            lookahead_frames=bundle.lookahead_frames,
            fps=bundle.fps,
            model=bundle.hash,
            engine=self._pool.engine.name,
            predictions=predictions,
        )
        self._outlet = Outlet(self._router, self._xpub, self.served)
        self._counters = self._outlet.counters
        self._decode, self._step, self._publish = Histogram(), Histogram(), Histogram()
        self.latency = {
            "decode": self._decode,
            "step": self._step,
            "publish": self._publish,
            "total": self._outlet.total,
        }

    def warm_up(self) -> None:
        """Compile everything that a frame's way needs, on a stream of its own."""
        session = self._pool.open("warm-up")
        shape = self._bundle.skeleton.shape
        nothing = np.full((*shape, 2), np.nan, np.float32)
        for seq in range(3):
            # Through the validation, which is compiled as well.
            blank = frames.frame(nothing, shape=shape, seq=seq, t_source_ns=seq, stream="warm-up")
            self._pool.step([session], [blank])
        session.finish()
        session.close()
        gc.collect()
        gc.freeze()  # the model is here to stay: the collector need not look at it again

    def run(self) -> None:
        """Serve until `stop`, then drain: answer what has arrived, publish what is owed, tell everybody."""
        self._started_ns = time.monotonic_ns()
        while not self._stopping:
            self._turn(POLL_MS)
            self._look_for_idle_streams()
        deadline = time.monotonic() + DRAIN_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline:
            pass
        owners = {stream.owner for stream in self._streams}
        for stream in self._streams:
            self._end(stream, "stopping")
        for owner in owners:
            self._outlet.answer(owner, {"type": "stopping"})
        self._outlet.announce_end()

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """Close the sockets, giving what is unsent LINGER_MS, and remove ipc files."""
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def status(self) -> dict[str, Any]:
        """Counters and latencies since the start."""
        return {
            "uptime_s": (time.monotonic_ns() - self._started_ns) / 1e9,
            **self.served.to_fields(),
            "capacity": self._pool.capacity,
            "streams": {stream.name: stream.counters() for stream in self._streams},
            "drift": {stream.name: stream.drift() for stream in self._streams},
            "counters": dict(self._counters),
            "latency": {stage: histogram.summary() for stage, histogram in self.latency.items()},
        }

    def _listen(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        socket.setsockopt(zmq.MAXMSGSIZE, self._settings.max_message_bytes)
        if kind == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # an answer to somebody who left is an error, not silence
        else:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)  # every subscriber is confirmed, not only a topic's first
        self._addresses.append(bind(socket, address))
        return socket

    def _turn(self, timeout_ms: int) -> bool:
        """Wait for messages and deal with those that have come, up to max_batch; whether there were any."""
        ready = self._poller.poll(timeout_ms)
        for socket, _ in ready:
            if socket is self._router:
                self._take_what_waits()
            else:
                self._outlet.hear_subscriptions()
        return bool(ready)

    def _take_what_waits(self) -> None:
        router, clock = self._router, time.monotonic_ns
        for _ in range(self._settings.max_batch):
            parts = router.recv_multipart()
            t_recv_ns = clock()
            if len(parts) == 2:
                self._take(parts[0], parts[1], t_recv_ns)
            else:
                several = MessageError(f"expected one message part, got {len(parts) - 1}")
                self._outlet.complain(parts[0], None, None, several)
            if not cast(int, router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                break
        self._step_batch()

    def _take(self, owner: bytes, data: bytes, t_recv_ns: int) -> None:
        """One message: a frame joins the batch, anything else is done at once, after the frames before it."""
        kind: str = "frame"
        message: dict[str, Any] = {}
        try:
            kind, message = parse_to_daemon(data)
            if kind == "frame":
                wire = parse_frame(message)
                stream = self._streams.of(owner, wire.stream)
                frame = stream.frame(wire)
                self._batch.append((stream, frame, t_recv_ns, time.monotonic_ns()))
                return
            self._step_batch()
            if kind == "hello":
                self._hello(owner, message, t_recv_ns)
            elif kind == "bye":
                self._bye(owner, message)
            else:
                self._outlet.answer(owner, {"type": "status", **self.status()})
        except Exception as error:
            # Somebody waits for the answer to a bye; nobody wants thirty complaints a second about frames.
            self._refuse(owner, message.get("stream"), message.get("seq"), error, limited=kind == "frame")

    def _step_batch(self) -> None:
        """Step the frames that wait, in the order in which they came, and publish the answers."""
        batch = self._batch
        if not batch:
            return
        self._batch = []
        started_ns = time.monotonic_ns()
        try:
            answers = self._pool.step([row[0].session for row in batch], [row[1] for row in batch])
        except Exception as error:
            for stream, frame, _, _ in batch:
                self._refuse(stream.owner, stream.name, frame.seq, error)
            return
        stepped_ns = time.monotonic_ns()
        publish = self._outlet.publish
        for (stream, frame, t_recv_ns, _), predictions in zip(batch, answers, strict=True):
            stream.note(frame.seq, t_recv_ns)
            for prediction in predictions:
                publish(stream, prediction, t_recv_ns)
        # What is counted is counted when nobody waits for it.
        self._publish.add(time.monotonic_ns() - stepped_ns)
        self._step.add(stepped_ns - started_ns)
        for _, _, t_recv_ns, decoded_ns in batch:
            self._decode.add(decoded_ns - t_recv_ns)
        self._counters["batches"] += 1
        self._counters["frames"] += len(batch)

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
            if before is not None:
                # A live owner hears that somebody wants its stream; a dead one cannot be reached and has lost it.
                contested = {"type": "contested", "stream": hello.stream}
                if before.owner != owner and self._outlet.answer(before.owner, contested):
                    raise StreamError(f"stream {hello.stream!r} is open from another connection: choose another name")
                self._end(before, "reopened" if before.owner == owner else "taken over")
            stream = self._streams.open(owner, hello, points, now_ns)
        except RtsegError as error:
            self._counters["refused hellos"] += 1
            LOG.info("hello refused: %s", error)
            name = message.get("stream")
            refused = {"type": "refused", "stream": name if isinstance(name, str) else None, "reason": str(error)}
            self._outlet.answer(owner, refused)
            return
        LOG.info("stream %r opened", stream.name)
        self._counters["hellos"] += 1
        arena = None if hello.arena is None else list(hello.arena)
        self._outlet.announce(stream.topic, {"type": "opened", "clock": hello.clock, "arena": arena})
        self._outlet.answer(owner, {"type": "accepted", "stream": stream.name, **self.served.to_fields()})

    def _bye(self, owner: bytes, message: dict[str, Any]) -> None:
        stream = self._streams.of(owner, parse_bye(message))
        self._end(stream, "bye")
        self._outlet.answer(owner, {"type": "goodbye", "stream": stream.name, "counters": stream.counters()})

    def _end(self, stream: Stream, reason: str) -> None:
        """Publish what a lookahead still owes, close the stream, and say so."""
        for prediction in stream.session.finish():
            self._outlet.publish(stream, prediction, stream.last_ns)
        drift = stream.drift()
        self._streams.close(stream)
        LOG.info("stream %r closed: %s", stream.name, reason)
        if drift.get("out_of_range"):
            LOG.warning("stream %r: %s", stream.name, _told(drift))
        about = {"reason": reason, "counters": stream.counters(), "drift": drift}
        self._outlet.announce(stream.topic, {"type": "closed", **about})

    def _look_for_idle_streams(self) -> None:
        now_ns, limit_ns = time.monotonic_ns(), int(self._settings.idle_timeout_s * 1e9)
        if now_ns - self._looked_ns < min(limit_ns, IDLE_LOOK_NS):
            return
        self._looked_ns = now_ns
        for stream in self._streams:
            if now_ns - stream.last_ns > limit_ns:
                self._end(stream, "idle")


def _told(drift: dict[str, Any]) -> str:
    """A stream's drift in one line."""
    worst = ", ".join(f"{f['feature']} in {f['frames']} ({f['farthest']:+.2g} widths)" for f in drift["features"])
    return f"{drift['out_of_range']} of {drift['frames']} frames unlike training's; out of range were {worst}"


def serve(
    classifier: Classifier, settings: ServeSettings, announce: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Run a daemon until SIGINT or SIGTERM; returns its last status.

    announce gets two lines, `ready {json}` and `stopped {json}`; they go to stdout where it is None. Raises ServeError
    where an address cannot be had. A second signal ends the process at once, with status 1.
    """
    say = announce or _print
    daemon = Daemon(classifier, settings)
    try:
        with _signals(daemon):
            daemon.warm_up()
            about: dict[str, Any] = {"frames": daemon.frames, "predictions": daemon.served.predictions}
            about |= {"model": daemon.served.model, "engine": daemon.served.engine, "pid": os.getpid()}
            say(f"ready {json.dumps(about)}")
            daemon.run()
            status = daemon.status()
            say(f"stopped {json.dumps({key: status[key] for key in ('uptime_s', 'counters', 'latency')})}")
            return status
    finally:
        daemon.close()
        gc.unfreeze()


@contextlib.contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
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
