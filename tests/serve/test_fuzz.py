"""Whatever comes over the wire: no crash, no fault, and others notice nothing. A million inputs: benchmarks/fuzz.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.fuzz import Fuzz, Quiet, parse_anything
from benchmarks.fuzz_inputs import Mutator, is_stop, packed
from rtseg.client import ask_status
from rtseg.frames.skeleton import MICE7
from rtseg.wire.fields import MessageError
from rtseg.wire.messages import parse_frame, unpack
from tests.live import HELLO, Raw, daemon, frame_of, random_walk

NAMES = ("v", "type", "stream", "seq", "t_source_ns", "kp", "conf", "skeleton", "fps", "arena", "names", "bundle")
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.sampled_from(["hello", "bye", "status", "load", 1, 30.0, b"\x00\x00\xc0\x7f" * 28])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9) | st.sampled_from(NAMES), inner),
    max_leaves=20,
)
WALK = random_walk(200, 9)
VALID: tuple[dict[str, Any], ...] = (
    HELLO | {"clock": "camera", "arena": [0.0, 0.0, 9.0, 9.0], "names": {}},
    frame_of(WALK, 0),
    {"v": 1, "type": "bye", "stream": "cage1"},
    {"v": 1, "type": "load", "bundle": "/nowhere", "stream": "cage1"},
)


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """A valid message with a field changed, missing or added, or some of its bytes."""
    message = dict(draw(st.sampled_from(VALID)))
    way = draw(st.sampled_from(["field", "missing", "added", "bytes", "cut"]))
    if way == "field":
        message[draw(st.sampled_from(sorted(message)))] = draw(VALUES)
    elif way == "missing":
        message.pop(draw(st.sampled_from(sorted(message))))
    elif way == "added":
        message[draw(st.text(max_size=20))] = draw(VALUES)
    data = bytearray(packed(message))
    if way == "bytes":
        for place, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
            data[place] = byte
    return bytes(data[: draw(st.integers(0, len(data)))] if way == "cut" else data)


INPUTS = st.binary(max_size=400) | VALUES.map(packed) | nearly_valid()


@given(INPUTS)
@settings(max_examples=400, deadline=None)
def test_a_parser_gives_a_message_or_an_error_with_its_reason(data: bytes) -> None:
    parse_anything(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x91" * 5000,
        b"\x81\xa1x" * 5000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\x7f\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdc\xff\xff" + b"\xc0" * 65535,
        msgpack.packb({"v": 1, "x": msgpack.Timestamp(0, 0)}),
        msgpack.packb({1: 1}),
        b"\x91" * 900 + b"\xc0\xc0",  # deep, and more behind it: found by atheris
        msgpack.packb({"v": True}),
        b"",
    ],
)
def test_lengths_and_depths_that_a_parser_must_not_believe(data: bytes) -> None:
    with pytest.raises(MessageError):
        unpack(data)


def test_a_value_that_is_nested_too_deeply_to_be_shown() -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    for field in ("seq", "kp", "stream", "conf"):
        with pytest.raises(MessageError, match=f"field '{field}'.* got list of length 1"):
            parse_frame(unpack(packed(frame_of(WALK, 0) | {field: deep})))


def test_what_is_nearly_a_frame_is_none() -> None:
    frame = unpack(packed(frame_of(WALK, 0)))
    for name, value in (("seq", True), ("seq", 2**63), ("seq", 1.0), ("kp", "x"), ("stream", b"x"), ("conf", 0)):
        with pytest.raises(MessageError, match=f"field '{name}'"):
            parse_frame(frame | {name: value})


def test_a_daemon_under_fire_serves_the_others_bit_for_bit(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, capacity=16) as child:
        quiet = Quiet(child.frames, tiny_bundle, 100)
        fuzz = Fuzz(child.frames, Mutator(MICE7, 30.0, seed=1), quiet)
        for _ in range(20):
            fuzz.send_batch(200)
        for _ in range(10):
            fuzz.send_junk()
        with Raw(child.frames) as raw:
            under_fire(raw, quiet, child.frames)
        while quiet.sent < len(quiet.walk):
            quiet.send()
        assert (quiet.answered, quiet.differing, fuzz.faults) == (100, [], [])
        frames = ask_status(child.frames)["counters"]["frames"]
        assert frames > 200  # rubbish that is never taken tests the door only
        quiet.close()
        fuzz.close()


def under_fire(raw: Raw, quiet: Quiet, frames: str) -> None:
    """Hypothesis's inputs, with what it has learnt about finding faults."""

    @given(st.lists(INPUTS, min_size=1, max_size=20))
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    def fire(inputs: list[bytes]) -> None:
        for data in inputs:
            if not is_stop(data):
                raw.send(data)
        quiet.send()
        ask_status(frames, timeout_s=30)
        while raw.socket.poll(0):
            answer = raw.receive()
            assert answer.get("kind") != "internal", answer

    fire()
    np.testing.assert_array_equal(quiet.differing, [])
