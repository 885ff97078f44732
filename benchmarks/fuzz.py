"""Fuzzing the daemon: `python benchmarks/fuzz.py --inputs 1000000 --json results/fuzz.json BUNDLE`.

Several connections send inputs that no client would (`fuzz_inputs`), and bytes that are not ZeroMQ at all. Meanwhile an
undisturbed stream, the quiet one, is served. It is checked that

- the daemon stays alive, and answers within HANG_S after every few hundred inputs;
- no answer is an `internal` error: no input raised an exception that the daemon does not expect;
- every answer to the quiet stream has the same bits as in a run without fuzzing.

With --atheris only the parsers are fuzzed, in this process and guided by coverage (Linux: pip install atheris).
"""

from __future__ import annotations

import argparse
import json
import signal
import socket as plain_socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import FunctionType
from typing import Any

import msgpack
import numpy as np
import zmq
from fuzz_inputs import CONNECTIONS, QUIET, Mutator, packed
from random_walk import random_walk
from result_file import print_result

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.errors import RtsegError
from rtseg.frames.skeleton import Skeleton
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Quality
from rtseg.system.machine import describe_run
from rtseg.wire.keys import ClientKey
from rtseg.wire.messages import (
    Hello,
    PredictionMessage,
    parse_beat,
    parse_bye,
    parse_frame,
    parse_load,
    parse_to_daemon,
)

HANG_S = 30.0
"""A daemon that does not answer for so long hangs."""
BATCH = 250
"""Inputs after which the daemon must answer."""
QUIET_FRAMES = 2000


def parse_anything(data: bytes) -> None:
    """Parse a message as the daemon does before it looks up the stream. Any error but rtseg's own is a fault."""
    try:
        kind, message = parse_to_daemon(data)
        if kind == "frame":
            parse_frame(message)
        elif kind == "hello":
            Hello.from_message(message)
        elif kind == "bye":
            parse_bye(message)
        elif kind == "beat":
            parse_beat(message)
        elif kind == "load":
            parse_load(message)
    except RtsegError:
        pass


class Quiet:
    """The stream that must not be disturbed. differing: numbers of frames whose answers have other bits."""

    def __init__(self, frames: str, bundle: Path, n_frames: int, key: ClientKey | None = None) -> None:
        classifier = load(bundle, "numba")
        self.walk = random_walk(classifier.bundle.skeleton, n_frames, classifier.bundle.fps, seed=0)
        self.expected = classifier.run(self.walk)
        self.publisher = Publisher(frames, QUIET, self.walk.skeleton, self.walk.fps, timeout_s=HANG_S, key=key)
        self.subscriber = Subscriber(self.publisher.served.predictions, QUIET, timeout_s=HANG_S, key=key)
        self.sent = self.answered = 0
        self.differing: list[int] = []

    def send(self) -> None:
        """Send one frame, if any is left, and compare its answer."""
        if self.sent == len(self.walk):
            return
        t = self.sent
        self.publisher.send(self.walk.keypoints[t], self.walk.confidence[t])
        self.sent += 1
        answer = self.subscriber.receive(HANG_S)
        while answer is not None and not isinstance(answer, PredictionMessage):
            answer = self.subscriber.receive(HANG_S)
        if answer is None:
            raise TimeoutError(f"no answer to frame {t} of the quiet stream within {HANG_S} s")
        self.answered += 1
        late = int(Quality.LATE)
        probs = np.concatenate(list(answer.probs.values()))
        same = answer.seq == t and probs.tobytes() == self.expected.probs[t].tobytes()
        if not same or answer.quality & ~late != int(self.expected.quality[t]) & ~late:
            self.differing.append(t)

    def close(self) -> None:
        """End the stream."""
        self.publisher.close()
        self.subscriber.close()


class Fuzz:
    """The fuzzing connections to a daemon. answers: how often each kind came; faults: reasons of internal errors."""

    def __init__(self, frames: str, mutator: Mutator, quiet: Quiet) -> None:
        self.frames, self.mutator, self.quiet = frames, mutator, quiet
        self.context = zmq.Context()
        self.sockets: list[tuple[zmq.Socket[bytes], str]] = []
        self._made = 0
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.inputs, self.slowest_s = 0, 0.0

    def send_batch(self, n_inputs: int) -> None:
        """Send `n_inputs` over all connections, with two quiet frames between, and wait for an answer."""
        self._reconnect()
        for i in range(n_inputs):
            socket, self.mutator.stream = self.mutator.random.choice(self.sockets)
            socket.send_multipart(self.mutator.next())
            if i == n_inputs // 2:
                self.quiet.send()
        self.inputs += n_inputs
        began = time.monotonic()
        ask_status(self.frames, timeout_s=HANG_S)
        self.quiet.send()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        self._read_answers()

    def send_junk(self) -> None:
        """Send random bytes over a TCP connection that does not speak ZeroMQ."""
        host, _, port = self.frames.removeprefix("tcp://").rpartition(":")
        with plain_socket.create_connection((host, int(port)), timeout=HANG_S) as connection:
            greeting = bytes([255, *[0] * 7, 1, 127, 3, 1]) if self.mutator.random.random() < 0.5 else b""
            connection.sendall(greeting + self.mutator.random.randbytes(200))
        self.inputs += 1
        self.mutator.kinds["no ZeroMQ"] += 1

    def close(self) -> None:
        """Close all connections."""
        self.context.destroy(linger=0)

    def _reconnect(self) -> None:
        """Now and then close a connection without a bye, and open another one for the same stream."""
        if self.sockets and self.mutator.random.random() < 0.2:
            self.sockets.pop(0)[0].close(linger=int(HANG_S * 1000))
        while len(self.sockets) < CONNECTIONS:
            socket, stream = self.context.socket(zmq.DEALER), f"fuzz{self._made % CONNECTIONS}"
            self._made += 1
            socket.connect(self.frames)
            socket.send(packed(self.mutator.hello(stream)))
            self.sockets.append((socket, stream))

    def _read_answers(self) -> None:
        for socket, _ in self.sockets:
            while socket.poll(0):
                answer = msgpack.unpackb(socket.recv())
                kind = answer["type"]
                self.answers[f"{kind} {answer['kind']}" if kind == "error" else kind] += 1
                if answer.get("kind") == "internal":
                    self.faults.append(answer["reason"])


