"""What sources of keypoints cost: `python benchmarks/sources.py --seconds 60 --json benchmarks/results/sources.json`.

Microseconds from a frame's way into the source (a message sent, a row flushed, a pose handed over) until the daemon has
it (`t_recv_ns`), beside a publisher that sends the same frame itself. The sources are the commands that docs/sources
shows, each in a process of its own; frames go to one after the other, in turns, thirty turns a second, so that every
one sleeps in between as behind a camera. The way back of `--answers` is measured too, beside a subscriber.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pylsl
import zmq
from pythonosc.udp_client import SimpleUDPClient

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber
from rtseg.playback import replay as playback
from rtseg.recordings.recording import Recording
from rtseg.simulate.tasks import simulate_sequence
from rtseg.sources.dlclive import RtsegProcessor
from rtseg.system.machine import describe_run
from rtseg.wire.messages import PredictionMessage

FPS, WARM_UP, TIMEOUT_S = 30, 30, 10.0
DIRECT, BACK = "publisher", "answer, subscriber"
ANYWHERE = "tcp://127.0.0.1:*"
Send = Callable[[int], None]


@contextlib.contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[str]]:
    """A command of rtseg that ends with the block."""
    command = [sys.executable, "-m", "rtseg", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.communicate(timeout=30)


def told(running: subprocess.Popen[str], pattern: str) -> str:
    """The first text of this form that a command writes to stderr."""
    assert running.stderr is not None
    said = ""
    for line in running.stderr:
        said += line
        if found := re.search(pattern, line):
            return found[1]
    raise RuntimeError(f"it ended: {said}")


class Senders:
    """All ways, by name: a function that hands over frame t. pose: (A, K, 3) of a frame."""

    def __init__(self, recording: Recording, frames: str, folder: Path, opened: contextlib.ExitStack) -> None:
        self._recording, self._frames, self._opened = recording, frames, opened
        self._context = opened.enter_context(zmq.Context())
        skeleton = recording.skeleton
        self._declared = ["--points", ",".join(skeleton.keypoints), "--animals", ",".join(skeleton.animals)]
        self._poses = np.concatenate([recording.keypoints, recording.confidence[..., None]], axis=-1)
        self.answers = ""  # where those of "zmq float32" come back
        self.ways: dict[str, Send] = {
            DIRECT: self._publisher(),
            "DeepLabCut-Live processor": self._processor(),
            "zmq float32": self._float32(),
            "zmq json": self._json(),
            "osc": self._osc(),
            "lsl": self._lsl(),
            "csv": self._csv(folder / "live.csv"),
        }

    def _start(self, name: str, *words: str) -> subprocess.Popen[str]:
        options = ["--to", self._frames, "--stream", name, "--fps", str(FPS)]
        return self._opened.enter_context(process("source", *words, *options))

    def _publisher(self) -> Send:
        recording = self._recording
        publisher = Publisher(self._frames, DIRECT, recording.skeleton, FPS)
        self._opened.enter_context(publisher)
        n = len(recording)
        return lambda t: void(publisher.send(recording.keypoints[t % n], recording.confidence[t % n], seq=t))

    def _processor(self) -> Send:
        names = self._recording.skeleton
        name = "DeepLabCut-Live processor"
        processor = RtsegProcessor(name, names.keypoints, animals=names.animals, fps=FPS, address=self._frames)
        self._opened.callback(processor.close)
        return lambda t: void(processor.process(self._poses[t].astype(np.float64), frame_time=t / FPS))

    def _push(self, address: str) -> Any:
        socket = self._opened.enter_context(self._context.socket(zmq.PUSH))
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        return socket

    def _float32(self) -> Send:
        words = ["--listen", ANYWHERE, "--answers", ANYWHERE]
        running = self._start("zmq float32", "zmq", *self._declared, *words)
        push = self._push(told(running, r"listening at (\S+) for"))
        self.answers = told(running, r"answers at (\S+) as")
        return lambda t: void(push.send_multipart([t.to_bytes(8, "little"), self._poses[t].tobytes()]))

    def _json(self) -> Send:
        running = self._start("zmq json", "zmq", *self._declared, "--listen", ANYWHERE, "--format", "json")
        push = self._push(told(running, r"listening at (\S+) for"))
        told(running, r"(points at)")
        return lambda t: void(push.send(json.dumps({"frame": t, "pose": self._poses[t].tolist()}).encode()))

    def _osc(self) -> Send:
        running = self._start("osc", "osc", *self._declared, "--listen", "127.0.0.1:0")
        client = SimpleUDPClient("127.0.0.1", int(told(running, r"OSC at [\d.]+:(\d+)")))
        told(running, r"(points at)")
        return lambda t: void(client.send_message("/pose", [t, *self._poses[t].ravel().tolist()]))

    def _lsl(self) -> Send:
        skeleton, coords = self._recording.skeleton, ("x", "y", "likelihood")
        labels = [f"{a}.{k}_{c}" for a in skeleton.animals for k in skeleton.keypoints for c in coords]
        name = f"poses {os.getpid()}"
        info = pylsl.StreamInfo(name, "Pose", len(labels), FPS, pylsl.cf_float32, name)
        info.set_channel_labels(labels)
        outlet = pylsl.StreamOutlet(info)
        told(self._start("lsl", "lsl", "--name", name), r"(points at)")
        # Stamped by the frame's number: a stamp that jumps would be lost frames.
        return lambda t: void(outlet.push_sample(self._poses[t].ravel().tolist(), 1000 + t / FPS))

    def _csv(self, path: Path) -> Send:
        skeleton = self._recording.skeleton
        names = [f"{a}.{k}.{c}" for a in skeleton.animals for k in skeleton.keypoints for c in ("x", "y", "score")]
        file = self._opened.enter_context(path.open("w", encoding="utf-8"))

        def write(line: str) -> None:
            file.write(line + "\n")
            file.flush()

        write(",".join(["frame", *names]))
        told(self._start("csv", "csv", str(path)), r"(points at)")
        return lambda t: write(",".join([str(t), *(f"{v:.9g}" for v in self._poses[t].ravel().tolist())]))


def void(_: object) -> None:
    """What a way gives back is nobody's business."""


