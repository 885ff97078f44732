"""What clients send to a front: handed on to the worker whose stream it is about, or answered here.

Looks into a message only to know its kind, its stream and its seq. What another worker would need is kept before a
message is handed on (`stream_backups`, `pending_requests`), never after: a worker may die in between.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError, clip_reason
from rtseg.serve.access.guard import AccessError
from rtseg.serve.access.rate_limits import Buckets, LimitError
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import StreamError
from rtseg.serve.timing.loop_load import CapacityError, LoopLoad
from rtseg.serve.workers.bundle_rollout import BundleRollout
from rtseg.serve.workers.pending_requests import PendingRequests
from rtseg.serve.workers.pending_status import PendingStatus
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.stream_owners import StreamOwners
from rtseg.serve.workers.worker_pool import Worker
from rtseg.serve.workers.worker_protocol import MessageRefused, TakeoverHello, worker_of
from rtseg.wire.fields import MessageError, check_fields_once
from rtseg.wire.messages import MAX_POINTS, clip_name, parse_to_daemon

LOG = logging.getLogger("rtseg.serve")

MAX_FRAME_BYTES = 12 * MAX_POINTS + 2048
"""All points with their confidence, and more than everything else in a frame's message takes."""
REQUEST_BYTES, REQUEST_BYTES_PER_S, MIN_REQUEST_BYTES = 10e6, 1e6, 1000
"""Of hellos, byes and beats of one client, at once and each second; each counts as so many bytes at least."""


class ClientRequest(NamedTuple):
    """A message that is no plain frame. client: its routing id. stream: the name that it gives, None = none."""

    client: bytes
    kind: str
    stream: str | None
    message: dict[str, Any]
    data: bytes
    t_recv_ns: int


