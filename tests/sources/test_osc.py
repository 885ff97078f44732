"""OSC messages from python-osc's own client."""

from __future__ import annotations

import contextlib
import socket
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import FrameError, ServeError
from rtseg.sources.osc import OscSource, check_packet
from rtseg.sources.points import DeclaredPoints
from rtseg.sources.senders import OtherSenderError
from tests.live import TIMEOUT_S
from tests.sources.senders import osc_client

builder = pytest.importorskip("pythonosc.osc_bundle_builder", reason="needs python-osc: pip install 'rtseg[osc]'")

POINTS = DeclaredPoints(("rat",), ("nose", "tail"))
VALUES = [1.5, 2.5, 0.5, 3.0, 4.0, 1.0]
POSE = np.array(VALUES, np.float32).reshape(1, 2, 3)


@pytest.mark.parametrize(
    ("params", "number"),
    [
        (VALUES, None),
        ([12, *VALUES], 12),
        ([12.0, *VALUES], 12),
        ([7, VALUES], 7),
        ([[*VALUES[:3]], [*VALUES[3:]]], None),
        ([np.array(VALUES, "<f4").tobytes()], None),
        ([7, np.array(VALUES, "<f4").tobytes()], 7),
        ([2**40, *VALUES], 2**40),
    ],
    ids=["values", "number", "float number", "array", "arrays", "blob", "number and blob", "int64"],
)
def test_messages(params: list[Any], number: int | None) -> None:
    with closing(OscSource("127.0.0.1", 0, POINTS)) as source, osc_client(source.port) as client:
        client.send_message("/other", [1.0])
        client.send_message("/pose", params)
        assert source.receive(TIMEOUT_S) is None  # to another address
        frame = source.receive(TIMEOUT_S)
    assert frame is not None
    assert (frame.number, frame.t_ns) == (number, None)
    np.testing.assert_array_equal(frame.pose, POSE)


def test_a_second_program_that_sends_is_left_out() -> None:
    with (
        closing(OscSource("127.0.0.1", 0, POINTS)) as source,
        osc_client(source.port) as client,
        osc_client(source.port) as second,
    ):
        for sender in (client, client):
            sender.send_message("/pose", VALUES)
            assert source.receive(TIMEOUT_S) is not None
        second.send_message("/other", VALUES)
        assert source.receive(TIMEOUT_S) is None  # which is nobody's pose
        second.send_message("/pose", VALUES)
        with pytest.raises(OtherSenderError, match="two programs send to this address"):
            source.receive(TIMEOUT_S)
        client.send_message("/pose", VALUES)
        frame = source.receive(TIMEOUT_S)
        assert frame is not None
        assert not frame.begins


def test_a_bundle_is_frames_in_its_order() -> None:
    from pythonosc.osc_message_builder import OscMessageBuilder

    bundle = builder.OscBundleBuilder(builder.IMMEDIATELY)
    for n in (3, 4):
        message = OscMessageBuilder("/rig/pose")
        for value in (n, *VALUES):
            message.add_arg(value)
        bundle.add_content(message.build())
    with closing(OscSource("127.0.0.1", 0, POINTS, address="/rig/pose")) as source, osc_client(source.port) as client:
        client.send(bundle.build())
        numbers = [frame and frame.number for frame in (source.receive(TIMEOUT_S), source.receive(0))]
    assert numbers == [3, 4]


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (VALUES[:-1], "expected 6 values .1 x 2 points of x, y, likelihood., got 5"),
        ([1, 2, *VALUES], "got 8 values"),
        ([*VALUES[:-1], "0.5"], "got '0.5'"),
        ([*VALUES[:-1], True], "got 'True'"),
        ([0.5, *VALUES], "expected a frame's number, a whole number from 0 on, got '0.5'"),
        ([b"123"], "expected a blob of float32 values"),
        ([], "got 0 values"),
    ],
)
def test_messages_that_cannot_be_used(params: list[Any], reason: str) -> None:
    with closing(OscSource("127.0.0.1", 0, POINTS)) as source, osc_client(source.port) as client:
        client.send_message("/pose", params)
        with pytest.raises(FrameError, match=reason):
            source.receive(TIMEOUT_S)
        client.send_message("/pose", VALUES)
        assert source.receive(TIMEOUT_S) is not None


@pytest.mark.parametrize(
    "data",
    [
        *(b"/", b"\0", b"#bundle", b"\xff" * 40, b"/pose\0\0\0,ff\0", b"#bundle\0" + b"\xff" * 20),
        b"#bundle\0" + bytes(8) + (-4).to_bytes(4, "big", signed=True),
        b"/pose\0\0\0," + b"[" * 5000 + b"f" + b"]" * 5000 + bytes(6),
    ],
)
def test_what_is_no_osc_is_told(data: bytes) -> None:
    with closing(OscSource("127.0.0.1", 0, POINTS)) as source, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(data, ("127.0.0.1", source.port))
        with contextlib.suppress(FrameError):
            assert source.receive(TIMEOUT_S) is None
        with osc_client(source.port) as client:
            client.send_message("/pose", VALUES)
            assert source.receive(TIMEOUT_S) is not None


def packed(element: bytes | list[Any]) -> bytes:
    """A packet: a message as it is, or a bundle of what a list holds."""
    if isinstance(element, bytes):
        return element
    parts = [packed(part) for part in element]
    return b"#bundle\0" + bytes(7) + b"\1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


@given(
    packet=st.recursive(
        st.just(b"/pose\0\0\0,iffffff\0\0\0\0" + bytes(28)), lambda inner: st.lists(inner, max_size=3), max_leaves=5
    ).map(packed),
    changes=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
)
@settings(max_examples=25, deadline=None)
def test_a_damaged_packet_is_a_frame_or_an_error(packet: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(packet)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    with closing(OscSource("127.0.0.1", 0, POINTS)) as source, socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.sendto(damaged, ("127.0.0.1", source.port))
        with contextlib.suppress(FrameError):
            frame = source.receive(TIMEOUT_S)
            assert frame is None or frame.pose.shape == POSE.shape


def test_arguments_that_python_osc_leaves_out_are_told() -> None:
    # It does not know how long they are, and would take the bytes of one for the values after it.
    with pytest.raises(FrameError, match="got arguments of type 'H'"):
        check_packet(b"/pose\0\0\0,Hffffff\0\0\0\0" + bytes(32), b"/pose")
    check_packet(b"/else\0\0\0,Hffffff\0\0\0\0" + bytes(32), b"/pose")
    bundles: Any = b"/pose\0\0\0,f\0\0" + bytes(4)
    for _ in range(9):
        bundles = [bundles]
    with pytest.raises(FrameError, match="expected an OSC bundle"):
        check_packet(packed(bundles), b"/pose")


def test_it_listens_on_this_machine_alone() -> None:
    for host in ("0.0.0.0", "", "192.168.1.7", "::"):
        with pytest.raises(ServeError, match="can be reached from other machines"):
            OscSource(host, 0, POINTS)
    with closing(OscSource("127.0.0.1", 0, POINTS)) as first, pytest.raises(ServeError, match="choose another port"):
        OscSource("127.0.0.1", first.port, POINTS)
