"""Another bundle while the daemon serves: taken between two frames, or refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber, ask_load, ask_status
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Quality
from rtseg.recordings.recording import Recording
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.bundles import changed_bundle
from tests.commands import here
from tests.live import HELLO, Child, Raw, daemon, frame_of, random_walk


@pytest.fixture(scope="module")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_bundle(tiny_bundle, tmp_path_factory.mktemp("other") / "other")


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle) as child:
        yield child


def test_a_bundle_is_swapped_between_two_frames(child: Child, tiny_bundle: Path, other_bundle: Path) -> None:
    walk = random_walk(60, 3)
    part = Recording("rest", MICE7, walk.keypoints[30:], walk.confidence[30:], 30.0)
    was, becomes = load(tiny_bundle).run(walk).probs[:30], load(other_bundle).run(part).probs
    with (
        Publisher(child.frames, "swapped", MICE7, 30.0) as publisher,
        Publisher(child.frames, "kept", MICE7, 30.0) as bystander,
        Subscriber(child.predictions, "swapped", timeout_s=30) as subscriber,
    ):
        heard: list[PredictionMessage | StreamEvent] = []
        for t in range(60):
            if t == 30:
                done = here("load", str(other_bundle), "--to", child.frames, "--stream", "swapped")
                assert (done.returncode, done.stderr) == (0, "")
                assert "answers stream 'swapped'" in done.stdout
            publisher.send(walk.keypoints[t], walk.confidence[t])
            bystander.send(walk.keypoints[t], walk.confidence[t])
            while not (heard and isinstance(heard[-1], PredictionMessage) and heard[-1].seq == t):
                message = subscriber.receive(30)
                assert message is not None
                heard.append(message)
        models = ask_status(child.frames)["models"]
        assert publisher.close()["frames"] == 60  # counters go on
        assert bystander.close()["frames"] == 60
    answers = [m for m in heard if isinstance(m, PredictionMessage)]
    assert [a.seq for a in answers] == list(range(60))  # none lost, none twice
    probs = np.array([np.concatenate(list(a.probs.values())) for a in answers])
    np.testing.assert_array_equal(probs[:30], was)
    np.testing.assert_array_equal(probs[30:], becomes)  # the state is fresh
    fresh = load_bundle(other_bundle)
    assert [a.model for a in answers] == [child.about["model"]] * 30 + [fresh.hash] * 30
    assert answers[30].quality & Quality.WARMING_UP
    events = [m for m in heard if isinstance(m, StreamEvent)]
    assert [(e.type, e.fields["model"]) for e in events if e.type == "model"] == [("model", fresh.hash)]
    assert (models["swapped"], models["kept"]) == (fresh.hash, child.about["model"])


def test_numbers_and_gaps_go_on_over_a_swap(child: Child, other_bundle: Path) -> None:
    walk = random_walk(10, 3)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "gaps", timeout_s=30) as subscriber:
        assert raw.ask(HELLO | {"stream": "gaps"})["type"] == "accepted"
        answers = iter(subscriber)
        for t in range(3):
            raw.send(frame_of(walk, t, stream="gaps"))
            assert next(answers).seq == t
        ask_load(child.frames, other_bundle, stream="gaps")
        raw.send(frame_of(walk, 2, stream="gaps"))  # late, as it would have been
        raw.send(frame_of(walk, 5, stream="gaps"))
        assert [next(answers).seq for _ in range(3)] == [3, 4, 5]
        counters = raw.ask({"v": 1, "type": "bye", "stream": "gaps"})["counters"]
    assert (counters["frames"], counters["duplicates"], counters["gaps"], counters["filled"]) == (5, 1, 1, 2)


def test_a_load_for_all_and_for_those_to_come(tiny_bundle: Path, other_bundle: Path) -> None:
    fresh = load_bundle(other_bundle).hash
    with (
        daemon(tiny_bundle, capacity=2) as child,
        Publisher(child.frames, "one", MICE7, 30.0) as one,
        Subscriber(child.predictions, timeout_s=30) as subscriber,
    ):
        done = ask_load(child.frames, other_bundle)
        assert (done["streams"], done["model"]) == (["one"], fresh)
        with Publisher(child.frames, "two", MICE7, 30.0) as two:
            assert two.served.model == fresh
            one.send(np.ones((2, 7, 2)))
            two.send(np.ones((2, 7, 2)))
            assert {next(iter(subscriber)).model for _ in range(2)} == {fresh}
            ask_load(child.frames, tiny_bundle, stream="one")
            # The place that `one` left in the first model is not one more.
            with pytest.raises(ServeError, match="all 2 slots are taken"):
                Publisher(child.frames, "three", MICE7, 30.0)


def test_what_a_lookahead_owes_is_published_before_the_swap(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(20, 3)
    ahead = changed_bundle(tiny_bundle, tmp_path / "ahead", lookahead_frames=3)
    offline = load(ahead).run(Recording("first", MICE7, walk.keypoints[:10], walk.confidence[:10], 30.0))
    with (
        daemon(ahead) as child,
        Raw(child.frames) as raw,
        Subscriber(child.predictions, "cage1", timeout_s=30) as subscriber,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        for t in range(10):
            raw.send(frame_of(walk, t))
        ask_load(child.frames, tiny_bundle, timeout_s=30)
        for t in range(10, 20):
            raw.send(frame_of(walk, t))
        heard = [answer for _, answer in zip(range(20), subscriber, strict=False)]
    assert [answer.seq for answer in heard] == list(range(20))
    assert [answer.model == load_bundle(ahead).hash for answer in heard] == [True] * 10 + [False] * 10
    probs = np.array([np.concatenate(list(answer.probs.values())) for answer in heard[:10]])
    np.testing.assert_array_equal(probs, offline.probs)


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_waits_for_a_load_gets_an_answer_when_the_daemon_stops(
    tiny_bundle: Path, other_bundle: Path, workers: int
) -> None:
    """It waited for two minutes, and did not know what had become of it."""
    with daemon(tiny_bundle, workers=workers) as child, Raw(child.frames) as raw:
        assert raw.ask({"v": 1, "type": "status"})["type"] == "status"
        child.signal(signal.SIGSTOP)
        raw.send({"v": 1, "type": "load", "bundle": str(other_bundle)})
        child.signal(signal.SIGTERM, signal.SIGCONT)
        answer = raw.receive()
        assert child.rest()[2] == 0
    # Loading takes longer than the end, but perhaps not here.
    assert answer["type"] == "loaded" or (answer["type"], answer["reason"]) == ("refused", "the daemon stops")


def test_a_load_that_is_refused_changes_nothing(child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    skeleton = Skeleton(MICE7.animals, ("snout", *MICE7.keypoints[1:]))
    foreign = changed_bundle(tiny_bundle, tmp_path / "foreign", skeleton=skeleton)
    slower = changed_bundle(tiny_bundle, tmp_path / "slower", fps=25.0)
    broken = changed_bundle(tiny_bundle, tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"nothing")
    # Opening it would wait for a writer, and refuse every load from then on.
    pipe = changed_bundle(tiny_bundle, tmp_path / "pipe")
    (pipe / "manifest.json").unlink()
    os.mkfifo(pipe / "manifest.json")
    with Publisher(child.frames, "steady", MICE7, 30.0) as publisher:
        for bundle, reason in (
            (foreign, "refused load: .*without a counterpart: snout"),
            (slower, "refused load: stream 'steady': .* the model was trained at 25"),
            (broken, "refused load: .*weights.safetensors"),
            (pipe, "refused load: .*manifest.json cannot be read: is no regular file"),
            (tmp_path / "nothing", "refused load: .*no bundle here"),
        ):
            with pytest.raises(ServeError, match=reason):
                ask_load(child.frames, bundle)
        with pytest.raises(ServeError, match="stream 'nobody' is not open"):
            ask_load(child.frames, tiny_bundle, stream="nobody")
        with pytest.raises(ServeError, match="'bundle': expected the full path of a folder"):
            ask_load(child.frames, "engines/rats58")
        status = ask_status(child.frames)
        assert status["models"] == {"steady": child.about["model"]}
        assert status["model"] == child.about["model"]
        publisher.send(np.ones((2, 7, 2)))
