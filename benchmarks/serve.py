"""The daemon compared with alternatives, its capacity, and its latency under load.

`python benchmarks/serve.py [--bundle engines/rats58] [--only wire,capacity,load,drift] [--seconds 20]` writes
`results/serve.json`, `serve.md` and `serve.png`. Five parts:

wire      one camera at 200 frames per second: the daemon, with `busy_poll`, a bare ZeroMQ and msgpack
          echo, pylsl from outlet to inlet (no daemon, no model), and a loop that computes the window anew with torch
          for every frame (at 10 frames per second; it can't do many more). They take turns in one run.
capacity  more and more cameras at the bundle's rate, with the daemon on one core and its clients on the others, until
          the 99th percentile exceeds 10 ms or an answer is missing.
load      the same at shares of that capacity.
front     one daemon, and a front with two workers, on any core: latency, and the processor time per frame of the
          process that clients connect to, which limits how many frames a front can forward.
drift     a day in miniature: one daemon at a quarter of that capacity, in 24 parts of a quarter of --seconds:
          latencies and the daemon's memory, the last parts compared with the first.

Latencies are from before sending a frame to receiving its answer, on the clock that all processes share.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from serve_process import camera_name

from rtseg.bench.processes import BenchProcess, start_process
from rtseg.bundle.bundle import load_bundle
from rtseg.system.machine import describe_run, load_average
from rtseg.wire.prediction_packer import PredictionPacker

RESULTS = Path(__file__).parent / "results"
ROUNDS, WIRE_FPS, PEER_FPS, WARM_UP = 10, 200.0, 10.0, 60
HOURS = 24
P99_MS, STEPS = 10.0, (50, 100, 200, 300, 400, 500, 600, 800, 1000, 1200, 1500)
PARTS = ("wire", "capacity", "load", "front", "drift")
FRONT_CAMERAS = (50, 200, 400)
PACKAGES = ("rtseg", "numpy", "numba", "pyzmq", "msgpack", "pylsl", "torch")


def percentiles(values_ns: list[int]) -> dict[str, float]:
    """p50, p99, p99.9 and max in microseconds."""
    if not values_ns:
        return {"count": 0}
    p50, p99, p999 = np.percentile(values_ns, (50, 99, 99.9)) / 1e3
    return {"count": len(values_ns), "p50_us": p50, "p99_us": p99, "p99.9_us": p999, "max_us": max(values_ns) / 1e3}


def _memory_kb(pid: int) -> int:
    """Resident memory; 0 where the system has no /proc."""
    path = Path(f"/proc/{pid}/status")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)


class Bench:
    """Runs groups of processes, one group after the other, with the same bundle."""

    def __init__(self, bundle: Path, transport: str) -> None:
        self.bundle, self.transport = bundle.absolute(), transport
        loaded = load_bundle(bundle)
        self.fps = loaded.fps
        heads, start = [], 0
        for head in loaded.heads:
            heads.append((head.name, head.classes, slice(4 * start, 4 * (start + len(head.classes)))))
            start += len(head.classes)
        prefix = PredictionPacker(heads, loaded.hash).stream_prefix(camera_name(0))
        self.times_at = len(prefix) + len("seq") + 2

    def run(
        self,
        sides: list[dict[str, Any]],
        turns: list[tuple[int, int, float]],
        cameras: int,
        *,
        core: int | None = None,
        together: bool = False,
    ) -> tuple[list[dict[str, list[int]]], dict[str, Any]]:
        """Every turn's latencies, and what the sender and the first daemon report (lateness, memory, CPU time)."""
        longest_s = 120 + sum(n / fps + 3 for _, n, fps in turns)
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rtseg-"))
            started = [(side, self._start(stack, side, i, folder, cameras, core)) for i, side in enumerate(sides)]
            for side, child in started:
                side |= child.wait_for("ready") if child is not None else {}
            lean = [{key: side[key] for key in ("kind", "frames", "predictions") if key in side} for side in sides]
            receiving = {"sides": lean, "turns": turns, "cameras": cameras, "prefix": self.times_at}
            hear = stack.enter_context(start_process("hear", self._role("hear", receiving), None))
            hear.wait_for("ready")
            plan = {"sides": lean, "bundle": str(self.bundle), "turns": turns, "cameras": cameras, "together": together}
            send = stack.enter_context(start_process("send", self._role("send", plan), None))
            send.wait_for("ready")
            before_s = started[0][1].cpu_s() if started[0][1] is not None else None
            memory_kb = _memory_kb(sides[0].get("pid", 0))
            send.go()
            told = send.wait_for("done", longest_s)
            heard = hear.wait_for("done", longest_s)["turns"]
            first = started[0][1]
            if memory_kb:
                told["memory_kb"] = [memory_kb, _memory_kb(sides[0].get("pid", 0))]
            if before_s is not None and first is not None:
                frames = sum(n for at, n, _ in turns if at == 0) * cameras
                told["cpu_us_a_frame"] = ((first.cpu_s() or 0.0) - before_s) / frames * 1e6
        return heard, told

    def _start(
        self, stack: contextlib.ExitStack, side: dict[str, Any], i: int, folder: str, cameras: int, core: int | None
    ) -> BenchProcess | None:
        if side["kind"] == "lsl":
            return None
        ends = [f"ipc://{folder}/{i}{end}" if self.transport == "ipc" else "tcp://127.0.0.1:*" for end in "fp"]
        addresses = {"frames": ends[0], "predictions": ends[1]}
        if side["kind"] == "daemon":
            settings = {**addresses, "capacity": cameras, "max_load": 0, **side.get("settings", {})}
            changes = [text for key, value in settings.items() for text in ("--set", f"{key}={json.dumps(value)}")]
            arguments = ["-m", "rtseg", "serve", str(self.bundle), *changes]
        elif side["kind"] == "peer":
            arguments = self._role("peer", {**addresses, "bundle": str(self.bundle)})
        else:
            values = json.dumps({**addresses, "bundle": str(self.bundle)})
            arguments = ["-m", "rtseg.bench.wire_process", "echo", values]
        return stack.enter_context(start_process(side["name"], arguments, core))

    def _role(self, role: str, values: dict[str, Any]) -> list[str]:
        return [str(Path(__file__).parent / "serve_process.py"), role, json.dumps(values)]


