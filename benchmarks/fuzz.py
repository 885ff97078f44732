"""Rubbish at the daemon's door: `python benchmarks/fuzz.py --inputs 1000000 --json results/fuzz.json BUNDLE`.

Some connections send what no client would: valid messages changed in a field, a byte or a length, random msgpack,
random bytes, cut off, sent again, in several parts, and bytes that aren't even ZeroMQ. Beside them a quiet stream is
served. It is checked that

- the daemon lives, and answers within HANG_S after every few hundred inputs;
- nothing was answered with `internal`: no input met an exception that nobody had thought of;
- every answer to the quiet stream has the bits of a run in which nobody disturbed it.

With --atheris the parsers alone are fuzzed besides, in this process and led by coverage (Linux: pip install atheris).
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket as plain_socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import msgpack
import numpy as np
import zmq

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.errors import RtsegError
from rtseg.frames.skeleton import Skeleton
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Quality
from rtseg.recordings.recording import Recording, clean
from rtseg.system.machine import describe_run
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
BATCH = 250
CONNECTIONS = 8
QUIET = "quiet"
QUIET_FRAMES = 2000
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), "", "x", "x" * 200, "x" * 201, "x" * 70_000, "\x00", "\n", "\u202e", "ä" * 100, "🐭"),
    *(b"", b"\x00", b"\xff" * 112, b"\x00\x00\xc0\x7f" * 28, b"\x00\x00\x80\x7f" * 28, b"x" * 70_000, [], [[]], {}),
    *({"v": 1}, [0.0] * 4, ["a"] * 5000, {"a": {"a": {"a": {}}}}, msgpack.ExtType(1, b"x"), msgpack.Timestamp(0, 0)),
    *(1, 30, 30.0, "hello", "bye", "status", "load", "frame", QUIET, "/", "/etc", "/dev/zero", "../..", "engines"),
)


class Mutator:
    """Inputs by a seed. skeleton, fps: of the model that is served, so that some inputs are nearly right.

    stream: that most messages are about; who sends them sets it to one of its own.
    """

    def __init__(self, skeleton: Skeleton, fps: float, seed: int) -> None:
        self.skeleton, self.fps = skeleton, fps
        self.random = random.Random(seed)
        self.kinds: Counter[str] = Counter()
        self.stream = "fuzz0"
        self._seq = 0
        self._sent: list[bytes] = []
        self._ways: dict[str, Callable[[], bytes]] = {
            "field": self._field,
            "bits": self._bits,
            "cut": self._cut,
            "again": self._again,
            "msgpack": self._msgpack,
            "bytes": self._bytes,
            "valid": self._valid,
        }

    def next(self) -> list[bytes]:
        """The parts of one input (nearly always one)."""
        kind = self.random.choices(tuple(self._ways), (35, 15, 10, 5, 15, 10, 10))[0]
        data = self._ways[kind]()
        if is_stop(data):
            return self.next()
        self.kinds[kind] += 1
        if self.random.random() < 0.05:
            self._sent = [*self._sent[-200:], data]
        if self.random.random() < 0.01:
            self.kinds["several parts"] += 1
            return [data, *(self.random.randbytes(self.random.randrange(9)) for _ in range(self.random.randint(1, 3)))]
        return [data]

    def hello(self, stream: str) -> dict[str, Any]:
        """One that is accepted."""
        animals, keypoints = list(self.skeleton.animals), list(self.skeleton.keypoints)
        about_it = {"skeleton": {"animals": animals, "keypoints": keypoints}, "fps": self.fps}
        optional = {"clock": "camera", "arena": [0.0, 0.0, 900.0, 600.0], "names": {}, "policy": "newest"}
        optional |= {"resume": True, "resample": True}
        some = {key: value for key, value in optional.items() if self.random.random() < 0.3}
        return {"v": 1, "type": "hello", "stream": stream, **about_it, **some}

    def message(self) -> dict[str, Any]:
        """A valid one, of any kind but `stop`."""
        stream = self.stream if self.random.random() < 0.9 else f"fuzz{self.random.randrange(2 * CONNECTIONS)}"
        kind = self.random.choices(("frame", "hello", "beat", "bye", "status", "load"), (75, 15, 5, 2, 0.5, 0.2))[0]
        if kind == "hello":
            return self.hello(stream)
        if kind == "beat":
            return {"v": 1, "type": "beat", "stream": stream, "t_source_ns": self.random.getrandbits(62)}
        if kind == "bye":
            return {"v": 1, "type": "bye", "stream": stream}
        if kind == "status":
            return {"v": 1, "type": "status"}
        if kind == "load":
            return {"v": 1, "type": "load", "bundle": self.random.choice(("/nowhere", "/etc", "/dev/null"))}
        a, k = self.skeleton.shape
        self._seq += self.random.choice((1, 1, 1, 1, 0, -3, 7, 100))
        points = np.random.default_rng(self.random.getrandbits(32)).uniform(0, 900, (a, k, 2)).astype("<f4")
        frame = {"v": 1, "stream": stream, "seq": max(0, self._seq), "t_source_ns": 0, "kp": points.tobytes()}
        return frame | ({"conf": b"\x00\x00\x80\x3f" * (a * k)} if self.random.random() < 0.3 else {})

    def _valid(self) -> bytes:
        return packed(self.message())

    def _field(self) -> bytes:
        message = self.message()
        place = message
        while True:
            key = self.random.choice(list(place) or [""])
            if not (isinstance(place.get(key), dict) and self.random.random() < 0.7):
                break
            place = place[key]
        way = self.random.random()
        if way < 0.7:
            place[key] = self.random.choice(STRANGE)
        elif way < 0.85:
            place.pop(key, None)
        else:
            place[self.random.choice(("x", "V", "Type", "kp2", 7, b"v", None, 1.5))] = self.random.choice(STRANGE)
        return packed(message)

    def _bits(self) -> bytes:
        data = bytearray(self._valid())
        for _ in range(self.random.choice((1, 1, 1, 2, 8))):
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return bytes(data)

    def _cut(self) -> bytes:
        data = self._valid()
        cut = self.random.randrange(len(data))
        return data[:cut] if self.random.random() < 0.7 else data + data[:cut]

    def _again(self) -> bytes:
        return self.random.choice(self._sent) if self._sent else self._valid()

    def _msgpack(self) -> bytes:
        return packed(self._value(0))

    def _value(self, depth: int) -> Any:
        way = self.random.random()
        if depth > 4 or way < 0.5:
            return self.random.choice(STRANGE)
        if way < 0.7:
            return [self._value(depth + 1) for _ in range(self.random.randrange(5))]
        names = ("v", "type", "stream", "seq", "kp", "skeleton", "x")
        return {self.random.choice(names): self._value(depth + 1) for _ in range(self.random.randrange(6))}

    def _bytes(self) -> bytes:
        way = self.random.random()
        if way < 0.1:  # nested as deep as a parser bears, and deeper; and lengths that nothing follows
            return self.random.choice((b"\x91", b"\x81\xa1x", b"\xdc\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdd")) * 3000
        return self.random.randbytes(self.random.choice((0, 1, 2, 9, 60, 300, 5000)))


def packed(value: Any) -> bytes:
    """As msgpack; lone surrogates and the like become bytes."""
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass", strict_types=False))


def is_stop(data: bytes) -> bool:
    """Whether this would rightly end the daemon."""
    try:
        return parse_to_daemon(data)[0] == "stop"
    except RtsegError:
        return False


def parse_anything(data: bytes) -> None:
    """What the daemon does to a message before it knows of a stream; any error but rtseg's own is a fault."""
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
    """The stream that must not notice anything."""

    def __init__(self, frames: str, bundle: Path, n_frames: int) -> None:
        classifier = load(bundle, "numba")
        self.walk = _walk(classifier.bundle.skeleton, n_frames, classifier.bundle.fps)
        self.expected = classifier.run(self.walk)
        self.publisher = Publisher(frames, QUIET, self.walk.skeleton, self.walk.fps, timeout_s=HANG_S)
        self.subscriber = Subscriber(self.publisher.served.predictions, QUIET, timeout_s=HANG_S)
        self.sent = self.answered = 0
        self.differing: list[int] = []

    def send(self) -> None:
        """One frame, if any is left, and look at its answer."""
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
    """A daemon's frames address under fire."""

    def __init__(self, frames: str, mutator: Mutator, quiet: Quiet) -> None:
        self.frames, self.mutator, self.quiet = frames, mutator, quiet
        self.context = zmq.Context()
        self.sockets: list[tuple[zmq.Socket[bytes], str]] = []
        self._made = 0
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.inputs, self.slowest_s = 0, 0.0

    def batch(self, n_inputs: int) -> None:
        """Send so many inputs over all connections, a frame of the quiet stream among them, and wait for the daemon."""
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
        self._hear()

    def junk(self) -> None:
        """A connection that speaks no ZeroMQ."""
        host, _, port = self.frames.removeprefix("tcp://").rpartition(":")
        with plain_socket.create_connection((host, int(port)), timeout=HANG_S) as connection:
            greeting = bytes([255, *[0] * 7, 1, 127, 3, 1]) if self.mutator.random.random() < 0.5 else b""
            connection.sendall(greeting + self.mutator.random.randbytes(200))
        self.inputs += 1
        self.mutator.kinds["no ZeroMQ"] += 1

    def close(self) -> None:
        """Leave."""
        self.context.destroy(linger=0)

    def _reconnect(self) -> None:
        """One connection in a few batches leaves without a word, and another one takes its streams."""
        if self.sockets and self.mutator.random.random() < 0.2:
            self.sockets.pop(0)[0].close(linger=int(HANG_S * 1000))
        while len(self.sockets) < CONNECTIONS:
            socket, stream = self.context.socket(zmq.DEALER), f"fuzz{self._made % CONNECTIONS}"
            self._made += 1
            socket.connect(self.frames)
            socket.send(packed(self.mutator.hello(stream)))
            self.sockets.append((socket, stream))

    def _hear(self) -> None:
        for socket, _ in self.sockets:
            while socket.poll(0):
                answer = msgpack.unpackb(socket.recv())
                kind = answer["type"]
                self.answers[f"{kind} {answer['kind']}" if kind == "error" else kind] += 1
                if answer.get("kind") == "internal":
                    self.faults.append(answer["reason"])


