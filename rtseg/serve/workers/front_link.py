"""A daemon behind a front: it answers by way of the front, and gives it what another worker needs to take its place.

The only part of a worker that knows of the front; without one nothing here exists.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import zmq

from rtseg.config import WorkerPlace
from rtseg.errors import RtsegError
from rtseg.serve.publish.batch_sender import BatchSender
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.resume import ResumableStream, rewind_stream
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.workers import worker_protocol
from rtseg.serve.workers.worker_protocol import FRONT_ID, NO_CLIENT
from rtseg.wire.messages import VERSION, unpack

LOG = logging.getLogger("rtseg.serve")
PARENT_LOOK_NS = 1_000_000_000
MAX_GONE = 1024
Take = Callable[[bytes, bytes, int], None]
"""One client's message: its routing id, the bytes, when they came."""


class WorkerOutlet(Outlet):
    """The sending ends of a worker's sockets, at whose other ends there is only the front."""

    gone: set[bytes]
    muted = False
    """While a stream is put where it stood: what it says then has been said."""

    def _make_sender(self) -> BatchSender:
        return BatchSender(None)  # all of it goes the front's way

    def send_predictions(self, answers: Sequence[tuple[bytes, int, bytes]]) -> None:
        """What subscribers are to hear."""
        if not self.muted:
            self.tell_front(worker_protocol.answers(answers))

    def send_packed(self, topic: bytes, packed: bytes) -> None:
        """The same of what is no prediction."""
        if not self.muted:
            self._to_front([FRONT_ID, NO_CLIENT, topic, packed])

    def answer(self, owner: bytes, message: dict[str, Any]) -> bool:
        """To a client; whether it is there is the front's to know, which names those that are `gone`."""
        if owner in self.gone:
            return False
        return self._to_front([FRONT_ID, owner, self._packer.pack({"v": VERSION, **message})])

    def tell_front(self, data: bytes) -> None:
        """A message between a worker and its front."""
        self._to_front([FRONT_ID, NO_CLIENT, data])

    def _to_front(self, parts: list[bytes]) -> bool:
        """The front is waited for: it reads always, and a worker that is faster must not lose anything."""
        with contextlib.suppress(zmq.ZMQError):  # a front that is gone takes its workers along
            self._router.send_multipart(parts)
            return True
        return False


