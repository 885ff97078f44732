"""What is done about messages that are no plain frames, whatever they are: in one process, without a loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from rtseg.config import ServeSettings
from rtseg.inference.classifier import Classifier, load
from rtseg.serve.loop.admission import Admission
from rtseg.serve.loop.bundle_swap import BundleSwap
from rtseg.serve.loop.dispatch import Dispatcher
from rtseg.serve.loop.frame_queue import FrameQueue
from rtseg.serve.loop.stepping import Stepper
from rtseg.serve.publish.outlet import Outlet
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.timing.loop_load import LoopLoad
from tests.live import HELLO, frame_of, random_walk

SETTINGS = ServeSettings(capacity=4)


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle, capacity=4)


class Client:
    """A dispatcher, and a connection that gets its answers."""

    def __init__(self, classifier: Classifier, context: zmq.Context[Any], *, control: bool = True) -> None:
        self.router, self.camera, self.xpub = (context.socket(k) for k in (zmq.ROUTER, zmq.DEALER, zmq.XPUB))
        self.router.bind("inproc://frames")
        self.camera.setsockopt(zmq.ROUTING_ID, b"camera")
        self.camera.connect("inproc://frames")
        self.streams = Streams(ServedModel(classifier, "tcp://nowhere"))
        outlet, self.stops = Outlet(self.router, self.xpub), 0
        queue = FrameQueue(SETTINGS, outlet, LoopLoad(0.0))
        self.stepper = Stepper(queue, self.streams, outlet)
        admission = Admission(self.streams, outlet, LoopLoad(0.0), None, None)
        swap = BundleSwap(SETTINGS, self.streams, outlet, self.stepper.step_all, lambda model: None)
        parts = self.streams, queue, self.stepper, outlet, admission, swap
        self.dispatcher = Dispatcher(*parts, guard=None, control=control, status=self.status, stop=self.stop)

    def status(self) -> dict[str, Any]:
        raise ZeroDivisionError("a bug")

    def stop(self) -> None:
        self.stops += 1

    def ask(self, message: dict[str, Any] | bytes, parts: int = 1) -> dict[str, Any]:
        """The answer to a message."""
        self.dispatcher.handle_message(
            b"camera", message if isinstance(message, bytes) else msgpack.packb(message), 1, parts
        )
        assert self.camera.poll(1000), "no answer"
        answer = msgpack.unpackb(self.camera.recv())
        assert isinstance(answer, dict)
        return answer


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    context: zmq.Context[Any] = zmq.Context()
    yield context
    context.destroy(linger=0)


def test_a_message_of_several_parts_is_an_error(classifier: Classifier, context: zmq.Context[Any]) -> None:
    error = Client(classifier, context).ask(b"two", parts=2)
    assert (error["type"], error["kind"]) == ("error", "MessageError")
    assert error["reason"] == "expected one message part, got 2"


def test_a_bug_is_told_as_such_and_everything_goes_on(classifier: Classifier, context: zmq.Context[Any]) -> None:
    client = Client(classifier, context)
    error = client.ask({"v": 1, "type": "status"})
    assert (error["type"], error["kind"], error["reason"]) == ("error", "internal", "a bug")
    assert client.ask(HELLO)["type"] == "accepted"
    assert client.ask({"v": 1, "type": "bye", "stream": "cage1"})["type"] == "goodbye"


def test_a_bye_comes_after_the_frames_before_it(classifier: Classifier, context: zmq.Context[Any]) -> None:
    client, walk = Client(classifier, context), random_walk(5, 3)
    assert client.ask(HELLO)["type"] == "accepted"
    for t in range(5):
        client.dispatcher.handle_message(b"camera", msgpack.packb(frame_of(walk, t)), 1 + t)
    goodbye = client.ask({"v": 1, "type": "bye", "stream": "cage1"})
    assert goodbye["counters"]["frames"] == 5
    assert len(client.streams) == 0


def test_a_daemon_without_control_is_not_stopped(classifier: Classifier, context: zmq.Context[Any]) -> None:
    client = Client(classifier, context, control=False)
    assert client.ask({"v": 1, "type": "stop"})["kind"] == "AccessError"
    assert client.stops == 0


def test_a_daemon_that_is_asked_to_stop_says_so_first(classifier: Classifier, context: zmq.Context[Any]) -> None:
    client = Client(classifier, context)
    assert client.ask({"v": 1, "type": "stop"})["type"] == "stopping"
    assert client.stops == 1


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"type": "arm", "stream": None, "for_s": 5}, "arm is not taken here: the daemon was started without triggers"),
        ({"type": "disarm"}, "disarm is not taken here"),
        ({"type": "arm", "for_s": 0}, "field 'for_s': expected seconds above 0, 2.592e+06 at most, got 0.0"),
        ({"type": "arm", "for_s": True}, "field 'for_s': expected 1 number"),
        ({"type": "disarm", "for_s": 5}, "disarm needs the fields v, type and may have stream"),
        ({"type": "arm", "stream": ""}, "field 'stream': expected 1 to 200 printable characters"),
    ],
)
def test_arming_that_cannot_be(
    classifier: Classifier, context: zmq.Context[Any], message: dict[str, Any], reason: str
) -> None:
    error = Client(classifier, context).ask({"v": 1, **message})
    assert error["type"] == "error"
    assert error["reason"].startswith(reason)
