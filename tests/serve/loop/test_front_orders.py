"""A worker that takes another one's place, asked by the test instead of a front: which state it goes on from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from rtseg.config import ServeSettings, WorkerPlace
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.recording import Recording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.workers.front_link import state_of
from rtseg.serve.workers.worker_pool import Worker
from rtseg.serve.workers.worker_protocol import Alive, Answers, RestoreStream, StreamState, decode, encode
from rtseg.wire.messages import Hello, PredictionMessage, StreamEvent, frame_message, parse_published
from tests.bundles import changed_bundle
from tests.live import TIMEOUT_S, random_walk

KNOWN, SENT = 20, 50
"""The last state is after so many frames; so many had come."""


@pytest.fixture
def other_bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return changed_bundle(tiny_bundle, tmp_path / "other")


@pytest.fixture
def worker(other_bundle: Path, tmp_path: Path) -> Iterator[Worker]:
    place = WorkerPlace("tcp://nowhere", 60.0, os.getpid(), 0, "run", is_replacement=False, status_file="")
    worker = Worker(place, other_bundle, ServeSettings(capacity=4), tmp_path)
    deadline = time.monotonic() + TIMEOUT_S
    while not worker.check_ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield worker
    worker.end()


def message_of(walk: Recording, t: int) -> bytes:
    """Frame t on the wire."""
    keypoints, scores = walk.keypoints[t].astype("<f4"), walk.confidence[t].astype("<f4")
    packed: bytes = msgpack.packb(frame_message("cage1", t, t, keypoints.tobytes(), scores.tobytes()))
    return packed


def state_after(classifier: Classifier, walk: Recording) -> StreamState:
    """What a worker that serves this classifier tells its front of a stream after KNOWN frames."""
    streams = Streams(ServedModel(classifier, "tcp://nowhere"))
    hello = Hello("cage1", MICE7, 30.0)
    stream = streams.open_stream(b"owner", hello, streams.match_hello(hello), 1000)
    for t in range(KNOWN):
        frame = classifier.frame(walk.keypoints[t], walk.confidence[t], seq=t, t_source_ns=t)
        stream.output.answers += len(stream.session.step(frame))
    state = decode(encode(state_of(stream)))
    assert isinstance(state, StreamState)
    return state


def answers_of(worker: Worker, count: int, events: list[StreamEvent]) -> list[tuple[int, PredictionMessage]]:
    """The next predictions that the worker publishes, with their numbers. events: gets those before the first one."""
    assert worker.dealer is not None
    found: list[tuple[int, PredictionMessage]] = []
    while len(found) < count:
        assert worker.dealer.poll(int(TIMEOUT_S * 1000))
        parts = worker.dealer.recv_multipart()
        if (
            len(parts) == 3
            and not found
            and isinstance(event := parse_published(msgpack.unpackb(parts[2])), StreamEvent)
        ):
            events.append(event)
        if len(parts) == 2 and isinstance(message := decode(parts[1]), Answers):
            for topic, number, data in message.answers:
                answer = parse_published(msgpack.unpackb(data))
                assert isinstance(answer, PredictionMessage)
                assert topic == b"cage1"
                found.append((number, answer))
    return found


@pytest.mark.parametrize("model", ["the same", "another"])
def test_where_a_stream_goes_on(worker: Worker, tiny_bundle: Path, other_bundle: Path, model: str) -> None:
    before, now = load(tiny_bundle, capacity=2), load(other_bundle, capacity=2)
    walk = random_walk(SENT, 77)
    state = state_after(now if model == "the same" else before, walk)
    frames = [(t, 10**6 + t, message_of(walk, t)) for t in range(KNOWN, SENT)]
    assert worker.dealer is not None
    assert worker.tell(RestoreStream(state, frames, published=0))
    events: list[StreamEvent] = []
    answers = answers_of(worker, SENT - KNOWN, events)
    models = [event.fields["model"] for event in events if event.type == "model"]
    assert models == ([] if model == "the same" else [now.bundle.hash])  # subscribers know by then what answers
    if model == "the same":
        expected = now.run(walk).probs[KNOWN:]
    else:  # it died at the very change of the bundle: the state would have been fresh there
        rest = Recording("rest", MICE7, walk.keypoints[KNOWN:], walk.confidence[KNOWN:], 30.0)
        expected = now.run(rest).probs
    assert [number for number, _ in answers] == [state.last_answer + 1 + i for i in range(SENT - KNOWN)]
    assert [answer.seq for _, answer in answers] == list(range(KNOWN, SENT))
    assert {answer.model for _, answer in answers} == {now.bundle.hash}
    assert b"".join(p.tobytes() for _, a in answers for p in a.probs.values()) == expected.tobytes()


def test_frames_that_wait_behind_others_messages_are_no_silence(other_bundle: Path, tmp_path: Path) -> None:
    place = WorkerPlace("tcp://nowhere", 60.0, os.getpid(), 0, "run", is_replacement=False, status_file="")
    worker = Worker(place, other_bundle, ServeSettings(capacity=4, idle_timeout_s=0.5), tmp_path)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not worker.check_ready():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        walk, now_ns = random_walk(1, 60), time.monotonic_ns()
        worker.process.send_signal(signal.SIGSTOP)  # it is slower than what its front hands on
        worker.hold_message("cage1", b"owner", now_ns, msgpack.packb(Hello("cage1", MICE7, 30.0).to_message()))
        for i in range(1000):
            worker.send_held()
            worker.hold_message("x", b"other", now_ns + i, msgpack.packb({"v": 1, "type": "beat", "stream": "x"}))
        worker.hold_message("cage1", b"owner", now_ns + 1000, message_of(walk, 0))
        worker.send_held()
        time.sleep(1.0)
        worker.process.send_signal(signal.SIGCONT)
        answered = False
        while not answered:
            assert worker.dealer is not None
            assert worker.dealer.poll(int(TIMEOUT_S * 1000))
            client, *topic, data = worker.dealer.recv_multipart()
            if not client and not topic:  # neither for a client nor for subscribers
                message = decode(data)
                assert isinstance(message, Alive | Answers | StreamState)  # it has not ended
                answered = isinstance(message, Answers)
    finally:
        worker.process.send_signal(signal.SIGCONT)
        worker.end()