class FrontLink:
    """A worker's dealings with its front. take, step_all, end, stop: the daemon's. swap: hears of other bundles."""

    def __init__(
        self,
        place: WorkerPlace,
        outlet: WorkerOutlet,
        streams: Streams,
        take: Take,
        step_all: Callable[[], None],
        end: Callable[[Stream, str], None],
        stop: Callable[[], None],
    ) -> None:
        self._place, self._outlet, self._streams = place, outlet, streams
        self._take, self._step_all, self._end, self._stop = take, step_all, end, stop
        self._due: deque[str] = deque()
        self._told_ns = self._looked_ns = self._alive_ns = 0
        outlet.gone = set()
        self.swap: Callable[[dict[str, Any]], None] | None = None

    def open_message(self, data: bytes, now_ns: int) -> list[tuple[bytes, int, bytes]]:
        """What clients sent, as the front handed it on; nothing where the front itself spoke."""
        message = worker_protocol.unpack(data)
        if message["type"] == "messages":
            return [tuple(each) for each in message["of"]]
        self._hear(message, now_ns)
        return []

    def report_opened(self, stream: Stream, waiting: Sequence[tuple[int, int, bytes]]) -> None:
        """Before a hello is answered, so that the front never knows less of a stream than its client.

        waiting: frames that come from a recording (`worker_protocol.state_of`).
        """
        self._outlet.tell_front(worker_protocol.state_of(stream, waiting))

    def report_moved(self, stream: Stream) -> None:
        """Another connection goes on with a stream."""
        self._outlet.tell_front(worker_protocol.state_of(stream))

    def report_ended(self, stream: Stream) -> None:
        """A stream has been closed."""
        self._outlet.tell_front(worker_protocol.ended(stream.name))

    def report_due(self, now_ns: int, *, quiet: bool) -> None:
        """Give the front the state of a stream whose turn it is, when nothing waits; stop where the front is gone.

        One stream at a time, all of them every `every_s`; where something always waits, at every second of these.
        """
        if now_ns - self._alive_ns > worker_protocol.ALIVE_NS:
            self._alive_ns = now_ns
            self._outlet.tell_front(worker_protocol.alive())
        if now_ns - self._looked_ns > PARENT_LOOK_NS:
            self._looked_ns = now_ns
            if os.getppid() != self._place.front_pid:
                LOG.error("the front is gone: this worker ends with it")
                self._stop()
        every_ns = int(self._place.snapshot_s * 1e9)
        if not self._due and now_ns - self._told_ns > every_ns:
            self._told_ns = now_ns
            self._due.extend(stream.name for stream in self._streams)
        if self._due and (quiet or now_ns - self._told_ns > every_ns):
            stream = self._streams.find(self._due.popleft())
            if stream is not None and stream.session.last_seq is not None:
                self._outlet.tell_front(worker_protocol.state_of(stream))

    def _hear(self, message: dict[str, Any], now_ns: int) -> None:
        if message["type"] == "stop":
            self._stop()
            return
        if message["type"] in ("prepare", "commit", "abandon"):
            assert self.swap is not None
            self.swap(message)
            return
        if message["type"] == "gone":
            if len(self._outlet.gone) >= MAX_GONE:
                self._outlet.gone.clear()
            self._outlet.gone.add(message["owner"])
            return
        name = message["stream"]
        if message["type"] in ("refused", "end"):
            self._hear_of(message, self._streams.find(name))
            return
        try:
            self._restore(message, now_ns)
        except Exception as error:  # the other streams go on
            LOG.error("stream %r cannot be restored: %s", name, error, exc_info=not isinstance(error, RtsegError))
            left = self._streams.find(name)
            if left is not None:
                self._streams.close_stream(left)
                if self._outlet.recording is not None:
                    self._outlet.recording.end_stream(left)
            self._outlet.tell_front(worker_protocol.ended(name))
            self._outlet.announce(name.encode(), {"type": "closed", "reason": f"could not be restored: {error}"[:300]})

    def _hear_of(self, message: dict[str, Any], stream: Stream | None) -> None:
        if message["type"] == "refused":
            if stream is not None:
                stream.count_refused()
            return
        self._step_all()
        if stream is None:
            self._outlet.tell_front(worker_protocol.ended(message["stream"]))
        else:
            self._end(stream, message["reason"])

    def _restore(self, message: dict[str, Any], now_ns: int) -> None:
        """As the front knows the stream; where there is a recording, what stands there counts: it is never behind."""
        self._step_all()  # nothing of other streams may be left out of the recording below
        hello = worker_protocol.hello_of(message)
        stream = self._streams.open_stream(message["owner"], hello, self._streams.match_hello(hello), now_ns)
        stream.continue_as(message["opened_ns"], message["answers"], *message["outside"])
        frames, tape, done = message["frames"], self._outlet.recording, 0
        unheard: Sequence[tuple[int, bytes]] = ()
        past = None if tape is None else tape.take_replaced(stream.name, stream.opened_ns)
        if message["model"] != stream.model.served.model:
            # Its worker ended at the very swap: the state would have been fresh there.
            LOG.warning("stream %r begins its state afresh: another model answers from here on", stream.name)
        elif past is not None:
            done = rewind_stream(stream, past)
            stream.number_answers_from(past.number)
            frames = past.frames + list(_newer(frames, past, stream.session.last_seq))
            unheard = past.answers_after(message["published"])
        elif message["state"] is not None:
            stream.session.restore(message["state"])
        stream.continue_after_state()
        try:
            self._outlet.recording, self._outlet.muted = None, done > 0  # these are in the recording before
            self._step_again(stream, frames[:done])
        finally:
            self._outlet.recording, self._outlet.muted = tape, False
        if unheard:  # recorded, but its worker ended before they had reached the front
            self._outlet.send_predictions([(stream.topic, number, answer) for number, answer in unheard])
        if tape is not None:
            tape.continue_stream(stream, now_ns)
        self._step_again(stream, frames[done:])
        stream.expect_frames_from(now_ns)
        LOG.info("stream %r is restored, %d frames were stepped again", stream.name, len(frames))

    def _step_again(self, stream: Stream, frames: Sequence[tuple[int, bytes]]) -> None:
        """Answers that the front has had already it does not publish again."""
        for t_recv_ns, data in frames:
            self._take(stream.owner, data, t_recv_ns)
            self._step_all()  # one by one: nothing is left out for a backlog


def _newer(
    frames: Sequence[tuple[int, bytes]], past: ResumableStream, last_seq: int | None
) -> Iterator[tuple[int, bytes]]:
    """Of the frames that a front kept those that came after the recording's.

    What is older and not recorded, the worker before refused or left out. last_seq: of the state that `past` has.
    """
    for then_ns, data in frames:
        if past.frames:
            is_newer = then_ns > past.frames[-1][0]
        else:
            is_newer = last_seq is None or unpack(data)["seq"] > last_seq
        if is_newer:
            yield then_ns, data