def _walk(skeleton: Skeleton, n_frames: int, fps: float) -> Recording:
    rng = np.random.default_rng(0)
    a, k = skeleton.shape
    centres = rng.uniform(200, 500, (1, a, 1, 2)) + np.cumsum(rng.normal(0, 3, (n_frames, a, 1, 2)), axis=0)
    keypoints = centres + rng.normal(0, 15, (1, a, k, 2)) + rng.normal(0, 1, (n_frames, a, k, 2))
    keypoints[rng.random((n_frames, a, k)) < 0.05] = np.nan
    points, confidence = clean(keypoints, rng.uniform(0.3, 1.0, (n_frames, a, k)))
    return Recording("walk", skeleton, points, confidence, fps)


def run(bundle: Path, n_inputs: int, seed: int) -> dict[str, Any]:
    """Fuzz a daemon of its own; what was found."""
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
            fuzz.batch(min(BATCH, n_inputs - fuzz.inputs))
            if fuzz.mutator.random.random() < 0.2 and fuzz.inputs < n_inputs:
                fuzz.junk()
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
    """Coverage-led fuzzing of the parsers; ends the process with atheris's own status."""
    try:
        import atheris
    except ImportError:
        sys.exit("--atheris needs the package atheris (Linux): pip install atheris")
    from rtseg.frames import skeleton as skeletons
    from rtseg.wire import messages

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        # Bytes turned at random hardly ever are msgpack: every other input is a message with one thing wrong.
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
    """See above."""
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
    text = json.dumps(result, indent=1)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    print(text)
    sys.exit(not result["passed"])


if __name__ == "__main__":
    main()