def run(bundle: Path, n_inputs: int, seed: int) -> dict[str, Any]:
    """Start a daemon and fuzz it; the results."""
    settings = {"frames": "tcp://127.0.0.1:*", "predictions": "tcp://127.0.0.1:*", "engine": "numba", "capacity": 64}
    changes = [word for key, value in settings.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "rtseg", "serve", str(bundle), *changes]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert daemon.stdout is not None
    began = time.monotonic()
    try:
        frames = json.loads(daemon.stdout.readline().removeprefix("ready "))["frames"]
        quiet = Quiet(frames, bundle, min(QUIET_FRAMES, max(2, 2 * n_inputs // BATCH)))
        fuzz = Fuzz(frames, Mutator(quiet.walk.skeleton, quiet.walk.fps, seed), quiet)
        while fuzz.inputs < n_inputs:
            fuzz.send_batch(min(BATCH, n_inputs - fuzz.inputs))
            if fuzz.mutator.random.random() < 0.2 and fuzz.inputs < n_inputs:
                fuzz.send_junk()
            if fuzz.inputs // BATCH % 200 == 0:
                print(f"{fuzz.inputs} inputs, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        while quiet.sent < len(quiet.walk):
            quiet.send()
        counted = ask_status(frames, timeout_s=HANG_S)["counters"]
        quiet.close()
        fuzz.close()
        alive = daemon.poll() is None
        daemon.send_signal(signal.SIGTERM)
        exit_code = daemon.wait(60)
    finally:
        daemon.kill()
        daemon.wait()
    return {
        "inputs": fuzz.inputs,
        "kinds": dict(sorted(fuzz.mutator.kinds.items())),
        "seconds": round(time.monotonic() - began, 1),
        "alive": alive,
        "exit_code": exit_code,
        "slowest_answer_s": round(fuzz.slowest_s, 3),
        "internal_errors": fuzz.faults[:20],
        "answers": dict(sorted(fuzz.answers.items())),
        "daemon_counters": counted,
        "quiet": {"frames": quiet.sent, "answered": quiet.answered, "differing": quiet.differing[:20]},
        "passed": alive and exit_code == 0 and not fuzz.faults and not quiet.differing and quiet.answered == quiet.sent,
    }


def run_atheris(n_inputs: int, skeleton: Skeleton, fps: float) -> None:
    """Fuzz the parsers, guided by coverage. Ends the process with atheris's own status."""
    try:
        import atheris
    except ImportError:
        sys.exit("--atheris needs the package atheris (Linux): pip install atheris")
    from rtseg.frames import skeleton as skeletons
    from rtseg.wire import messages

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        # Bytes changed at random are hardly ever msgpack: every other input is a message with one thing wrong.
        if seed % 2:
            mutator.random.seed(seed)
            return mutator.next()[0][:max_size]
        return bytes(atheris.Mutate(data, max_size))

    mutator = Mutator(skeleton, fps, 0)
    for place in (messages, messages.Hello, skeletons.Skeleton):
        for function in vars(place).values():
            plain = getattr(function, "__func__", function)
            if isinstance(plain, FunctionType) and plain.__module__.startswith("rtseg"):
                atheris.instrument_func(plain)
    atheris.Setup([sys.argv[0], f"-runs={n_inputs}", "-max_len=4096"], parse_anything, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Parse the options, fuzz, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("engines/rats58"))
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--atheris", action="store_true", help="fuzz the parsers alone, led by coverage")
    chosen = parser.parse_args()
    if chosen.atheris:
        described = load(chosen.bundle, "numba").bundle
        run_atheris(chosen.inputs, described.skeleton, described.fps)
        return
    result = {
        **describe_run(("pyzmq", "msgpack", "numba")),
        "bundle": str(chosen.bundle),
        "seed": chosen.seed,
        **run(chosen.bundle, chosen.inputs, chosen.seed),
    }
    print_result(result, chosen.json)
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
