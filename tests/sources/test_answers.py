"""The way back: answers and events as float32 and as JSON, to real SUB sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from rtseg.client import Publisher, Subscriber, ask_load
from rtseg.config import QUALITY_FLAGS
from rtseg.errors import ServeError
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Quality
from rtseg.sources.answers import AnswerRelay
from tests.bundles import reordered_bundle
from tests.live import TIMEOUT_S, Child, random_walk


def received(socket: Any) -> list[bytes]:
    assert socket.poll(int(TIMEOUT_S * 1000)), "nothing came"
    parts: list[bytes] = socket.recv_multipart()
    return parts


@contextmanager
def listening(relay: AnswerRelay, topic: str) -> Iterator[tuple[Any, dict[str, Any]]]:
    """A socket that is subscribed, and what it was told first."""
    with zmq.Context() as context, closing(context.socket(zmq.SUB)) as socket:
        socket.connect(relay.address)
        socket.subscribe(topic)
        name, told = received(socket)
        assert name == topic.encode()
        yield socket, json.loads(told)


@pytest.mark.parametrize("form", ["float32", "json"])
def test_answers_are_those_of_the_recording_bit_for_bit(child: Child, tiny_bundle: Path, form: str) -> None:
    walk, stream = random_walk(30, 5), f"way back {form}"
    offline = load(tiny_bundle).run(walk)
    with (
        Publisher(child.frames, stream, walk.skeleton, walk.fps) as publisher,
        Subscriber(child.predictions, stream) as subscriber,
        AnswerRelay(subscriber, stream, "tcp://localhost:*", form) as relay,
        listening(relay, stream) as (socket, told),
    ):
        assert told["type"] == "subscribed"
        assert told["heads"] == {head.name: list(head.classes) for head in offline.heads}
        # Each receiver is told, also where another one listens already.
        with listening(relay, stream) as (_, again):
            assert again == told
        assert json.loads(received(socket)[1]) == told
        probs, flags, labels = [], [], []
        for t in range(len(walk)):
            publisher.send(walk.keypoints[t], walk.confidence[t], seq=t)
            topic, *parts = received(socket)
            assert topic == stream.encode()
            if form == "float32":
                assert [int.from_bytes(part, "little") for part in parts[:1]] == [t]
                flags.append(int.from_bytes(parts[1], "little"))
                probs.append(np.frombuffer(parts[2], "<f4"))
                labels.append(dict(named.split("=") for named in parts[3].decode().split(",")))
            else:
                answer = json.loads(parts[0])
                assert answer["seq"] == t
                flags.append(sum(1 << QUALITY_FLAGS.index(name) for name in answer["quality"]))
                probs.append(np.float32([p for head in answer["probs"].values() for p in head.values()]))
                labels.append(answer["label"])
        publisher.close()
        topic, closed = received(socket)
        assert json.loads(closed)["type"] == "closed"
    assert np.stack(probs).tobytes() == offline.probs.tobytes()
    np.testing.assert_array_equal(np.array(flags) & ~int(Quality.LATE), offline.quality)
    for i, head in enumerate(offline.heads):
        assert [label[head.name] for label in labels] == [head.classes[n] for n in offline.labels[:, i]]


@pytest.mark.parametrize(
    ("address", "form", "reason"),
    [
        ("tcp://0.0.0.0:*", "json", "can be reached from other machines"),
        ("tcp://127.0.0.1", "json", "expected tcp://HOST:PORT or ipc://PATH"),
        ("tcp://127.0.0.1:*", "msgpack", "expected one of float32, json, got 'msgpack'"),
    ],
)
def test_addresses_and_forms(child: Child, address: str, form: str, reason: str) -> None:
    with Subscriber(child.predictions, "nobody") as subscriber, pytest.raises(ServeError, match=reason):
        AnswerRelay(subscriber, "nobody", address, form)


def test_a_receiver_is_told_the_classes_of_the_bundle_that_answers_by_then(
    child: Child, tiny_bundle: Path, tmp_path: Path
) -> None:
    walk = random_walk(1, 5)
    with (
        Publisher(child.frames, "swapped", walk.skeleton, walk.fps),
        Subscriber(child.predictions, "swapped") as subscriber,
        AnswerRelay(subscriber, "swapped", "tcp://localhost:*") as relay,
        listening(relay, "swapped") as (socket, before),
    ):
        ask_load(child.frames, reordered_bundle(tiny_bundle, tmp_path / "reordered"), stream="swapped")
        assert json.loads(received(socket)[1])["type"] == "model"
        with listening(relay, "swapped") as (_, after):
            assert after["heads"] == {head: classes[::-1] for head, classes in before["heads"].items()}
