"""Frames in, predictions out, over real sockets: bit for bit the offline answers, whatever else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from rtseg.client import Subscriber, ask_status
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Predictions, Quality
from rtseg.playback.replay import predictions_from_messages
from rtseg.wire.messages import PredictionMessage
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk

BYE = {"v": 1, "type": "bye", "stream": "cage1"}


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture(scope="module", params=["tcp", "ipc"])
def child(
    request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Child]:
    folder = tmp_path_factory.mktemp("sockets")
    addresses = {} if request.param == "tcp" else {"frames": f"ipc://{folder}/f", "predictions": f"ipc://{folder}/p"}
    with daemon(tiny_bundle, **addresses) as child:
        yield child


def answers(child: Child, messages: list[dict[str, Any] | bytes]) -> tuple[list[PredictionMessage], dict[str, int]]:
    """Everything published about cage1 when one connection says hello, these messages and bye; and the counters."""
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber:
        assert raw.ask(HELLO)["type"] == "accepted"
        for message in messages:
            raw.send(message)
        raw.send(BYE)
        while (last := raw.receive())["type"] != "goodbye":
            assert last["type"] in ("error", "refused")
        return list(subscriber), last["counters"]


def table(heard: list[PredictionMessage]) -> Predictions:
    heads = {"task1": ("attack", "investigation", "mount", "other"), "sniff_face": ("other", "sniff_face")}
    return predictions_from_messages(heads, heard)[0]


def assert_same(live: Predictions, offline: Predictions) -> None:
    assert live.probs.tobytes() == offline.probs.tobytes()
    np.testing.assert_array_equal(live.seq, offline.seq)
    np.testing.assert_array_equal(live.labels, offline.labels)
    np.testing.assert_array_equal(live.quality & ~Quality.LATE, offline.quality)


def test_answers_are_the_offline_ones(child: Child, classifier: Classifier) -> None:
    walk = random_walk(300, 10)
    heard, counters = answers(child, [frame_of(walk, t) for t in range(len(walk))])
    assert_same(table(heard), classifier.run(walk))
    assert [p.t_source_ns for p in heard] == [t * 33_333_333 for t in range(300)]
    assert all(0 < p.t_recv_ns < p.t_pub_ns for p in heard)
    assert counters["frames"] == 300
    assert {p.model for p in heard} == {classifier.bundle.hash}


def test_events_mark_where_labels_change(child: Child) -> None:
    walk = random_walk(300, 11)
    heard, _ = answers(child, [frame_of(walk, t) for t in range(len(walk))])
    for head in ("task1", "sniff_face"):
        label = [p.label[head] for p in heard]
        changed = [t for t in range(1, 300) if label[t] != label[t - 1]]
        begins = [t for t in range(1, 300) if head in heard[t].event]
        assert begins == changed
        assert all(heard[t].event[head] == label[t] for t in begins)
    assert any(p.event for p in heard[1:])


def test_many_streams_at_once(child: Child, classifier: Classifier) -> None:
    walks = {f"mouse{i}": random_walk(60, 20 + i) for i in range(12)}
    with Raw(child.frames) as one, Raw(child.frames) as two, Subscriber(child.predictions, list(walks)) as subscriber:
        raws = {name: (one, two)[i % 2] for i, name in enumerate(walks)}
        for name, raw in raws.items():
            assert raw.ask(HELLO | {"stream": name})["type"] == "accepted"
        for t in range(60):
            for name in walks if t % 3 else reversed(walks):
                raws[name].send(frame_of(walks[name], t, stream=name))
        for name, raw in raws.items():
            raw.send(BYE | {"stream": name})
        heard: dict[str, list[PredictionMessage]] = {name: [] for name in walks}
        subscriber.timeout_s = 60
        for prediction in subscriber:
            heard[prediction.stream].append(prediction)
    for name, walk in walks.items():
        assert_same(table(heard[name]), classifier.run(walk))


def test_duplicates_and_late_frames_are_dropped_and_counted(child: Child, classifier: Classifier) -> None:
    walk, order = random_walk(50, 12), [*range(20), 19, 19, 5, *range(20, 50), 0]
    heard, counters = answers(child, [frame_of(walk, t) for t in order])
    assert_same(table(heard), classifier.run(walk))
    assert (counters["frames"], counters["duplicates"], counters["late"]) == (54, 2, 2)


def test_a_short_gap_is_filled_and_flagged(child: Child, classifier: Classifier) -> None:
    walk = random_walk(40, 13)
    walk.keypoints[20:25], walk.confidence[20:25] = np.nan, 0  # what the rule says of frames that never came
    heard, counters = answers(child, [frame_of(walk, t) for t in range(40) if not 20 <= t < 25])
    offline = classifier.run(walk)
    assert table(heard).probs.tobytes() == offline.probs.tobytes()
    flagged = [p.seq for p in heard if p.quality & Quality.GAP_FILLED]
    assert flagged == [20, 21, 22, 23, 24]
    assert (counters["gaps"], counters["filled"], counters["restarts"]) == (1, 5, 0)
    times = [p.t_source_ns for p in heard]
    assert times == sorted(times)


def test_after_a_long_gap_the_stream_starts_anew_and_says_so(child: Child, classifier: Classifier) -> None:
    walk = random_walk(40, 14)
    heard, counters = answers(child, [frame_of(walk, t, seq=t if t < 20 else t + 10**6) for t in range(40)])
    assert [p.seq for p in heard if p.quality & Quality.RESET] == [10**6 + 20]
    probs = table(heard).probs
    np.testing.assert_array_equal(probs[:20], classifier.run(walk).probs[:20])
    fresh, _ = answers(child, [frame_of(walk, t) for t in range(20, 40)])
    np.testing.assert_array_equal(probs[20:], table(fresh).probs)
    assert (counters["gaps"], counters["restarts"]) == (1, 1)


def test_missing_points_are_data(child: Child, classifier: Classifier) -> None:
    walk = random_walk(60, 15)
    walk.keypoints[10:20, 1], walk.confidence[10:20, 1] = np.nan, 0  # one animal away
    walk.keypoints[30:35], walk.confidence[30:35] = np.nan, 0  # nobody there
    heard, counters = answers(child, [frame_of(walk, t) for t in range(60)])
    assert_same(table(heard), classifier.run(walk))
    assert all(np.isfinite(p.probs["task1"]).all() for p in heard)
    assert all(p.quality & Quality.MISSING_POINTS for p in heard[10:20])
    assert counters["refused"] == 0


def bad_messages() -> list[dict[str, Any] | bytes]:
    """What no daemon should have to see."""
    good = frame_of(random_walk(1, 0), 0, seq=10**9)
    spoilt = np.full((2, 7, 2), np.inf, "<f4").tobytes()
    return [
        b"",
        b"\xc1",
        b"\x91" * 5000,
        b"\xdf\xff\xff\xff\xff",
        msgpack.packb([1, 2, 3]),
        msgpack.packb(good)[:-5],
        good | {"v": 9},
        good | {"kp": b"short"},
        good | {"kp": spoilt},
        good | {"conf": np.full((2, 7), 7, "<f4").tobytes()},
        good | {"seq": -3},
        good | {"stream": "nobody"},
        good | {"extra": 1},
        {"v": 1, "type": "hello"},
        {"v": 1, "type": "bye", "stream": "nobody"},
        {"v": 1, "type": "dance"},
    ]


def test_bad_bytes_leave_a_good_stream_alone(child: Child, classifier: Classifier) -> None:
    walk, bad = random_walk(160, 16), bad_messages()
    with (
        Raw(child.frames) as good,
        Raw(child.frames) as villain,
        Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        assert good.ask(HELLO)["type"] == "accepted"
        for t in range(160):
            villain.send(bad[t % len(bad)])
            villain.socket.send_multipart([b"two", b"parts"])
            villain.send(frame_of(walk, t, seq=10**6))  # another's stream
            good.send(frame_of(walk, t))
        goodbye = good.ask(BYE)
        assert villain.receive()["type"] in ("error", "refused")
        assert_same(table(list(subscriber)), classifier.run(walk))
    assert (goodbye["type"], goodbye["counters"]["refused"]) == ("goodbye", 0)


def test_bad_frames_of_a_stream_leave_its_own_good_ones_alone(child: Child, classifier: Classifier) -> None:
    walk, bad = random_walk(64, 17), bad_messages()
    heard, counters = answers(child, [m for t in range(64) for m in (bad[t % len(bad)], frame_of(walk, t))])
    assert_same(table(heard), classifier.run(walk))
    assert counters["refused"] > 0


def test_an_error_names_stream_frame_and_reason_and_is_not_repeated(child: Child) -> None:
    frame = frame_of(random_walk(1, 0), 0, seq=7)
    before = ask_status(child.frames)["counters"].get("errors", 0)
    with Raw(child.frames) as raw:
        assert raw.ask(HELLO)["type"] == "accepted"
        error = raw.ask(frame | {"kp": b"short"})
        assert (error["type"], error["kind"], error["stream"], error["seq"]) == ("error", "FrameError", "cage1", 7)
        assert "take 112 bytes of kp and 56 of conf, got 5 and 56" in error["reason"]
        for _ in range(100):
            raw.send(frame | {"kp": b"short"})
        last = raw.ask(BYE)
        said = 1
        while last["type"] == "error":  # at most one a second: few of the hundred
            said, last = said + 1, raw.receive()
    assert last["counters"]["refused"] == 101
    assert said < 50
    assert ask_status(child.frames)["counters"]["errors"] == before + 101


def test_a_field_that_comes_twice_is_refused_and_counted(child: Child) -> None:
    """Which of two numbers, or of two poses, the sender meant, nobody knows."""
    walk = random_walk(2, 0)
    twice = msgpack.packb(frame_of(walk, 0))
    twice = bytes([twice[0] + 1]) + twice[1:] + msgpack.packb("seq") + msgpack.packb(9)
    with Raw(child.frames) as raw:
        assert raw.ask(HELLO)["type"] == "accepted"
        error = raw.ask(twice)
        assert (error["kind"], error["stream"]) == ("MessageError", "cage1")
        assert error["reason"] == "field 'seq': expected once, got twice: 0, 9"
        raw.send(frame_of(walk, 1))
        counters = raw.ask(BYE)["counters"]
    assert (counters["frames"], counters["refused"]) == (1, 1)


def test_a_message_too_large_closes_its_connection_only(child: Child, classifier: Classifier) -> None:
    walk = random_walk(20, 19)
    with (
        Raw(child.frames) as good,
        Raw(child.frames) as villain,
        Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        assert good.ask(HELLO)["type"] == "accepted"
        villain.send(bytes(2_000_000))
        for t in range(20):
            good.send(frame_of(walk, t))
        assert good.ask(BYE)["counters"]["refused"] == 0
        assert_same(table(list(subscriber)), classifier.run(walk))


def test_status_counts_and_times(child: Child) -> None:
    walk = random_walk(30, 18)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "cage1", timeout_s=60):
        assert raw.ask(HELLO)["type"] == "accepted"
        for t in (*range(30), 29):
            raw.send(frame_of(walk, t))
        status = raw.ask({"v": 1, "type": "status"})
        raw.ask(BYE)
    assert status["type"] == "status"
    assert status["streams"]["cage1"]["frames"] == 31
    assert status["streams"]["cage1"]["duplicates"] == 1
    assert (status["engine"], status["capacity"]) == ("numba", 16)
    assert status["uptime_s"] > 0
    for stage in ("decode", "step", "publish", "total"):
        latency = status["latency"][stage]
        assert 0 < latency["p50_us"] <= latency["p99_us"] <= latency["p99.9_us"] <= latency["max_us"]
    assert status["latency"]["decode"]["count"] == status["counters"]["frames"]
    assert child.process.poll() is None
