"""A frame's way through sockets, queue and engine in one process: with compiled calls to libzmq, and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from rtseg.compiled import libzmq
from rtseg.config import ServeSettings
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.classifier import Classifier, load
from rtseg.inference.predictions import Quality
from rtseg.serve.loop import receiver
from rtseg.serve.loop.dispatch import parse_queued_frame
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.receiver import Receiver, client_source
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.loop_load import LoopLoad
from rtseg.wire.fields import MessageError
from rtseg.wire.messages import Hello, parse_to_daemon
from tests.live import frame_of, random_walk

SETTINGS = ServeSettings(capacity=4, max_batch=4, max_message_bytes=100_000)
REVERSED = Skeleton(MICE7.animals, MICE7.keypoints[::-1])
"""A source whose points stand in another order: its frames go the general way."""


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle, capacity=4)


class Loop:
    """The hot loop's parts around real sockets, with two open streams and a subscriber."""

    def __init__(self, classifier: Classifier, context: zmq.Context[Any]) -> None:
        router, self.camera = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        xpub, self.ear = context.socket(zmq.XPUB), context.socket(zmq.SUB)
        router.setsockopt(zmq.MAXMSGSIZE, SETTINGS.max_message_bytes)
        self.camera.setsockopt(zmq.ROUTING_ID, b"camera")
        self.camera.connect(f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
        self.ear.subscribe(b"cage")
        self.ear.connect(f"tcp://127.0.0.1:{xpub.bind_to_random_port('tcp://127.0.0.1')}")
        self.router, self.streams, self.others = (
            router,
            Streams(ServedModel(classifier, "tcp://nowhere")),
            list[bytes](),
        )
        outlet = Outlet(router, xpub)
        self.queue = FrameQueue(SETTINGS, outlet, LoopLoad(0.0))
        self.stepper = Stepper(self.queue, self.streams, outlet)
        for name, skeleton in (("cage1", MICE7), ("cage2", REVERSED)):
            hello = Hello(name, skeleton, 30.0)
            self.streams.open_stream(b"camera", hello, self.streams.match_hello(hello), 1)
        self.receiver = Receiver(client_source(router, SETTINGS, MICE7.shape), self.streams, self.queue, SETTINGS)
        assert xpub.poll(10_000)
        outlet.receive_subscriptions(self.streams.served_to)
        assert self.ear.recv_multipart()[0] == b"cage"

    def handle(self, owner: bytes, data: bytes, t_recv_ns: int, parts: int) -> None:
        """As the daemon does: what waits is stepped before anything but a frame is handled."""
        try:
            if parts != 1:
                raise MessageError(f"expected one message part, got {parts}")
            _, message = parse_to_daemon(data)
            self.queue.enqueue_frame(parse_queued_frame(self.streams, owner, message, data, t_recv_ns))
        except Exception as error:
            self.stepper.step_all()
            self.others.append(repr(error).encode())

    def answers(self, messages: list[bytes | list[bytes]], count: int) -> list[dict[str, Any]]:
        """Everything that is published about the messages but the times at which that was."""
        for message in messages:
            self.camera.send_multipart(message if isinstance(message, list) else [message])
        found: list[dict[str, Any]] = []
        while len(found) < count:
            if self.router.poll(0 if len(self.queue) else 10):
                self.receiver.receive(self.handle)
            self.stepper.step_and_publish_batch()
            while self.ear.poll(0):
                found.append(msgpack.unpackb(self.ear.recv_multipart()[1]))
        for answer in found:
            assert 0 < answer.pop("t_recv_ns") <= answer.pop("t_pub_ns")
            answer["quality"] &= ~int(Quality.LATE)
        return found


def test_the_same_answers_without_compiled_calls(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    walks = {"cage1": random_walk(40, 5), "cage2": random_walk(40, 6)}
    frames = [msgpack.packb(frame_of(walk, t, stream=name)) for t in range(40) for name, walk in walks.items()]
    wrong = [
        b"",
        b"\xc1",
        msgpack.packb({"v": 1, "type": "status"}),
        msgpack.packb({"v": 1, "stream": "cage1", "seq": -1}),
    ]
    messages: list[bytes | list[bytes]] = [*frames[:30], *wrong, [b"two", b"parts"], *frames[30:]]
    results = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(libzmq, "addresses", lambda: None)
            monkeypatch.setattr(receiver, "addresses", lambda: None)
        with zmq.Context() as context:
            loop = Loop(classifier, context)
            heard = loop.answers(messages, 80)
            results.append((heard, loop.others))
            for stream in loop.streams:
                loop.streams.close_stream(stream)
            context.destroy(linger=0)
    (first, left), (second, left_again) = results
    assert [(answer["stream"], answer["seq"]) for answer in first] == [
        (answer["stream"], answer["seq"]) for answer in second
    ]
    assert [answer["probs"] for answer in first] == [answer["probs"] for answer in second]
    assert first == second
    assert left == left_again
    assert len(left) == 5
    assert b"expected one message part, got 2" in left[-1]
    offline = classifier.run(walks["cage1"]).probs
    live = [b"".join(answer["probs"].values()) for answer in first if answer["stream"] == "cage1"]
    assert live == [row.tobytes() for row in np.asarray(offline)]