def answer_to(subscriber: Subscriber, stream: str, seq: int) -> PredictionMessage:
    """Of this frame. Raises TimeoutError where none comes."""
    while (message := subscriber.receive(TIMEOUT_S)) is not None:
        if isinstance(message, PredictionMessage) and (message.stream, message.seq) == (stream, seq):
            return message
    raise TimeoutError(f"{stream}: no answer to frame {seq}")


def received(socket: Any) -> list[bytes]:
    """The next message. Raises TimeoutError where none comes."""
    if not socket.poll(int(TIMEOUT_S * 1000)):
        raise TimeoutError("no answer comes back")
    parts: list[bytes] = socket.recv_multipart()
    return parts


def measure_turns(senders: Senders, subscriber: Subscriber, n_frames: int) -> dict[str, list[int]]:
    """ns by way: each frame by each of them, one after the other, in an order that changes."""
    took: dict[str, list[int]] = defaultdict(list)
    rng, names = np.random.default_rng(0), list(senders.ways)
    with zmq.Context() as context, context.socket(zmq.SUB) as back:
        back.connect(senders.answers)
        back.subscribe("zmq float32")
        received(back)  # the bridge's confirmation
        due_s = time.monotonic()
        for t in range(n_frames):
            for i in rng.permutation(len(names)):
                name = names[i]
                sent_ns = time.monotonic_ns()
                senders.ways[name](t)
                answer = answer_to(subscriber, name, t)
                came_ns = time.monotonic_ns()
                took[name].append(answer.t_recv_ns - sent_ns)
                if name == "zmq float32":
                    while len(parts := received(back)) == 2:
                        pass  # an event
                    took["answer, zmq float32"].append(time.monotonic_ns() - answer.t_pub_ns)
                    assert int.from_bytes(parts[1], "little") == t
                elif name == DIRECT:
                    took[BACK].append(came_ns - answer.t_pub_ns)
            due_s += 1 / FPS
            time.sleep(max(0.0, due_s - time.monotonic()))
    order = [*names, BACK, "answer, zmq float32"]
    return {name: took[name][WARM_UP:] for name in order}


