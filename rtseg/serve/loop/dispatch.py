"""What the daemon does about every message that is no plain frame: hello, bye, beat, status, load, stop, arm, disarm.

And about frames that need another order of points, or a general look because something is wrong with them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rtseg.errors import ServeError
from rtseg.serve.access.guard import AccessError, Guard
from rtseg.serve.loop.admission import Admission
from rtseg.serve.loop.bundle_swap import BundleSwap
from rtseg.serve.loop.frame_queue import FrameQueue, QueuedFrame
from rtseg.serve.loop.rejection import reject_message
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import Streams
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.wire.fields import MessageError, check_fields_once
from rtseg.wire.messages import parse_arming, parse_beat, parse_frame, parse_to_daemon

LOG = logging.getLogger("rtseg.serve")


class Dispatcher:
    """Gives each message to the part whose business it is; whatever a client sends, it raises nothing.

    guard: None where no key is asked for. stage: None where there are no triggers. control: whether `load`,
    `stop`, `arm` and `disarm` are taken from connections without a key.
    status: the daemon's. stop: ends its loop.
    """

    def __init__(
        self,
        streams: Streams,
        queue: FrameQueue,
        stepper: Stepper,
        outlet: Outlet,
        admission: Admission,
        bundle_swap: BundleSwap,
        *,
        guard: Guard | None,
        stage: TriggerStage | None = None,
        control: bool,
        status: Callable[[], dict[str, Any]],
        stop: Callable[[], None],
    ) -> None:
        self._streams, self._queue, self._stepper, self._outlet = streams, queue, stepper, outlet
        self._admission, self._bundle_swap, self._guard, self._stage = admission, bundle_swap, guard, stage
        self._control, self._status, self._stop = control, status, stop

    def handle_message(self, owner: bytes, data: bytes, t_recv_ns: int, parts: int = 1) -> None:
        """One message: a frame joins the queue, anything else is done at once, after the frames before it.

        owner: its sender's routing id. t_recv_ns: when it came. parts: how many it had; more than one are an error.
        """
        kind: str = "frame"
        message: dict[str, Any] = {}
        try:
            if parts != 1:
                raise MessageError(f"expected one message part, got {parts}")
            kind, message = parse_to_daemon(data)
            # Before anything is done about it, and before its other fields are looked at.
            if self._guard is not None:
                self._guard.check_message(kind, message.get("stream"), t_recv_ns)
            check_fields_once(data, kind, message)
            if kind == "frame":
                self._queue.enqueue_frame(parse_queued_frame(self._streams, owner, message, data, t_recv_ns))
                return
            # Whoever says goodbye, or asks for the status, gets the answers to its frames first.
            self._stepper.step_all()
            if kind == "hello":
                self._handle_hello(owner, message, t_recv_ns)
            elif kind == "bye":
                self._admission.handle_bye(owner, message)
            elif kind == "beat":
                self._handle_beat(owner, message, t_recv_ns)
            else:
                self._handle_control(owner, kind, message)
        except Exception as error:
            # Somebody waits for the answer to a bye; nobody wants thirty complaints a second about frames.
            name, seq, limited = message.get("stream"), message.get("seq"), kind == "frame"
            came_ns = t_recv_ns if kind == "frame" else None
            reject_message(self._streams, self._outlet, owner, name, seq, error, limited=limited, t_recv_ns=came_ns)

    def _handle_hello(self, owner: bytes, message: dict[str, Any], t_recv_ns: int) -> None:
        # Frames of a stream that goes on from a recording and were not answered there are answered first.
        for then_ns, data in self._admission.handle_hello(owner, message, t_recv_ns):
            self.handle_message(owner, data, then_ns)
        self._stepper.step_all()

    def _handle_beat(self, owner: bytes, message: dict[str, Any], now_ns: int) -> None:
        """A source that has no frame to send says that it is there; the times let it compare clocks."""
        name, t_source_ns = parse_beat(message)
        self._streams.owned_stream(owner, name).count_beat(now_ns)
        times = {"t_source_ns": t_source_ns, "t_recv_ns": now_ns, "t_pub_ns": time.monotonic_ns()}
        self._outlet.answer(owner, {"type": "beat", "stream": name, **times})

    def _handle_control(self, owner: bytes, kind: str, message: dict[str, Any]) -> None:
        # The status is told to everybody who may connect: it changes nothing.
        if kind == "status":
            self._outlet.answer_status(owner, {"type": "status", **self._status()})
            return
        if self._guard is None and not self._control:
            raise AccessError(f"{kind} is not taken here: the daemon was started with control = false")
        by = "" if self._guard is None else f" by key {self._guard.sender_name()!r}"
        if kind == "stop":
            LOG.info("asked to stop%s", by)
            self._outlet.answer(owner, {"type": "stopping"})  # when all is drained, only owners of streams are told
            self._stop()
        elif kind in ("arm", "disarm"):
            self._handle_arming(owner, kind, message, by)
        else:
            self._bundle_swap.request_load(owner, message, by)

    def _handle_arming(self, owner: bytes, kind: str, message: dict[str, Any], by: str) -> None:
        stream, for_s = parse_arming(message)
        if self._stage is None:
            raise ServeError(f"{kind} is not taken here: the daemon was started without triggers (--triggers FILE)")
        arming = self._stage.arming
        if kind == "arm":
            arming.arm(stream, for_s, by)
        else:
            arming.disarm(stream, by)
        was_told = self._outlet.answer(owner, {"type": "arming", **arming.summary()})
        if kind == "arm" and not was_told:
            # Somebody who waited in vain believes that nothing is armed.
            arming.disarm(stream, ", for whoever armed is gone")


def parse_queued_frame(
    streams: Streams, owner: bytes, message: dict[str, Any], data: bytes, t_recv_ns: int
) -> QueuedFrame:
    """The frame in an unpacked message, with its stream.

    Raises MessageError, FrameError, and StreamError where `owner` has no open stream of that name.
    """
    wire = parse_frame(message)
    stream = streams.owned_stream(owner, wire.stream)
    return stream, stream.to_frame(wire), t_recv_ns, time.monotonic_ns(), data
