"""Frames that wait, stepped as one batch and answered: the middle of the hot loop, between receiving and publishing.

Frames that wait together are stepped together, in the order in which they came; a lone one waits for nobody. Of one
stream at most `backlog_frames` wait; what is left out is counted and told.
"""

from __future__ import annotations

import logging
import time
from collections import deque

from rtseg.config import ServeSettings
from rtseg.errors import RtsegError
from rtseg.frames.frame import Frame
from rtseg.inference.predictions import Prediction
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.timing.latency import Histogram
from rtseg.serve.timing.loop_load import CapacityError, LoopLoad
from rtseg.serve.timing.silence import SilenceWatch
from rtseg.wire.messages import clip_name

LOG = logging.getLogger("rtseg.serve")
OVERLOAD_EVERY_NS = 1_000_000_000
_Waiting = tuple[Stream, Frame, int, int, bytes]
"""A frame with the times of its receipt and of its decoding, and as it came."""


class FrameQueue:
    """The queue of frames, and the step. latency: `decode` of a frame, `step` and `publish` of a batch."""

    def __init__(self, settings: ServeSettings, streams: Streams, outlet: Outlet, gauge: LoopLoad) -> None:
        self._backlog_frames, self._max_batch = settings.backlog_frames, settings.max_batch
        self._many, self._crowded = max(1, settings.backlog_frames // 2), 0
        self._streams, self._outlet, self._gauge = streams, outlet, gauge
        self._counters = outlet.counters
        self._queue: deque[_Waiting] = deque()
        self.vigil: SilenceWatch[Stream] = SilenceWatch()
        self._decode, self._step, self._publish = Histogram(), Histogram(), Histogram()
        self.latency = {"decode": self._decode, "step": self._step, "publish": self._publish, "total": outlet.total}

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, stream: Stream, frame: Frame, t_recv_ns: int, data: bytes, decoded_ns: int = 0) -> None:
        """A frame has come. decoded_ns: since when it is one; 0 = now."""
        self._queue.append((stream, frame, t_recv_ns, decoded_ns or time.monotonic_ns(), data))
        stream.waiting += 1
        if stream.waiting == self._many:
            self._crowded += 1
        stream.last_ns = t_recv_ns
        if stream.waiting - stream.dropping > self._backlog_frames:
            stream.dropping += 1  # the oldest one, when its turn comes
        if frame.seq > stream.newest_seq:
            stream.newest_seq = frame.seq
            if stream.clock.compare_times(frame.t_source_ns, t_recv_ns):
                self._outlet.announce(stream.topic, {"type": "clock", "seq": frame.seq, **stream.clock.summary()})
        if not stream.watched:
            if stream.stale:
                self._outlet.announce(stream.topic, {"type": "fresh", "seq": frame.seq})
            self.vigil.watch_stream(stream)

    @property
    def is_crowded(self) -> bool:
        """Whether half as many frames wait as may, or more, of some stream."""
        return self._crowded > 0

    def step_all(self) -> None:
        """Until none waits."""
        while self._queue:
            self.step()

    def step(self) -> int:
        """Step the frames that wait longest, in the order in which they came, and publish the answers; how many."""
        batch = self._next()
        if not batch:
            return 0
        started_ns = time.monotonic_ns()
        tape = self._outlet.recording
        if tape is not None:
            for _, _, t_recv_ns, _, data in batch:
                tape.record_frame(data, t_recv_ns)
        try:
            answers = _step(batch)
        except Exception as error:
            for stream, frame, _, _, _ in batch:
                self._leaves(stream)
                self.refuse(stream.owner, stream.name, frame.seq, error)
            return len(batch)
        stepped_ns = time.monotonic_ns()
        publish = self._outlet.publish_prediction
        for (stream, frame, t_recv_ns, _, _), predictions in zip(batch, answers, strict=True):
            stream.remember_receipt(frame.seq, t_recv_ns)
            self._leaves(stream)
            keep_back = stream.waiting > 0 and stream.hello.policy == "newest"
            for prediction in predictions:
                publish(stream, prediction, t_recv_ns, keep_back=keep_back)
        self._outlet.flush()
        # What is counted is counted when nobody waits for it.
        self._publish.count_latency(time.monotonic_ns() - stepped_ns)
        self._step.count_latency(stepped_ns - started_ns)
        self._decode.count_latencies([decoded_ns - t_recv_ns for _, _, t_recv_ns, decoded_ns, _ in batch])
        self._counters["batches"] += 1
        self._counters["frames"] += len(batch)
        return len(batch)

    def refuse(self, owner: bytes, name: object, seq: object, error: Exception, *, limited: bool = True) -> None:
        """A message could not be handled: counted, and told to its sender."""
        known = clip_name(name) if isinstance(name, str) else None
        stream = self._streams.find(known or "")
        if stream is not None and stream.owner == owner:
            stream.refused += 1
        number = seq if type(seq) is int else None
        said = self._outlet.complain(owner, known, number, error, limited=limited)
        if said and not isinstance(error, RtsegError):
            LOG.error("a message of stream %r could not be handled", known, exc_info=error)

    def _next(self) -> list[_Waiting]:
        """The frames whose turn it is; those that have waited behind too many others are left out and counted."""
        batch: list[_Waiting] = []
        queue, most = self._queue, self._max_batch
        while queue and len(batch) < most:
            row = queue.popleft()
            stream = row[0]
            if stream.dropping:
                self._leaves(stream)
                stream.dropping -= 1
                stream.dropped += 1
                self._counters["dropped frames"] += 1
                self._say_overload(stream, row[1].seq)
            elif stream.closed:
                self._leaves(stream)
            else:
                batch.append(row)
        return batch

    def _leaves(self, stream: Stream) -> None:
        """One frame of a stream waits no more."""
        if stream.waiting == self._many:
            self._crowded -= 1
        stream.waiting -= 1

    def _say_overload(self, stream: Stream, seq: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - stream.overload_ns < OVERLOAD_EVERY_NS:
            return
        stream.overload_ns = now_ns
        share = self._gauge.measured()[0]
        about = {"seq": seq, "dropped": stream.dropped, "load": round(share, 3)}
        self._outlet.announce(stream.topic, {"type": "overload", **about})
        behind = CapacityError(
            f"more than {self._backlog_frames} frames of stream {stream.name!r} wait (backlog_frames): the oldest is "
            f"left out; {stream.dropped} so far"
        )
        self._outlet.complain(stream.owner, stream.name, seq, behind)


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