def wire(bench: Bench, seconds: float) -> dict[str, Any]:
    """One camera, with all alternatives in turns."""
    sides: list[dict[str, Any]] = [
        {"name": "daemon", "kind": "daemon"},
        {"name": "bare echo", "kind": "echo"},
        {"name": "daemon, busy_poll", "kind": "daemon", "settings": {"busy_poll": True}},
        {"name": "torch window", "kind": "peer"},
    ]
    missing = {}
    try:
        import pylsl

        pylsl.library_version()
        sides.append({"name": "pylsl", "kind": "lsl"})
    except (ImportError, RuntimeError, OSError) as error:
        missing["pylsl"] = str(error)
    asleep, echo_side, busy = sides[:3]
    plans = [[asleep, echo_side], [busy, echo_side], [s for s in sides if s["kind"] in ("lsl", "peer", "echo")]]
    rows: dict[str, Any] = {}
    for together in plans:  # a loop that never sleeps would take a core from all the others
        print(f"  wire: {', '.join(side['name'] for side in together)}", file=sys.stderr)
        mine = [dict(side) for side in together]
        rates = [PEER_FPS if side["kind"] == "peer" else WIRE_FPS for side in mine]
        each = [max(10, round(seconds * fps / (len(mine) * ROUNDS))) for fps in rates]
        # An inlet of pylsl takes a second or two to find its outlet.
        turns = [(i, (10 if side["kind"] == "lsl" else 1) * WARM_UP, rates[i]) for i, side in enumerate(mine)]
        turns += [(i, each[i], rates[i]) for _ in range(ROUNDS) for i in range(len(mine))]
        heard, _ = bench.run(mine, turns, 1)
        for i, side in enumerate(mine):
            own = [turn for (at, _, _), turn in list(zip(turns, heard, strict=True))[len(mine) :] if at == i]
            name = side["name"] if side["name"] not in rows else f"{side['name']}, beside {mine[0]['name']}"
            rows[name] = percentiles([value for turn in own for value in turn["latency_ns"]])
            rows[name]["lost"] = each[i] * ROUNDS - rows[name]["count"]
            if side["kind"] == "daemon":
                rows[name]["inside"] = percentiles([value for turn in own for value in turn["inside_ns"]])
    ratios = {}
    for name, echo in (("daemon", "bare echo"), ("daemon, busy_poll", "bare echo, beside daemon, busy_poll")):
        for key in ("p50_us", "p99_us") if rows[name]["count"] and rows[echo]["count"] else ():
            ratios[f"{name} / {echo}, {key[:3]}"] = rows[name][key] / rows[echo][key]
    return {"rows": rows, "ratios": ratios, "missing": missing}


def one_load(bench: Bench, cameras: int, seconds: float) -> dict[str, Any]:
    """Latencies of `cameras` cameras for `seconds`; held: whether no answer was lost and p99 is within the limit."""
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    side = {"name": "daemon", "kind": "daemon", "settings": {"max_batch": 64, "heartbeat_s": 10}}
    n = max(2, round(seconds * bench.fps))
    heard, told = bench.run([side], [(0, round(bench.fps), bench.fps), (0, n, bench.fps)], cameras, core=core)
    row = percentiles(heard[1]["latency_ns"])
    row |= {
        "cameras": cameras,
        "lost": n * cameras - row["count"],
        "inside": percentiles(heard[1]["inside_ns"]),
        **told,
    }
    row["held"] = bool(row["lost"] == 0 and row["p99_us"] <= P99_MS * 1000)
    return row


