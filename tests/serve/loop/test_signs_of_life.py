"""Silence is said, life is shown, clocks are watched: over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Predictions
from rtseg.playback.replay import predictions_from_messages
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, idle_timeout_s=1.0, heartbeat_s=0.1) as child:
        yield child


def event(subscriber: Subscriber, kind: str) -> StreamEvent:
    while (message := subscriber.receive(60)) is not None:
        if isinstance(message, StreamEvent) and message.type == kind:
            return message
    raise AssertionError(f"no {kind} came")


def test_silence_is_said_once_and_its_end_as_well(child: Child) -> None:
    walk = random_walk(3, 40)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        assert raw.ask(HELLO)["type"] == "accepted"
        raw.send(frame_of(walk, 0))
        stale = event(subscriber, "stale")
        assert stale.fields["seq"] == 0
        assert stale.fields["silent_ms"] >= 1.75 * 1000 / 30
        assert ask_status(child.frames)["stale"] == ["cage1"]
        raw.send(frame_of(walk, 1))
        assert event(subscriber, "fresh").fields["seq"] == 1
        assert event(subscriber, "stale").fields["seq"] == 1
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})


def test_a_source_without_frames_that_lives_keeps_its_stream(child: Child) -> None:
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        assert raw.ask(HELLO)["type"] == "accepted"
        assert event(subscriber, "opened")
        for i in range(25):  # 2.5 s, with an idle_timeout_s of 1
            answer = raw.ask({"v": 1, "type": "beat", "stream": "cage1", "t_source_ns": i})
            assert (answer["type"], answer["t_source_ns"]) == ("beat", i)
            assert 0 < answer["t_recv_ns"] <= answer["t_pub_ns"]
            assert subscriber.receive(0.1) is None
        assert event(subscriber, "closed").fields["reason"] == "idle"
        error = raw.ask({"v": 1, "type": "beat", "stream": "cage1", "t_source_ns": 0})
        assert error["kind"] == "StreamError"


def test_subscribers_hear_that_the_daemon_lives(child: Child) -> None:
    with zmq.Context() as context, context.socket(zmq.SUB) as sub, Raw(child.frames) as raw:
        assert raw.ask(HELLO)["type"] == "accepted"
        raw.send(frame_of(random_walk(1, 41), 0, seq=5))
        sub.linger = 0
        sub.subscribe(b"cage1")
        sub.connect(child.predictions)
        beats: list[dict[str, object]] = []
        while len(beats) < 2:
            assert sub.poll(60_000)
            message = msgpack.unpackb(sub.recv_multipart()[1])
            beats += [message] if message.get("type") == "beat" else []
        assert (beats[1]["stream"], beats[1]["seq"]) == ("cage1", 5)
        assert beats[1]["clock"]["jumps"] == 0  # type: ignore[index]
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})


def test_the_clients_ends_of_it(child: Child) -> None:
    with (
        Publisher(child.frames, "cage1", MICE7, 30.0) as publisher,
        Subscriber(child.predictions, "cage1") as subscriber,
    ):
        before_s = subscriber.heard_s
        publisher.beat()
        while subscriber.heard_s == before_s:
            assert subscriber.receive(0.2) is None or True
        publisher.beat()


def test_a_clock_that_jumps_is_told_and_changes_no_answer(child: Child, tiny_bundle: Path) -> None:
    walk = random_walk(40, 42)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        assert raw.ask(HELLO)["type"] == "accepted"
        for t in range(40):
            jump_ns = -(10**9) if 20 <= t < 30 else 10**12 if t >= 30 else 0
            raw.send(frame_of(walk, t) | {"t_source_ns": 10**10 + t * 33_333_333 + jump_ns})
        clocks = raw.ask({"v": 1, "type": "status"})["clocks"]
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})
        heard = []
        while not (heard and isinstance(heard[-1], StreamEvent) and heard[-1].type == "closed"):
            message = subscriber.receive(60)
            assert message is not None
            heard.append(message)
    assert [m.fields["seq"] for m in heard if isinstance(m, StreamEvent) and m.type == "clock"] == [20, 30]
    assert clocks["cage1"]["jumps"] == 2
    assert answers_of(heard).probs.tobytes() == load(tiny_bundle).run(walk).probs.tobytes()


def test_a_camera_of_another_rate(child: Child, tiny_bundle: Path) -> None:
    walk, classifier = random_walk(80, 43), load(tiny_bundle)
    object.__setattr__(walk, "fps", 25.0)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        assert "annotate --resample" in raw.ask(HELLO | {"fps": 25.0})["reason"]
        accepted = raw.ask(HELLO | {"fps": 25.0, "resample": True})
        assert accepted["resampled"] == {"from": 25.0, "to": 30.0, "delay_s": pytest.approx(5 / 6 / 25)}
        for t in range(80):
            raw.send(frame_of(walk, t))
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})
        heard = []
        while not (heard and isinstance(heard[-1], StreamEvent) and heard[-1].type == "closed"):
            message = subscriber.receive(60)
            assert message is not None
            heard.append(message)
    live, offline = answers_of(heard), classifier.run(walk, resample=True)
    assert live.probs.tobytes() == offline.probs.tobytes()
    assert live.seq.tolist() == offline.seq.tolist()


def answers_of(heard: list[PredictionMessage | StreamEvent]) -> Predictions:
    heads = {"task1": ("attack", "investigation", "mount", "other"), "sniff_face": ("other", "sniff_face")}
    return predictions_from_messages(heads, [m for m in heard if isinstance(m, PredictionMessage)])[0]
