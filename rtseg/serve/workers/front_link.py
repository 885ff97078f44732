"""A worker's end of its connection to the front: everything it says goes this way, and nothing leaves it otherwise.

What the front orders is obeyed in `loop.front_orders`; a daemon without a front has neither.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack
import zmq

from rtseg.config import WorkerPlace
from rtseg.serve.publish.batch_sender import BatchSender
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.workers.worker_protocol import (
    ALIVE_NS,
    FRONT_ID,
    NO_CLIENT,
    Alive,
    Answers,
    FromWorker,
    HeldFrame,
    NumberedAnswer,
    StreamEnded,
    StreamState,
    encode,
)
from rtseg.wire.messages import VERSION

LOG = logging.getLogger("rtseg.serve")
PARENT_CHECK_NS = 1_000_000_000


class WorkerOutlet(Outlet):
    """The sending ends of a worker's sockets, at whose other ends there is only the front."""

    def __init__(
        self, router: zmq.Socket[bytes], xpub: zmq.Socket[bytes], recording: StreamRecording | None = None
    ) -> None:
        super().__init__(router, xpub, recording=recording)  # no guard: the front has checked every key
        self._unreachable: bytes | None = None
        self._is_muted = False

    def _make_sender(self) -> BatchSender:
        # No socket: answers go out through `send_predictions`, on the socket that carries the states. Over a socket of
        # their own they could be read after a state that covers them, and be lost with the worker.
        return BatchSender(None)

    def send_predictions(self, answers: Sequence[NumberedAnswer]) -> None:
        """To the front, which passes on those that have not gone out before."""
        if not self._is_muted:
            self.tell_front(Answers(answers))

    def send_packed(self, topic: bytes, packed: bytes) -> None:
        """What is no prediction, for the subscribers of a topic."""
        if not self._is_muted:
            self._send_to_front([FRONT_ID, NO_CLIENT, topic, packed])

    def answer(self, owner: bytes, message: dict[str, Any]) -> bool:
        """To a client, by way of the front. Whether the client takes it only the front knows."""
        return self._send_to_front([FRONT_ID, owner, self._packer.pack({"v": VERSION, **message})])

    def answer_status(self, owner: bytes, message: dict[str, Any]) -> None:
        """A share of the status, for the front, which limits what clients get of it."""
        self.answer(owner, message)

    def tell_front(self, message: FromWorker) -> None:
        """A message to the front itself."""
        self._send_to_front([FRONT_ID, NO_CLIENT, encode(message)])

    def contest_stream(self, owner: bytes, stream: str, contested: Periodic) -> bool:
        """Whether the owner of a stream is there. The front has told it, before it handed the hello on."""
        return owner != self._unreachable

    @contextlib.contextmanager
    def unreachable(self, owner: bytes) -> Iterator[None]:
        """Meanwhile this connection has ended. No longer: one with the same routing id may come back at any time."""
        self._unreachable = owner
        try:
            yield
        finally:
            self._unreachable = None

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """Publishes and records nothing meanwhile: frames are stepped again whose answers are in the recording."""
        recording, self.recording, self._is_muted = self.recording, None, True
        try:
            yield
        finally:
            self.recording, self._is_muted = recording, False

    def _send_to_front(self, parts: list[bytes]) -> bool:
        """Waits where the queue is full: the front always reads, and a worker that is faster must not lose anything."""
        with contextlib.suppress(zmq.ZMQError):  # a front that is gone takes its workers along
            self._router.send_multipart(parts)
            return True
        return False


class FrontLink:
    """Gives the front what another worker needs to take this one's place. stop: ends this worker.

    newest_receipt_ns: when the front received the newest client's message that has come here.
    """

    def __init__(self, place: WorkerPlace, outlet: WorkerOutlet, streams: Streams, stop: Callable[[], None]) -> None:
        self.place = place
        self._outlet, self._streams, self._stop = outlet, streams, stop
        self._alive, self._parent_check = Periodic(ALIVE_NS), Periodic(PARENT_CHECK_NS)
        self._round = Periodic(int(place.snapshot_s * 1e9))
        self._due: deque[str] = deque()  # streams whose state is still to be sent in this round
        self.newest_receipt_ns = 0

    def report_opened(self, stream: Stream, waiting: Sequence[HeldFrame]) -> None:
        """Called before the hello is answered, so that the front never knows less of a stream than its client.

        waiting: frames that come from a recording, which the front has never seen.
        """
        self._outlet.tell_front(state_of(stream, waiting))

    def report_moved(self, stream: Stream) -> None:
        """Another connection, or another model, goes on with a stream."""
        self._outlet.tell_front(state_of(stream))

    def report_ended(self, stream: str) -> None:
        """A stream of this name has been closed, or was never open."""
        self._outlet.tell_front(StreamEnded(stream))

    def report_due(self, now_ns: int, *, quiet: bool) -> None:
        """Whatever is due: a sign of life, a look for the front, the state of a stream. quiet: whether no frame waits.

        Every stream's state is sent once in `snapshot_s`, one stream in a turn of the loop and only where no frame
        waits for it. Where one always waits, one state is sent nevertheless in each of the turns after that time.
        """
        if self._alive.restart_if_due(now_ns):
            self._outlet.tell_front(Alive())
        # An orphan is given another parent. The kernel's own signal (`worker`) is not to be had everywhere.
        if self._parent_check.restart_if_due(now_ns) and os.getppid() != self.place.front_pid:
            LOG.error("the front is gone: this worker ends with it")
            self._stop()
        if not self._due and self._round.restart_if_due(now_ns):
            self._due.extend(stream.name for stream in self._streams)
        if self._due and (quiet or self._round.is_due(now_ns)):
            stream = self._streams.find(self._due.popleft())
            if stream is not None and stream.session.last_seq is not None:
                self._outlet.tell_front(state_of(stream))


def state_of(stream: Stream, waiting: Sequence[HeldFrame] = ()) -> StreamState:
    """A stream as it stands between two frames. waiting: see `StreamState`."""
    session, (handled_ns, refused) = stream.session, stream.covered()
    return StreamState(
        stream=stream.name,
        owner=stream.owner,
        hello=msgpack.packb(stream.hello.to_message()),
        fps=stream.hello.fps,
        model=stream.model.served.model,
        opened_ns=stream.opened_ns,
        snapshot=None if session.last_seq is None else session.snapshot(),
        handled_ns=handled_ns,
        last_answer=stream.output.answers,
        refused=refused,
        dropped=stream.queued.dropped,
        superseded=stream.output.superseded,
        waiting=waiting,
    )
