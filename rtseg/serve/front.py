"""The front of several workers: one address for clients, streams spread by a hash of their names, nothing lost.

Hands messages on and looks into them only to know their stream. What a worker would have to know to go on where another
one died, the front has: of every stream its hello, its last snapshot, and the frames that came since. A worker that
comes back gets them, steps what it has to step again, and what was published before is not published twice.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgpack
import zmq

from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError
from rtseg.serve import relay
from rtseg.serve.addresses import bind, remove_ipc_file
from rtseg.serve.asked import Asked
from rtseg.serve.crew import FIRST_S, Crew, Worker
from rtseg.serve.daemon import DRAIN_S, LINGER_MS, QUIET_MS, stopped_by_signals
from rtseg.serve.messages import VERSION, parse_to_daemon

LOG = logging.getLogger("rtseg.serve")
POLL_MS = 20
LOOK_NS = 5_000_000
RETRY_S = 1.0
"""A worker that ends before it serves is tried again after so long."""
AT_ONCE = 256
"""Messages of one socket before the next one has its turn."""


@dataclass(eq=False)
class Kept:
    """What a stream's next worker must know.

    state: its last snapshot, and `answers` that had been given then; frames: (seq, as it came) since.
    """

    owner: bytes
    hello: bytes
    state: bytes | None = None
    answers: int = 0
    frames: deque[tuple[int, bytes]] = field(default_factory=deque)


class Front:
    """Binds the clients' addresses and starts the workers. Raises ServeError where it can't."""

    def __init__(self, bundle: Path, settings: ServeSettings) -> None:
        self._settings = settings
        self._stopping = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._addresses: list[str] = []
        self._streams: dict[str, Kept] = {}
        self._answers: dict[bytes, int] = {}  # topic -> number of the last answer that was published
        self._greeting: dict[tuple[bytes, str], bytes] = {}  # hellos that are not answered yet
        self._topics: set[bytes] = set()
        self._confirmed: dict[bytes, list[int]] = {}
        self._held: list[deque[list[bytes]]] = [deque() for _ in range(settings.workers)]
        self._asked = Asked(settings.workers)
        self._crew: Crew | None = None
        try:
            self._router = self._listen(zmq.ROUTER, settings.frames)
            self._xpub = self._listen(zmq.XPUB, settings.predictions)
            self.frames, self.predictions = self._addresses
            self._crew = Crew(bundle, settings, self.predictions)
        except BaseException:
            self.close()
            raise
        self._poller = zmq.Poller()
        self._poller.register(self._router, zmq.POLLIN)
        self._poller.register(self._xpub, zmq.POLLIN)
        self._looked_ns = 0

    @property
    def workers(self) -> list[Worker]:
        """By their numbers."""
        return [] if self._crew is None else self._crew.workers

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
            time.sleep(POLL_MS / 1000)

    def run(self) -> None:
        """Serve until `stop`, then let the workers drain and tell everybody."""
        while not self._stopping:
            self._turn(POLL_MS)
            self._look_at_workers()
        deadline = time.monotonic() + DRAIN_S
        while self._turn(QUIET_MS) and time.monotonic() < deadline:
            pass
        for worker in self.workers:
            worker.process.terminate()
        deadline = time.monotonic() + DRAIN_S + LINGER_MS / 1000
        while not all(worker.dead for worker in self.workers) and time.monotonic() < deadline:
            self._turn(QUIET_MS)
        while self._turn(QUIET_MS):
            pass
        for topic in self._topics:
            stopping = {"v": VERSION, "stream": topic.decode(errors="replace"), "type": "stopping"}
            self._xpub.send_multipart([topic, msgpack.packb(stopping)])

    def stop(self) -> None:
        """Make `run` drain and return. May be called from a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """End the workers and close the sockets."""
        if self._crew is not None:
            self._crew.close()
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def _listen(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = self._settings.queue_messages
        socket.setsockopt(zmq.MAXMSGSIZE, self._settings.max_message_bytes)
        socket.setsockopt(zmq.ROUTER_MANDATORY if kind == zmq.ROUTER else zmq.XPUB_VERBOSE, 1)
        self._addresses.append(bind(socket, address, keyed=False))
        return socket

    def _turn(self, timeout_ms: int) -> bool:
        ready = dict(self._poller.poll(timeout_ms))
        if self._xpub in ready:
            _all_of(self._xpub, self._subscription)
        if self._router in ready:
            _all_of(self._router, self._from_client)
        for worker in self.workers:
            if worker.answers is not None and worker.answers in ready:
                _all_of(worker.answers, partial(self._published, worker.number))
            if worker.commands is not None and worker.commands in ready:
                _all_of(worker.commands, self._answered)
        return bool(ready)

    def _look_at_workers(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        for worker in self.workers:
            if worker.dead and not worker.ready and time.monotonic() - worker.started_s < RETRY_S:
                continue
            if worker.dead:
                LOG.error("worker %d ended with status %s: started again", worker.number, worker.process.returncode)
                self._forget(worker)
                worker.start()
            elif worker.look():
                self._connected(worker)

    def _forget(self, worker: Worker) -> None:
        for socket in (worker.commands, worker.answers):
            if socket is not None:
                self._poller.unregister(socket)
        for client in self._asked.give_up():
            self._tell(client, {"type": "error", "kind": "ServeError", "reason": "a worker ended: ask again"})

    def _connected(self, worker: Worker) -> None:
        """A worker serves, or serves again: its streams come back, with all that it has to step."""
        assert worker.commands is not None
        assert worker.answers is not None
        self._poller.register(worker.commands, zmq.POLLIN)
        self._poller.register(worker.answers, zmq.POLLIN)
        for topic in self._topics:
            worker.answers.send(b"\x01" + topic)
        back = 0
        for name, kept in self._streams.items():
            if self._worker_of(name) is worker:
                back += 1
                told = relay.restore(kept.owner, kept.hello, kept.state, kept.answers)
                worker.commands.send_multipart([relay.NOBODY, told])
                for _, data in kept.frames:
                    worker.commands.send_multipart([kept.owner, data])
        held = self._held[worker.number]
        while held:
            worker.commands.send_multipart(held.popleft())
        LOG.info("worker %d serves, %d streams are back", worker.number, back)

    def _worker_of(self, stream: str) -> Worker:
        """Always the same one: by a hash of the name that is the same in every process."""
        return self.workers[zlib.crc32(stream.encode(errors="replace")) % len(self.workers)]

    def _from_client(self, parts: list[bytes]) -> None:
        owner, data = parts[0], parts[-1]
        try:
            kind, message = parse_to_daemon(data)
        except RtsegError:
            kind, message = "error", {}  # a worker says what is wrong with it
        name = message.get("stream")
        if kind in ("status", "load") and name is None:
            self._ask_all(owner, kind, data)
            return
        if kind == "stop" and self._settings.control:
            self._tell(owner, {"type": "stopping"})
            self.stop()
            return
        worker = self._worker_of(name if isinstance(name, str) else "")
        if isinstance(name, str):
            if kind == "frame" and self._keep(owner, name, message.get("seq"), data) and not worker.ready:
                return  # it is among what the worker gets when it is back
            if kind == "hello":
                self._greet(owner, name, data, worker)
        self._send(worker, parts)

    def _keep(self, owner: bytes, name: str, seq: object, data: bytes) -> bool:
        kept = self._streams.get(name)
        if kept is None or kept.owner != owner or type(seq) is not int:
            return False
        kept.frames.append((seq, data))
        if len(kept.frames) > self._settings.queue_messages:
            kept.frames.popleft()
        return True

    def _greet(self, owner: bytes, name: str, data: bytes, worker: Worker) -> None:
        """Before a hello: a worker cannot see whether a stream's present owner still lives; the front can."""
        self._greeting[owner, name] = data
        kept = self._streams.get(name)
        if (
            kept is not None
            and kept.owner != owner
            and not self._tell(kept.owner, {"type": "contested", "stream": name})
        ):
            self._send(worker, [relay.NOBODY, relay.gone(kept.owner)])

    def _ask_all(self, client: bytes, kind: str, data: bytes) -> None:
        if not all(worker.ready for worker in self.workers):
            self._tell(client, {"type": "error", "kind": "ServeError", "reason": "a worker is starting: ask again"})
            return
        question = self._asked.begin(client, kind)
        for worker in self.workers:
            self._send(worker, [question, data])

    def _send(self, worker: Worker, parts: list[bytes]) -> None:
        if not worker.ready or worker.commands is None:
            self._held[worker.number].append(parts)
            return
        try:
            worker.commands.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            reason = f"worker {worker.number} takes nothing more: it hangs, or is far too slow"
            self._tell(parts[0], {"type": "error", "kind": "ServeError", "reason": reason})

    def _tell(self, client: bytes, message: dict[str, Any]) -> bool:
        return self._pass_on([client, msgpack.packb({"v": VERSION, **message})])

    def _pass_on(self, parts: list[bytes]) -> bool:
        try:
            self._router.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or it reads nothing
            return False
        return True

    def _answered(self, parts: list[bytes]) -> None:
        """From a worker to a client, or to the front itself."""
        owner, data = parts
        if owner == relay.NOBODY:
            told = relay.unpack(data)
            if told["type"] == "ended":
                self._streams.pop(told["stream"], None)
            else:
                self._note_snapshot(told)
            return
        message = msgpack.unpackb(data)
        if self._asked.knows(owner):
            whole = self._asked.add(owner, message)
            if whole is not None:
                client, answer = whole
                about = [{"pid": w.process.pid, "starts": w.starts} for w in self.workers]
                self._tell(client, answer | ({"workers": about} if answer["type"] == "status" else {}))
            return
        kind, name = message.get("type"), message.get("stream")
        if kind == "contested":
            return  # said before the hello was handed on
        if kind in ("accepted", "refused"):
            hello = self._greeting.pop((owner, name), None)
            if kind == "accepted" and hello is not None:
                self._opened(owner, name, hello, message.get("resumed"))
        self._pass_on(parts)

    def _opened(self, owner: bytes, name: str, hello: bytes, resumed: object) -> None:
        before = self._streams.get(name)
        if before is not None and resumed is not None:
            before.owner = owner  # the same stream goes on over another connection
        else:
            self._streams[name] = Kept(owner, hello)

    def _note_snapshot(self, message: dict[str, Any]) -> None:
        kept = self._streams.get(message["stream"])
        if kept is None or message["answers"] < kept.answers:
            return
        kept.state, kept.answers = message["state"], message["answers"]
        while kept.frames and kept.frames[0][0] <= message["seq"]:
            kept.frames.popleft()

    def _subscription(self, parts: list[bytes]) -> None:
        said = parts[0]
        if said[:1] == b"\x01":
            self._topics.add(said[1:])
        else:
            self._topics.discard(said[1:])
        for worker in self.workers:
            if worker.answers is not None:
                worker.answers.send(said)

    def _published(self, at: int, parts: list[bytes]) -> None:
        topic = parts[0]
        if len(parts) == 3:
            number = relay.number_of(parts[2])
            if number <= self._answers.get(topic, 0):
                return
            self._answers[topic] = number
            self._xpub.send_multipart(parts[:2])
            return
        event = msgpack.unpackb(parts[1])
        kind = event.get("type")
        if kind == "subscribed":
            if not self._is_confirmed(topic, at):
                return
        elif kind == "stopping" or (kind == "beat" and self._worker_of(event["stream"]).number != at):
            return
        elif kind in ("opened", "closed"):  # in the order in which answers come, other than what clients are told
            self._answers.pop(topic, None)
        self._xpub.send_multipart(parts)

    def _is_confirmed(self, topic: bytes, at: int) -> bool:
        """Whether the last worker has now confirmed a subscription that the others have confirmed before."""
        counts = self._confirmed.setdefault(topic, [0] * len(self.workers))
        before = min(counts)
        counts[at] += 1
        return min(counts) > before


def _all_of(socket: zmq.Socket[bytes], take: Callable[[list[bytes]], None]) -> None:
    """Take what waits at a socket, up to AT_ONCE messages."""
    for _ in range(AT_ONCE):
        try:
            parts = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        take(parts)


def serve_with_workers(bundle: Path, settings: ServeSettings, announce: Callable[[str], None] | None = None) -> None:
    """Run a front and its workers until SIGINT or SIGTERM, or until somebody asks it to stop.

    announce gets two lines, `ready {json}` and `stopped {json}`; stdout where it is None. Raises ServeError where an
    address or a worker cannot be had.
    """
    say = announce or _print
    front = Front(bundle, settings)
    try:
        with stopped_by_signals(front):
            front.wait_ready()
            pids = [worker.process.pid for worker in front.workers]
            first = front.workers[0].about
            about = {"frames": front.frames, "predictions": front.predictions, "pid": os.getpid(), "workers": pids}
            about |= {key: first[key] for key in ("model", "engine", "loop")}
            say(f"ready {json.dumps(about)}")
            front.run()
            say(f"stopped {json.dumps({'starts': [worker.starts for worker in front.workers]})}")
    finally:
        front.close()


def _print(line: str) -> None:
    print(line, flush=True)