def capacity(bench: Bench, seconds: float) -> dict[str, Any]:
    """The largest number of cameras that is held: more until they are too many, then bisection down to a tenth.

    A number that is not held is tried once more: on a shared machine one bad second is not the limit. All tries are in
    the result.
    """
    rows: list[dict[str, Any]] = []
    held, over = 0, 0

    def holds(cameras: int) -> bool:
        for _ in range(2):
            rows.append(one_load(bench, cameras, seconds))
            print(f"  {cameras} cameras: {_short(rows[-1])}", file=sys.stderr)
            if rows[-1]["held"]:
                return True
        return False

    for cameras in STEPS:
        if not holds(cameras):
            over = cameras
            break
        held = cameras
    while held and over - held > max(10, over // 10):
        middle = (held + over) // 2
        held, over = (middle, over) if holds(middle) else (held, middle)
    return {"rows": rows, "knee_cameras": held, "knee_frames_per_s": held * bench.fps}


def load(bench: Bench, seconds: float, knee: int) -> dict[str, Any]:
    """Latency at shares of the capacity."""
    counts = sorted({max(1, round(knee * share)) for share in (0.1, 0.25, 0.5, 0.75, 0.9)})
    return {"rows": [one_load(bench, cameras, seconds) for cameras in counts]}


def front(bench: Bench, seconds: float) -> dict[str, Any]:
    """One process and a front with two workers, in turns."""
    rows = []
    for cameras in FRONT_CAMERAS:
        for workers in (1, 2):
            side = {"name": "daemon", "kind": "daemon", "settings": {"max_batch": 64, "workers": workers}}
            n = max(2, round(seconds * bench.fps))
            heard, told = bench.run([side], [(0, round(bench.fps), bench.fps), (0, n, bench.fps)], cameras)
            row = percentiles(heard[1]["latency_ns"]) | {"cameras": cameras, "workers": workers, **told}
            rows.append(row | {"lost": n * cameras - row["count"], "inside": percentiles(heard[1]["inside_ns"])})
            print(f"  {cameras} cameras, {workers} workers: {_short(rows[-1])}", file=sys.stderr)
    return {"rows": rows}


def drift(bench: Bench, seconds: float, knee: int) -> dict[str, Any]:
    """One daemon for 24 "hours"; the median of the last four against that of the first four."""
    cameras, n = max(1, knee // 4), max(2, round(seconds / 4 * bench.fps))
    side = {"name": "daemon", "kind": "daemon", "settings": {"max_batch": 64}}
    heard, told = bench.run([side], [(0, n, bench.fps)] * (1 + HOURS), cameras)
    rows = []
    for hour, turn in enumerate(heard[1:], 1):
        row = percentiles(turn["latency_ns"]) | {"cameras": cameras, "hour": hour, "lost": n * cameras}
        row["lost"] -= row["count"]
        rows.append(row | {"inside": percentiles(turn["inside_ns"])})
    heard_rows = [row for row in rows if row["count"]]
    ratios = {key: _last_to_first([row[key] for row in heard_rows]) for key in ("p50_us", "p99_us") if heard_rows}
    return {"rows": rows, "ratios": ratios, **told}


def _last_to_first(values: list[float]) -> float:
    return float(np.median(values[-4:]) / np.median(values[:4]))


def _short(row: dict[str, Any]) -> str:
    if not row["count"]:
        return "no answer at all"
    inside = f", inside {row['inside']['p50_us']:.0f}/{row['inside']['p99_us']:.0f}" if "inside" in row else ""
    return f"p50 {row['p50_us']:.0f} µs, p99 {row['p99_us']:.0f} µs{inside}, lost {row['lost']} of {row['count']}"


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    machine = result["machine"]
    lines = [
        f"# Serving {result['bundle']}, {result['date'][:10]}",
        "",
        f"{machine['cpu']}, {machine['cores_usable']} cores, load average {machine['load_average_before']} before and "
        f"{machine['load_average_after']} after; {result['transport']}. Microseconds, from before sending to holding "
        "the answer.",
    ]
    if "wire" in result:
        lines += [
            "",
            "| one camera | p50 | p99 | p99.9 | max | inside p50 | inside p99 | lost | count |",
            "|---" * 9 + "|",
        ]
        for name, row in result["wire"]["rows"].items():
            lines.append(f"| {name} | {_cells(row)} |")
        lines += ["", *(f"- {name}: {value:.2f}" for name, value in result["wire"]["ratios"].items())]
        lines += [f"- {name}: not measured: {why}" for name, why in result["wire"]["missing"].items()]
    for part in ("capacity", "load", "drift"):
        if part in result:
            lines += ["", f"| {part}: cameras | p50 | p99 | p99.9 | max | inside p50 | inside p99 | lost | count |"]
            lines.append("|---" * 9 + "|")
            lines += [f"| {row['cameras']} | {_cells(row)} |" for row in result[part]["rows"]]
    if "front" in result:
        lines += ["", "| cameras | workers | p50 | p99 | lost | µs of the first process a frame |", "|---" * 6 + "|"]
        for row in result["front"]["rows"]:
            values = f"{row.get('p50_us', 0):,.0f} | {row.get('p99_us', 0):,.0f} | {row['lost']}"
            lines.append(f"| {row['cameras']} | {row['workers']} | {values} | {row['cpu_us_a_frame']:.0f} |")
    if "drift" in result:
        lines += ["", *(f"- drift, last / first, {k[:3]}: {v:.2f}" for k, v in result["drift"]["ratios"].items())]
        lines += [f"- memory before and after, kB: {result['drift'].get('memory_kb')}"]
    if "capacity" in result:
        knee = result["capacity"]
        lines += ["", f"Held: {knee['knee_cameras']} cameras, {knee['knee_frames_per_s']:.0f} frames per second."]
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> str:
    inside = row.get("inside", {})
    values = [row.get(key) for key in ("p50_us", "p99_us", "p99.9_us", "max_us")]
    values += [inside.get("p50_us"), inside.get("p99_us"), row["lost"], row["count"]]
    return " | ".join("" if value is None else f"{value:,.0f}" for value in values)


def plot(result: dict[str, Any], path: Path) -> None:
    """Plot latency against cameras, and the alternatives of the part `wire`."""
    from rtseg.study.plots import panels

    figure, [[left, right]] = panels(1, 2, width=5, height=3.4)
    if "wire" in result:
        rows = [(name, row) for name, row in result["wire"]["rows"].items() if row["count"]]
        for y, (_, row) in enumerate(rows):
            left.plot([row["p50_us"], row["p99_us"]], [y, y], color="#0072b2", marker="|", linewidth=2)
        left.set_yticks(range(len(rows)), [name for name, _ in rows])
        left.set_xscale("log")
        left.set_xlabel("µs, p50 to p99")
    if "capacity" in result:
        rows = sorted(result["capacity"]["rows"], key=lambda row: row["cameras"])
        for key, color in (("p50_us", "#0072b2"), ("p99_us", "#d55e00")):
            cameras = [row["cameras"] for row in rows if row["count"]]
            right.plot(cameras, [row[key] for row in rows if row["count"]], color=color, marker="o", label=key[:3])
        right.axhline(P99_MS * 1000, color="#999999", linewidth=0.8)
        right.set_yscale("log")
        right.set_xlabel(f"cameras x {result['fps']:g} frames per second")
        right.set_ylabel("µs")
        right.legend(frameon=False)
    figure.savefig(path, dpi=150)


def save(result: dict[str, Any], out: Path) -> None:
    """Write OUT.json, OUT.md and OUT.png with the parts so far."""
    result["machine"]["load_average_after"] = load_average()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text(markdown(result), encoding="utf-8")
    plot(result, out.with_suffix(".png"))


def main() -> None:
    """Run the parts and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("engines/rats58"))
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part, and of each number of cameras")
    parser.add_argument("--cameras", type=int, default=100, help="taken for the capacity where that is not measured")
    parser.add_argument("--transport", choices=("tcp", "ipc"), default="tcp")
    parser.add_argument("--out", type=Path, default=RESULTS / "serve")
    chosen = parser.parse_args()
    bench, parts = Bench(chosen.bundle, chosen.transport), chosen.only.split(",")
    if set(parts) - set(PARTS):
        parser.error(f"--only {chosen.only}: there are {', '.join(PARTS)}")
    result: dict[str, Any] = {"kind": "serve", **describe_run(PACKAGES), "bundle": chosen.bundle.name, "fps": bench.fps}
    result |= {"transport": chosen.transport, "seconds": chosen.seconds}
    knee = chosen.cameras
    for part in PARTS:
        if part not in parts:
            continue
        if part == "wire":
            result[part] = wire(bench, chosen.seconds)
        elif part == "capacity":
            result[part] = capacity(bench, chosen.seconds)
            knee = max(result[part]["knee_cameras"], 1)
        elif part == "front":
            result[part] = front(bench, chosen.seconds)
        else:
            result[part] = (load if part == "load" else drift)(bench, chosen.seconds, knee)
        save(result, chosen.out)  # after every part: a long run may be cut off
    print(markdown(result))


if __name__ == "__main__":
    main()
