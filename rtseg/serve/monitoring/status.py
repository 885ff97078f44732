"""What a daemon says of itself: to whoever asks, in shared memory piece by piece, and in heartbeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import rtseg
from rtseg.config import ServeSettings
from rtseg.serve.monitoring.shared_status import stream_counts
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.timing.latency import Histogram
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.triggers.stage import TriggerStage

STREAMS_A_PIECE = 16


class DaemonStatus:
    """Looks at a daemon's parts and changes none.

    latency: by stage. granted: what the system gave the loop (`LoopPrivileges`). refusals: the counters of who was not
    let in (`ClientSockets`). stage: None where there are no triggers.
    """

    def __init__(
        self,
        settings: ServeSettings,
        streams: Streams,
        outlet: Outlet,
        latency: Mapping[str, Histogram],
        load: LoopLoad,
        granted: Mapping[str, Any],
        refusals: Callable[[], dict[str, int]],
        stage: TriggerStage | None = None,
    ) -> None:
        self._stage = stage
        self._settings, self._streams, self._outlet, self._latency = settings, streams, outlet, latency
        self._load, self._granted, self._refusals = load, granted, refusals
        self._started_ns = time.monotonic_ns()

    def mark_started(self, now_ns: int) -> None:
        """The daemon serves from now on."""
        self._started_ns = now_ns

    def to_message(self) -> dict[str, Any]:
        """The fields of the status message: counters and latencies since the start, and what each stream is like."""
        model, streams, recording = self._streams.model, list(self._streams), self._outlet.recording
        return {
            "uptime_s": (time.monotonic_ns() - self._started_ns) / 1e9,
            **model.served.to_fields(),
            "capacity": model.places,
            "loop": dict(self._granted),
            "load": round(self._load.measured()[0], 4),
            "streams": {stream.name: stream.counters() for stream in streams},
            "rates": {stream.name: stream.rate.summary() for stream in streams},
            "clocks": {stream.name: stream.clock.summary() for stream in streams},
            "stale": [stream.name for stream in streams if stream.silence.is_stale],
            "frozen": [stream.name for stream in streams if stream.output.frozen],
            "drift": {stream.name: stream.drift() for stream in streams},
            "models": {stream.name: stream.model.served.model for stream in streams},
            "counters": self._counters(),
            "latency": {stage: histogram.summary() for stage, histogram in self._latency.items()},
            **({} if recording is None else {"recording": recording.status()}),
            **({} if self._stage is None else {"triggers": self._stage.status()}),
        }

    def shared_pieces(self, *, stopping: bool) -> Iterator[dict[str, Any]]:
        """The pieces of the shared status (`shared_status.Pieces`)."""
        model = self._streams.model
        yield {
            "model": model.served.model,
            "engine": model.served.engine,
            "version": rtseg.__version__,
            "started_ns": self._started_ns,
            "capacity": model.places,
            "fresh_s": self._settings.fresh_s,
            "ready": True,
            "stopping": stopping,
            "counters": self._counters(),
            "streams": {},
            **({} if self._stage is None else {"armed": self._stage.n_armed()}),
        }
        for stage, histogram in self._latency.items():
            yield {"latency": {stage: histogram.cumulative()}}
        # A copy: streams may come and go before the last piece is written.
        streams = list(self._streams)
        for start in range(0, len(streams), STREAMS_A_PIECE):
            some = streams[start : start + STREAMS_A_PIECE]
            now_ns = time.monotonic_ns()
            yield {"streams": {stream.name: _shared_counts(stream, now_ns) for stream in some}}

    def beat_fields(self, stream_name: str) -> dict[str, Any]:
        """What a heartbeat says of a stream; nothing where it is not open."""
        stream = self._streams.find(stream_name)
        if stream is None:
            return {}
        seq = stream.queued.newest_seq if stream.queued.newest_seq >= 0 else None
        told = {"stale": stream.silence.is_stale, "frozen": bool(stream.output.frozen)}
        if self._stage is not None:
            told["armed"] = self._stage.is_armed(stream)
        return {**told, "seq": seq, "clock": stream.clock.summary(), "rate": stream.rate.summary()}

    def _counters(self) -> dict[str, int]:
        counters, recording = dict(self._outlet.counters) | self._refusals(), self._outlet.recording
        return counters if recording is None else counters | recording.counters()


def _shared_counts(stream: Stream, now_ns: int) -> list[int]:
    return [now_ns - stream.queued.last_ns, *stream_counts(stream.session.counters, stream.refused)]
