"""What a daemon says of itself: to whoever asks, to watchers piece by piece, and in heartbeats."""

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

STREAMS_A_PIECE = 16


class DaemonStatus:
    """Looks at a daemon's parts and changes none. started_ns: when it began to serve. granted: see `LoopPrivileges`."""

    def __init__(
        self,
        settings: ServeSettings,
        streams: Streams,
        outlet: Outlet,
        latency: Mapping[str, Histogram],
        load: LoopLoad,
        granted: Mapping[str, Any],
        refusals: Callable[[], dict[str, int]],
    ) -> None:
        self._settings, self._streams, self._outlet, self._latency = settings, streams, outlet, latency
        self._load, self._granted, self._refusals = load, granted, refusals
        self.started_ns = time.monotonic_ns()

    def mark_started(self, now_ns: int) -> None:
        """The daemon serves from now on."""
        self.started_ns = now_ns

    def to_message(self) -> dict[str, Any]:
        """Counters and latencies since the start."""
        model, streams, tape = self._streams.model, list(self._streams), self._outlet.recording
        return {
            "uptime_s": (time.monotonic_ns() - self.started_ns) / 1e9,
            **model.served.to_fields(),
            "capacity": model.places,
            "loop": dict(self._granted),
            "load": round(self._load.measured()[0], 4),
            "streams": {stream.name: stream.counters() for stream in streams},
            "clocks": {stream.name: stream.clock.summary() for stream in streams},
            "stale": [stream.name for stream in streams if stream.silence.is_stale],
            "drift": {stream.name: stream.drift() for stream in streams},
            "models": {stream.name: stream.model.served.model for stream in streams},
            "counters": self._counted(),
            "latency": {stage: histogram.summary() for stage, histogram in self._latency.items()},
            **({} if tape is None else {"recording": tape.status()}),
        }

    def shared_pieces(self, *, stopping: bool) -> Iterator[dict[str, Any]]:
        """The board's pieces: each takes microseconds, for frames may come in between."""
        model = self._streams.model
        yield {
            "model": model.served.model,
            "engine": model.served.engine,
            "version": rtseg.__version__,
            "started_ns": self.started_ns,
            "capacity": model.places,
            "fresh_s": self._settings.fresh_s,
            "ready": True,
            "stopping": stopping,
            "counters": self._counted(),
            "streams": {},
        }
        for stage, histogram in self._latency.items():
            yield {"latency": {stage: histogram.cumulative()}}
        streams = list(self._streams)
        for start in range(0, len(streams), STREAMS_A_PIECE):
            yield {"streams": {stream.name: _watched(stream) for stream in streams[start : start + STREAMS_A_PIECE]}}

    def beat_fields(self, name: str) -> dict[str, Any]:
        """For a heartbeat."""
        stream = self._streams.find(name)
        if stream is None:
            return {}
        seq = stream.queued.newest_seq if stream.queued.newest_seq >= 0 else None
        return {"stale": stream.silence.is_stale, "seq": seq, "clock": stream.clock.summary()}

    def _counted(self) -> dict[str, int]:
        counted, tape = dict(self._outlet.counters) | self._refusals(), self._outlet.recording
        return counted if tape is None else counted | tape.counters()


def _watched(stream: Stream) -> list[int]:
    return [stream.queued.last_ns, *stream_counts(stream.session.counters, stream.refused)]
