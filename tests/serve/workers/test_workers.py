"""Several workers behind one address: the same answers as from one, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Predictions
from rtseg.playback.replay import predictions_from_messages, replay
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk

HEADS = {"task1": ("attack", "investigation", "mount", "other"), "sniff_face": ("other", "sniff_face")}
BYE = {"v": 1, "type": "bye"}


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, workers=2, worker_snapshot_s=0.2, heartbeat_s=0.1) as child:
        yield child


def table(heard: list[PredictionMessage]) -> Predictions:
    return predictions_from_messages(HEADS, heard)[0]


def status_of(child: Child) -> dict[str, Any]:
    """The status, once no worker is starting."""
    while True:
        try:
            return ask_status(child.frames)
        except ServeError as error:
            if "ask again" not in str(error):
                raise


def test_the_same_answers_as_from_one(child: Child, classifier: Classifier) -> None:
    walks = {f"mouse{i}": random_walk(80, 60 + i) for i in range(6)}
    with Raw(child.frames) as one, Raw(child.frames) as two, Subscriber(child.predictions, list(walks)) as subscriber:
        assert subscriber.served.predictions == child.predictions
        raws = {name: (one, two)[i % 2] for i, name in enumerate(walks)}
        for name, raw in raws.items():
            accepted = raw.ask(HELLO | {"stream": name})
            assert (accepted["type"], accepted["predictions"]) == ("accepted", child.predictions)
        for t in range(80):
            for name, walk in walks.items():
                raws[name].send(frame_of(walk, t, stream=name))
        for name, raw in raws.items():
            assert raw.ask(BYE | {"stream": name})["counters"]["frames"] == 80
        heard: dict[str, list[PredictionMessage]] = {name: [] for name in walks}
        subscriber.timeout_s = 60
        for prediction in subscriber:
            heard[prediction.stream].append(prediction)
    for name, walk in walks.items():
        assert table(heard[name]).probs.tobytes() == classifier.run(walk).probs.tobytes()
    status = ask_status(child.frames)
    assert status["counters"]["frames"] >= 480
    assert len(status["workers"]) == 2
    assert status["streams"] == {}


def test_replay_and_reopening_through_a_front(child: Child, classifier: Classifier) -> None:
    walk = random_walk(200, 70)
    offline = classifier.run(walk).probs.tobytes()
    for _ in range(3):
        assert replay(walk, child.frames, speed=None, stream="again").predictions.probs.tobytes() == offline


def test_a_killed_worker_comes_back_with_its_streams(child: Child, classifier: Classifier) -> None:
    names = [f"cage{i}" for i in range(12)]
    two_each = [[name for name in names if zlib.crc32(name.encode()) % 2 == worker][:2] for worker in (0, 1)]
    walks = {name: random_walk(150, 80 + i) for i, name in enumerate([*two_each[0], *two_each[1]])}
    before = ask_status(child.frames)["workers"]
    with Subscriber(child.predictions, list(walks)) as subscriber:
        publishers = {name: Publisher(child.frames, name, MICE7, 30.0) for name in walks}
        heard: dict[str, list[PredictionMessage]] = {name: [] for name in walks}

        def hear(upto: int) -> None:
            while any(len(answers) < upto for answers in heard.values()):
                message = subscriber.receive(60)
                assert message is not None
                if isinstance(message, PredictionMessage):
                    heard[message.stream].append(message)

        for t in range(150):
            for name, walk in walks.items():
                publishers[name].send(walk.keypoints[t], walk.confidence[t])
            if t == 60:
                hear(t + 1)
                while (event := subscriber.receive(0.5)) is not None:  # snapshots are kept by now
                    assert isinstance(event, StreamEvent)
            if t == 100:  # amid frames
                for worker in before:
                    os.kill(worker["pid"], signal.SIGKILL)
        hear(150)
        counters = {name: publisher.close() for name, publisher in publishers.items()}
    for name, walk in walks.items():
        seqs = [p.seq for p in heard[name]]
        assert seqs == list(range(150)), name  # none missing, none twice
        assert table(heard[name]).probs.tobytes() == classifier.run(walk).probs.tobytes()
        assert counters[name]["frames"] == 150
    after = status_of(child)["workers"]
    assert [w["starts"] for w in after] == [w["starts"] + 1 for w in before]
    assert not {w["pid"] for w in after} & {w["pid"] for w in before}


def test_a_stream_belongs_to_its_connection_and_is_lost_with_it(child: Child) -> None:
    with Raw(child.frames) as first:
        assert first.ask(HELLO | {"stream": "mine"})["type"] == "accepted"
        with Raw(child.frames) as second:
            assert "open from another connection" in second.ask(HELLO | {"stream": "mine"})["reason"]
            assert first.receive() == {"v": 1, "type": "contested", "stream": "mine"}
    with Raw(child.frames) as third:
        while (answer := third.ask(HELLO | {"stream": "mine"}))["type"] == "refused":
            assert "open from another connection" in answer["reason"]
        assert answer["type"] == "accepted"
        third.ask(BYE | {"stream": "mine"})


def test_rubbish_and_strangers_get_their_answers(child: Child) -> None:
    with Raw(child.frames) as raw:
        assert raw.ask(b"\xc1")["kind"] == "MessageError"
        assert raw.ask(frame_of(random_walk(1, 0), 0, stream="nobody"))["kind"] == "StreamError"
    with Raw(child.frames) as raw:  # what workers say to a front is nobody else's to say
        assert raw.ask({"v": 1, "type": "snapshot", "stream": "x"})["kind"] == "MessageError"


def test_a_field_that_comes_twice_is_refused_by_front_and_workers(child: Child) -> None:
    def twice(message: dict[str, Any], name: str) -> bytes:
        once = msgpack.packb(message)
        return bytes([once[0] + 1]) + once[1:] + msgpack.packb(name) + msgpack.packb(message[name])

    with Raw(child.frames) as raw:
        refused = raw.ask(twice(HELLO, "fps"))
        assert "field 'fps': expected once, got twice: 30.0, 30.0" in refused["reason"]
        assert raw.ask(HELLO)["type"] == "accepted"
        error = raw.ask(twice(frame_of(random_walk(1, 0), 0), "seq"))
        assert (error["stream"], error["reason"]) == ("cage1", "field 'seq': expected once, got twice: 0, 0")
        assert raw.ask({"v": 1, "type": "bye", "stream": "cage1"})["counters"]["refused"] == 1


def test_the_end_is_told_to_all_and_leaves_no_process(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, workers=2) as child, Subscriber(child.predictions, "cage1") as subscriber:
        walk = random_walk(20, 90)
        with Raw(child.frames) as raw:
            raw.ask(HELLO)
            for t in range(20):
                raw.send(frame_of(walk, t))
            for pid in child.about["workers"]:  # ^C and service managers reach all processes
                os.kill(pid, signal.SIGINT)
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGHUP)
            child.signal(signal.SIGTERM)
            heard = []
            while not (heard and isinstance(heard[-1], StreamEvent) and heard[-1].type == "stopping"):
                message = subscriber.receive(60)
                assert message is not None
                heard.append(message)
        out, err, code = child.rest()
        assert code == 0, err
        assert out.startswith("stopped ")
    assert len([m for m in heard if isinstance(m, PredictionMessage)]) == 20
    assert any(m.type == "closed" and m.fields["reason"] == "stopping" for m in heard if isinstance(m, StreamEvent))
    for pid in child.about["workers"]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_was_asked_of_a_dead_worker_is_asked_again(child: Child, classifier: Classifier) -> None:
    walk = random_walk(40, 95)
    before = status_of(child)["workers"]
    with Raw(child.frames) as raw, Subscriber(child.predictions, "late") as subscriber:
        for worker in before:
            os.kill(worker["pid"], signal.SIGSTOP)  # neither hears the hello
        raw.send(HELLO | {"stream": "late"})
        for worker in before:
            os.kill(worker["pid"], signal.SIGKILL)
        assert raw.receive()["type"] == "accepted"
        for t in range(40):
            raw.send(frame_of(walk, t, stream="late"))
        for worker in status_of(child)["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        assert raw.ask(BYE | {"stream": "late"})["counters"]["frames"] == 40
        subscriber.timeout_s = 60
        assert table(list(subscriber)).probs.tobytes() == classifier.run(walk).probs.tobytes()


@pytest.mark.parametrize("record", [False, True])
def test_what_was_refused_counts_once_over_all_workers(tiny_bundle: Path, tmp_path: Path, record: bool) -> None:
    walk, settings = random_walk(80, 96), {"record": str(tmp_path)} if record else {}
    with (
        daemon(tiny_bundle, workers=2, worker_snapshot_s=0.2, **settings) as child,
        Subscriber(child.predictions, "cage1") as subscriber,
        Raw(child.frames) as raw,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        pids = child.about["workers"]
        for t in range(80):
            raw.send(frame_of(walk, t))
            if t % 4 == 0:  # refused: a seq beyond all others, and points that are too few
                raw.send(frame_of(walk, t, seq=2**64 - 1))
                raw.send(frame_of(walk, t, seq=2**62) | {"kp": b"few"})
            if t % 8 == 0:
                raw.send(frame_of(walk, t))  # a second time
            if t in (20, 50):
                while not (isinstance(message := subscriber.receive(60), PredictionMessage) and message.seq == t):
                    assert message is not None
                if t == 20:  # states are kept by now
                    while subscriber.receive(0.5) is not None:
                        pass
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                while set(pids) & set(pids := [worker["pid"] for worker in status_of(child)["workers"]]):
                    pass
        raw.send(BYE | {"stream": "cage1"})
        while (answer := raw.receive())["type"] != "goodbye":
            pass
    counters = answer["counters"]
    assert (counters["frames"], counters["refused"], counters["dropped"]) == (90, 40, 0)
    assert (counters["late"], counters["duplicates"]) == (0, 10)


def test_workers_end_with_their_front(tiny_bundle: Path) -> None:
    front = Child(tiny_bundle, workers=2).wait_ready()
    front.process.kill()
    front.rest()
    deadline_s = time.monotonic() + 30
    while any(_lives(pid) for pid in front.about["workers"]):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
