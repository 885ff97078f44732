"""What clients send to a front: handed on to the worker whose stream it is about, or answered here.

Looks into a message only to know its stream and its kind, and keeps what another worker must know should this one die.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError
from rtseg.serve.access.guard import AccessError
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import StreamError
from rtseg.serve.timing.loop_load import CapacityError, LoopLoad
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.bundle_rollout import BundleRollout
from rtseg.serve.workers.pending_status import PendingStatus
from rtseg.serve.workers.stream_backups import StreamBackups
from rtseg.serve.workers.stream_owners import StreamOwners
from rtseg.serve.workers.worker_pool import Worker
from rtseg.wire.messages import MessageError, clip_name, parse_to_daemon

LOG = logging.getLogger("rtseg.serve")


class RequestRouter:
    """The front's dealings with its clients. stop: the front's."""

    def __init__(
        self,
        settings: ServeSettings,
        workers: list[Worker],
        outlet: Outlet,
        kept: StreamBackups,
        asked: PendingStatus,
        claims: StreamOwners,
        gauge: LoopLoad,
        together: BundleRollout,
        stop: Callable[[], None],
    ) -> None:
        self._settings, self._workers, self._outlet, self._backups = settings, workers, outlet, kept
        self._pending_status, self._stream_owners, self._gauge, self._rollout, self._stop = (
            asked,
            claims,
            gauge,
            together,
            stop,
        )

    def worker_of(self, stream: str) -> Worker:
        """Always the same one."""
        return self._workers[worker_protocol.worker_of(stream, len(self._workers))]

    def take(self, owner: bytes, data: bytes, now_ns: int, parts: int) -> None:
        """Whatever one client sends, the others are served."""
        kind: str = "frame"
        message: dict[str, Any] = {}
        name: str | None = None
        seq: int | None = None
        try:
            if parts != 1:
                raise MessageError(f"expected one message part, got {parts}")
            kind, message = parse_to_daemon(data)
            stated = message.get("stream")
            name = stated if isinstance(stated, str) else None
            seq = message["seq"] if type(message.get("seq")) is int else None
        except RtsegError as error:
            self.refuse(owner, None, error)
        else:
            self._handle(owner, kind, name, seq, message, data, now_ns)

    def take_frame(self, owner: bytes, name: str, seq: int, data: bytes, now_ns: int) -> None:
        """What plainly is a frame."""
        self._handle(owner, "frame", name, seq, {}, data, now_ns)

    def _handle(
        self,
        owner: bytes,
        kind: str,
        name: str | None,
        seq: int | None,
        message: dict[str, Any],
        data: bytes,
        now_ns: int,
    ) -> None:
        try:
            self._check(owner, kind, name, now_ns)
            if kind in ("status", "load", "stop"):
                self._control(owner, kind, message, data)
            elif kind == "frame":
                self._frame(owner, name or "", seq, data, now_ns)
            else:
                self._ask(owner, kind, name or "", message, data, now_ns)
        except RtsegError as error:
            self.refuse(owner, name, error, seq, limited=kind == "frame")
        except Exception as error:
            if self.refuse(owner, name, error, seq):
                LOG.exception("a message of stream %r could not be handled", name)

    def _check(self, owner: bytes, kind: str, name: str | None, now_ns: int) -> None:
        try:
            self._stream_owners.check(kind, name, now_ns)
        except ServeError:
            if name is not None and self._backups.find(name, owner) is not None:
                self.worker_of(name).send([worker_protocol.NO_CLIENT, worker_protocol.refused(name)])
            raise

    def refuse(
        self, owner: bytes, name: str | None, error: Exception, seq: int | None = None, *, limited: bool = True
    ) -> bool:
        """Tell a client what was wrong; whether it was said."""
        return self._outlet.complain(owner, None if name is None else clip_name(name), seq, error, limited=limited)

    def _frame(self, owner: bytes, name: str, seq: int | None, data: bytes, now_ns: int) -> None:
        kept = self._backups.find(name, owner)
        worker = self.worker_of(name)
        left_out = False if kept is None or seq is None else kept.keep(seq, now_ns, data)
        if worker.ready:
            worker.hold(name, owner, now_ns, data)
        elif kept is None:
            raise StreamError(f"stream {name!r} is not open: send a hello first (idle streams are closed)"[:300])
        elif left_out:
            self._outlet.counters["dropped frames"] += 1
            raise CapacityError(
                f"worker {worker.number} is being replaced and {kept.most} frames of stream {name!r} wait for it: the "
                "oldest is left out"
            )

    def _ask(self, owner: bytes, kind: str, name: str, message: dict[str, Any], data: bytes, now_ns: int) -> None:
        """A hello, a bye or a beat."""
        worker = self.worker_of(name)
        if kind == "hello" and not self._may_come(owner, name, message.get("fps")):
            return
        if kind == "hello":
            self._stream_owners.asked(owner, name)
        if kind != "beat":
            self._backups.ask(owner, kind, name, data)
        if worker.ready:
            if kind == "hello":
                self.contest(owner, name, worker)
            worker.hold(name, owner, now_ns, data)

    def _may_come(self, owner: bytes, name: str, fps: object) -> bool:
        """Whether the front itself can take one stream more; where not, the hello is answered."""
        if self._backups.find(name) is not None or not isinstance(fps, int | float):
            return True
        try:
            self._gauge.check_new_stream(clip_name(name), float(fps), self._backups.declared_fps)
        except CapacityError as error:
            self._outlet.counters["refused hellos"] += 1
            self._outlet.answer(owner, {"type": "refused", "stream": name, "reason": f"front: {error}"})
            return False
        return True

    def contest(self, owner: bytes, name: str, worker: Worker) -> None:
        """Before a hello: a worker cannot see whether a stream's present owner still lives; the front can."""
        kept = self._backups.find(name)
        if (
            kept is not None
            and kept.owner != owner
            and not self._outlet.answer(kept.owner, {"type": "contested", "stream": name})
        ):
            worker.send([worker_protocol.NO_CLIENT, worker_protocol.gone(kept.owner)])

    def _control(self, owner: bytes, kind: str, message: dict[str, Any], data: bytes) -> None:
        if kind == "status":
            able = [worker for worker in self._workers if worker.ready]
            if not able:
                raise ServeError("all workers are starting: ask again")
            question = self._pending_status.begin(owner, len(able))
            for worker in able:
                worker.hold("", question, time.monotonic_ns(), data)
            return
        if not self._settings.control and not self._settings.keys:
            raise AccessError(f"{kind} is not taken here: the daemon was started with control = false")
        if kind == "stop":
            LOG.info("asked to stop%s", self._stream_owners.by())
            self._outlet.answer(owner, {"type": "stopping"})
            self._stop()
            return
        self._rollout.ask(owner, message, self._stream_owners.by())

    def hand_on(self, worker: Worker) -> None:
        """What is held for a worker leaves; what it does not take, its sender hears of."""
        worker.hand_on()
        refused, worker.refused = worker.refused, []
        for name, owner in refused:
            reason = f"worker {worker.number} takes nothing more: it hangs, or is far too slow"
            self.refuse(owner, name, CapacityError(reason))
