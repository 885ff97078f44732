"""From a shared status to what is served over HTTP: Prometheus's metrics, and whether the daemon is alive and ready.

Pure functions; `http_process` serves what they give.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rtseg.errors import needs_extra
from rtseg.serve.monitoring.shared_status import STREAM_COUNTS
from rtseg.serve.timing.latency import BOUNDS_NS

HUNG_S = 5.0
"""A hot loop that has given no sign of life for this long hangs."""


def health(alive_ns: int, status: dict[str, Any], now_ns: int) -> tuple[bool, dict[str, Any]]:
    """Whether the daemon's loop turns, and the answer's fields. Times: ns of the monotonic clock.

    A daemon that still compiles (its status is empty) is alive.
    """
    silent_s = (now_ns - alive_ns) / 1e9
    alive = not status or silent_s < HUNG_S
    return alive, {
        "alive": alive,
        "reason": "" if alive else f"no sign of life from the daemon's loop for {silent_s:.1f} s",
        "uptime_s": round((now_ns - status.get("started_ns", now_ns)) / 1e9, 3),
    }


def readiness(alive_ns: int, status: dict[str, Any], now_ns: int) -> tuple[bool, dict[str, Any]]:
    """Whether frames are taken and all open streams have fresh ones, and the answer's fields.

    A daemon without any stream is ready: a camera may begin.
    """
    alive, fields = health(alive_ns, status, now_ns)
    reasons = [] if alive else [fields["reason"]]
    if not status.get("ready"):
        reasons.append("the engine is not warm yet")
    reasons += status.get("waiting", [])
    if status.get("stopping"):
        reasons.append("the daemon is stopping")
    limit_s = status.get("fresh_s", 0.0)
    streams = status.get("streams", {})
    # As of when it was written: where the loop hangs, that is the reason, and not each of its streams.
    stale = [name for name, (silent_ns, *_) in streams.items() if silent_ns / 1e9 > limit_s]
    if stale:
        reasons.append(f"no frame for more than {limit_s:g} s from {len(stale)} of {len(streams)} streams")
    return not reasons, {"ready": not reasons, "reasons": reasons, "streams": len(streams), "stale": stale[:20]}


class Metrics:
    """A collector for prometheus_client, over a shared status."""

    def __init__(self, alive_ns: int, status: dict[str, Any], now_ns: int) -> None:
        self._alive_ns, self._status, self._now_ns = alive_ns, status, now_ns

    def collect(self) -> Iterator[Any]:
        """All metric families."""
        # Imported here and below: without the extra `ops` a daemon must still be able to import this module.
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        status = self._status
        ready, _ = readiness(self._alive_ns, status, self._now_ns)
        yield GaugeMetricFamily("rtseg_ready", "Whether /readyz says yes.", float(ready))
        if not status:
            return
        yield InfoMetricFamily(
            "rtseg", "What is served.", {key: str(status.get(key, "")) for key in ("model", "engine", "version")}
        )
        streams = status.get("streams", {})
        for name, text, value in (
            ("rtseg_uptime_seconds", "Since the daemon began to serve.", (self._now_ns - status["started_ns"]) / 1e9),
            ("rtseg_loop_silence_seconds", "Since the loop's last turn.", (self._now_ns - self._alive_ns) / 1e9),
            ("rtseg_streams_open", "Streams that are open.", len(streams)),
            ("rtseg_streams_capacity", "Streams that may be open at once.", status["capacity"]),
        ):
            yield GaugeMetricFamily(name, text, value)
        if "armed" in status:  # a daemon with triggers
            yield GaugeMetricFamily("rtseg_streams_armed", "Streams whose triggers are armed.", status["armed"])
        counters = status.get("counters", {})
        yield CounterMetricFamily("rtseg_frames", "Frames stepped.", counters.get("frames", 0))
        events = CounterMetricFamily("rtseg_events", "What else was counted since the start.", labels=["event"])
        for event, count in sorted(counters.items()):
            events.add_metric([event.replace(" ", "_")], count)
        yield events
        yield from self._workers(status.get("workers", []))
        yield from self._latency()
        yield from self._streams(streams)

    def _workers(self, workers: list[dict[str, Any]]) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        if not workers:
            return
        ready = GaugeMetricFamily("rtseg_worker_ready", "Whether a worker serves.", labels=["worker"])
        starts = CounterMetricFamily("rtseg_worker_starts", "How often a worker was started.", labels=["worker"])
        for number, worker in enumerate(workers):
            ready.add_metric([str(number)], float(worker["ready"]))
            starts.add_metric([str(number)], worker["starts"])
        yield ready
        yield starts

    def _latency(self) -> Iterator[Any]:
        from prometheus_client.core import HistogramMetricFamily

        stages = HistogramMetricFamily(
            "rtseg_latency_seconds", "A frame's way, by stage; total: receipt to publishing.", labels=["stage"]
        )
        for stage, cumulative in self._status.get("latency", {}).items():
            edges = [repr(bound / 1e9) for bound in BOUNDS_NS] + ["+Inf"]
            stages.add_metric([stage], list(zip(edges, cumulative, strict=True)), sum_value=None)
        yield stages

    def _streams(self, streams: dict[str, list[int]]) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        age = GaugeMetricFamily("rtseg_stream_input_age_seconds", "Since its last frame.", labels=["stream"])
        for name, (silent_ns, *_) in streams.items():
            age.add_metric([name], max(0.0, silent_ns / 1e9))
        yield age
        for place, field in enumerate(STREAM_COUNTS, start=1):
            family = CounterMetricFamily(f"rtseg_stream_{field}", f"Counter {field!r} of a stream.", labels=["stream"])
            for name, stream in streams.items():
                family.add_metric([name], stream[place])
            yield family


def exposition(metrics: Metrics, accept: str) -> tuple[bytes, str]:
    """The text, in the format that an Accept header asks for, and its content type."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder

    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def check_installed() -> None:
    """Raises RtsegError where the package for the text format is missing."""
    from importlib.util import find_spec

    if find_spec("prometheus_client") is None:
        raise needs_extra("prometheus-client", "ops", "/metrics")
