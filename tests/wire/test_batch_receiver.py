"""Messages taken in one compiled call: the same frames as read one by one, and nothing lost of all the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from rtseg.compiled.libzmq import addresses
from rtseg.errors import FrameError
from rtseg.frames.frame import checked_frame, own_frame
from rtseg.wire.batch_receiver import BatchReceiver, ReceivedMessage, parse_messages
from rtseg.wire.messages import frame_message

SHAPE = (2, 3)
LARGEST = 10_000
FUNCTIONS = addresses()
needs_libzmq = pytest.mark.skipif(FUNCTIONS is None, reason="compiled code can't call libzmq here")


class Ends:
    """A camera, and the receiver at a real socket."""

    def __init__(self, context: zmq.Context[Any], most: int = 8) -> None:
        self.router, self.camera = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
        self.router.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.camera.setsockopt(zmq.ROUTING_ID, b"camera")
        self.camera.connect(f"tcp://127.0.0.1:{port}")
        assert FUNCTIONS is not None
        self.receiver = BatchReceiver(self.router, FUNCTIONS, most, SHAPE)

    def take(self, count: int) -> list[ReceivedMessage]:
        """The next messages."""
        messages: list[ReceivedMessage] = []
        while len(messages) < count:
            assert self.router.poll(10_000)
            some = self.receiver.receive_messages()
            assert some
            messages += some
        return messages


@pytest.fixture
def ends() -> Iterator[Ends]:
    with zmq.Context() as context:
        both = Ends(context)
        yield both
        both.router.close()
        both.camera.close(linger=0)


def message_of(seq: int, points: np.ndarray[Any, Any], scores: np.ndarray[Any, Any] | None) -> bytes:
    conf = None if scores is None else scores.astype("<f4").tobytes()
    packed: bytes = msgpack.packb(frame_message("cage", seq, 5 * seq, points.astype("<f4").tobytes(), conf))
    return packed


@needs_libzmq
def test_messages_of_all_kinds_come_in_order(ends: Ends) -> None:
    rng = np.random.default_rng(0)
    points, scores = rng.uniform(0, 100, (20, *SHAPE, 2)), rng.uniform(0, 1, (20, *SHAPE))
    points[3, 0, 1, 0] = np.nan  # half a point
    scores[4, 1, 2] = np.nan
    sent = [message_of(t, points[t], scores[t] if t % 5 else None) for t in range(20)]
    before_ns = time.monotonic_ns()
    for data in [b"", *sent[:10], b"x" * LARGEST, *sent[10:], msgpack.packb({"v": 1, "type": "status"})]:
        ends.camera.send(data)
    ends.camera.send_multipart([b"two", b"parts"])
    ends.camera.send_multipart([b"many", *[b"p" * LARGEST] * 5])
    ends.camera.send(sent[0])
    messages = ends.take(26)
    assert {message[0] for message in messages} == {b"camera"}
    assert [message[4] for message in messages] == [1] * 23 + [2, 6, 1]
    times = [message[2] for message in messages]
    around = [before_ns, *times, time.monotonic_ns()]
    assert around == sorted(around)
    assert [m[1] for m in messages[:23]] == [
        b"",
        *sent[:10],
        b"x" * LARGEST,
        *sent[10:],
        b"\x82\xa1v\x01\xa4type\xa6status",
    ]
    assert [m[3] for m in messages if m[1] not in sent] == [None] * 5
    plain = [message[3] for message in messages if message[1] in sent]
    for t, got in enumerate(plain[:20]):
        assert got is not None
        clean_points, clean_scores = points[t].astype(np.float32), scores[t].astype(np.float32)
        if t % 5 == 0:
            clean_scores[:] = 1
        frame = own_frame(clean_points, clean_scores, seq=t, t_source_ns=5 * t, stream="cage")
        assert got[:3] == (b"cage", frame.seq, frame.t_source_ns)
        assert (got[3].tobytes(), got[4].tobytes()) == (frame.keypoints.tobytes(), frame.confidence.tobytes())


@needs_libzmq
def test_confidences_above_1_are_taken_as_1_and_told(ends: Ends) -> None:
    """SLEAP's scores: the frame is plain all the same."""
    points, scores = np.ones((*SHAPE, 2)), np.full(SHAPE, 0.5)
    plain = message_of(0, points, scores)
    scores[1, 1] = 1.05
    clipped = message_of(1, points, scores)
    for data in (plain, clipped, plain):
        ends.camera.send(data)
    frames = [message[3] for message in ends.take(3)]
    assert [frame[5] for frame in frames if frame] == [False, True, False]
    assert frames[1] is not None
    assert frames[1][4].tolist() == [[0.5, 0.5, 0.5], [0.5, 1, 0.5]]
    (again,) = parse_messages([(b"camera", 0, clipped)], SHAPE)
    assert again[3] is not None
    assert again[3][4].tobytes() == frames[1][4].tobytes()
    assert again[3][5] is True
    frame = checked_frame(points, scores, shape=SHAPE)
    assert (frame.confidence.tobytes(), frame.is_clipped) == (frames[1][4].tobytes(), True)


@needs_libzmq
@pytest.mark.parametrize("wrong", ["inf", "far", "conf", "few", "many", "no conf"])
def test_a_frame_that_is_wrong_is_left_to_the_rules(ends: Ends, wrong: str) -> None:
    points, scores = np.ones((*SHAPE, 2)), np.ones(SHAPE)
    if wrong == "inf":
        points[0, 0, 0] = np.inf
    elif wrong == "far":
        points[0, 0, 0] = 2e6
    elif wrong == "conf":
        scores[1, 1] = 2.5
    elif wrong in ("few", "many"):
        points = np.ones((*SHAPE, 1 if wrong == "few" else 3))
    else:
        scores = np.ones((1, 1))
    data = message_of(0, points, scores)
    ends.camera.send(data)
    (message,) = ends.take(1)
    assert (message[1], message[3]) == (data, None)
    if wrong in ("inf", "far", "conf"):
        with pytest.raises(FrameError):
            own_frame(points.astype("f4"), scores.astype("f4"), seq=0, t_source_ns=0, stream="")


@needs_libzmq
def test_nothing_waits(ends: Ends) -> None:
    assert ends.receiver.receive_messages() == []
