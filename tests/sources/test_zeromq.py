"""Plain ZeroMQ messages, from real PUSH and PUB sockets."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from rtseg.errors import FrameError, ServeError
from rtseg.sources.bridge import SourceFrame
from rtseg.sources.points import DeclaredPoints
from rtseg.sources.senders import OtherSenderError
from rtseg.sources.zeromq import MAX_MESSAGE_BYTES, ZmqSource
from tests.live import TIMEOUT_S

POINTS = DeclaredPoints(("rat",), ("nose", "tail"))
VALUES = (1.5, 2.5, 0.5, 3.0, 4.0, 1.0)
POSE = np.array(VALUES, np.float32).reshape(1, 2, 3)
BYTES = struct.pack("<6f", *VALUES)


@contextmanager
def pushing(source: ZmqSource) -> Iterator[Any]:
    with closing(source), zmq.Context() as context, closing(context.socket(zmq.PUSH)) as push:
        push.connect(source.address)
        yield push


def received(source: ZmqSource) -> SourceFrame:
    frame = source.receive(TIMEOUT_S)
    assert frame is not None
    return frame


def test_float32_with_and_without_a_number() -> None:
    source = ZmqSource("tcp://localhost:*", POINTS)
    with pushing(source) as push:
        push.send(BYTES)
        push.send_multipart([struct.pack("<Q", 12), BYTES])
        first, second = received(source), received(source)
        assert source.receive(0) is None
    assert (first.number, second.number, first.t_ns) == (None, 12, None)
    np.testing.assert_array_equal(first.pose, POSE)
    np.testing.assert_array_equal(second.pose, POSE)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([BYTES[:-4]], "expected 6 values .1 x 2 points of x, y, likelihood., got 5"),
        ([BYTES[:-1]], "expected float32 values of 4 bytes each, got 23 bytes"),
        ([b""], "got 0 values"),
        ([b"1234", BYTES], "got parts of 4, 24 bytes"),
        ([b"", b"", BYTES], "got parts of 0, 0, 24 bytes"),
        ([b"\xff" * 8, BYTES], "expected a frame's number below 2\\^63"),
    ],
)
def test_float32_that_cannot_be_used(parts: list[bytes], reason: str) -> None:
    source = ZmqSource("tcp://127.0.0.1:*", POINTS)
    with pushing(source) as push:
        push.send_multipart(parts)
        with pytest.raises(FrameError, match=reason):
            source.receive(TIMEOUT_S)
        push.send(BYTES)
        assert received(source).number is None


def test_json() -> None:
    source = ZmqSource("tcp://127.0.0.1:*", POINTS, form="json")
    pose = {"nose": [1.5, 2.5, 0.5], "tail": [3, 4, 1]}
    messages: list[tuple[object, int | None, int | None]] = [
        (pose, None, None),
        ([[1.5, 2.5, 0.5], [3, 4, 1]], None, None),
        ({"pose": pose, "frame": 7, "time": 1.25}, 7, 1_250_000_000),
        ({"pose": pose, "frame": None, "time": None}, None, None),
        ({"pose": pose, "frame": 8.0}, 8, None),
    ]
    with pushing(source) as push:
        for message, _, _ in messages:
            push.send_string(json.dumps(message))
        for _, number, t_ns in messages:
            frame = received(source)
            assert (frame.number, frame.t_ns) == (number, t_ns)
            np.testing.assert_array_equal(frame.pose, POSE)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"pose": {"nose": [1, 2, 3], "nose": [4, 5, 6]}}', "expected every name once, got 'nose' twice"),
        (b"{", "expected JSON, got b'{'"),
        (b"\xff\xfe", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"7", "got int"),
        (b'{"pose": [], "frames": 3}', "got also frames"),
        (b'{"pose": [], "frame": "3"}', "expected a frame's number"),
        (b'{"pose": [], "time": -1}', "expected a time in seconds from 0 on, got '-1'"),
        (b'{"pose": [], "time": NaN}', "expected a time in seconds"),
        (b'{"pose": [], "time": true}', "expected a time in seconds"),
        (b'{"snout": [1, 2, 3]}', "point 'snout' is not declared"),
    ],
)
def test_json_that_cannot_be_used(data: bytes, reason: str) -> None:
    source = ZmqSource("tcp://127.0.0.1:*", POINTS, form="json")
    with pushing(source) as push:
        push.send(data)
        with pytest.raises(FrameError, match=reason):
            source.receive(TIMEOUT_S)


def test_a_publisher_that_binds_and_its_topics() -> None:
    with zmq.Context() as context, closing(context.socket(zmq.XPUB)) as pub:
        pub.bind("tcp://127.0.0.1:*")
        address = pub.getsockopt_string(zmq.LAST_ENDPOINT)
        with closing(ZmqSource(address, POINTS, socket="sub", bind=False, topic="cage1")) as source:
            assert pub.poll(int(TIMEOUT_S * 1000))
            pub.recv()
            pub.send_multipart([b"cage2", BYTES])
            pub.send_multipart([b"cage10", struct.pack("<Q", 2), BYTES])
            pub.send_multipart([b"cage1", struct.pack("<Q", 3), BYTES])
            pub.send(b"cage1" + BYTES)
            assert source.receive(TIMEOUT_S) is None  # of another stream
            assert received(source).number == 3
            with pytest.raises(FrameError, match="expected the topic 'cage1' in a part of its own"):
                source.receive(TIMEOUT_S)


@contextmanager
def another(source: ZmqSource) -> Iterator[Any]:
    with zmq.Context() as context, closing(context.socket(zmq.PUSH)) as push:
        push.connect(source.address)
        yield push


def ended(source: ZmqSource) -> None:
    """Wait until a sender's end is known: messages and ends come by different ways."""
    assert source._monitor.poll(TIMEOUT_S * 1000)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:*", "ipc://{}/poses"])
