"""Everything that leaves the daemon: predictions and stream events to subscribers, answers and errors to senders.

Owns no session and decides nothing about streams. Never waits for a peer that does not read.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import zmq

from rtseg.errors import RtsegError, clip_reason
from rtseg.inference.predictions import Prediction, Quality
from rtseg.serve.access.guard import Guard
from rtseg.serve.access.rate_limits import Buckets, LimitError
from rtseg.serve.publish.batch_sender import BatchSender, SentPrediction
from rtseg.serve.publish.subscribers import Subscribers
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.stream import Stream
from rtseg.serve.timing.latency import Histogram
from rtseg.serve.timing.periodic import Periodic
from rtseg.wire.messages import VERSION, Served, unpack

LOG = logging.getLogger("rtseg.serve")
COMPLAINT_EVERY_NS = 1_000_000_000
MAX_COMPLAINTS = 4096
STATUS_BYTES, STATUS_BYTES_PER_S = 10e6, 1e6
"""A connection gets this much of statuses at once, and then so much a second: it may not read them."""
BEATS_AT_ONCE = 256
"""Heartbeats that are sent before frames have their turn again."""
# As plain numbers: an IntFlag takes a microsecond.
BROKEN = int(Quality.RESET | Quality.IDENTITY_JUMP)
FROZEN, GAP_FILLED = int(Quality.FROZEN), int(Quality.GAP_FILLED)
POLLIN, MORE, MORE_AT_ONCE = int(zmq.POLLIN), int(zmq.SNDMORE), int(zmq.SNDMORE | zmq.NOBLOCK)


@dataclass(slots=True)
class _Complaint:
    """One kind of error about one stream: when its sender was told, and how often it came again since."""

    told: Periodic = field(default_factory=lambda: Periodic(COMPLAINT_EVERY_NS))
    repeated: int = 0


class Outlet:
    """The sending ends of the daemon's two sockets.

    router: clients' messages come here, and answers to them leave. xpub: predictions and events leave here. recording:
    where frames and what is published are recorded, None where nothing is. counters: what was sent and refused. total:
    from receipt to publishing, of every frame that was answered. subscribers: who listens to what. beats_due: topics
    that are still to get their heartbeat.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        xpub: zmq.Socket[bytes],
        guard: Guard | None = None,
        recording: StreamRecording | None = None,
    ) -> None:
        self._statuses = Buckets(STATUS_BYTES_PER_S, STATUS_BYTES)
        self._router, self._xpub = router, xpub
        self.recording = recording
        self._packer = msgpack.Packer()
        self._batch_sender = self._make_sender()
        self._complaints: dict[tuple[bytes, str, str], _Complaint] = {}  # by connection, stream and kind of error
        self._recorded: Mapping[int, bytes] = {}
        self.counters: Counter[str] = Counter()
        self.total = Histogram()
        self.subscribers = Subscribers(xpub, self.counters, guard)
        self.beats_due: deque[bytes] = deque()

    def publish_prediction(
        self, stream: Stream, prediction: Prediction, t_recv_ns: int, *, keep_back: bool = False
    ) -> None:
        """One prediction, which leaves with the next `flush`. t_recv_ns: when the frame came that brought it.

        keep_back: a newer frame of the stream waits, and only the newest answer is wanted; published it is nevertheless
        where a bout begins or the stream's course was broken.
        """
        if stream.lookahead_frames:
            t_recv_ns = stream.received_ns(prediction.seq, t_recv_ns)
        output = stream.output
        output.answers += 1  # published or not: a number stands for the same prediction whoever listens
        if keep_back:
            keep_back = not prediction.events.any() and not prediction.quality & BROKEN
            output.superseded += keep_back
        # Sent whether anybody listens or not: ZeroMQ's filter costs less than to know.
        if self._batch_sender.add_prediction(stream, prediction, t_recv_ns, wanted=not keep_back):
            self.flush()
        if prediction.quality & FROZEN != output.frozen:
            self._announce_frozen(stream, prediction)

    def flush(self) -> None:
        """Send what was published."""
        if not self._batch_sender:
            return
        recording = self.recording
        # Recorded before it is sent: a process that is killed in between must not have said what it has not recorded.
        # The one in its place would say and record it again, with another time.
        if self._recorded:  # only while a worker brings a stream back, which sends nothing from compiled code
            packed, took_ns, late = self._batch_sender.send_batch(pack_all=True)
            packed = [self._as_recorded(each) for each in packed]
        else:
            packed, took_ns, late = self._batch_sender.send_batch(recording)
        if recording is not None:
            for each in packed:
                if not each.is_recorded:
                    recording.record_prediction(each.packed, each.t_pub_ns)
        unsent = [(each.stream.topic, each.number, each.packed) for each in packed if not each.is_sent]
        if unsent:
            self.send_predictions(unsent)
        self.total.count_latencies(took_ns)
        if late:
            self.counters["late answers"] += late

    @contextlib.contextmanager
    def repeating(self, recorded: Mapping[int, bytes]) -> Iterator[None]:
        """Meanwhile predictions of these numbers are recorded as they were recorded before, and not sent.

        For a frame with several predictions of which some were recorded when the process was killed.
        """
        self._recorded = recorded
        try:
            yield
        finally:
            self._recorded = {}

    def _as_recorded(self, sent: SentPrediction) -> SentPrediction:
        before = self._recorded.get(sent.number)
        return (
            sent if before is None else sent._replace(is_sent=True, packed=before, t_pub_ns=unpack(before)["t_pub_ns"])
        )

    def _make_sender(self) -> BatchSender:
        return BatchSender(self._xpub)

    def announce(self, topic: bytes, message: dict[str, Any]) -> None:
        """Send an event to all subscribers of a topic, after the predictions that were published before it."""
        self.flush()
        packed = self._packer.pack({"v": VERSION, "stream": topic.decode(), **message})
        if self.recording is not None and message["type"] not in ("subscribed", "beat"):
            self.recording.record_event(packed, time.monotonic_ns())
        self.send_packed(topic, packed)

    def _announce_frozen(self, stream: Stream, prediction: Prediction) -> None:
        """The tracker began to repeat one frame, or tracks again."""
        # A filled frame says nothing of the tracker, which may be frozen before it and after it.
        if prediction.quality & GAP_FILLED:
            return
        stream.output.frozen = prediction.quality & FROZEN
        if stream.output.frozen:
            self.counters["frozen trackers"] += 1
            LOG.warning("stream %r, seq %d: the tracker repeats one frame (gaps.frozen_s)", stream.name, prediction.seq)
        else:
            LOG.info("stream %r, seq %d: the tracker is frozen no more", stream.name, prediction.seq)
        self.announce(stream.topic, {"type": "frozen" if stream.output.frozen else "unfrozen", "seq": prediction.seq})

    def receive_subscriptions(self, served_to: Callable[[str], Served]) -> None:
        """Read subscriptions and confirm new ones: from here on everything published reaches them.

        served_to: what answers a stream, by its name, or would.
        """
        self.subscribers.receive_changes(time.monotonic_ns())
        self.confirm_subscriptions(served_to)

    def confirm_subscriptions(self, served_to: Callable[[str], Served]) -> None:
        """Confirm those whose turn it is (`Subscribers.unconfirmed`). served_to: see `receive_subscriptions`."""
        for topic in self.subscribers.confirmable(time.monotonic_ns()):
            self.announce(topic, {"type": "subscribed", **served_to(topic.decode()).to_fields()})

    def begin_heartbeats(self, topics: Iterable[bytes]) -> None:
        """It is time for a sign of life on these topics; those that are left from the last time come first."""
        if not self.beats_due:
            self.beats_due.extend(topics)

    def send_heartbeats(self, about: Callable[[str], dict[str, Any]]) -> None:
        """Send those that are due, BEATS_AT_ONCE at most. about: what a heartbeat says of a stream, by its name."""
        now_ns, due = time.monotonic_ns(), self.beats_due
        for _ in range(min(len(due), BEATS_AT_ONCE)):
            topic = due.popleft()
            self.announce(topic, {"type": "beat", "t_pub_ns": now_ns, **about(topic.decode())})

    def announce_stopping(self) -> None:
        """Tell everybody who listens that the daemon stops: the last message on every topic."""
        for topic in self.subscribers.topics():
            self.announce(topic, {"type": "stopping"})

    def send_predictions(self, answers: Sequence[tuple[bytes, int, bytes]]) -> None:
        """Send predictions: topic, number within it (which only a front needs), bytes."""
        for topic, _, packed in answers:
            self.send_packed(topic, packed)

    def send_packed(self, topic: bytes, packed: bytes) -> None:
        """Send one message to all subscribers of a topic; one whose queue is full misses it, which is counted."""
        # XPUB_NODROP makes ZeroMQ say that some queue is full. Then the message is sent again without it: whoever has
        # room gets it, and nobody waits for the one who reads too slowly.
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
        """Answer one connection; whether it was there to take it."""
        parts = [owner, self._packer.pack({"v": VERSION, **message})]
        try:
            self._router.send_multipart(parts, zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or it reads nothing
            self.counters["unheard"] += 1
            return False
        return True

    def answer_status(self, owner: bytes, message: dict[str, Any]) -> None:
        """Answer a question for the status: the one answer that may be large. Raises LimitError for too many of them.

        Whoever asks in a loop and reads nothing fills a queue, whose limit counts messages and not bytes.
        """
        packed = self._packer.pack({"v": VERSION, **message})
        if not self._statuses.take_one(owner, time.monotonic_ns(), len(packed)):
            raise LimitError("more questions for the status than are answered: ask again in a moment")
        with contextlib.suppress(zmq.ZMQError):
            self._router.send_multipart([owner, packed], zmq.NOBLOCK)

    def contest_stream(self, owner: bytes, stream: str, contested: Periodic) -> bool:
        """Tell the owner of a stream that another connection asks for its name; whether the owner is still there.

        Only a connection that has ended is not. One that is there and does not read keeps its stream for as long as
        frames or beats come (a silent stream is closed after `idle_timeout_s`): otherwise whoever asked often enough to
        fill its queue would get the stream. contested: the stream's own. Between two messages the owner is taken to be
        there, so that whoever asks in a loop fills no queue.
        """
        now_ns = time.monotonic_ns()
        if not contested.is_due(now_ns):
            return True
        parts = [owner, self._packer.pack({"v": VERSION, "type": "contested", "stream": stream})]
        try:
            self._router.send_multipart(parts, zmq.NOBLOCK)
        except zmq.Again:
            self.counters["unheard"] += 1
        except zmq.ZMQError:
            return False  # and is asked again at the next hello: the one in hand may be refused for another reason
        contested.restart(now_ns)
        return True

    def complain(
        self, owner: bytes, stream: str | None, seq: int | None, error: Exception, *, limited: bool = True
    ) -> bool:
        """Tell a sender what was wrong with its message; whether that was sent.

        limited: errors of one kind about one stream are told once a second at most, and counted in between.
        """
        self.counters["errors"] += 1
        kind = type(error).__name__ if isinstance(error, RtsegError) else "internal"
        if len(self._complaints) >= MAX_COMPLAINTS:
            self._complaints.clear()
        now_ns, complaint = time.monotonic_ns(), self._complaints.setdefault((owner, stream or "", kind), _Complaint())
        if limited and not complaint.told.is_due(now_ns):
            complaint.repeated += 1
            return False
        repeated, complaint.repeated = complaint.repeated, 0
        complaint.told.restart(now_ns)
        about = {"stream": stream, "seq": seq, "kind": kind, "reason": clip_reason(error), "repeated": repeated}
        self.answer(owner, {"type": "error", **about})
        return True
