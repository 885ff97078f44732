"""Every source gives the answers of a replay, bit for bit: the same recording through each, with frames left out.

All formats here carry float32 exactly: as such (ZeroMQ, OSC, LSL), or with nine significant digits (CSV) or as many as
float64 needs (JSON). A sender that rounds to two decimals, as some do, gives answers of the rounded recording.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from rtseg.client import Publisher, Subscriber
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Predictions, Quality
from rtseg.playback.replay import predictions_from_messages, replay
from rtseg.recordings.recording import Recording
from rtseg.sources.bridge import Bridge
from rtseg.sources.dlclive import RtsegProcessor
from rtseg.wire.messages import PredictionMessage
from tests.live import TIMEOUT_S, Child, random_walk, without_frames
from tests.sources.senders import FPS, SENDERS, pose_of


def walk(name: str) -> Recording:
    """Gaps that are filled, and one that restarts the stream; the first frame is number 3."""
    recording = random_walk(160, 60)
    absent = np.zeros(len(recording), np.bool_)
    absent[[0, 1, 2, 20, 50, 51, 52]] = absent[80:130] = True
    return without_frames(recording, absent)


def answers_until_closed(subscriber: Subscriber, heads: dict[str, tuple[str, ...]]) -> Predictions:
    answers: list[PredictionMessage] = []
    while (message := subscriber.receive(TIMEOUT_S)) is not None:
        if isinstance(message, PredictionMessage):
            answers.append(message)
        elif message.type == "closed":
            break
    return predictions_from_messages(heads, answers)[0]


def assert_same(live: Predictions, offline: Predictions, first: int) -> None:
    """first: the number of the recording's first frame, where the source numbers from another one."""
    assert live.probs.tobytes() == offline.probs.tobytes()
    np.testing.assert_array_equal(live.seq - live.seq[0] + first, offline.seq)
    np.testing.assert_array_equal(live.labels, offline.labels)
    np.testing.assert_array_equal(live.quality & ~Quality.LATE, offline.quality)


@pytest.fixture(scope="module")
def offline(tiny_bundle: Path) -> Predictions:
    return load(tiny_bundle).run(walk("offline"))


def test_a_replay_gives_what_the_sources_are_held_to(child: Child, offline: Predictions) -> None:
    assert_same(replay(walk("replayed"), child.frames, speed=None).predictions, offline, 3)
    assert (offline.quality & Quality.GAP_FILLED).any()
    assert (offline.quality & Quality.RESET).any()


@pytest.mark.parametrize("kind", SENDERS)
def test_a_source_gives_the_answers_of_a_replay(kind: str, child: Child, offline: Predictions, tmp_path: Path) -> None:
    recording = walk(kind)
    came = recording.came.tolist()
    with SENDERS[kind](recording, tmp_path) as (source, send):
        publisher = Publisher(child.frames, kind, source.skeleton, FPS, clock=source.clock)
        with publisher, Subscriber(child.predictions, kind) as subscriber:
            bridge = Bridge(source, publisher, FPS)
            deadline_s = time.monotonic() + TIMEOUT_S
            for t in came:
                send(t)
                bridge.step(0)
            if kind == "csv long":
                send(came[-1] + 1)  # the last frame is whole only now
            while bridge.counts.frames < len(came) and time.monotonic() < deadline_s:
                bridge.step(0.1)
            counters = publisher.close()
            live = answers_until_closed(subscriber, publisher.served.heads)
    assert_same(live, offline, 3)
    counts = bridge.counts
    assert (counts.frames, counts.unusable, counts.refused, counts.restarts) == (len(came), 0, 0, 0)
    assert counts.skipped == 1 + 3 + 50
    assert (counters["frames"], counters["refused"]) == (len(came), 0)


def test_a_processor_gives_the_answers_of_a_replay(child: Child, offline: Predictions) -> None:
    recording = walk("processor")
    names = recording.skeleton
    processor = RtsegProcessor("dlc", names.keypoints, animals=names.animals, fps=FPS, address=child.frames)
    with Subscriber(child.predictions, "dlc") as subscriber:
        for t in recording.came.tolist():
            # A camera that starts an hour into its clock; lost frames show in its times.
            pose = pose_of(recording, t).astype(np.float64)
            assert processor.process(pose, frame_time=3600 + t / FPS, record=True) is pose
        assert processor.problems == 0, processor.problem
        processor.close()
        assert_same(answers_until_closed(subscriber, processor.publisher.served.heads), offline, 3)
