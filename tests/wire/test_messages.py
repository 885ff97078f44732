"""Wire messages: what goes in comes out, and any bytes give a message or an error, never a crash."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.errors import RtsegError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.wire.fields import MessageError, check_fields_once
from rtseg.wire.messages import (
    FLOAT32,
    Hello,
    PredictionMessage,
    Served,
    StreamEvent,
    frame_message,
    parse_bye,
    parse_frame,
    parse_published,
    parse_to_daemon,
    unpack,
)

TEXT = st.text("ab_é🐁 \n\0", max_size=8)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | TEXT | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
HELLO = Hello("cage1", MICE7, 30.0, arena=(0.0, 0.0, 1024.0, 570.0), names={"nose": "snout"}).to_message()
FRAME = frame_message("cage1", 3, 5, b"\0" * 112, None)


def take(data: bytes) -> str:
    """What the daemon does with bytes before it looks at its streams."""
    kind, message = parse_to_daemon(data)
    check_fields_once(data, kind, message)
    if kind == "hello":
        Hello.from_message(message)
    elif kind == "frame":
        parse_frame(message)
    elif kind == "bye":
        parse_bye(message)
    return kind


def said(data: bytes) -> str:
    """The kind of message, or what its sender is told. Any other exception than ours fails the test."""
    try:
        return take(data)
    except RtsegError as error:
        return str(error)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    assert said(data)


@given(st.dictionaries(st.sampled_from([*HELLO, *FRAME, "type", "x"]), PLAIN))
def test_any_map_is_a_message_or_an_error(fields: dict[str, Any]) -> None:
    assert 0 < len(said(msgpack.packb({"v": 1} | fields))) < 2000


def packed_twice(message: dict[str, Any], name: str) -> bytes:
    """The message with one of its fields once more at the end."""
    packer = msgpack.Packer(autoreset=False)
    packer.pack_map_header(len(message) + 1)
    for key, value in [*message.items(), (name, message[name])]:
        packer.pack(key)
        packer.pack(value)
    return bytes(packer.bytes())


@pytest.mark.parametrize("name", ["stream", "seq", "kp"])
def test_a_field_that_comes_twice_is_an_error(name: str) -> None:
    """Of the two, msgpack would keep the last one without a word."""
    assert f"field '{name}': expected once, got twice: " in said(packed_twice(FRAME, name))
    assert "field 'fps': expected once, got twice: 30.0, 30.0" in said(packed_twice(HELLO, "fps"))
    assert "expected once, got twice" in said(packed_twice({**FRAME, **{f"x{i}": 0 for i in range(20)}}, name))
    # Within a field: nose is called snout, and then neck.
    inner = packed_twice({"nose": "snout"}, "nose")
    hello = msgpack.packb(HELLO).replace(msgpack.packb({"nose": "snout"}), inner)
    assert "field 'nose': expected once, got twice: 'snout', 'snout'" in said(hello)


@pytest.mark.parametrize("whole", [HELLO, FRAME], ids=["hello", "frame"])
@given(data=st.data())
def test_a_good_message_with_one_field_spoilt_is_a_message_or_an_error(
    whole: dict[str, Any], data: st.DataObject
) -> None:
    key = data.draw(st.sampled_from(sorted(whole)))
    assert said(msgpack.packb(whole | {key: data.draw(PLAIN)}))


@given(st.sampled_from([HELLO, FRAME]), st.data())
def test_cut_and_changed_bytes_are_a_message_or_an_error(whole: dict[str, Any], data: st.DataObject) -> None:
    packed = bytearray(msgpack.packb(whole))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    packed = packed[: data.draw(st.integers(0, len(packed)))]
    assert said(bytes(packed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\xc1",
        b"\x91" * 5000,  # too deep
        b"\xdd\x7f\xff\xff\xff",  # a list of 2^31 items in 5 bytes
        b"\xdf\xff\xff\xff\xff",  # a map of 2^32
        b"\xc6\xff\xff\xff\xff",  # 4 GB of bytes
        b"\x81\xa1v\xc7\x00\x03",  # an empty extension
        msgpack.packb({"v": 1, "stream": msgpack.Timestamp(5)}),
        msgpack.packb({"v": 1, 5: 5}),
        b"\x81\xa1\xff\x01",  # not UTF-8
        msgpack.packb(FRAME) + b"\x00",
        msgpack.packb([1, 2]),
        msgpack.packb(FRAME | {"v": 2}),
        msgpack.packb(FRAME | {"v": True}),
        msgpack.packb(FRAME | {"v": 1.0}),
        msgpack.packb(FRAME | {"type": None}),
        msgpack.packb(FRAME | {"type": ["hello"]}),
        msgpack.packb(FRAME | {"type": "prediction"}),
        msgpack.packb(FRAME | {"seq": -1}),
        msgpack.packb(FRAME | {"seq": 2**63}),
        msgpack.packb(FRAME | {"seq": True}),
        msgpack.packb(FRAME | {"kp": "text"}),
        msgpack.packb(FRAME | {"conf": [0.5]}),
        msgpack.packb(FRAME | {"confidence": b""}),
        msgpack.packb({"v": 1}),
        msgpack.packb({"v": 1, "type": "bye"}),
        msgpack.packb(HELLO | {"fps": float("nan")}),
        msgpack.packb(HELLO | {"fps": 0}),
        msgpack.packb(HELLO | {"fps": "30"}),
        msgpack.packb(HELLO | {"arena": [0, 0, 1]}),
        msgpack.packb(HELLO | {"arena": [5, 0, 1, 1]}),
        msgpack.packb(HELLO | {"stream": ""}),
        msgpack.packb(HELLO | {"stream": "a\nb"}),
        msgpack.packb(HELLO | {"skeleton": {"animals": "ab", "keypoints": ["a"]}}),
        msgpack.packb(HELLO | {"skeleton": {"animals": ["a"], "keypoints": ["a"], "legs": 4}}),
        msgpack.packb(HELLO | {"skeleton": {"animals": ["a"] * 2, "keypoints": ["a"]}}),
        msgpack.packb(HELLO | {"names": {"tail": "nose"}}),
        msgpack.packb(HELLO | {"skeleton": {"animals": ["a"], "keypoints": [f"k{i}" for i in range(5000)]}}),
        msgpack.packb(HELLO | {"rate": 30}),
    ],
)
def test_refused(data: bytes) -> None:
    with pytest.raises(RtsegError):
        take(data)


def test_an_error_names_the_field_and_what_came() -> None:
    with pytest.raises(MessageError, match=r"'seq': expected an integer in 0 .. 2\^63-1, got 'five'"):
        parse_frame(FRAME | {"seq": "five"})
    with pytest.raises(MessageError, match=r"unknown: 'rate'"):
        Hello.from_message(HELLO | {"rate": 30})
    with pytest.raises(MessageError, match=r"protocol version 1, got 7"):
        unpack(msgpack.packb({"v": 7}))


NAMES = st.text("abcXYZ019_-.é🐁", min_size=1, max_size=12)


@given(
    stream=NAMES,
    animals=st.lists(NAMES, min_size=1, max_size=4, unique=True),
    keypoints=st.lists(NAMES, min_size=1, max_size=8, unique=True),
    fps=st.floats(1e-3, 1e5),
    arena=st.none() | st.just((0.0, -5.0, 3.5, 1e4)),
)
def test_hello_survives_the_wire(
    stream: str, animals: list[str], keypoints: list[str], fps: float, arena: tuple[float, float, float, float] | None
) -> None:
    hello = Hello(stream, Skeleton(tuple(animals), tuple(keypoints)), fps, "camera", arena, {animals[0]: "resident"})
    assert Hello.from_message(unpack(msgpack.packb(hello.to_message()))) == hello


@given(
    seq=st.integers(0, 2**63 - 1),
    t_source_ns=st.integers(0, 2**63 - 1),
    kp=st.binary(max_size=64),
    conf=st.none() | st.binary(max_size=32),
)
def test_frame_survives_the_wire(seq: int, t_source_ns: int, kp: bytes, conf: bytes | None) -> None:
    message = unpack(msgpack.packb(frame_message("cage1", seq, t_source_ns, kp, conf)))
    assert parse_frame(message) == ("cage1", seq, t_source_ns, kp, conf)


def test_optional_hello_fields_have_defaults() -> None:
    needed = {key: HELLO[key] for key in ("v", "type", "stream", "skeleton", "fps")}
    hello = Hello.from_message(unpack(msgpack.packb(needed)))
    assert (hello.clock, hello.arena, hello.names) == ("unknown", None, {})


def test_published_messages() -> None:
    plain = {
        "v": 1,
        "stream": "a",
        "seq": 1,
        "t_source_ns": 2,
        "t_recv_ns": 3,
        "t_pub_ns": 4,
        "quality": 1,
        "model": "m",
    }
    plain |= {"probs": {"h": np.array([0.25, 0.75], FLOAT32).tobytes()}, "label": {"h": "x"}, "event": {}}
    prediction = parse_published(unpack(msgpack.packb(plain)))
    assert isinstance(prediction, PredictionMessage)
    np.testing.assert_array_equal(prediction.probs["h"], np.float32([0.25, 0.75]))
    event = parse_published(unpack(msgpack.packb({"v": 1, "type": "closed", "stream": "a", "reason": "bye"})))
    assert isinstance(event, StreamEvent)
    assert (event.type, event.stream, event.fields["reason"]) == ("closed", "a", "bye")
    for spoilt in ({"probs": 5}, {"probs": {"h": b"abc"}}):
        with pytest.raises(MessageError):
            parse_published(plain | spoilt)


def test_what_is_served_survives_the_wire() -> None:
    served = Served({"b": ("x", "y"), "a": ("p", "q", "r")}, 2, 30.0, "hash", "numba", "tcp://127.0.0.1:5758")
    back = Served.from_message(unpack(msgpack.packb({"v": 1} | served.to_fields())))
    assert back == served
    assert list(back.heads) == ["b", "a"]  # the order of the outputs
    with pytest.raises(MessageError):
        Served.from_message({"v": 1, "type": "accepted"})


def test_a_hello_says_how_many_px_are_a_mm_where_it_knows() -> None:
    hello = Hello("cage1", MICE7, 30.0, px_per_mm=1.5)
    assert Hello.from_message(unpack(msgpack.packb(hello.to_message()))).px_per_mm == 1.5
    assert "px_per_mm" not in Hello("cage1", MICE7, 30.0).to_message(), "older daemons know no such field"
    assert Hello.from_message(HELLO | {"px_per_mm": None}).px_per_mm is None
    for wrong in (0, -1.0, "2", True, float("nan"), float("inf"), [1.0], 1e-200, 1e200):
        with pytest.raises(MessageError, match="'px_per_mm'"):
            Hello.from_message(HELLO | {"px_per_mm": wrong})
