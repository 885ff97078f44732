"""Messages taken in one compiled call: the same frames as read one by one, and nothing lost of all the others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.compiled.libzmq import addresses
from rtseg.errors import FrameError
from rtseg.frames.frame import own_frame
from rtseg.wire.batch_receiver import BatchReceiver, ReceivedMessage
from rtseg.wire.frame_parser import (
    CONF,
    CONF_BYTES,
    KP,
    KP_BYTES,
    SEQ,
    SOURCE_NS,
    STREAM,
    STREAM_BYTES,
    parse_frame_fields,
)
from rtseg.wire.messages import MAX_INTEGER, FrameMessage, MessageError, frame_message, parse_frame, parse_to_daemon
from tests.live import REPO

SHAPE = (2, 3)
LARGEST = 10_000
FUNCTIONS = addresses()
needs_libzmq = pytest.mark.skipif(FUNCTIONS is None, reason="compiled code can't call libzmq here")

integers = st.one_of(st.integers(0, 300), st.integers(0, MAX_INTEGER), st.integers(-2, 2**64 - 1))
names = st.text(min_size=1, max_size=40)
points = st.binary(max_size=300)
frames = st.builds(frame_message, names, integers, integers, points, st.one_of(st.none(), points))
scalars = st.one_of(st.none(), st.booleans(), integers, st.floats(), names, points)


def compiled(data: bytes) -> FrameMessage | None:
    """What compiled code reads of a message."""
    around = np.frombuffer(b"\x00" + data + b"\xa3seq", np.uint8)  # never looks further than it may
    fields = np.zeros(8, np.int64)
    if not parse_frame_fields(around, 1, 1 + len(data), fields):
        return None
    text, kp, conf = (
        around[fields[at] : fields[at] + fields[n]].tobytes()
        for at, n in ((STREAM, STREAM_BYTES), (KP, KP_BYTES), (CONF, CONF_BYTES))
    )
    name = text.decode(errors="surrogateescape")
    return FrameMessage(name, int(fields[SEQ]), int(fields[SOURCE_NS]), kp, conf if fields[CONF] else None)


def general(data: bytes) -> FrameMessage | None:
    """What the rules say of it; None where it is no frame."""
    try:
        kind, message = parse_to_daemon(data)
        return parse_frame(message) if kind == "frame" else None
    except MessageError:
        return None


def assert_agrees(data: bytes) -> None:
    """What is plainly a frame is that very frame; a name that is no text belongs to no stream."""
    plain = compiled(data)
    if plain is not None and plain.stream.isprintable():
        assert plain == general(data)


@settings(deadline=None)
@given(frames, st.randoms())
def test_frames_are_read_in_any_order_of_their_fields(message: dict[str, Any], random: Any) -> None:
    fields = list(message.items())
    random.shuffle(fields)
    data = msgpack.packb(dict(fields))
    assert compiled(data) == general(data)


@settings(deadline=None)
@given(frames, st.sampled_from(["v", "stream", "seq", "t_source_ns", "kp", "conf", "type", "kq", "x"]), scalars)
def test_another_field_or_value_is_left_to_the_rules(message: dict[str, Any], name: str, value: Any) -> None:
    assert_agrees(msgpack.packb(message | {name: value}))
    without = {key: v for key, v in message.items() if key != name}
    assert_agrees(msgpack.packb(without))


@settings(deadline=None)
@given(frames, st.data())
def test_damaged_frames_are_left_to_the_rules(message: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(msgpack.packb(message))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert_agrees(bytes(whole))
    assert_agrees(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    assert_agrees(bytes(whole) + data.draw(st.binary(max_size=3)))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(data: bytes) -> None:
    assert_agrees(data)
    assert_agrees(b"\x86" + data)


@pytest.mark.parametrize(
    "head", [b"\x01", b"\xcc\x01", b"\xcd\x00\x01", b"\xce\x00\x00\x00\x01", b"\xcf" + bytes(7) + b"\x01"]
)
def test_numbers_of_any_length(head: bytes) -> None:
    message = msgpack.packb(frame_message("cage", 77, 5, b"12345678", None)).replace(b"seq\x4d", b"seq" + head)
    assert compiled(message) == general(message) == FrameMessage("cage", 1, 5, b"12345678", None)


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
@pytest.mark.parametrize("wrong", ["inf", "far", "conf", "few", "many", "no conf"])
def test_a_frame_that_is_wrong_is_left_to_the_rules(ends: Ends, wrong: str) -> None:
    points, scores = np.ones((*SHAPE, 2)), np.ones(SHAPE)
    if wrong == "inf":
        points[0, 0, 0] = np.inf
    elif wrong == "far":
        points[0, 0, 0] = 2e6
    elif wrong == "conf":
        scores[1, 1] = 1.5
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


def test_no_byte_beyond_a_message_is_read(tmp_path: Path) -> None:
    """The same code, compiled to check every index, over messages that end where their array ends."""
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", DAMAGED], env=environment, capture_output=True, text=True, cwd=REPO)
    assert done.returncode == 0, done.stderr
    read_at_all, plain = map(int, done.stdout.split())
    assert read_at_all == 40_000
    assert 1000 < plain < 20_000


DAMAGED = """
import random

import msgpack
import numpy as np

from rtseg.wire.messages import frame_message
from rtseg.wire.frame_parser import copy_points, parse_frame_fields

random.seed(0)
whole = [msgpack.packb(frame_message("cage" * n, 7**n, 5, bytes(48), bytes(24) if n % 2 else None)) for n in (1, 9, 20)]
keypoints, confidence = np.zeros((2, 3, 2), np.float32), np.zeros((2, 3), np.float32)
plain = 0
for i in range(40_000):
    data = bytearray(whole[i % 3])
    for _ in range(random.randrange(3)):
        data[random.randrange(len(data))] = random.choice([0, 1, 0x7F, 0xA1, 0xC4, 0xC6, 0xCF, 0xDB, 0xFF, i % 256])
    del data[random.choice([len(data), random.randrange(1, len(data) + 1)]) :]
    array, fields = np.frombuffer(data, np.uint8), np.zeros(8, np.int64)
    if parse_frame_fields(array, 0, len(array), fields):
        plain += 1
        copy_points(array, fields, keypoints, confidence)
print(i + 1, plain)
"""
"""Frames with some bytes changed or missing."""
