"""Wire to wire: client, daemon and subscriber as processes of their own, beside a bare ZeroMQ and msgpack echo.

Starts them, gives them their turns, and reads what they measured. The daemon is `rtseg serve` itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import rtseg
from rtseg.bench.timing import ROUNDS, Part, Ratio, Role, Row
from rtseg.bundle.bundle import load_bundle
from rtseg.errors import RtsegError

Transport = Literal["ipc", "tcp"]
TRANSPORTS: tuple[Transport, ...] = ("ipc", "tcp")
FRAMES_PER_S = 200.0
"""One stream on the wire. Slow enough that nothing queues, fast enough that the extremes are seen within seconds."""
SETTLE_FRAMES = 5
"""Frames at the beginning of a turn that are not counted."""
WARM_UP_FRAMES = 50
LINE_S = 120.0
"""A process that says nothing for so long has failed; the first start compiles."""


@dataclass(frozen=True)
class Heard:
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


def wire_part(folder: Path, seconds: float, transport: Transport) -> Part:
    """One stream, client -> daemon -> subscriber. Floor: the echo with the same processes, sockets and messages.

    Aim (issue 2): a median of at most 2.5 times the echo's.
    """
    each = max(SETTLE_FRAMES + 1, round(seconds * FRAMES_PER_S / (2 * ROUNDS)))
    turns = [("daemon", WARM_UP_FRAMES), ("echo", WARM_UP_FRAMES)]
    turns += [(side, each) for _ in range(ROUNDS) for side in ("daemon", "echo")]
    heard = _run(folder, transport, turns, {"bench": 0.0}, FRAMES_PER_S, settle=SETTLE_FRAMES)
    through = f"client -> daemon -> subscriber, {transport}"
    part = Part(f"wire, {transport}: one stream, {FRAMES_PER_S:.0f} frames per second")
    part.rows = _rows(heard, through, "", f"bare echo, {transport}")
    part.counts = _counts(heard, through)
    part.ratios = [
        Ratio(f"p50 daemon / bare echo, {transport}", part.rows[0].p50_us / part.rows[-1].p50_us, 2.5),
        Ratio(f"frames lost, {transport}", heard.sent["daemon"] - heard.answered["daemon"], 0),
    ]
    part.notes = _cpu_note(heard)
    return part


def load_part(folder: Path, seconds: float, n_streams: int, together: bool) -> Part:
    """Many streams at the bundle's rate, over tcp, with the daemon on one core. Floor: the echo on the same core.

    together: all cameras fire at once; else each at a moment of its own. Aims (issue 2): none lost, p99 under 5 ms.
    """
    fps = load_bundle(folder).fps
    moments = np.zeros(n_streams) if together else np.random.default_rng(0).random(n_streams)
    streams = {f"cage {i}": float(moment) for i, moment in enumerate(moments)}
    n_frames, n_echo = max(2, round(seconds * fps)), max(2, round(seconds * fps / 8))
    warm_up = max(2, round(fps))
    turns = [("echo", warm_up), ("daemon", warm_up), ("echo", n_echo), ("daemon", n_frames), ("echo", n_echo)]
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else None
    heard = _run(folder, "tcp", turns, streams, fps, settle=0, core=core)
    how = "all at once" if together else "each at its own moment"
    name = f"{n_streams} streams, {how}"
    part = Part(f"load: {n_streams} streams x {fps:g} frames per second for {seconds:g} s, {how}")
    part.rows = _rows(heard, name, f", {how}", f"bare echo, {how}")
    part.counts = _counts(heard, name)
    part.ratios = [
        Ratio(f"frames lost, {how}", heard.sent["daemon"] - heard.answered["daemon"], 0),
        Ratio(f"p99, {how}", part.rows[0].p99_us / 1e3, 5.0, "ms"),
    ]
    where = (
        "the daemon was not pinned: no sched_setaffinity here" if core is None else f"daemon and echo on core {core}"
    )
    late = np.percentile(heard.late_ns, (50, 99)) / 1e3
    part.notes = [f"{where}; frames were sent {late[0]:.0f} µs (p50) and {late[1]:.0f} µs (p99) after their time"]
    part.notes += _cpu_note(heard)
    return part


def _rows(heard: Heard, through: str, suffix: str, floor: str) -> list[Row]:
    roles: list[tuple[str, Role, NDArray[np.int64]]] = [
        (through, "measured", heard.latency_ns["daemon"]),
        (f"of that inside the daemon{suffix}", "share", heard.inside_ns),
        (floor, "floor", heard.latency_ns["echo"]),
    ]
    return [Row.of(name, role, values) for name, role, values in roles]


def _counts(heard: Heard, through: str) -> dict[str, dict[str, int]]:
    names = {"daemon": through, "echo": "bare echo"}
    return {
        names[side]: {"sent": sent, "answered": heard.answered[side], "lost": sent - heard.answered[side]}
        for side, sent in heard.sent.items()
    }


def _cpu_note(heard: Heard) -> list[str]:
    return [] if heard.cpu_us is None else [f"the daemon took {heard.cpu_us:.0f} µs of processor time a frame"]


def _run(
    bundle: Path,
    transport: Transport,
    turns: Sequence[tuple[str, int]],
    streams: dict[str, float],
    frames_per_s: float,
    settle: int,
    core: int | None = None,
) -> Heard:
    """All processes for these turns, of which the first two are the warm-up."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rtseg-"))

        def address(name: str) -> str:
            return f"ipc://{folder}/{name}" if transport == "ipc" else "tcp://127.0.0.1:*"

        def start(name: str, values: dict[str, Any]) -> _Child:
            arguments = ["-m", "rtseg.bench.wire_process", name, json.dumps(values)]
            return stack.enter_context(_child(name, arguments, core if name == "echo" else None))

        settings = {"frames": address("f"), "predictions": address("p"), "capacity": len(streams) + 1}
        changes = [text for key, value in settings.items() for text in ("--set", f"{key}={json.dumps(value)}")]
        daemon = stack.enter_context(_child("serve", ["-m", "rtseg", "serve", str(bundle), *changes], core))
        bare = {"frames": address("ef"), "predictions": address("ep"), "bundle": str(bundle)}
        echo = start("echo", bare)
        served, echoes = daemon.wait("ready"), echo.wait("ready")
        outs = {"daemon": served["predictions"], "echo": echoes["predictions"]}
        hear = start("hear", {"sides": outs, "turns": turns, "n_streams": len(streams)})
        hear.wait("ready")
        echo.wait("subscribed")
        ins = {"daemon": served["frames"], "echo": echoes["frames"]}
        plan = {"turns": turns, "streams": streams, "frames_per_s": frames_per_s}
        send = start("send", {"sides": ins, "bundle": str(bundle), **plan})
        send.wait("ready")
        before_s = daemon.cpu_s()
        send.go()
        longest_s = LINE_S + sum(n for _, n in turns) / frames_per_s
        heard, sent = hear.wait("done", longest_s), send.wait("done", longest_s)
        after_s = daemon.cpu_s()
    n_daemon = sum(n * len(streams) for side, n in turns if side == "daemon")
    counted = list(zip(turns, heard["latency_ns"], heard["inside_ns"], strict=True))[2:]

    def flat(side: str, which: int) -> NDArray[np.int64]:
        return np.array([v for item in counted if item[0][0] == side for v in item[which][settle:]], np.int64)

    sides = ("daemon", "echo")
    return Heard(
        latency_ns={side: flat(side, 1) for side in sides},
        inside_ns=flat("daemon", 2),
        sent={side: sum(n * len(streams) for (s, n), _, _ in counted if s == side) for side in sides},
        answered={side: sum(len(values) for (s, _), values, _ in counted if s == side) for side in sides},
        late_ns=np.array(sent["late_ns"], np.int64),
        cpu_us=None if before_s is None or after_s is None else (after_s - before_s) / n_daemon * 1e6,
    )


