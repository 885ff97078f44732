"""A running daemon's status and its keys as tables for the terminal. Only words and layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtseg.features.body_size import describe_size
from rtseg.terminal.layout import plain_console, result_table
from rtseg.wire.keys import Grant


def print_keys(grants: Sequence[Grant]) -> None:
    """A row for each key: name, roles, since when, and the beginning of its public half, as the log shows it."""
    table = result_table(("name", "roles", "since", "public"), "Keys that are let in", n_names=4)
    for grant in grants:
        table.add_row(grant.name, ", ".join(grant.roles), grant.created, f"{grant.public[:8]}...")
    plain_console().print(table)


def print_status(address: str, status: dict[str, Any]) -> None:
    """A daemon's status: what it serves, latencies, streams, other counters. Fits 80 columns."""
    console = plain_console()
    console.print(f"{address}: up {_duration(status['uptime_s'])}, engine {status['engine']}")
    console.print(f"model {status['model'][:16]}, {status['fps']:g} fps")
    stages = result_table(("stage", "count", "p50", "p99", "p99.9", "max"), "Latency, µs")
    for stage, summary in status["latency"].items():
        row = [f"{summary[key]:.0f}" for key in ("count", "p50_us", "p99_us", "p99.9_us", "max_us")]
        stages.add_row(stage, *row)
    console.print(stages)
    fields = ("frames", "refused", "late", "gaps", "restarts", "out_of_range")
    title = f"Streams, {len(status['streams'])} of {status['capacity']}"
    streams = result_table(("stream", "model", *fields), title, n_names=2)
    models = status.get("models", {})
    for name, counters in status["streams"].items():
        model = models.get(name, status["model"])
        streams.add_row(name, model[:8], *(str(counters.get(field, "-")) for field in fields))
    console.print(streams)
    if triggers := status.get("triggers"):
        console.print(f"triggers {', '.join(triggers['triggers'])}: {arming_line(triggers)}")
        for stream, running in triggers["running"].items():
            console.print(f"{stream}: ON: {', '.join(running)}")
        for name, sink in triggers["sinks"].items():
            console.print(f"sink {name}: {sink['state']} {sink['text']}".rstrip())
    for line in _warnings(status):
        console.print(line)
    if recording := status.get("recording"):
        state = f"{recording['state']} {recording['reason']}".strip()
        console.print(f"recording: {state}, {recording['bytes']} bytes in {recording['file']}")
    counted = ", ".join(f"{name} {count}" for name, count in sorted(status["counters"].items()))
    console.print(f"counted: {counted or 'nothing'}")


def arming_line(arming: dict[str, Any]) -> str:
    """Who is armed, in one line."""
    left_s, streams = arming["left_s"], arming["armed"]
    armed = [f"{name} ({left_s[name]:g} s left)" if name in left_s else name for name in streams]
    if arming["all"]:
        armed.append(f"every new stream ({left_s['']:g} s left)" if "" in left_s else "every new stream")
    return f"ARMED: {', '.join(armed)}" if armed else "disarmed"


def _warnings(status: dict[str, Any]) -> list[str]:
    """A line for each stream whose source is not what it should be. A daemon that is older says nothing of it."""
    lines = []
    for name, rate in status.get("rates", {}).items():
        if rate["wrong"]:
            by = "t_source_ns" if rate["by"] == "source" else "when they come"
            lines.append(f"{name}: {rate['measured']:.4g} frames/s by {by}, {rate['declared']:.4g} declared")
    lines += [f"{name}: the tracker repeats one frame" for name in status.get("frozen", [])]
    sizes = {name: describe_size(drift.get("body_size", {})) for name, drift in status.get("drift", {}).items()}
    lines += [f"{name}: {told}" for name, told in sizes.items() if told]
    return lines


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
