"""More than can be served: nothing piles up, nothing is silent, and nobody waits for somebody who does not read."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq

from rtseg.client import Subscriber, ask_status
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Quality
from rtseg.playback.replay import predictions_from_messages, replay
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk

BYE = {"v": 1, "type": "bye", "stream": "cage1"}
N = 60


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture
def narrow(tiny_bundle: Path, tmp_path: Path) -> Iterator[Child]:
    """A daemon that steps one frame at a time and lets eight wait."""
    addresses = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p"}
    with daemon(tiny_bundle, **addresses, max_batch=1, backlog_frames=8, burst_s=0) as child:
        yield child


def burst(child: Child, policy: str) -> tuple[list[PredictionMessage | StreamEvent], list[dict[str, object]]]:
    """What is heard when N frames wait for a daemon that stood still; and what their sender is told."""
    walk = random_walk(N, 30)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        assert raw.ask(HELLO | {"policy": policy})["policy"] == policy
        raw.send(frame_of(walk, 0))
        heard = [subscriber.receive(60) for _ in range(2)]  # opened, and the first answer
        child.signal(signal.SIGSTOP)
        for t in range(1, N):
            raw.send(frame_of(walk, t))
        # What is still in this end's hands when the daemon wakes up comes all the same.
        child.signal(signal.SIGCONT)
        raw.send(BYE)
        told = [raw.receive()]
        while told[-1]["type"] != "goodbye":
            told.append(raw.receive())
        while True:
            heard.append(subscriber.receive(60))
            if isinstance(heard[-1], StreamEvent) and heard[-1].type == "closed":
                return [message for message in heard if message is not None], told


@pytest.mark.parametrize("workers", [1, 2])
def test_a_wrong_rate_a_frozen_tracker_and_numbers_that_begin_again_are_said(tiny_bundle: Path, workers: int) -> None:
    walk = random_walk(480, 31)
    times = [t * (16_666_667 if t < 240 else 33_333_333) for t in range(480)]  # 60 a second, then as declared
    walk.keypoints[400:470] = walk.keypoints[399]
    with (
        daemon(tiny_bundle, workers=workers) as child,
        Raw(child.frames) as raw,
        Subscriber(child.predictions, "cage1") as subscriber,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        for t in range(480):
            raw.send(frame_of(walk, t) | {"t_source_ns": times[t]})
        for t in (7, 477):
            raw.send(frame_of(walk, t))  # single late ones
        raw.send(frame_of(walk, 478, seq=480) | {"t_source_ns": times[479] + 33_333_333})
        for t in range(5):
            raw.send(frame_of(walk, t))
        error = raw.receive()
        status = ask_status(child.frames)
        assert raw.ask(BYE)["counters"]["frozen"] == 11
        heard = []
        while not heard or heard[-1].type != "closed":
            message = subscriber.receive(60)
            assert message is not None
            if isinstance(message, StreamEvent):
                heard.append(message)
    assert (error["kind"], error["seq"]) == ("SequenceError", 2)
    assert "expected seq above 480, got 2" in error["reason"]
    assert "say hello again" in error["reason"]
    wanted = ("rate", "frozen", "unfrozen", "renumbered")  # the last one is said as soon as frames come
    said = sorted((m for m in heard if m.type in wanted), key=lambda m: wanted.index(m.type))
    assert [m.type for m in said] == ["rate", *wanted]
    assert [m.fields["wrong"] for m in said[:2]] == [True, False]
    assert said[0].fields["measured"] == pytest.approx(60, rel=0.01)
    assert (said[0].fields["declared"], said[0].fields["by"]) == (30.0, "source")
    assert [m.fields["seq"] for m in said[2:]] == [459, 470, 2]
    assert said[4].fields["newest"] == 480
    assert status["rates"]["cage1"]["wrong"] is False
    assert status["frozen"] == []
    assert status["counters"]["wrong rates"] == status["counters"]["frozen trackers"] == 1


def test_newest_publishes_the_newest_answer_and_counts_the_others(tiny_bundle: Path, classifier: Classifier) -> None:
    with daemon(tiny_bundle) as child:
        heard, told = burst(child, "newest")
    answers = [m for m in heard if isinstance(m, PredictionMessage)]
    counters = told[-1]["counters"]
    assert isinstance(counters, dict)
    assert (counters["frames"], counters["dropped"]) == (N, 0)
    assert counters["superseded"] == N - len(answers) > 0
    assert answers[-1].seq == N - 1
    offline = classifier.run(random_walk(N, 30))
    heads = {head.name: head.classes for head in classifier.bundle.heads}
    kept, begins = predictions_from_messages(heads, answers)
    np.testing.assert_array_equal(kept.probs, offline.probs[kept.seq])  # every frame was stepped all the same
    changes = 1 + np.flatnonzero((offline.labels[1:] != offline.labels[:-1]).any(axis=1))
    assert set(changes) <= set(kept.seq)  # no bout is missed
    assert begins[np.isin(kept.seq, changes)].any(axis=1).all()


def test_all_publishes_every_answer_late_ones_flagged(tiny_bundle: Path, classifier: Classifier) -> None:
    with daemon(tiny_bundle) as child:
        heard, told = burst(child, "all")
    answers = [m for m in heard if isinstance(m, PredictionMessage)]
    assert [a.seq for a in answers] == list(range(N))
    assert told[-1]["counters"]["superseded"] == 0  # type: ignore[index]
    late = [a for a in answers if a.quality & Quality.LATE]
    assert all(a.t_pub_ns - a.t_recv_ns > 1e9 / 30 for a in late)


def test_a_backlog_ends_somewhere_and_says_so(narrow: Child) -> None:
    heard, told = burst(narrow, "all")
    counters = told[-1]["counters"]
    assert isinstance(counters, dict)
    assert counters["dropped"] > 0
    assert counters["dropped"] + counters["frames"] == N
    overload = [m for m in heard if isinstance(m, StreamEvent) and m.type == "overload"]
    assert overload[0].fields["dropped"] >= 1
    complaints = [t for t in told if t["type"] == "error"]
    assert complaints[0]["kind"] == "CapacityError"
    assert "more than 8 frames of stream 'cage1' wait" in str(complaints[0]["reason"])
    # The gap rule has the word about what was left out.
    answers = [m for m in heard if isinstance(m, PredictionMessage)]
    assert any(a.quality & (Quality.GAP_FILLED | Quality.RESET) for a in answers)
    assert answers[-1].seq == N - 1


def test_a_burst_costs_no_frame(tiny_bundle: Path, classifier: Classifier) -> None:
    walk = random_walk(N, 30)
    with daemon(tiny_bundle, max_batch=2, backlog_frames=4) as child:
        heard, told = burst(child, "all")
    assert (told[-1]["counters"]["frames"], told[-1]["counters"]["dropped"]) == (N, 0)  # type: ignore[index]
    answers = [m for m in heard if isinstance(m, PredictionMessage)]
    probs = np.array([np.concatenate(list(answer.probs.values())) for answer in answers])
    assert probs.tobytes() == classifier.run(walk).probs.tobytes()


def test_a_subscriber_that_does_not_read_costs_the_others_nothing(
    tiny_bundle: Path, classifier: Classifier, tmp_path: Path
) -> None:
    addresses = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p"}
    walk = random_walk(3000, 31)
    with daemon(tiny_bundle, **addresses, queue_messages=200) as child, zmq.Context() as context:
        with context.socket(zmq.SUB) as asleep:
            asleep.linger = 0
            asleep.rcvhwm = 1
            asleep.subscribe(b"")
            asleep.connect(child.predictions)
            assert asleep.poll(60_000)  # confirmed; and never read
            live = replay(walk, child.frames, speed=None, stream="cage1", window_frames=32)
            counted = ask_status(child.frames)["counters"]
        assert counted["dropped for slow subscribers"] > 0
        assert child.process.poll() is None
    offline = classifier.run(walk)
    assert live.predictions.probs.tobytes() == offline.probs.tobytes()


def test_an_unknown_policy_is_refused(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle) as child, Raw(child.frames) as raw:
        assert "expected one of all, newest, got 'oldest'" in raw.ask(HELLO | {"policy": "oldest"})["reason"]


def test_five_hundred_streams_come_and_go(tiny_bundle: Path) -> None:
    walk = random_walk(3, 32)
    with daemon(tiny_bundle, capacity=100) as child:
        for _ in range(5):
            raws = [Raw(child.frames) for _ in range(10)]
            for i in range(100):
                answer = raws[i % 10].ask(HELLO | {"stream": f"s{i}"})
                assert answer["type"] == "accepted", answer
            assert raws[0].ask(HELLO | {"stream": "s100"})["type"] == "refused"
            for t in range(3):
                for i in range(100):
                    raws[i % 10].send(frame_of(walk, t, stream=f"s{i}"))
            for i in range(0, 100, 2):  # half of them say goodbye; of the others the connection ends
                counters = raws[i % 10].ask(BYE | {"stream": f"s{i}"})["counters"]
                assert (counters["frames"], counters["refused"]) == (3, 0)
            for i in range(1, 100, 2):
                assert raws[i % 10].ask(HELLO | {"stream": f"s{i}"})["type"] == "accepted"  # started afresh
                assert raws[i % 10].ask(BYE | {"stream": f"s{i}"})["counters"]["frames"] == 0
            for raw in raws:
                raw.close()
        status = ask_status(child.frames)
    assert status["streams"] == {}
    assert status["counters"]["hellos"] == 750
    assert status["counters"]["frames"] == 1500