class _Child:
    """A process that says `word {json}` as it gets on."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name, self._process = name, process

    def wait(self, word: str, timeout_s: float = LINE_S) -> dict[str, Any]:
        """The values of the next line, which must be this word. Raises RtsegError with what it said instead."""
        out = self._process.stdout
        assert out is not None
        line = out.readline() if select.select([out], [], [], timeout_s)[0] else ""
        if not line.startswith(word + " "):
            self._process.kill()
            said = (line + self._process.communicate()[1]).strip().splitlines()
            raise RtsegError(f"bench: the process {self._name!r} did not get to {word!r}: {' | '.join(said[-3:])}")
        values: dict[str, Any] = json.loads(line.removeprefix(word))
        return values

    def cpu_s(self) -> float | None:
        """Processor time so far, all threads, in the system's ticks (Linux)."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def go(self) -> None:
        """Give it the line that it waits for."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()


@contextlib.contextmanager
def _child(name: str, arguments: Sequence[str], core: int | None) -> Iterator[_Child]:
    """A Python process, on one core if asked; terminated in the end, and killed where that does not help."""
    home = str(Path(rtseg.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    before = os.sched_getaffinity(0) if core is not None else None
    if core is not None:
        os.sched_setaffinity(0, {core})  # is inherited, also by the threads that ZeroMQ starts
    try:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
    try:
        yield _Child(name, process)
        process.terminate()
        process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