class RequestRouter:
    """The front's dealings with its clients. stop: the front's."""

    def __init__(
        self,
        settings: ServeSettings,
        workers: Sequence[Worker],
        outlet: Outlet,
        backups: StreamBackups,
        requests: PendingRequests,
        pending_status: PendingStatus,
        owners: StreamOwners,
        load: LoopLoad,
        rollout: BundleRollout,
        stop: Callable[[], None],
    ) -> None:
        self._settings, self._workers, self._outlet, self._backups = settings, workers, outlet, backups
        self._requests, self._pending_status, self._owners = requests, pending_status, owners
        self._load, self._rollout, self._stop = load, rollout, stop
        self._request_bytes = Buckets(REQUEST_BYTES_PER_S, REQUEST_BYTES)

    def worker_of(self, stream: str) -> Worker:
        """The one that serves the stream of this name."""
        return self._workers[worker_of(stream, len(self._workers))]

    def route_message(self, client: bytes, data: bytes, t_recv_ns: int, parts: int) -> None:
        """Any message. Whatever one client sends, the others are served.

        parts: how many the message had besides the routing id; data: the first of them.
        """
        try:
            if parts != 1:
                raise MessageError(f"expected one message part, got {parts}")
            kind, message = parse_to_daemon(data)
        except RtsegError as error:
            self.refuse_message(client, None, error)
            return
        name, number = message.get("stream"), message.get("seq")
        stream = name if isinstance(name, str) else None
        seq = number if type(number) is int else None
        if kind == "frame":
            self.route_frame(client, stream, seq, data, t_recv_ns)
            return
        request = ClientRequest(client, kind, stream, message, data, t_recv_ns)
        try:
            self._check_access(client, kind, stream, t_recv_ns)
            check_fields_once(data, kind, message)
            if kind in ("arm", "disarm"):
                raise ServeError(f"{kind} is not taken here: a daemon with workers has no triggers")
            if kind in ("status", "load", "stop"):
                self._control(request)
            else:
                self._route_request(request)
        except Exception as error:
            # Its client waits for an answer, so every error is told; bugs once a second at most.
            self._refuse_failed(client, stream, seq, error, limited=not isinstance(error, RtsegError))

    def route_frame(self, client: bytes, stream: str | None, seq: int | None, data: bytes, t_recv_ns: int) -> None:
        """A frame. seq: None where it has no whole number there, which the worker complains of."""
        try:
            self._check_access(client, "frame", stream, t_recv_ns)
            name = stream or ""
            backup = self._backups.find(name, client)
            worker = self.worker_of(name)
            if len(data) > MAX_FRAME_BYTES:
                raise MessageError(f"a frame has at most {MAX_FRAME_BYTES} bytes, got {len(data)}")
            # Kept first. One without a seq, or too large, is no frame: the worker refuses it, and so would another one.
            if backup is None or seq is None or len(data) > backup.max_frame_bytes:
                left_out = False
            else:
                left_out = backup.keep_frame(seq, t_recv_ns, data)
            if worker.ready:
                worker.hold_message(name, client, t_recv_ns, data)
            elif backup is None:
                raise StreamError(f"stream {name!r} is not open: send a hello first (idle streams are closed)"[:300])
            elif left_out:
                self._outlet.counters["dropped frames"] += 1
                raise CapacityError(
                    f"worker {worker.number} is being replaced and {backup.max_frames} frames of stream {name!r} wait "
                    "for it: the oldest is left out"
                )
        except Exception as error:
            self._refuse_failed(client, stream, seq, error, limited=True)

    def refuse_message(
        self, client: bytes, stream: str | None, error: Exception, seq: int | None = None, *, limited: bool = True
    ) -> bool:
        """Tell a client what was wrong; whether it was told. limited: see `Outlet.complain`."""
        return self._outlet.complain(client, None if stream is None else clip_name(stream), seq, error, limited=limited)

    def refuse_frame(self, error: Exception, client: bytes, stream: str, seq: int, data: bytes, t_recv_ns: int) -> None:
        """Count a frame as dropped, and tell its sender why."""
        self._outlet.counters["dropped frames"] += 1
        self.refuse_message(client, stream, error, seq)

    def send_hello(self, client: bytes, stream: str, worker: Worker, t_recv_ns: int, data: bytes) -> None:
        """Hand a hello to a worker, and with it whether the connection of the stream's present owner has ended.

        A worker reaches clients through the front alone, which does not answer: so the front asks the owner itself. It
        says so of this one hello only, for a client that chooses its routing id may come back with the same one.
        """
        backup = self._backups.find(stream)
        if (
            backup is None
            or backup.owner == client
            or self._outlet.contest_stream(backup.owner, stream, backup.contested)
        ):
            worker.hold_message(stream, client, t_recv_ns, data)
        elif not worker.tell(TakeoverHello(backup.owner, client, t_recv_ns, data)):
            self._refuse_undelivered(worker, stream, client)

    def send_held(self, worker: Worker) -> None:
        """What is held for a worker leaves; the senders of what it does not take are told."""
        worker.send_held()
        for stream, client in worker.take_undelivered():
            self._refuse_undelivered(worker, stream, client)

    def _refuse_undelivered(self, worker: Worker, stream: str, client: bytes) -> None:
        reason = f"worker {worker.number} takes nothing more: it hangs, or is far too slow"
        self.refuse_message(client, stream, CapacityError(reason))

    def _check_access(self, client: bytes, kind: str, stream: str | None, t_recv_ns: int) -> None:
        try:
            self._owners.check_message(kind, stream, t_recv_ns)
        except ServeError:
            if stream is not None and self._backups.find(stream, client) is not None:
                self.worker_of(stream).tell(MessageRefused(stream))  # the stream's counter is the worker's
            raise

    def _refuse_failed(
        self, client: bytes, stream: str | None, seq: int | None, error: Exception, *, limited: bool
    ) -> None:
        is_told = self.refuse_message(client, stream, error, seq, limited=limited)
        if is_told and not isinstance(error, RtsegError):
            LOG.exception("a message of stream %r could not be handled", stream)

    def _route_request(self, request: ClientRequest) -> None:
        """A hello, a bye or a beat."""
        client, kind, name, data = request.client, request.kind, request.stream or "", request.data
        # Frames are bounded in size and number. Requests may be large, and a worker handles them more slowly than the
        # front takes them.
        if not self._request_bytes.take_one(client, request.t_recv_ns, max(len(data), MIN_REQUEST_BYTES)):
            raise LimitError("more hellos, byes and beats than are handed to workers: wait a moment")
        worker = self.worker_of(name)
        if kind == "hello":
            if not self._has_room(client, name, request.message.get("fps")):
                return
            self._owners.hello_sent(client, name)
        if kind != "beat":  # a beat that is lost is followed by the next
            self._requests.add_request(client, kind, name, data)
        if not worker.ready:
            return  # the one that is being started is handed what is unanswered
        if kind == "hello":
            self.send_hello(client, name, worker, request.t_recv_ns, data)
        else:
            worker.hold_message(name, client, request.t_recv_ns, data)

    def _has_room(self, client: bytes, stream: str, fps: object) -> bool:
        """Whether the front itself can take one stream more; where not, the hello is answered here."""
        # A stream that is open brings no new load, and what is no number the worker complains of.
        if self._backups.find(stream) is not None or not isinstance(fps, int | float):
            return True
        try:
            self._load.check_new_stream(clip_name(stream), float(fps), self._backups.declared_fps)
        except CapacityError as error:
            self._outlet.counters["refused hellos"] += 1
            about = {"stream": clip_name(stream), "reason": f"front: {clip_reason(error)}"}
            self._outlet.answer(client, {"type": "refused", **about})
            return False
        return True

    def _control(self, request: ClientRequest) -> None:
        """A question for the status, a bundle to load, or the end."""
        if request.kind == "status":
            ready = [worker for worker in self._workers if worker.ready]
            if not ready:
                raise ServeError("all workers are starting: ask again")
            # Only those that serve: the others have nothing to count yet, and would keep the client waiting.
            question_id = self._pending_status.open_question(request.client, len(ready))
            for worker in ready:
                worker.hold_message("", question_id, time.monotonic_ns(), request.data)
            return
        if not self._settings.control and not self._settings.keys:
            raise AccessError(f"{request.kind} is not taken here: the daemon was started with control = false")
        if request.kind == "load":
            self._rollout.request_load(request.client, request.message, self._owners.sender_note())
            return
        LOG.info("asked to stop%s", self._owners.sender_note())
        self._outlet.answer(request.client, {"type": "stopping"})
        self._stop()
