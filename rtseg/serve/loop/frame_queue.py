"""Frames that wait to be stepped, in the order in which they came.

Of one stream at most `backlog_frames` wait; beyond that its oldest ones are left out, which is counted and told.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

from rtseg.config import ServeSettings
from rtseg.frames.frame import Frame
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import SequenceError, Stream
from rtseg.serve.timing.loop_load import CapacityError, LoopLoad
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.timing.silence import SilenceWatch
from rtseg.triggers.cuts import CLOCK_JUMP, OVERLOAD

LOG = logging.getLogger("rtseg.serve")
NEVER_STEPPED = 1 << 62
"""More frames than ever wait: all of a stream are left out."""
TOLD_EVERY_NS = 1_000_000_000
"""What is logged about a stream's frames is logged about one stream in this time, lest it fill the log."""


QueuedFrame = tuple[Stream, Frame, int, int, bytes]
"""A frame of an open stream on its way through the loop: when its message came, when it was a Frame (both on the
monotonic clock), and the message. A plain tuple: frames come by the thousand, and a named one takes five times as long.
"""
# The constructor of a NamedTuple is a Python function, and frames are made without it.
new_frame = cast(Callable[[tuple[object, ...]], Frame], partial(tuple.__new__, Frame))


class FrameQueue:
    """The queue of frames. cut_events: ends what triggers do on a stream that is in doubt, with the reason; None where
    there are none. silence_watch: tells which streams should have sent and have not.
    """

    def __init__(
        self,
        settings: ServeSettings,
        outlet: Outlet,
        load: LoopLoad,
        cut_events: Callable[[Stream, str], None] | None = None,
    ) -> None:
        self._cut_events = cut_events
        self._backlog_frames, self._max_batch = settings.backlog_frames, settings.max_batch
        # A stream is crowded from this many waiting frames on; counted as it happens, for the receiver asks in between.
        self._crowded_from, self._crowded_streams = max(1, settings.backlog_frames // 2), 0
        self._outlet, self._load = outlet, load
        self._frames: deque[QueuedFrame] = deque()
        self._tell_clipped = Periodic(TOLD_EVERY_NS)
        self._left_out_reason = ""  # why no frame is stepped any more, "" = they are
        self.silence_watch: SilenceWatch[Stream] = SilenceWatch()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def is_crowded(self) -> bool:
        """Whether of some stream half as many frames wait as may wait, or more."""
        return self._crowded_streams > 0

    def enqueue_frame(self, queued: QueuedFrame) -> None:
        """Let a frame wait for its turn."""
        self._frames.append(queued)
        stream, frame, t_recv_ns, _, _ = queued
        record = stream.queued
        record.last_ns = t_recv_ns
        record.waiting = waiting = record.waiting + 1
        if waiting >= self._crowded_from:
            self._crowded_streams += waiting == self._crowded_from
            if waiting - record.dropping > self._backlog_frames:
                # The oldest one is left out, but only when its turn comes: the queue holds all streams' frames, and to
                # search it for one costs more than to pass it by.
                record.dropping += 1
        seq, newest = frame.seq, record.newest_seq
        if seq > newest:  # a late or repeated frame says nothing of the source's clock
            record.newest_seq = seq
            if not stream.clock.takes_next(frame.t_source_ns, t_recv_ns):
                self._check_times(stream, seq, frame.t_source_ns, t_recv_ns, follows=seq == newest + 1)
        else:
            self._count_old(stream, seq)
        # Once a stream, since SLEAP gives such confidences in nearly every frame; the session counts them.
        if frame.is_clipped and not record.told_clipped and self._tell_clipped.restart_if_due(t_recv_ns):
            record.told_clipped = True
            LOG.warning("stream %s, seq %d: confidences above 1 are taken as 1", ascii(stream.name), seq)
        if not stream.silence.is_watched:
            if stream.silence.is_stale:
                self._outlet.announce(stream.topic, {"type": "fresh", "seq": frame.seq})
            self.silence_watch.watch_stream(stream)

    def next_batch(self) -> list[QueuedFrame]:
        """Take out the frames that wait longest, `max_batch` at most, in the order in which they came.

        Those behind which too many others of their stream wait are left out, counted and told. The caller calls
        `frame_done` for each of the others when it is answered: until then it counts as waiting.
        """
        batch: list[QueuedFrame] = []
        frames, most = self._frames, self._max_batch
        while frames and len(batch) < most:
            queued = frames.popleft()
            stream = queued[0]
            if stream.queued.dropping:
                _, frame, t_recv_ns, _, _ = queued
                self._drop_frame(stream, frame.seq, t_recv_ns)
            elif stream.is_closed:
                self.frame_done(stream)
            else:
                batch.append(queued)
        return batch

    def leave_out_all(self, streams: Iterable[Stream], reason: str) -> None:
        """Step no more frames of these streams, but count those that wait and come. reason: for their senders."""
        self._left_out_reason = reason
        for stream in streams:
            stream.queued.dropping = NEVER_STEPPED

    def frame_done(self, stream: Stream) -> int:
        """A frame that was taken out of the queue is answered, or left out; how many of its stream still wait."""
        record = stream.queued
        if record.waiting == self._crowded_from:
            self._crowded_streams -= 1
        record.waiting -= 1
        return record.waiting

    def _check_times(self, stream: Stream, seq: int, t_source_ns: int, t_recv_ns: int, *, follows: bool) -> None:
        """Tell everybody where a source's clock was set, or its rate is another one than declared.

        follows: whether the frame is the next one. Behind a gap, which ends events anyhow, a recording that is played
        faster than it was made looks like a clock that was set.
        """
        clock, rate = stream.clock, stream.rate
        if clock.compare_times(t_source_ns, t_recv_ns):
            if self._cut_events is not None and follows:
                self._cut_events(stream, CLOCK_JUMP)
            self._outlet.announce(stream.topic, {"type": "clock", "seq": seq, **clock.summary()})
        if t_source_ns >= rate.due_source_ns or t_recv_ns >= rate.due_recv_ns:
            self._check_rate(stream, seq, t_source_ns, t_recv_ns)
        clock.compare_from(rate.due_source_ns, rate.due_recv_ns)

    def _check_rate(self, stream: Stream, seq: int, t_source_ns: int, t_recv_ns: int) -> None:
        """Tell everybody where a camera turns out to have another rate than declared, or the declared one again."""
        if not stream.rate.close_window(seq, t_source_ns, t_recv_ns, stream.clock.long_intervals):
            return
        found = stream.rate.summary()
        times = "t_source_ns" if found["by"] == "source" else "when they come"
        measured = f"stream {stream.name!r}: {found['measured']:.4g} frames per second by {times}"
        if found["wrong"]:
            self._outlet.counters["wrong rates"] += 1
            LOG.warning(
                "%s, and %.4g are declared: declare the camera's own rate (`resample`), or count the frames that it "
                "drops in seq",
                measured,
                found["declared"],
            )
        else:
            LOG.info("%s, as declared", measured)
        self._outlet.announce(stream.topic, {"type": "rate", "seq": seq, **found})

    def _count_old(self, stream: Stream, seq: int) -> None:
        """A frame that is not new is left out by the session; where a source counts anew, all are, and it is told."""
        record = stream.queued
        newest, old = record.newest_seq, record.old
        if not old.add(seq, newest, 1e9 / stream.interval_ns) or not old.told.restart_if_due(time.monotonic_ns()):
            return
        self._outlet.counters["renumbered"] += 1
        error = SequenceError(
            f"stream {stream.name!r}: expected seq above {newest}, got {seq}, after {old.count - 1} others that were "
            f"old as well: no frame is answered until seq {newest + 1}; say hello again where a camera counts anew"
        )
        LOG.warning("%s", error)
        self._outlet.announce(stream.topic, {"type": "renumbered", "seq": seq, "newest": newest})
        self._outlet.complain(stream.owner, stream.name, seq, error, limited=False)

    def _drop_frame(self, stream: Stream, seq: int, t_recv_ns: int) -> None:
        self.frame_done(stream)
        stream.queued.dropping -= 1
        stream.count_left_out(t_recv_ns)
        self._outlet.counters["dropped frames"] += 1
        if self._cut_events is not None:
            self._cut_events(stream, OVERLOAD)
        if stream.queued.overload.restart_if_due(time.monotonic_ns()):
            self._announce_overload(stream, seq)

    def _announce_overload(self, stream: Stream, seq: int) -> None:
        share, _ = self._load.measured()
        event = {"type": "overload", "seq": seq, "dropped": stream.queued.dropped, "load": round(share, 3)}
        self._outlet.announce(stream.topic, event)
        reason = (
            f"more than {self._backlog_frames} frames of stream {stream.name!r} wait (backlog_frames): the oldest is "
        )
        reason = self._left_out_reason or f"{reason}left out"
        error = CapacityError(f"{reason}; {stream.queued.dropped} so far")
        self._outlet.complain(stream.owner, stream.name, seq, error)
