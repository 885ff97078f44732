"""The client: a few lines for a camera loop, and errors that say what to do."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.errors import FrameError, ServeError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Quality
from rtseg.wire.messages import MessageError, PredictionMessage, StreamEvent
from tests.live import REPO, TIMEOUT_S, Child, daemon, random_walk


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle) as child:
        yield child


def send_for_ever(publisher: Publisher) -> None:
    """Until an error comes; at a pace that the daemon keeps up with."""
    while True:
        publisher.send(np.ones((2, 7, 2)))
        time.sleep(0.002)


def send_one_refused_frame_and_others(publisher: Publisher) -> None:
    """The complaint comes with one of the others; with the first where this process is held up behind it."""
    publisher.send(np.full((2, 7, 2), np.inf))
    send_for_ever(publisher)


def send_the_same_numbers_again(publisher: Publisher) -> None:
    """0 to 39, again and again, until an error comes."""
    for seq in itertools.cycle(range(40)):
        publisher.send(np.ones((2, 7, 2)), seq=seq)
        time.sleep(0.002)


def test_a_camera_loop_gets_the_offline_answers(child: Child, tiny_bundle: Path) -> None:
    walk = random_walk(40, 30)
    offline = load(tiny_bundle).run(walk)
    with (
        Publisher(child.frames, "cage1", MICE7, 30.0, arena=(0.0, 0.0, 1024.0, 570.0)) as publisher,
        Subscriber(publisher.served.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        assert publisher.served == subscriber.served
        answers = iter(subscriber)
        for t in range(40):
            assert publisher.send(walk.keypoints[t], walk.confidence[t]) == t
            prediction = next(answers)
            assert (prediction.stream, prediction.seq) == ("cage1", t)
            np.testing.assert_array_equal(np.concatenate(list(prediction.probs.values())), offline.probs[t])
            assert {head: len(p) for head, p in prediction.probs.items()} == {"task1": 4, "sniff_face": 2}
        assert publisher.close()["frames"] == 40
        assert list(answers) == []  # the stream has closed
        assert publisher.close() == {}


def test_lists_without_confidence_and_own_sequence_numbers_are_taken(child: Child) -> None:
    with (
        Publisher(child.frames, "cage1", MICE7, 30.0) as publisher,
        Subscriber(publisher.served.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        assert publisher.send([[[1, 2]] * 7] * 2, seq=100, t_source_ns=5) == 100
        assert publisher.send(np.ones((2, 7, 2)), t_source_ns=6) == 101
        heard = [p for _, p in zip(range(2), subscriber, strict=False)]
        assert [(p.seq, p.t_source_ns) for p in heard] == [(100, 5), (101, 6)]


def test_keypoints_of_another_shape_are_never_sent(child: Child) -> None:
    with Publisher(child.frames, "cage1", MICE7, 30.0) as publisher:
        with pytest.raises(FrameError, match=r"keypoints must have shape \(2, 7, 2\), got \(7, 2, 2\)"):
            publisher.send(np.zeros((7, 2, 2)))
        with pytest.raises(FrameError, match=r"confidence must have shape \(2, 7\), got \(14,\)"):
            publisher.send(np.zeros((2, 7, 2)), np.zeros(14))
        assert publisher.close()["frames"] == 0


def test_a_refusal_is_raised_with_its_reason(child: Child) -> None:
    with pytest.raises(ServeError, match=r"refused stream 'cage1': .* the model was trained at 30"):
        Publisher(child.frames, "cage1", MICE7, 25.0)
    with pytest.raises(ServeError, match="without a counterpart: nose"):
        Publisher(child.frames, "cage1", Skeleton(MICE7.animals, MICE7.keypoints[1:]), 30.0)
    with pytest.raises(MessageError, match="'stream': expected 1 to 200 printable characters"):
        Publisher(child.frames, "", MICE7, 30.0)


def test_a_complaint_is_raised_by_a_later_send_and_sending_goes_on(child: Child) -> None:
    with Publisher(child.frames, "cage1", MICE7, 30.0) as publisher:
        with pytest.raises(ServeError, match=r"refused stream 'cage1', seq 0: .*infinite"):
            send_one_refused_frame_and_others(publisher)
        for _ in range(3):
            publisher.send(np.ones((2, 7, 2)))
        counters = publisher.close()
    assert counters["refused"] == 1
    assert counters["frames"] >= 3


def test_a_second_publisher_of_one_name_is_refused(child: Child) -> None:
    with Publisher(child.frames, "cage1", MICE7, 30.0) as first:
        with pytest.raises(ServeError, match="open from another connection: choose another name"):
            Publisher(child.frames, "cage1", MICE7, 30.0)
        for _ in range(5):
            first.send(np.ones((2, 7, 2)))  # hears that its name is contested, and goes on
        assert first.close()["frames"] == 5


def test_a_subscriber_receives_its_own_streams_only(child: Child) -> None:
    with (
        Publisher(child.frames, "cage1", MICE7, 30.0) as one,
        Publisher(child.frames, "cage10", MICE7, 30.0) as ten,
        Subscriber(child.predictions, ["cage1"], timeout_s=60) as named,
        Subscriber(child.predictions, timeout_s=60) as everything,
    ):
        for _ in range(3):
            ten.send(np.ones((2, 7, 2)))
            one.send(np.ones((2, 7, 2)))
        ten.close()
        one.close()
        assert [(p.stream, p.seq) for p in named] == [("cage1", t) for t in range(3)]
        heard = [p.stream for _, p in zip(range(6), everything, strict=False)]
        assert sorted(heard) == ["cage1"] * 3 + ["cage10"] * 3


def test_listening_ends_after_silence(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    with Subscriber(child.predictions, "nobody", timeout_s=0.01) as subscriber:
        assert list(subscriber) == []
        assert "nothing came within 0.01 s; the daemon is there" in subscriber.ended
        assert subscriber.ended in caplog.text
        while subscriber.receive(0.0) is None and "nobody" not in subscriber._beats:
            pass  # its heartbeats say that no such stream is open
        assert list(subscriber) == []
        assert subscriber.ended.endswith("the daemon is there, not open: nobody")
        assert subscriber.receive(0.0) is None


def test_without_a_time_out_a_loop_waits_and_says_so_whenever_it_learns_why(
    child: Child, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.client.subscriber.QUIET_S", 0.0)
    with Subscriber(child.predictions, "later") as subscriber:
        heard_s, receive = subscriber.heard_s, subscriber.receive
        lives = [True, True, False, False, True]

        def silent(timeout_s: float | None = None) -> PredictionMessage | StreamEvent | None:
            if not lives:
                return receive(60)
            subscriber.heard_s = heard_s + (1e6 if lives.pop(0) else -1e6)
            return None

        monkeypatch.setattr(subscriber, "receive", silent)
        with Publisher(child.frames, "later", MICE7, 30.0) as publisher:
            publisher.send(np.ones((2, 7, 2)))
            assert next(iter(subscriber)).seq == 0
    said = [record.message for record in caplog.records]
    assert ["daemon is there" in said[0], "daemon has ended" in said[1], "daemon is there" in said[2]] == [True] * 3
    assert said[3].endswith("something comes again")


def test_without_a_daemon_the_error_says_what_to_start(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/nobody"
    with pytest.raises(ServeError, match=r"no daemon at .*: start `rtseg serve BUNDLE` first"):
        Publisher(address, "cage1", MICE7, 30.0, timeout_s=0.05)
    with pytest.raises(ServeError, match="no daemon at"):
        Subscriber(address, connect_timeout_s=0.05)
    with pytest.raises(ServeError, match="no daemon at"):
        ask_status(address, timeout_s=0.05)
    with pytest.raises(ServeError, match="expected tcp://HOST:PORT or ipc://PATH"):
        Publisher("nonsense", "cage1", MICE7, 30.0)


def test_a_daemon_that_stops_is_noticed_by_the_next_frames(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle) as child, Subscriber(child.predictions, timeout_s=60) as everything:
        publisher = Publisher(child.frames, "cage1", MICE7, 30.0, reconnect_s=0.0)
        opened = everything.receive(60)
        assert isinstance(opened, StreamEvent)
        assert (opened.type, opened.stream, opened.fields["clock"]) == ("opened", "cage1", "monotonic")
        child.process.terminate()
        assert child.rest()[2] == 0
        # Its word of farewell may be lost with the connection: then the connection's end says it.
        with pytest.raises(ServeError, match=r"is stopping|takes no frames: it has stopped or hangs"):
            send_for_ever(publisher)
        closed, stopping = everything.receive(60), everything.receive(60)  # kept, though the connection is gone
        assert isinstance(closed, StreamEvent)
        assert isinstance(stopping, StreamEvent)
        assert (closed.type, closed.fields["reason"], stopping.type) == ("closed", "stopping", "stopping")
        assert publisher.close() == {}


def test_answers_look_the_same_in_process_and_over_the_wire(child: Child, tiny_bundle: Path) -> None:
    walk, classifier = random_walk(5, 32), load(tiny_bundle)
    session = classifier.open("cage1", (0.0, 0.0, 1024.0, 570.0))
    poses = np.concatenate([walk.keypoints, walk.confidence[..., None]], axis=-1)  # (T, A, K, 3)
    with (
        Publisher(child.frames, "cage1", MICE7, 30.0, arena=(0.0, 0.0, 1024.0, 570.0)) as publisher,
        Subscriber(publisher.served.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        answers = iter(subscriber)
        for t, pose in enumerate(poses):
            publisher.send(pose)
            wire, (here,) = next(answers), session.step(classifier.frame(pose, seq=t))
            assert wire.probs["task1"]["attack"] == here.probs["task1"]["attack"] == float(wire.probs["task1"][0])
            assert [p.items() for p in wire.probs.values()] == [p.items() for p in here.probs.values()]
            assert (wire.seq, wire.label, wire.event) == (here.seq, here.label, here.event)
            assert (wire.unsure, wire.quality & ~Quality.LATE) == (here.unsure, here.quality)
            assert set(wire.label) == {"task1", "sniff_face"}


def test_a_loop_goes_on_when_a_camera_comes_back_under_its_name(child: Child, caplog: pytest.LogCaptureFixture) -> None:
    with Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber:
        first = Publisher(child.frames, "cage1", MICE7, 30.0)
        first.send(np.ones((2, 7, 2)))
        answers = iter(subscriber)
        assert next(answers).seq == 0
        first._socket.close(linger=0)  # without a bye, as a process that was killed
        second = None
        while second is None:  # until the daemon has seen the connection's end
            with contextlib.suppress(ServeError):
                second = Publisher(child.frames, "cage1", MICE7, 30.0)
        second.send(np.ones((2, 7, 2)), seq=7)
        assert next(answers).seq == 7
        assert [r.message for r in caplog.records if "taken over" in r.message]
        second.close()
        assert list(answers) == []
        assert subscriber.ended == "stream 'cage1' was closed: bye"


def test_numbers_that_begin_again_are_an_error_until_the_stream_does(child: Child) -> None:
    with (
        Publisher(child.frames, "cage1", MICE7, 30.0) as publisher,
        Subscriber(publisher.served.predictions, "cage1", timeout_s=60) as subscriber,
    ):
        for seq in range(40):
            publisher.send(np.ones((2, 7, 2)), seq=seq)
        with pytest.raises(ServeError, match=r"expected seq above 39, got .* say hello again"):
            send_the_same_numbers_again(publisher)
        publisher.restart()
        assert publisher.send(np.ones((2, 7, 2))) == 0
        assert publisher.flush()
        publisher.close()
        numbers = [prediction.seq for prediction in subscriber]
        assert numbers[:40] == list(range(40))
        assert numbers[-1] == 0


def test_a_camera_loop_outlives_its_daemon(tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    addresses = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p"}
    with daemon(tiny_bundle, **addresses) as child:
        publisher = Publisher(child.frames, "cage1", MICE7, 30.0, keep_frames=10)
        publisher.send(np.ones((2, 7, 2)))
        assert publisher.flush()
    while not publisher.is_away:
        publisher.send(np.ones((2, 7, 2)))
        publisher.beat()
    for _ in range(15):
        publisher.send(np.ones((2, 7, 2)))
    lost = publisher.frames_lost
    assert lost >= 5
    with daemon(tiny_bundle, **addresses) as child:
        assert publisher.flush(TIMEOUT_S)
        assert not publisher.is_away
        assert publisher.reconnects == 1
        assert publisher.close()["frames"] == 10
    said = [record.message for record in caplog.records]
    assert any("is away from frame" in message for message in said)
    assert any(
        "is back after" in message and f"10 frames are sent again, {lost} were lost" in message for message in said
    )


def test_a_stream_that_was_idle_too_long_is_gone(tiny_bundle: Path) -> None:
    with (
        daemon(tiny_bundle, idle_timeout_s=0.1) as child,
        Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber,
        Publisher(child.frames, "cage1", MICE7, 30.0, reconnect_s=0.0) as publisher,
    ):
        assert list(subscriber) == []  # until it is closed
        with pytest.raises(ServeError, match="'cage1' is not open: send a hello first"):
            send_for_ever(publisher)
        assert publisher.close() == {}


def test_a_client_imports_no_model_and_no_compiler() -> None:
    unwanted = ("numba", "torch", "rtseg.inference.session")
    code = f"import sys, rtseg.client; print([m for m in {unwanted} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_examples_in_the_wire_document_run(child: Child, capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPO / "docs" / "wire.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, {"FRAMES": child.frames, "keypoints": random_walk(1, 0).keypoints[0]})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("0 {'task1': ")
    assert [line.split(" ")[0] for line in printed[1:]] == ["task1", "sniff_face"]
