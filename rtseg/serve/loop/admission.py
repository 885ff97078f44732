"""Streams that come and go: who may open one, whose it is, and what is said when it ends."""

from __future__ import annotations

import logging
from typing import Any

from rtseg.errors import RtsegError, clip_reason
from rtseg.features.body_size import describe_size
from rtseg.serve.access.guard import Guard
from rtseg.serve.access.rate_limits import OpeningLimits
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.recording.resume import same_source
from rtseg.serve.streams.stream import Stream, StreamError, Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.serve.workers.front_link import FrontLink
from rtseg.wire.messages import Hello, clip_name, parse_bye, parse_frame, unpack

LOG = logging.getLogger("rtseg.serve")


class Admission:
    """Opens and ends a daemon's streams.

    guard: None where no key is asked for. front_link: of a worker, whose front is told of its streams; otherwise None.
    stage: None where there are no triggers.
    """

    def __init__(
        self,
        streams: Streams,
        outlet: Outlet,
        load: LoopLoad,
        guard: Guard | None,
        front_link: FrontLink | None,
        stage: TriggerStage | None = None,
    ) -> None:
        self._stage = stage
        self._streams, self._outlet, self._load = streams, outlet, load
        self._guard, self._front_link = guard, front_link
        self._openings = OpeningLimits(streams.model.places)

    def handle_hello(self, owner: bytes, message: dict[str, Any], now_ns: int) -> list[tuple[int, bytes]]:
        """Open a stream, or tell its source why not.

        Returns the frames that are still to be answered where it goes on from a recording, each with a time of receipt.
        """
        counters, recording = self._outlet.counters, self._outlet.recording
        try:
            rate_is_assumed = message.get("fps") is None
            hello = Hello.from_message(message | ({"fps": self._streams.model.bundle.fps} if rate_is_assumed else {}))
            points = self._streams.match_hello(hello)
            before = self._streams.find(hello.stream)
            if before is not None and self._reconnect(before, owner, hello):
                return []
            # Only after the hello was found good: a bad one must not end anybody's stream.
            if before is not None:
                self._check_owner(before, owner)
            # Before anything is ended: a stream whose source asks too often goes on as it is.
            self._openings.check_opening(hello.stream, now_ns)
            if before is not None:
                self.end_stream(before, "reopened" if before.owner == owner else "taken over")
            declared_fps = sum(1e9 / stream.interval_ns for stream in self._streams)
            self._load.check_new_stream(hello.stream, hello.fps, declared_fps)
            stream = self._streams.open_stream(owner, hello, points, now_ns)
            # Only now: hellos that are refused must not use up what others may open.
            self._openings.count_opening(hello.stream, now_ns)
            if self._stage is not None:
                self._stage.open_stream(stream)
            last_seq, frames = (None, []) if recording is None else recording.begin_stream(stream, now_ns)
            # Each gets a time of its own, before whatever follows the hello: a front tells frames apart by them.
            waiting = [(now_ns - len(frames) + i, data) for i, data in enumerate(frames)]
        except RtsegError as error:
            counters["refused hellos"] += 1
            LOG.info("hello refused: %s", error)
            name = message.get("stream")
            about = {"stream": clip_name(name) if isinstance(name, str) else None, "reason": clip_reason(error)}
            self._outlet.answer(owner, {"type": "refused", **about})
            return []
        if self._guard is not None:
            self._guard.stream_opened(stream.name)
        # Before the source hears that it is accepted: its front must know the stream first, should this worker end.
        if self._front_link is not None:
            self._front_link.report_opened(
                stream, [(parse_frame(unpack(data)).seq, then_ns, data) for then_ns, data in waiting]
            )
        LOG.info("stream %r opened", stream.name)
        if rate_is_assumed:
            LOG.warning("stream %r: its hello says no fps; the model's %g are assumed", stream.name, hello.fps)
        counters["hellos"] += 1
        arena = None if hello.arena is None else list(hello.arena)
        opened: dict[str, Any] = {"type": "opened", "clock": hello.clock, "arena": arena, "resumed": last_seq}
        opened["px_per_mm"] = hello.px_per_mm
        assumed = {"fps_assumed": True} if rate_is_assumed else {}
        self._outlet.announce(stream.topic, opened | assumed)
        if self._stage is not None:
            self._stage.stream_begins(stream)
        self._accept(stream, last_seq, assumed)
        return waiting

    def handle_bye(self, owner: bytes, message: dict[str, Any]) -> None:
        """End a stream as its owner wishes. Raises StreamError for anybody else."""
        stream = self._streams.owned_stream(owner, parse_bye(message))
        self.end_stream(stream, "bye")
        self._outlet.answer(owner, {"type": "goodbye", "stream": stream.name, "counters": stream.counters()})

    def end_stream(self, stream: Stream, reason: str) -> None:
        """Publish what a lookahead still owes, close the stream, and tell its subscribers."""
        owed = stream.session.finish()
        if self._stage is not None:
            self._stage.end_stream(stream, owed)
        for prediction in owed:
            self._outlet.publish_prediction(stream, prediction, stream.queued.last_ns)
        self._outlet.flush()
        drift = stream.drift()  # the session's, which is gone once the stream is closed
        if self._stage is not None:
            self._stage.close_stream(stream)
        self._streams.close_stream(stream)
        if self._outlet.recording is not None:
            self._outlet.recording.end_stream(stream)
        if self._guard is not None:
            self._guard.stream_closed(stream.name)
        if self._front_link is not None:
            self._front_link.report_ended(stream.name)
        LOG.info("stream %r closed: %s", stream.name, reason)
        if drift.get("out_of_range"):
            LOG.warning("stream %r: %s", stream.name, _describe_drift(drift))
        closed = {"type": "closed", "reason": reason, "counters": stream.counters(), "drift": drift}
        self._outlet.announce(stream.topic, closed)

    def _check_owner(self, before: Stream, owner: bytes) -> None:
        """Raises StreamError where a stream's name is asked for again, and another, living connection owns it.

        A living owner is told; a dead one cannot be reached, and has lost its stream.
        """
        if before.owner != owner and self._outlet.contest_stream(before.owner, before.name, before.output.contested):
            raise StreamError(f"stream {before.name!r} is open from another connection: choose another name")

    def _reconnect(self, stream: Stream, owner: bytes, hello: Hello) -> bool:
        """Whether a hello comes from an open stream's own source, over another connection; if so, accept it."""
        # Another skeleton, rate or arena makes other answers: that is a new stream, which begins afresh.
        if not hello.resume or not same_source(stream.hello, hello):
            return False
        if stream.owner != owner and self._outlet.contest_stream(stream.owner, stream.name, stream.output.contested):
            return False
        stream.move_to(owner)
        if self._guard is not None:
            self._guard.stream_opened(stream.name)
        if self._front_link is not None:
            self._front_link.report_moved(stream)
        LOG.info("stream %r goes on over another connection", stream.name)
        self._outlet.counters["hellos"] += 1
        self._accept(stream, stream.session.last_seq, {})
        return True

    def _accept(self, stream: Stream, last_seq: int | None, assumed: dict[str, bool]) -> None:
        accepted: dict[str, Any] = {"type": "accepted", "stream": stream.name, "resumed": last_seq}
        accepted["policy"] = stream.hello.policy
        delay_s = stream.session.delay_s
        resampled = {"from": stream.hello.fps, "to": stream.model.bundle.fps, "delay_s": delay_s}
        accepted["resampled"] = resampled if stream.session.is_resampled else None
        accepted["scale"] = stream.model.bundle.scale_of(stream.hello.px_per_mm)
        self._outlet.answer(stream.owner, accepted | assumed | stream.model.served.to_fields())


def _describe_drift(drift: dict[str, Any]) -> str:
    """A stream's drift in one line."""
    worst = ", ".join(f"{f['feature']} in {f['frames']} ({f['farthest']:+.2g} widths)" for f in drift["features"])
    told = f"{drift['out_of_range']} of {drift['frames']} frames unlike training's; out of range were {worst or 'none'}"
    size = describe_size(drift.get("body_size", {}))
    return f"{told}; {size}" if size else told
