"""A front's life: workers that cannot be replaced at once, and the end while one is being replaced."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import threading
from pathlib import Path

import pytest

from rtseg.client import Subscriber, ask_stop
from rtseg.config import ServeSettings
from rtseg.recorder.reading import RecordingFile
from rtseg.serve import front
from rtseg.serve.workers.worker_protocol import worker_of
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import FREE_PORT, HELLO, TIMEOUT_S, Raw, daemon, frame_of, random_walk

NAMES = ("cage2", "cage4")
assert [worker_of(name, 2) for name in NAMES] == [1, 0]
N = 40


def send(raw: Raw, start: int, stop: int) -> None:
    walk = random_walk(N, 6)
    for t in range(start, stop):
        for name in NAMES:
            raw.send(frame_of(walk, t, stream=name))


def open_streams(raw: Raw) -> None:
    for name in NAMES:
        assert raw.ask(HELLO | {"stream": name})["type"] == "accepted"


def hear(subscriber: Subscriber, upto: int, name: str) -> None:
    """Until answer `upto` of a stream has come."""
    while True:
        message = subscriber.receive(TIMEOUT_S)
        assert message is not None
        if isinstance(message, PredictionMessage) and (message.stream, message.seq) == (name, upto):
            return


def test_one_that_is_stopped_while_it_starts_never_says_ready_and_its_addresses_are_free_once_it_says_stopped(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_ready = front.Front.wait_ready

    def stopped_meanwhile(starting: front.Front) -> bool:
        assert len(list(tmp_path.iterdir())) == 2
        starting.stop()
        for worker in starting.workers:  # as a terminal's Ctrl-C does, which reaches them as well
            worker.process.kill()
            worker.process.wait()
        return wait_ready(starting)

    said: list[tuple[str, list[Path]]] = []
    monkeypatch.setattr(front.Front, "wait_ready", stopped_meanwhile)
    settings = ServeSettings(frames=f"ipc://{tmp_path}/f", predictions=f"ipc://{tmp_path}/p", capacity=2, workers=2)
    assert front.serve_with_workers(
        tiny_bundle, settings, lambda line: said.append((line.split()[0], list(tmp_path.iterdir())))
    )
    assert said == [("stopped", [])]


def test_a_worker_that_dies_just_before_the_end_is_replaced_first(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    with (
        daemon(tiny_bundle, workers=2, record=str(folder), drain_s=60.0) as child,
        Subscriber(child.predictions, NAMES, timeout_s=TIMEOUT_S) as subscriber,
        Raw(child.frames) as raw,
    ):
        open_streams(raw)
        send(raw, 0, 20)
        for pid in child.about["workers"]:
            os.kill(pid, signal.SIGKILL)
        send(raw, 20, N)
        child.signal(signal.SIGTERM)
        answers: dict[str, list[int]] = {name: [] for name in NAMES}
        closed: dict[str, object] = {}
        while len(closed) < len(NAMES):
            message = subscriber.receive(TIMEOUT_S)
            assert message is not None
            if isinstance(message, PredictionMessage):
                answers[message.stream].append(message.seq)
            elif message.type == "closed":
                closed[message.stream] = message.fields["reason"], message.fields["counters"]["frames"]
        assert answers == {name: list(range(N)) for name in NAMES}
        assert closed == dict.fromkeys(NAMES, ("stopping", N))
        assert child.rest()[2] == 0
    topics = [m.topic for path in folder.iterdir() for m in RecordingFile(path).messages()]
    assert topics.count("predictions") == 2 * N


def test_streams_whose_worker_does_not_end_are_named(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(front, "STOP_S", 0.5)
    settings = ServeSettings(frames=FREE_PORT, predictions=FREE_PORT, workers=2, drain_s=0.5, capacity=4)
    said: list[str] = []
    ready = threading.Event()

    def announce(line: str) -> None:
        said.append(line)
        ready.set()

    whole: list[bool] = []
    serving = threading.Thread(target=lambda: whole.append(front.serve_with_workers(tiny_bundle, settings, announce)))
    serving.start()
    assert ready.wait(TIMEOUT_S)
    about = json.loads(said[0].removeprefix("ready "))
    with Raw(about["frames"]) as raw, Subscriber(about["predictions"], NAMES) as subscriber:
        open_streams(raw)
        os.kill(about["workers"][1], signal.SIGSTOP)
        send(raw, 0, 20)
        hear(subscriber, 19, "cage4")
        ask_stop(about["frames"])
        serving.join(TIMEOUT_S)
        reasons = {}
        while len(reasons) < len(NAMES):
            message = subscriber.receive(TIMEOUT_S)
            assert message is not None
            if isinstance(message, StreamEvent) and message.type == "closed":
                reasons[message.stream] = message.fields["reason"]
    assert whole == [False]
    assert json.loads(said[1].removeprefix("stopped "))["lost"] == ["cage2"]
    lost = "the daemon stops, and the stream's worker had died or did not end in time"
    assert reasons == {"cage2": lost, "cage4": "stopping"}
    assert "stream 'cage2': worker 1 has not ended it: up to 20 frames lost" in caplog.text


def test_a_front_without_file_descriptors_goes_on_until_it_has_some(tiny_bundle: Path) -> None:
    with (
        daemon(tiny_bundle, workers=2, worker_snapshot_s=0.2) as child,
        Subscriber(child.predictions, NAMES, timeout_s=TIMEOUT_S) as subscriber,
        Raw(child.frames) as raw,
    ):
        open_streams(raw)
        send(raw, 0, 10)
        opened, (host, port) = Path(f"/proc/{child.process.pid}/fd"), child.frames.removeprefix("tcp://").split(":")
        limit = len(list(opened.iterdir())) + 10
        _, hard = resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(child.process.pid, resource.RLIMIT_NOFILE, (limit, hard))
        idle = [socket.create_connection((host, int(port)), TIMEOUT_S) for _ in range(40)]
        while len(list(opened.iterdir())) < limit:
            assert child.process.poll() is None
        os.kill(child.about["workers"][0], signal.SIGKILL)
        while "worker 0 cannot be started: " not in (line := child.error_line()):
            assert line
        assert "Too many open files" in line
        send(raw, 10, 20)
        hear(subscriber, 19, "cage2")  # the other worker's
        for connection in idle:
            connection.close()
        hear(subscriber, 19, "cage4")
