"""Everything that leaves the daemon: predictions and stream events to subscribers, answers and complaints to senders.

Owns no session and decides nothing about streams. Never waits for a peer that does not read.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgpack
import zmq

from rtseg.errors import RtsegError
from rtseg.inference.predictions import Prediction, Quality
from rtseg.serve.access.guard import Guard
from rtseg.serve.publish.batch_sender import ROWS, BatchSender
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.stream import Stream
from rtseg.serve.timing.latency import Histogram
from rtseg.wire.messages import VERSION, Served

COMPLAINT_EVERY_NS = 1_000_000_000
MAX_COMPLAINTS = 4096
# As plain numbers: an IntFlag takes a microsecond.
BROKEN = int(Quality.RESET | Quality.IDENTITY_JUMP)
POLLIN, MORE, MORE_AT_ONCE = int(zmq.POLLIN), int(zmq.SNDMORE), int(zmq.SNDMORE | zmq.NOBLOCK)


class Outlet:
    """The sending ends of the daemon's two sockets.

    tape: where what is published is recorded. counters: what was sent and refused. total: receipt to publishing of
    every answered frame.
    """

    def __init__(self, router: zmq.Socket[bytes], xpub: zmq.Socket[bytes], guard: Guard | None = None) -> None:
        self._router, self._xpub, self._guard = router, xpub, guard
        self._packer = msgpack.Packer()
        self._batch_sender = self._make_sender()
        self.recording: StreamRecording | None = None
        self._subscriptions = 0
        self._topics: set[bytes] = set()
        # (connection, stream, kind of error) -> when it was last answered, how many were silent since.
        self._complaints: dict[tuple[bytes, str, str], tuple[int, int]] = {}
        self.counters: Counter[str] = Counter()
        self.total = Histogram()

    def publish_prediction(
        self, stream: Stream, prediction: Prediction, t_recv_ns: int, *, keep_back: bool = False
    ) -> None:
        """One prediction, which leaves with the next `flush`. t_recv_ns: when the frame came that brought it.

        keep_back: a newer frame of the stream waits, and only the newest answer is wanted; published it is nevertheless
        where a bout begins or the stream's course was broken.
        """
        if stream.lookahead_frames:
            t_recv_ns = stream.received_ns(prediction.seq, t_recv_ns)
        stream.answers += 1
        if keep_back:
            keep_back = not prediction.events.any() and not prediction.quality & BROKEN
            stream.superseded += keep_back
        if len(self._batch_sender) == ROWS:
            self.flush()
        self._batch_sender.add_prediction(stream, prediction, t_recv_ns, heard=not keep_back and self._is_heard(stream))

    def flush(self) -> None:
        """What was published leaves."""
        if not self._batch_sender:
            return
        tape = self.recording
        told, took_ns, late = self._batch_sender.send_batch(wanted=tape is not None)
        unsent = [(sent.stream.topic, sent.number, sent.packed) for sent in told if not sent.is_sent]
        if unsent:
            self.send_predictions(unsent)
        if tape is not None:
            for sent in told:
                tape.record_prediction(sent.packed, sent.t_pub_ns)
        self.total.count_latencies(took_ns)
        if late:
            self.counters["late answers"] += late

    def _make_sender(self) -> BatchSender:
        return BatchSender(self._xpub)

    def _is_heard(self, stream: Stream) -> bool:
        """Whether anybody has subscribed to the stream's topic or to a beginning of it."""
        if stream.heard_at != self._subscriptions:
            stream.heard_at = self._subscriptions
            stream.heard = any(stream.topic.startswith(topic) for topic in self._topics)
        return stream.heard

    def announce(self, topic: bytes, message: dict[str, Any]) -> None:
        """Something other than a prediction to all subscribers of a topic, after what was published."""
        self.flush()
        stream = topic.decode(errors="replace")
        packed = self._packer.pack({"v": VERSION, "stream": stream, **message})
        self.send_packed(topic, packed)
        if self.recording is not None and message["type"] not in ("subscribed", "beat"):
            self.recording.record_event(packed, time.monotonic_ns())

    def receive_subscriptions(self, served_to: Callable[[str], Served]) -> None:
        """Confirm new subscriptions: from here on everything published reaches them.

        served_to: what answers a stream, by its name.
        """
        while cast(int, self._xpub.getsockopt(zmq.EVENTS)) & POLLIN:
            frame = self._xpub.recv(copy=False)
            said = frame.bytes
            topic = said[1:]
            if said[:1] == b"\x01":
                if self._guard is not None and not self._guard.may_subscribe(frame):
                    continue
                self._topics.add(topic)
                self._subscriptions += 1
                served = served_to(topic.decode(errors="replace"))
                self.announce(topic, {"type": "subscribed", **served.to_fields()})
            elif said[:1] == b"\x00":
                self._topics.discard(topic)
                self._subscriptions += 1

    def publish_heartbeats(self, about: Callable[[str], dict[str, Any]]) -> None:
        """A sign of life to everybody who listens. about: what there is to say of a stream, by its name."""
        now_ns = time.monotonic_ns()
        for topic in self._topics:
            self.announce(topic, {"type": "beat", "t_pub_ns": now_ns, **about(topic.decode(errors="replace"))})

    def announce_stopping(self) -> None:
        """The last word on every topic that somebody hears."""
        for topic in self._topics:
            self.announce(topic, {"type": "stopping"})

    def send_predictions(self, answers: Sequence[tuple[bytes, int, bytes]]) -> None:
        """Predictions: topic, number within it (only a front wants to know it), bytes."""
        for topic, _, packed in answers:
            self.send_packed(topic, packed)

    def send_packed(self, topic: bytes, packed: bytes) -> None:
        """To all subscribers; one whose queue is full goes without, and is counted, and nobody waits for it."""
        xpub = self._xpub
        try:
            xpub.send(topic, MORE_AT_ONCE)
        except zmq.Again:
            self.counters["dropped for slow subscribers"] += 1
            xpub.setsockopt(zmq.XPUB_NODROP, 0)
            xpub.send(topic, MORE)
            xpub.send(packed)
            xpub.setsockopt(zmq.XPUB_NODROP, 1)
            return
        xpub.send(packed)

    def answer(self, owner: bytes, message: dict[str, Any]) -> bool:
        """Send to one connection; whether it was there to take it."""
        parts = [owner, self._packer.pack({"v": VERSION, **message})]
        try:
            self._router.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or it reads nothing
            self.counters["unheard"] += 1
            return False
        return True

    def complain(
        self, owner: bytes, stream: str | None, seq: int | None, error: Exception, *, limited: bool = True
    ) -> bool:
        """Tell a sender what was wrong; whether it was said.

        limited: complaints of one kind about one stream once a second at most.
        """
        self.counters["errors"] += 1
        kind = type(error).__name__ if isinstance(error, RtsegError) else "internal"
        if len(self._complaints) >= MAX_COMPLAINTS:
            self._complaints.clear()
        now_ns, key = time.monotonic_ns(), (owner, stream or "", kind)
        last_ns, silent = self._complaints.get(key, (0, 0))
        if limited and last_ns and now_ns - last_ns < COMPLAINT_EVERY_NS:
            self._complaints[key] = last_ns, silent + 1
            return False
        self._complaints[key] = now_ns, 0
        reason = str(error)[:1000]
        self.answer(
            owner,
            {"type": "error", "stream": stream, "seq": seq, "kind": kind, "reason": reason, "repeated": silent},
        )
        return True
