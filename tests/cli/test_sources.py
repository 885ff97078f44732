"""`rtseg source ...` as a user runs it: what each prints, how it ends, and why it does not start."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from rtseg.cli import serving
from rtseg.client import Subscriber
from rtseg.frames.skeleton import MICE7
from rtseg.wire.messages import PredictionMessage
from tests.commands import here
from tests.live import REPO, TIMEOUT_S, Child, daemon, random_walk, write_gapped_poses

POINTS, ANIMALS = ",".join(MICE7.keypoints), ",".join(MICE7.animals)
DECLARED = ("--points", POINTS, "--animals", ANIMALS, "--fps", 30)
POSE = np.ones((2, 7, 3), "<f4")


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle) as child:
        yield child


@contextmanager
def sending(address: str, n: int) -> Iterator[None]:
    """A PUSH that sends n poses from a thread, to whoever listens there by then."""

    def send() -> None:
        with zmq.Context() as context, closing(context.socket(zmq.PUSH)) as push:
            push.linger = int(TIMEOUT_S * 1000)
            push.connect(address)
            for _ in range(n):
                push.send(POSE.tobytes())

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        thread.join(TIMEOUT_S)


def test_zmq_sends_what_comes_and_says_how_much(child: Child, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/poses"
    with sending(address, 5), Subscriber(child.predictions, "rig") as subscriber:
        done = here("source", "zmq", *DECLARED, "--listen", address, "--to", child.frames, "--stream", "rig",
                    "--timeout", 2)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == "5 frames sent\n"
        assert f"listening at {address} for float32" in done.stderr
        assert f"stream 'rig': 2 x 7 points at 30 frames per second to {child.frames}" in done.stderr
        answers = 0
        while (message := subscriber.receive(TIMEOUT_S)) is not None and getattr(message, "type", "") != "closed":
            answers += isinstance(message, PredictionMessage)
        assert answers == 5


def test_csv_names_its_stream_after_the_file_and_renames(child: Child, tmp_path: Path) -> None:
    path = tmp_path / "cam1.csv"
    names = [f"{a}.{k}.{c}" for a in ("resident", "other") for k in ("snout", *MICE7.keypoints[1:]) for c in "xy"]
    row = ",".join(["1"] * len(names))
    path.write_text(",".join(["frame", *names]) + f"\n0,{row}\n3,{row}\n2,{row}\n", encoding="utf-8")
    words = ("source", "csv", path, "--fps", 30, "--to", child.frames, "--timeout", 0.2)
    refused = here(*words)
    assert refused.returncode == 3
    assert "animals expected: resident, intruder" in refused.stderr
    done = here(*words, "--keypoint", "snout=nose", "--animal", "other=intruder")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 frames sent, 1 message that could not be used, 2 frames that the source skipped\n"
    assert "stream 'cam1'" in done.stderr


def test_a_signal_ends_it_with_its_summary(child: Child, tmp_path: Path) -> None:
    """A process of its own, as a terminal or a service runs it."""
    address = f"ipc://{tmp_path}/poses"
    words = [sys.executable, "-m", "rtseg", "source", "zmq", *map(str, DECLARED), "--listen", address]
    with sending(address, 3), Subscriber(child.predictions, "sig") as subscriber:
        words += ["--to", child.frames, "--stream", "sig"]
        process = subprocess.Popen(words, cwd=REPO, stdout=subprocess.PIPE, text=True)
        with process:
            try:
                seqs: list[int] = []
                while len(seqs) < 3 and (message := subscriber.receive(TIMEOUT_S)) is not None:
                    seqs += [message.seq] if isinstance(message, PredictionMessage) else []
                process.send_signal(signal.SIGTERM)
                out, _ = process.communicate(timeout=TIMEOUT_S)
            finally:
                process.kill()
    assert (process.returncode, out, seqs) == (0, "3 frames sent\n", [0, 1, 2])


def test_a_replay_in_a_loop_is_a_new_trial_each_time(
    child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poses, play = write_gapped_poses(random_walk(20, 1), tmp_path / "poses.csv"), serving._play
    counters: list[dict[str, int]] = []

    def twice(*words: Any, **more: Any) -> Any:
        if len(counters) == 2:
            raise KeyboardInterrupt
        done = play(*words, **more)
        counters.append(done.counters)
        return done

    monkeypatch.setattr(serving, "_play", twice)
    done = here("replay", poses, "--to", child.frames, "--speed", "max", "--loop", "--quiet", "--fps", 30)
    assert done.returncode == 130
    assert [(found["frames"], found["late"]) for found in counters] == [(20, 0), (20, 0)]


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("zmq", *DECLARED, "--listen", "tcp://0.0.0.0:*"), 3, "can be reached from other machines"),
        (("zmq", *DECLARED, "--format", "msgpack"), 3, "format: expected one of float32, json, got 'msgpack'"),
        (("zmq", "--points", "a,,b", "--fps", 30), 3, "without empty names"),
        (("zmq", "--points", "a"), 2, "Missing option"),
        (("zmq", *DECLARED, "--fps", 0), 2, "above 0"),
        (("osc", *DECLARED, "--listen", "here"), 2, "expected HOST:PORT"),
        (("osc", *DECLARED, "--listen", "0.0.0.0:0"), 3, "can be reached from other machines"),
        (("lsl",), 3, "which LSL stream"),
        (("lsl", "--name", "none", "--wait", 0.01), 3, "no LSL stream with name='none'"),
        (("lsl", "--name", "none", "--animal", "a"), 2, "expected SOURCE=MODEL"),
        (("csv", REPO / "pyproject.toml", "--fps", 30), 1, "expected the header"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_starting(words: tuple[object, ...], code: int, reason: str) -> None:
    if words[0] == "osc":
        pytest.importorskip("pythonosc", reason="needs python-osc: pip install 'rtseg[osc]'")
    if words[0] == "lsl":
        pytest.importorskip("pylsl", reason="needs pylsl: pip install 'rtseg[lsl]'")
    done = here("source", *words)
    assert (done.returncode, " ".join(done.stderr.replace("│", " ").split()).count(reason)) == (code, 1), done.stderr


def test_without_a_daemon_it_does_not_start(tmp_path: Path) -> None:
    done = here("source", "zmq", *DECLARED, "--listen", f"ipc://{tmp_path}/a", "--to", "nonsense")
    assert done.returncode == 3
    assert "address 'nonsense'" in done.stderr


@pytest.mark.parametrize(("kind", "package", "extra"), [("osc", "pythonosc", "osc"), ("lsl", "pylsl", "lsl")])
def test_a_missing_package_is_named_with_its_extra(
    kind: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    words = ("--name", "x") if kind == "lsl" else DECLARED
    done = here("source", kind, *words)
    assert done.returncode == 1
    assert f"pip install 'rtseg[{extra}]'" in done.stderr