def test_a_second_program_that_sends_is_left_out_while_the_first_one_goes_on(address: str, tmp_path: Path) -> None:
    source = ZmqSource(address.format(tmp_path), POINTS)
    with pushing(source) as push, another(source) as second:
        for sender in (push, push):
            sender.send(BYTES)
            assert not received(source).begins
        for _ in range(3):
            second.send(BYTES)
            with pytest.raises(OtherSenderError, match="two programs send to this address"):
                source.receive(TIMEOUT_S)
            push.send(BYTES)
            assert not received(source).begins


@pytest.mark.parametrize(("parts", "begins"), [([BYTES], True), ([struct.pack("<Q", 9), BYTES], False)])
def test_a_program_that_follows_one_that_has_ended_begins_afresh(parts: list[bytes], begins: bool) -> None:
    source = ZmqSource("tcp://127.0.0.1:*", POINTS)
    with closing(source):
        for run in range(3):  # each may get the file descriptor of the one before
            with another(source) as push:
                for frame in range(3):
                    push.send_multipart(parts)
                    # Numbers say themselves what lies between.
                    assert received(source).begins == (begins and run > 0 and frame == 0)
            ended(source)


def test_programs_that_connect_for_every_message_are_one() -> None:
    source = ZmqSource("tcp://127.0.0.1:*", POINTS)
    with closing(source):
        for _ in range(5):
            with another(source) as push:
                push.send(BYTES)
                assert not received(source).begins


def test_an_ipc_address(tmp_path: Path) -> None:
    source = ZmqSource(f"ipc://{tmp_path}/poses", POINTS)
    with pushing(source) as push:
        push.send(BYTES)
        np.testing.assert_array_equal(received(source).pose, POSE)


def test_a_message_that_is_too_large_ends_its_connection_alone() -> None:
    source = ZmqSource("tcp://127.0.0.1:*", POINTS)
    with pushing(source) as push:
        push.send(b"\0" * (MAX_MESSAGE_BYTES + 1))
        with zmq.Context() as context, closing(context.socket(zmq.PUSH)) as other:
            other.connect(source.address)
            other.send(BYTES)
            np.testing.assert_array_equal(received(source).pose, POSE)


@pytest.mark.parametrize("address", ["tcp://0.0.0.0:*", "tcp://*:5761", "tcp://192.168.1.7:5761", "tcp://[::]:5761"])
def test_it_does_not_listen_beyond_this_machine(address: str) -> None:
    with pytest.raises(ServeError, match=r"can be reached from other machines.*with a key"):
        ZmqSource(address, POINTS)


@pytest.mark.parametrize("more", [{"form": "msgpack"}, {"socket": "router"}])
def test_formats_and_sockets_are_named(more: dict[str, str]) -> None:
    with pytest.raises(ServeError, match="expected one of"):
        ZmqSource("tcp://127.0.0.1:*", POINTS, **more)  # type: ignore[arg-type]


def test_only_a_sub_socket_has_topics() -> None:
    with pytest.raises(ServeError, match="only a SUB socket has topics"):
        ZmqSource("tcp://127.0.0.1:*", POINTS, topic="cage1")


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1", "udp://127.0.0.1:1", "tcp://localhost:port"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ServeError, match="expected tcp://HOST:PORT or ipc://PATH"):
        ZmqSource(address, POINTS)
