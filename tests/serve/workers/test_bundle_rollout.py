"""Another bundle for all workers between two frames, or for none of them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber, ask_load, ask_status
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import load
from rtseg.playback.verify import verify_recording
from rtseg.recordings.recording import Recording
from rtseg.serve.workers.worker_protocol import worker_of
from rtseg.wire.messages import PredictionMessage
from tests.bundles import changed_bundle
from tests.live import TIMEOUT_S, Child, Raw, daemon, random_walk

NAMES = ["cage2", "cage3", "cage4", "cage5"]


@pytest.fixture(scope="module")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_bundle(tiny_bundle, tmp_path_factory.mktemp("other") / "other")


@pytest.fixture
def child(tiny_bundle: Path, tmp_path: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, workers=2, worker_snapshot_s=0.2, record=str(tmp_path / "recordings")) as child:
        yield child


def test_all_workers_take_a_bundle_between_two_frames(
    child: Child, tiny_bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    assert {worker_of(name, 2) for name in NAMES} == {0, 1}
    walks = {name: random_walk(90, 420 + i) for i, name in enumerate(NAMES)}
    fresh = load_bundle(other_bundle).hash
    with Subscriber(child.predictions, NAMES) as subscriber:
        publishers = {name: Publisher(child.frames, name, MICE7, 30.0) for name in NAMES}
        heard: dict[str, list[PredictionMessage]] = {name: [] for name in NAMES}

        def hear(upto: int) -> None:
            while any(len(answers) < upto for answers in heard.values()):
                message = subscriber.receive(TIMEOUT_S)
                assert message is not None
                if isinstance(message, PredictionMessage):
                    heard[message.stream].append(message)

        for t in range(90):
            if t == 30:
                for publisher in publishers.values():
                    assert publisher.flush(TIMEOUT_S)
                done = ask_load(child.frames, other_bundle)
                assert (sorted(done["streams"]), done["model"], done["stream"]) == (NAMES, fresh, None)
            for name, publisher in publishers.items():
                publisher.send(walks[name].keypoints[t], walks[name].confidence[t])
            if t == 60:
                hear(61)
                for pid in child.about["workers"]:  # those in their place serve the new bundle, too
                    os.kill(pid, signal.SIGKILL)
        hear(90)
        assert set(ask_status(child.frames)["models"].values()) == {fresh}
        with (
            Publisher(child.frames, "cage9", MICE7, 30.0) as late,
            Subscriber(child.predictions, NAMES[0]) as listener,  # to a topic that all knew before
        ):
            assert late.served.model == listener.served.model == fresh
        for publisher in publishers.values():
            assert publisher.close()["frames"] == 90
    old, new = load(tiny_bundle), load(other_bundle)
    for name, walk in walks.items():
        rest = Recording("rest", MICE7, walk.keypoints[30:], walk.confidence[30:], 30.0)
        offline = np.concatenate([old.run(walk).probs[:30], new.run(rest).probs])
        assert [answer.seq for answer in heard[name]] == list(range(90))  # none lost, none twice
        assert [answer.model == fresh for answer in heard[name]] == [False] * 30 + [True] * 60
        probs = np.array([np.concatenate(list(answer.probs.values())) for answer in heard[name]])
        assert probs.tobytes() == offline.tobytes()
    child.signal(signal.SIGTERM)
    child.rest()
    first, second, third, fourth = sorted((tmp_path / "recordings").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    found = [
        verify_recording(first, tiny_bundle),
        verify_recording(second, tiny_bundle),
        verify_recording(third, other_bundle),
    ]
    found.append(verify_recording(fourth, other_bundle))
    assert [(f.differences, f.problem) for f in found] == [(0, "")] * 4
    assert sum(f.predictions for f in found) == 4 * (30 + 29) - sum(f.uncompared for f in found) + 4 * 31


def test_one_that_cannot_be_taken_changes_nothing(
    child: Child, tiny_bundle: Path, other_bundle: Path, tmp_path: Path
) -> None:
    walk, order = random_walk(30, 440), {"v": 1, "type": "load", "bundle": str(other_bundle)}
    with Publisher(child.frames, NAMES[0], MICE7, 30.0) as publisher, Subscriber(child.predictions) as subscriber:
        with pytest.raises(ServeError, match=r"refused load: .*no bundle here"):
            ask_load(child.frames, tmp_path / "nothing")
        slower = changed_bundle(tiny_bundle, tmp_path / "slower", fps=25.0)
        with pytest.raises(ServeError, match=r"refused load: .* the model was trained at 25"):
            ask_when_free(child.frames, slower)
        with pytest.raises(ServeError, match="for all streams, not for one alone"):
            ask_load(child.frames, other_bundle, stream=NAMES[0])

        # A refusal waits for the last worker, so that the next load can begin.
        slow = child.about["workers"][1]
        os.kill(slow, signal.SIGSTOP)
        with Raw(child.frames) as raw:
            raw.send(order | {"bundle": str(tmp_path / "nothing")})
            assert not raw.socket.poll(500)
            assert "nothing is being loaded: ask again" in raw.ask(order)["reason"]
            os.kill(slow, signal.SIGCONT)
            assert "no bundle here" in raw.receive()["reason"]
            with pytest.raises(ServeError, match=r"refused load: .* the model was trained at 25"):
                ask_load(child.frames, slower)

        hung = child.about["workers"][1]
        os.kill(hung, signal.SIGSTOP)
        with Raw(child.frames) as raw:
            raw.send(order)
            assert raw.ask(order)["reason"] == f"bundle {other_bundle} is being loaded: ask again when that is done"
            os.kill(hung, signal.SIGKILL)
            reason = "worker 1 ended before all had loaded the bundle: ask again"
            assert raw.receive() == {"v": 1, "type": "refused", "stream": None, "reason": reason}

        for t in range(30):
            publisher.send(walk.keypoints[t], walk.confidence[t])
        answers = [next(iter(subscriber)) for _ in range(30)]
        assert {answer.model for answer in answers} == {child.about["model"]}
        probs = np.array([np.concatenate(list(answer.probs.values())) for answer in answers])
        assert probs.tobytes() == load(tiny_bundle).run(walk).probs.tobytes()
        done: dict[str, Any] = {}
        deadline_s = time.monotonic() + TIMEOUT_S
        while not done:  # worker 1 is being started, and the other one may still be loading in vain
            assert time.monotonic() < deadline_s
            with contextlib.suppress(ServeError):
                done = ask_load(child.frames, other_bundle)
        assert done["model"] == load_bundle(other_bundle).hash


def ask_when_free(frames: str, bundle: Path) -> dict[str, Any]:
    """Ask for a load as soon as no worker is busy with the one before, which one of them may have refused already."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask_load(frames, bundle)
        except ServeError as error:
            if "is being loaded" not in str(error) or time.monotonic() > deadline_s:
                raise
