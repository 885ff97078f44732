"""What triggers cost: `python benchmarks/triggers.py --seconds 120 --json FILE`.

- From a decision to its acknowledgement, over a simulated board at a pseudo-terminal (the shipped sketch's own logic)
  and over the ZeroMQ sink with a receiver that acknowledges, in a real daemon behind cameras, asleep until a command
  comes and with `busy_poll` (the receiver of the topic too); beside a bare echo, the same sink driven by a loop that
  does nothing else, and beside a message to another process and back over the same kind of wire.
- What a frame of a stream costs more in the daemon's loop with triggers than without: the same frames through the same
  stepper, in turns: without triggers, with some of which nothing comes, and while events run whose sinks are told at
  every frame.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from acknowledgements import measure_acknowledgements
from random_walk import random_walk

from rtseg.bundle.bundle import Bundle
from rtseg.config import ConditionSettings, ServeSettings, SinkSettings, TriggerFile, TriggerSettings, ZmqSinkSettings
from rtseg.frames.frame import own_frame
from rtseg.inference.classifier import Classifier, load
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.serve.triggers.stage import TriggerStage
from rtseg.sinks.base import LineSpec
from rtseg.sinks.link import IS_READY, SinkLink
from rtseg.system.machine import describe_run
from rtseg.wire.messages import Hello

WARM_UP_TURNS = 200


class Loop:
    """A stepper and its streams, as the daemon has them. kind: `none`, `idle` or `running` triggers."""

    def __init__(self, classifier: Classifier, context: zmq.Context[Any], kind: str, n: int) -> None:
        bundle = classifier.bundle
        streams = Streams(ServedModel(classifier, ""))
        outlet = Outlet(context.socket(zmq.ROUTER), context.socket(zmq.XPUB))
        self.link = SinkLink("topic", ZmqSinkSettings(kind="zmq", address="tcp://127.0.0.1:*"), [LINE] * 4)
        stage = (
            None if kind == "none" else TriggerStage(triggers_of(bundle, kind), {"topic": self.link}, streams, outlet)
        )
        self.queue = FrameQueue(ServeSettings(), outlet, LoopLoad(0.0))
        self.stepper = Stepper(self.queue, streams, outlet, stage)
        self.open: list[Stream] = []
        for i in range(n):
            hello = Hello(f"{kind}{i}", bundle.skeleton, bundle.fps, "monotonic", None, {})
            stream = streams.open_stream(b"", hello, None, time.monotonic_ns())
            self.open.append(stream)
            if stage is not None:
                stage.open_stream(stream)
        while self.link.state != IS_READY:
            self.link.look_after()
            time.sleep(0.01)
        if stage is not None:
            stage.arming.arm(None, None, "")
        self.stage, self.seq = stage, 0

    def turn(self, points: Any, scores: Any) -> int:
        """One frame of every stream, stepped and published as one batch; how many ns that took."""
        now_ns = time.monotonic_ns()
        for stream in self.open:
            times = {"seq": self.seq, "t_source_ns": self.seq * stream.interval_ns}
            frame = own_frame(points, scores, **times, stream=stream.name, has_scores=True)
            self.queue.enqueue_frame((stream, frame, now_ns, now_ns, b""))
        self.seq += 1
        started_ns = time.perf_counter_ns()
        self.stepper.step_and_publish_batch()
        took_ns = time.perf_counter_ns() - started_ns
        if self.stage is not None:
            self.stage.watch.reports_wait = True
            self.stage.run_due(time.monotonic_ns())
        return took_ns


LINE = LineSpec("t", 1, 0.0, 0.005, 3600.0)


def triggers_of(bundle: Bundle, kind: str) -> TriggerFile:
    """Four triggers: idle ones never begin; of the others one runs from the first frame on."""
    head = bundle.heads[0]
    rare = ConditionSettings(head.name, (head.classes[0],))
    always = ConditionSettings(head.name, (head.classes[0],), negate=True)
    about: dict[str, Any] = {"sinks": ("topic",), "grace_s": 60.0, "never_on": ("reset",)}
    triggers = {f"t{i}": TriggerSettings((rare,), on=1.0, off=1.0, **about) for i in range(4)}
    if kind == "running":
        triggers["t0"] = TriggerSettings((always,), on=0.0, off=0.0, pulse_s=0.0, max_on_s=3600.0, **about)
    return TriggerFile(triggers, {"topic": SinkSettings(kind="zmq")})


def measure_cost(bundle: Path, turns: int, n: int) -> dict[str, float]:
    """Median µs for a frame of a stream without triggers, with n streams in a batch, and what triggers add to it."""
    costs: dict[str, float] = {}
    for kind in ("idle", "running"):
        context: zmq.Context[Any] = zmq.Context()
        loops = [Loop(load(bundle, capacity=n), context, each, n) for each in ("none", kind)]
        walk, order = random_walk(load(bundle).bundle.skeleton, 300, 30.0, 2), random.Random(1)
        took = np.zeros((turns, 2))
        for t in range(turns):
            # Whoever comes first finds colder caches.
            for which in order.sample((0, 1), 2):
                took[t, which] = loops[which].turn(walk.keypoints[t % 300].copy(), walk.confidence[t % 300].copy())
        for loop in loops:
            loop.link.close()
        context.destroy(linger=0)
        took = took[WARM_UP_TURNS:] / 1000 / n
        costs["none"] = round(float(np.median(took[:, 0])), 3)
        costs[kind] = round(float(np.median(took[:, 1]) - np.median(took[:, 0])), 3)
    return costs


def quantiles(times: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the largest, in ms."""
    if not times:
        return {"count": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    p50, p99 = np.quantile(times, [0.5, 0.99])
    return {"count": len(times), "p50_ms": round(float(p50), 4), "p99_ms": round(float(p99), 4), "max_ms": max(times)}


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = ["# Triggers: from decision to acknowledgement, and their cost", ""]
    lines += ["| sink, its process | what | events | p50, ms | p99, ms | largest, ms |", "|---|---|---|---|---|---|"]
    for sink, of in result["acknowledgement"].items():
        for what, q in of.items():
            lines.append(
                f"| {sink} | {what} | {q['count']} | {q['p50_ms']:.3f} | {q['p99_ms']:.3f} | {q['max_ms']:.3f} |"
            )
    lines += [
        "",
        "| streams in a batch | without, µs | with triggers | while an event of each runs |",
        "|---|---|---|---|",
    ]
    for n, us in result["cost_us"].items():
        lines.append(f"| {n} | {us['none']:.1f} | {us['idle']:+.2f} | {us['running']:+.2f} |")
    lines += ["", "For a frame of one stream; what is added is the difference of medians, of turns in any order."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parent.parent / "engines" / "mice-sim")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--turns", type=int, default=3000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    acknowledged = measure_acknowledgements(given.bundle, given.seconds)
    result = describe_run(("numpy", "numba", "pyzmq", "pyserial")) | {
        "bundle": given.bundle.name,
        "acknowledgement": {
            sink: {what: quantiles(ms) for what, ms in of.items()} for sink, of in acknowledged.items()
        },
        "cost_us": {n: measure_cost(given.bundle, given.turns, n) for n in (1, 16)},
    }
    print(table(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        given.json.with_suffix(".md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