def measure_replay(recording: Recording, frames: str, subscriber: Subscriber, direct: Send) -> dict[str, list[int]]:
    """ns of a recording that is played, and of the publisher, which sends a frame behind each."""
    took: dict[str, list[int]] = {"replay": [], DIRECT: []}
    sent_ns: list[int] = []

    class TimedPublisher(Publisher):
        def send(self, *args: Any, **kwargs: Any) -> int:
            sent_ns.append(time.monotonic_ns())
            return super().send(*args, **kwargs)

    def follow(answer: PredictionMessage) -> None:
        took["replay"].append(answer.t_recv_ns - sent_ns[len(took["replay"])])
        now_ns, t = time.monotonic_ns(), len(recording) + len(took[DIRECT])
        direct(t)
        took[DIRECT].append(answer_to(subscriber, DIRECT, t).t_recv_ns - now_ns)

    playback.Publisher = TimedPublisher  # type: ignore[misc, assignment]
    playback.replay(recording, frames, stream="replay", on_prediction=follow)
    return {name: ns[WARM_UP:] for name, ns in took.items()}


def quantiles(ns: list[int]) -> dict[str, float]:
    """In µs."""
    p50, p90, p99 = np.quantile(np.array(ns) / 1000, [0.5, 0.9, 0.99]).tolist()
    us = {"p50_us": p50, "p90_us": p90, "p99_us": p99, "max_us": max(ns) / 1000}
    return {"count": len(ns)} | {name: round(value, 1) for name, value in us.items()}


def run(bundle: Path, seconds: float) -> dict[str, dict[str, float]]:
    """Everything, against one daemon."""
    n_frames = max(round(seconds * FPS), 2 * WARM_UP)
    recording, _ = simulate_sequence(1, n_frames, name="simulated")
    where = ["--set", f'frames="{ANYWHERE}"', "--set", f'predictions="{ANYWHERE}"']
    with (
        tempfile.TemporaryDirectory() as folder,
        process("serve", str(bundle), *where) as daemon,
        contextlib.ExitStack() as opened,
    ):
        assert daemon.stdout is not None
        ready = json.loads(daemon.stdout.readline().removeprefix("ready "))
        senders = Senders(recording, ready["frames"], Path(folder), opened)
        with Subscriber(ready["predictions"], list(senders.ways)) as subscriber:
            took = measure_turns(senders, subscriber, n_frames)
            later = measure_replay(recording, ready["frames"], subscriber, senders.ways[DIRECT])
    took["replay"] = later["replay"]
    took[f"{DIRECT}, beside the replay"] = later[DIRECT]
    return {name: quantiles(ns) for name, ns in took.items()}


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = ["# Sources: from their input to the daemon", ""]
    lines += ["| way | frames | p50, µs | p90, µs | p99, µs | largest, µs |", "|---|---|---|---|---|---|"]
    for name, q in result["sources"].items():
        numbers = " | ".join(f"{q[key]:.0f}" for key in ("count", "p50_us", "p90_us", "p99_us", "max_us"))
        lines.append(f"| {name} | {numbers} |")
    lines += ["", "*publisher*: the same frames sent by `Publisher` itself. *answer*: from publishing to the receiver."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parent.parent / "engines" / "mice-sim")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    assert load_bundle(given.bundle).fps == FPS, "the simulated mice come at 30 frames per second"
    result = describe_run(("numpy", "pyzmq", "python-osc", "pylsl")) | {"bundle": given.bundle.name, "fps": FPS}
    # On a machine that is busy with something else, `chrt --rr 1` keeps it to one side.
    result["scheduled"] = {os.SCHED_OTHER: "as any process", os.SCHED_RR: "real time"}.get(os.sched_getscheduler(0))
    result["sources"] = run(given.bundle, given.seconds)
    print(table(result))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        given.json.with_suffix(".md").write_text(table(result), encoding="utf-8")


if __name__ == "__main__":
    main()
