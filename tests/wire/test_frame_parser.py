"""Frames parsed by compiled code are those that the general rules read; whatever leaves a doubt is left to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.wire.fields import MessageError
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
from rtseg.wire.messages import MAX_INTEGER, FrameMessage, frame_message, parse_frame, parse_to_daemon
from tests.live import REPO

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


@pytest.mark.parametrize("name", ["v", "stream", "seq", "t_source_ns", "kp", "conf"])
def test_a_field_that_comes_twice_is_no_plain_frame(name: str) -> None:
    """The general rules refuse it then (`fields.check_fields_once`)."""
    message = frame_message("cage", 77, 5, b"12345678", b"1234")
    once = msgpack.packb(message)
    assert compiled(once) == general(once)
    twice = bytes([once[0] + 1]) + once[1:] + msgpack.packb(name) + msgpack.packb(message[name])
    assert compiled(twice) is None


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
