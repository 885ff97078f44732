"""Hello and its answers: who is let in, who is told why not, and whose stream it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Subscriber, ask_status
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, capacity=3) as child:
        yield child


def test_accepted_says_what_is_served(child: Child, tiny_bundle: Path) -> None:
    bundle = load_bundle(tiny_bundle)
    with Raw(child.frames) as raw:
        answer = raw.ask(HELLO | {"arena": [0, 0, 800, 600], "clock": "camera", "names": {}})
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})
    assert answer == {
        "v": 1,
        "type": "accepted",
        "stream": "cage1",
        "resumed": None,
        "policy": "all",
        "resampled": None,
        "scale": None,
        "heads": [{"name": h.name, "classes": list(h.classes)} for h in bundle.heads],
        "lookahead": 0,
        "fps": 30.0,
        "model": bundle.hash,
        "engine": "numba",
        "predictions": child.predictions,
    }


@pytest.mark.parametrize("hello", [HELLO | {"fps": None}, {k: v for k, v in HELLO.items() if k != "fps"}])
def test_a_rate_that_is_assumed_is_said(child: Child, hello: dict[str, Any]) -> None:
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        answer = raw.ask(hello)
        status = ask_status(child.frames)
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})
        opened = subscriber.receive(60)
    assert (answer["type"], answer["fps_assumed"], answer["fps"]) == ("accepted", True, 30.0)
    assert status["rates"]["cage1"] == {"declared": 30.0, "measured": None, "by": "source", "wrong": False}
    assert isinstance(opened, StreamEvent)
    assert (opened.type, opened.fields["fps_assumed"]) == ("opened", True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fps": 25}, "25 frames per second; the model was trained at 30"),
        ({"skeleton": {"animals": ["a", "b"], "keypoints": ["nose"]}}, "without a counterpart: left_ear"),
        ({"skeleton": {"animals": ["a"], "keypoints": HELLO["skeleton"]["keypoints"]}}, "animals expected: resident"),
        ({"arena": [5, 5, 1, 1]}, "'arena': expected x0 < x1"),
        ({"stream": 5}, "'stream': expected a string, got 5"),
        ({"colour": "red"}, "unknown: 'colour'"),
    ],
)
def test_refused_says_why(child: Child, change: dict[str, Any], reason: str) -> None:
    with Raw(child.frames) as raw:
        answer = raw.ask(HELLO | change)
    assert answer["type"] == "refused"
    assert reason in answer["reason"]


def test_another_protocol_version_is_an_error(child: Child) -> None:
    with Raw(child.frames) as raw:
        answer = raw.ask(HELLO | {"v": 2})
    assert (answer["type"], answer["kind"]) == ("error", "MessageError")
    assert "expected protocol version 1, got 2" in answer["reason"]


def test_no_place_left(child: Child) -> None:
    with Raw(child.frames) as raw:
        answers = [raw.ask(HELLO | {"stream": f"s{i}"}) for i in range(4)]
        assert [a["type"] for a in answers] == ["accepted"] * 3 + ["refused"]
        assert "all 3 slots are taken" in answers[3]["reason"]
        raw.ask({"v": 1, "type": "bye", "stream": "s0"})
        assert raw.ask(HELLO | {"stream": "s3"})["type"] == "accepted"
        for i in (1, 2, 3):
            assert raw.ask({"v": 1, "type": "bye", "stream": f"s{i}"})["type"] == "goodbye"


def test_a_stream_belongs_to_the_connection_that_opened_it(child: Child) -> None:
    walk = random_walk(2, 0)
    with Raw(child.frames) as first, Raw(child.frames) as second:
        assert first.ask(HELLO)["type"] == "accepted"
        refused = second.ask(HELLO)
        assert "open from another connection" in refused["reason"]
        assert first.receive() == {"v": 1, "type": "contested", "stream": "cage1"}
        error = second.ask(frame_of(walk, 0))
        assert (error["kind"], error["stream"], error["seq"]) == ("StreamError", "cage1", 0)
        assert second.ask({"v": 1, "type": "bye", "stream": "cage1"})["kind"] == "StreamError"
        first.send(frame_of(walk, 0))
        counters = first.ask({"v": 1, "type": "bye", "stream": "cage1"})["counters"]
    assert (counters["frames"], counters["refused"]) == (1, 0)


def test_a_dead_connection_loses_its_stream(child: Child) -> None:
    with Raw(child.frames) as first:
        assert first.ask(HELLO)["type"] == "accepted"
    with Raw(child.frames) as second:
        # The daemon learns of the end of the first connection when the operating system tells it.
        while (answer := second.ask(HELLO))["type"] == "refused":
            assert "open from another connection" in answer["reason"]
        assert answer["type"] == "accepted"
        second.ask({"v": 1, "type": "bye", "stream": "cage1"})


def test_the_same_connection_starts_afresh(child: Child) -> None:
    walk = random_walk(10, 1)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1") as subscriber:
        for _ in range(2):
            assert raw.ask(HELLO)["type"] == "accepted"
            for t in range(10):
                raw.send(frame_of(walk, t))
        raw.ask({"v": 1, "type": "bye", "stream": "cage1"})
        heard = [subscriber.receive(60) for _ in range(24)]
    events = [(m.type, m.fields.get("reason")) for m in heard if isinstance(m, StreamEvent)]
    assert events == [("opened", None), ("closed", "reopened"), ("opened", None), ("closed", "bye")]
    probs = [np.concatenate(list(m.probs.values())) for m in heard if isinstance(m, PredictionMessage)]
    assert len(probs) == 20
    np.testing.assert_array_equal(probs[:10], probs[10:])


def test_an_idle_stream_is_closed_and_its_place_freed(tiny_bundle: Path) -> None:
    with (
        daemon(tiny_bundle, capacity=1, idle_timeout_s=0.2) as child,
        Raw(child.frames) as raw,
        Subscriber(child.predictions, timeout_s=60) as subscriber,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        opened, closed = subscriber.receive(60), subscriber.receive(60)
        assert isinstance(opened, StreamEvent)
        assert isinstance(closed, StreamEvent)
        assert (opened.type, closed.type, closed.fields["reason"]) == ("opened", "closed", "idle")
        assert "send a hello first" in raw.ask(frame_of(random_walk(1, 0), 0))["reason"]
        assert raw.ask(HELLO | {"stream": "another"})["type"] == "accepted"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_owner_that_reads_nothing_keeps_its_stream_while_it_sends(
    tiny_bundle: Path, tmp_path: Path, workers: int
) -> None:
    with (
        daemon(tiny_bundle, frames=f"ipc://{tmp_path}/frames", workers=workers, queue_messages=100) as child,
        Raw(child.frames) as owner,
        Raw(child.frames) as stranger,
        Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        assert owner.ask(HELLO)["type"] == "accepted"
        walk = random_walk(2, 5)
        owner.send(frame_of(walk, 0))
        # Answers that it does not read fill its queue: nothing more can be told to it.
        beat = {"v": 1, "type": "beat", "stream": "cage1", "t_source_ns": 0}
        while ask_status(child.frames)["counters"].get("unheard", 0) == 0:
            for _ in range(1000):
                owner.send(beat)
        assert {stranger.ask(HELLO)["type"] for _ in range(200)} == {"refused"}
        assert stranger.ask(HELLO | {"resume": True})["type"] == "refused"
        owner.send(frame_of(walk, 1))
        assert [prediction.seq for prediction in itertools.islice(subscriber, 2)] == [0, 1]


def test_a_client_that_comes_back_with_its_routing_id_is_answered(tiny_bundle: Path) -> None:
    """Behind a front: where the connection ended once, the id must not be dead for ever."""
    with daemon(tiny_bundle, workers=2) as child, Raw(child.frames) as stranger:
        for _ in range(2):
            with Raw(child.frames, b"camera-1") as camera:
                assert camera.ask(HELLO)["type"] == "accepted"
                assert stranger.ask(HELLO)["type"] == "refused"
                assert camera.receive()["type"] == "contested"
            while stranger.ask(HELLO)["type"] == "refused":
                pass  # the end of the connection takes a moment to be seen
            assert stranger.ask({"v": 1, "type": "bye", "stream": "cage1"})["type"] == "goodbye"
        with Raw(child.frames, b"camera-1") as camera:
            assert camera.ask(HELLO)["type"] == "accepted"
            assert stranger.ask(HELLO)["type"] == "refused"
            assert camera.receive()["type"] == "contested"
            assert camera.ask({"v": 1, "type": "bye", "stream": "cage1"})["type"] == "goodbye"
