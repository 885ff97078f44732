"""What tests of a live daemon share: the daemon as a child process, a raw connection to it, and random recordings."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.recordings.recording import Recording, clean

REPO = Path(__file__).parent.parent
TIMEOUT_S = 60.0
FREE_PORT = "tcp://127.0.0.1:*"
HELLO = {
    "v": 1,
    "type": "hello",
    "stream": "cage1",
    "skeleton": {"animals": list(MICE7.animals), "keypoints": list(MICE7.keypoints)},
    "fps": 30.0,
}


class Child:
    """`rtseg serve` as a process of its own."""

    def __init__(self, bundle: Path, *, frames: str = FREE_PORT, predictions: str = FREE_PORT, **settings: Any) -> None:
        plain = {"frames": frames, "predictions": predictions, "capacity": 16, **settings}
        changes = [part for key, value in plain.items() for part in ("--set", f"{key}={json.dumps(value)}")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rtseg", "serve", str(bundle), *changes],
            cwd=REPO,
            env=os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors = ""  # read, and not given as a line yet

    def line(self) -> str:
        """The next line on stdout."""
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], TIMEOUT_S)
        assert readable, "the daemon said nothing"
        return self.process.stdout.readline()

    def wait_ready(self) -> Child:
        """Wait for the ready line and read the addresses from it."""
        line = self.line()
        assert line.startswith("ready "), line + self.rest()[1]
        self.about = json.loads(line.removeprefix("ready "))
        self.frames, self.predictions = self.about["frames"], self.about["predictions"]
        return self

    def signal(self, *numbers: int) -> None:
        """Send signals."""
        for number in numbers:
            self.process.send_signal(number)

    def rest(self) -> tuple[str, str, int]:
        """Wait for the end: what is left on stdout, all of stderr, the exit code."""
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        return out, self._errors + err, self.process.returncode

    def error_line(self) -> str:
        """The next line on stderr."""
        assert self.process.stderr is not None
        # Not by readline, which takes further lines into a buffer of its own, where `select` sees none.
        number = self.process.stderr.fileno()
        while "\n" not in self._errors:
            readable, _, _ = select.select([number], [], [], TIMEOUT_S)
            assert readable, "the daemon logged nothing"
            read = os.read(number, 65536)
            assert read, f"the daemon has ended: {self._errors}"
            self._errors += read.decode()
        line, _, self._errors = self._errors.partition("\n")
        return line + "\n"

    def close(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def daemon(bundle: Path, **settings: Any) -> Iterator[Child]:
    """A ready daemon; afterwards it must stop cleanly, unless the test has stopped it itself."""
    child = Child(bundle, **settings)
    try:
        yield child.wait_ready()
        if child.process.poll() is None:
            child.signal(signal.SIGTERM)
            _, err, code = child.rest()
            assert code == 0, err
    finally:
        child.close()


def children_of(pid: int) -> list[int]:
    """Of all threads of a process, those included that have ended and were not waited for."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread or process does."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open nothing."""
    import resource  # not on Windows

    free = os.dup(0)
    os.close(free)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Raw:
    """A connection that sends whatever it is told to. routing_id: its own, where it has one."""

    def __init__(self, address: str, routing_id: bytes = b"", queue_messages: int = 1000) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.sndhwm = queue_messages  # 0 = any number
        if routing_id:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.connect(address)

    def send(self, message: dict[str, Any] | bytes) -> None:
        self.socket.send(message if isinstance(message, bytes) else msgpack.packb(message))

    def receive(self) -> dict[str, Any]:
        assert self.socket.poll(int(TIMEOUT_S * 1000)), "the daemon gave no answer"
        message = msgpack.unpackb(self.socket.recv())
        assert isinstance(message, dict)
        return message

    def ask(self, message: dict[str, Any] | bytes) -> dict[str, Any]:
        self.send(message)
        return self.receive()

    def close(self, linger_ms: int = 0) -> None:
        """Close; waiting at most linger_ms until all is handed to the operating system."""
        self.socket.close(linger=linger_ms)
        self.context.term()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.socket.closed:
            self.close()


def frame_of(recording: Recording, t: int, *, stream: str = "cage1", seq: int | None = None) -> dict[str, Any]:
    """A recording's frame as it travels."""
    return {
        "v": 1,
        "stream": stream,
        "seq": t if seq is None else seq,
        "t_source_ns": t * 33_333_333,
        "kp": recording.keypoints[t].tobytes(),
        "conf": recording.confidence[t].tobytes(),
    }


def random_walk(n_frames: int, seed: int, skeleton: Skeleton = MICE7) -> Recording:
    """Animals that wander, with points missing now and then."""
    rng = np.random.default_rng(seed)
    a, k = skeleton.shape
    centres = rng.uniform(200, 500, (1, a, 1, 2)) + np.cumsum(rng.normal(0, 3, (n_frames, a, 1, 2)), axis=0)
    keypoints = centres + rng.normal(0, 15, (1, a, k, 2)) + rng.normal(0, 1, (n_frames, a, k, 2))
    keypoints[rng.random((n_frames, a, k)) < 0.05] = np.nan
    points, confidence = clean(keypoints, rng.uniform(0.3, 1.0, (n_frames, a, k)))
    return Recording(f"walk{seed}", skeleton, points, confidence, 30.0)


def without_frames(recording: Recording, absent: np.ndarray[Any, np.dtype[np.bool_]]) -> Recording:
    """The recording as its file would be where the camera never gave the frames where `absent` (T,) is true."""
    keypoints, confidence = recording.keypoints.copy(), recording.confidence.copy()
    keypoints[absent], confidence[absent] = np.nan, 0
    return replace(recording, keypoints=keypoints, confidence=confidence, absent=absent)


def gaps(lengths: list[int], late: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A mask (T,) that is true for `late` frames at first and for gaps of these lengths, 1 to 8 frames apart."""
    parts = [np.ones(late, np.bool_), np.zeros(1, np.bool_)]
    for length in lengths:
        parts += [np.zeros(rng.integers(0, 8), np.bool_), np.ones(length, np.bool_), np.zeros(1, np.bool_)]
    return np.concatenate(parts)


def write_gapped_poses(recording: Recording, path: Path) -> Path:
    """A table of poses with a row for each frame that came."""
    skeleton = recording.skeleton
    names = [f"{a}.{k}.{c}" for a in skeleton.animals for k in skeleton.keypoints for c in ("x", "y", "score")]
    lines = [",".join(["frame", *names])]
    for t in recording.came.tolist():
        values = np.concatenate([recording.keypoints[t], recording.confidence[t][..., None]], axis=-1).ravel()
        lines.append(",".join([str(t), *("" if np.isnan(v) else f"{v:.9g}" for v in values.tolist())]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
