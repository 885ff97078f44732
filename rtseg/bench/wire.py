"""Client to daemon to subscriber, as processes of their own, beside a bare ZeroMQ and msgpack echo.

Starts them, gives them their turns, and reads what they measured. The daemon is `rtseg serve` itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtseg.bench.processes import LINE_S, BenchProcess, start_process
from rtseg.bench.timing import ROUNDS, BenchPart, Ratio, Role, TimingRow
from rtseg.bundle.bundle import load_bundle

Transport = Literal["ipc", "tcp"]
FRAMES_PER_S = 200.0
"""One stream on the wire. Slow enough that nothing queues, fast enough that rare delays are seen within seconds."""
SETTLE_FRAMES = 5
"""Frames at the beginning of a turn that are not counted."""
WARM_UP_FRAMES = 50


@dataclass(frozen=True)
class WireMeasurement:
    """What one run measured: per side the counted latencies in ns and what was sent and answered.

    inside_ns: the daemon's share of its latencies. late_ns: how long after their time frames were sent. cpu_us: the
    daemon's processor time a frame, all its threads; None where the system does not say.
    """

    latency_ns: dict[str, NDArray[np.int64]]
    inside_ns: NDArray[np.int64]
    sent: dict[str, int]
    answered: dict[str, int]
    late_ns: NDArray[np.int64]
    cpu_us: float | None


def wire_part(folder: Path, seconds: float, transport: Transport) -> BenchPart:
    """One stream, client -> daemon -> subscriber. Floor: the echo with the same processes, sockets and messages.

    Aim (issue 2): a median of at most 2.5 times the echo's.
    """
    each = max(SETTLE_FRAMES + 1, round(seconds * FRAMES_PER_S / (2 * ROUNDS)))
    # In turns: what else the machine does slows the daemon and its floor alike.
    turns = [("daemon", WARM_UP_FRAMES), ("echo", WARM_UP_FRAMES)]
    turns += [(side, each) for _ in range(ROUNDS) for side in ("daemon", "echo")]
    measured = _run_turns(folder, transport, turns, {"bench": 0.0}, FRAMES_PER_S, settle=SETTLE_FRAMES)
    through = f"client -> daemon -> subscriber, {transport}"
    part = BenchPart(f"wire, {transport}: one stream, {FRAMES_PER_S:.0f} frames per second")
    part.rows = _rows(measured, through, "", f"bare echo, {transport}")
    part.counts = _counts(measured, through)
    part.ratios = [
        Ratio(f"p50 daemon / bare echo, {transport}", part.rows[0].p50_us / part.rows[-1].p50_us, 2.5),
        Ratio(f"frames lost, {transport}", measured.sent["daemon"] - measured.answered["daemon"], 0),
    ]
    part.notes = _cpu_note(measured)
    return part


def load_part(folder: Path, seconds: float, n_streams: int, at_once: bool) -> BenchPart:
    """Many streams at the bundle's rate, over tcp, with the daemon on one core. Floor: the echo on the same core.

    at_once: all cameras fire at once; else each at a moment of its own. Aims (issue 2): none lost, p99 under 5 ms.
    """
    fps = load_bundle(folder).fps
    moments = np.zeros(n_streams) if at_once else np.random.default_rng(0).random(n_streams)
    streams = {f"cage {i}": float(moment) for i, moment in enumerate(moments)}
    n_frames, n_echo = max(2, round(seconds * fps)), max(2, round(seconds * fps / 8))
    warm_up = max(2, round(fps))
    turns = [("echo", warm_up), ("daemon", warm_up), ("echo", n_echo), ("daemon", n_frames), ("echo", n_echo)]
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None
    measured = _run_turns(folder, "tcp", turns, streams, fps, settle=0, core=core)
    how = "all at once" if at_once else "each at its own moment"
    name = f"{n_streams} streams, {how}"
    part = BenchPart(f"load: {n_streams} streams x {fps:g} frames per second for {seconds:g} s, {how}")
    part.rows = _rows(measured, name, f", {how}", f"bare echo, {how}")
    part.counts = _counts(measured, name)
    part.ratios = [
        Ratio(f"frames lost, {how}", measured.sent["daemon"] - measured.answered["daemon"], 0),
        Ratio(f"p99, {how}", part.rows[0].p99_us / 1e3, 5.0, "ms"),
    ]
    where = (
        "the daemon was not pinned: no sched_setaffinity here" if core is None else f"daemon and echo on core {core}"
    )
    late = np.percentile(measured.late_ns, (50, 99)) / 1e3
    part.notes = [f"{where}; frames were sent {late[0]:.0f} µs (p50) and {late[1]:.0f} µs (p99) after their time"]
    part.notes += _cpu_note(measured)
    return part


def _rows(measured: WireMeasurement, through: str, suffix: str, floor: str) -> list[TimingRow]:
    roles: list[tuple[str, Role, NDArray[np.int64]]] = [
        (through, "measured", measured.latency_ns["daemon"]),
        (f"of that inside the daemon{suffix}", "share", measured.inside_ns),
        (floor, "floor", measured.latency_ns["echo"]),
    ]
    return [TimingRow.of(name, role, values) for name, role, values in roles]


def _counts(measured: WireMeasurement, through: str) -> dict[str, dict[str, int]]:
    names = {"daemon": through, "echo": "bare echo"}
    return {
        names[side]: {"sent": sent, "answered": measured.answered[side], "lost": sent - measured.answered[side]}
        for side, sent in measured.sent.items()
    }


def _cpu_note(measured: WireMeasurement) -> list[str]:
    return [] if measured.cpu_us is None else [f"the daemon took {measured.cpu_us:.0f} µs of processor time a frame"]


def _run_turns(
    bundle: Path,
    transport: Transport,
    turns: Sequence[tuple[str, int]],
    streams: dict[str, float],
    frames_per_s: float,
    settle: int,
    core: int | None = None,
) -> WireMeasurement:
    """All processes for these turns, of which the first two are the warm-up."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rtseg-"))

        def address(name: str) -> str:
            return f"ipc://{folder}/{name}" if transport == "ipc" else "tcp://127.0.0.1:*"

        def start(name: str, values: dict[str, Any]) -> BenchProcess:
            arguments = ["-m", "rtseg.bench.wire_process", name, json.dumps(values)]
            return stack.enter_context(start_process(name, arguments, core if name == "echo" else None))

        settings = {"frames": address("f"), "predictions": address("p"), "capacity": len(streams) + 1}
        changes = [text for key, value in settings.items() for text in ("--set", f"{key}={json.dumps(value)}")]
        daemon = stack.enter_context(start_process("serve", ["-m", "rtseg", "serve", str(bundle), *changes], core))
        bare = {"frames": address("ef"), "predictions": address("ep"), "bundle": str(bundle)}
        echo = start("echo", bare)
        served, echoes = daemon.wait_for("ready"), echo.wait_for("ready")
        outs = {"daemon": served["predictions"], "echo": echoes["predictions"]}
        # The receiver before the sender: nothing published before it has subscribed would count.
        hear = start("hear", {"sides": outs, "turns": turns, "n_streams": len(streams)})
        hear.wait_for("ready")
        echo.wait_for("subscribed")
        ins = {"daemon": served["frames"], "echo": echoes["frames"]}
        plan = {"turns": turns, "streams": streams, "frames_per_s": frames_per_s}
        send = start("send", {"sides": ins, "bundle": str(bundle), **plan})
        send.wait_for("ready")
        before_s = daemon.cpu_s()
        send.go()
        # A camera's rate decides how long the turns take; LINE_S is for what hangs.
        longest_s = LINE_S + sum(n for _, n in turns) / frames_per_s
        received, sent = hear.wait_for("done", longest_s), send.wait_for("done", longest_s)
        after_s = daemon.cpu_s()
    n_daemon = sum(n * len(streams) for side, n in turns if side == "daemon")
    # Less the two warm-up turns.
    counted = list(zip(turns, received["latency_ns"], received["inside_ns"], strict=True))[2:]

    def flat(side: str, which: int) -> NDArray[np.int64]:
        return np.array([v for item in counted if item[0][0] == side for v in item[which][settle:]], np.int64)

    sides = ("daemon", "echo")
    return WireMeasurement(
        latency_ns={side: flat(side, 1) for side in sides},
        inside_ns=flat("daemon", 2),
        sent={side: sum(n * len(streams) for (s, n), _, _ in counted if s == side) for side in sides},
        answered={side: sum(len(values) for (s, _), values, _ in counted if s == side) for side in sides},
        late_ns=np.array(sent["late_ns"], np.int64),
        cpu_us=None if before_s is None or after_s is None else (after_s - before_s) / n_daemon * 1e6,
    )
