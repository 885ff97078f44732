"""Frames from bytes, whole, in pieces, damaged; and that the sketch, in C, understands the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from rtseg.sinks import serial_frames
from rtseg.sinks.serial_frames import FRAME_BYTES, START, Frame, FrameReader
from rtseg.sinks.simulated_board import SKETCH

BYTE, WORD = st.integers(0, 255), st.integers(0, 2**32 - 1)
FRAMES = st.lists(st.builds(Frame, BYTE, BYTE, BYTE, WORD, WORD), min_size=1, max_size=5)


@given(FRAMES, st.lists(st.integers(1, 40), max_size=10))
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames: Sequence[Frame], cuts: Sequence[int]) -> None:
    data, reader, found = b"".join(frame.pack() for frame in frames), FrameReader(), []
    for cut in [*cuts, len(data)]:
        found += reader.feed(data[:cut])
        data = data[cut:]
    assert found == frames
    assert not reader.damaged


@given(FRAMES, st.data())
def test_a_damaged_byte_never_makes_another_frame(frames: Sequence[Frame], data: st.DataObject) -> None:
    """Up to 16 bits in a row that differ are always found by the CRC."""
    packed = bytearray(b"".join(frame.pack() for frame in frames))
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    # What follows, so that a frame that lost its start is not waited for.
    reader = FrameReader()
    found = reader.feed(bytes(packed) + bytes(FRAME_BYTES))
    assert found == [frame for i, frame in enumerate(frames) if i != at // FRAME_BYTES]
    assert reader.damaged


@given(st.binary(max_size=60))
def test_noise_before_a_frame_is_left_out(noise: bytes) -> None:
    reader, frame = FrameReader(), Frame(serial_frames.PONG, 0, 1, 2, 3)
    # A start byte in the noise may take in the frame's first bytes: the same frame comes again, as heartbeats do.
    assert frame in reader.feed(noise + frame.pack() + frame.pack())


def test_the_sketch_has_the_same_numbers() -> None:
    header = (SKETCH / "rtseg_line" / "rtseg_line.h").read_text(encoding="utf-8")
    defined = dict(re.findall(r"#define RTSEG_(\w+) (\w+)", header))
    assert int(defined["VERSION"]) == serial_frames.VERSION
    assert int(defined["LINES"]) == serial_frames.LINES
    assert int(defined["FRAME"]) == FRAME_BYTES
    assert int(defined["START"], 16) == START
    assert int(defined["LONGEST_LEASE_US"].removesuffix("UL")) == serial_frames.LONGEST_LEASE_US
    numbers = {}
    for names in re.findall(r"^enum \{ (.*) \};", header, re.MULTILINE):
        number = 0
        for part in names.split(", "):
            name, _, first = part.partition(" = ")
            number = int(first) if first else number + 1
            numbers[name.removeprefix("RTSEG_")] = number
    same = {"ON": "TURN_ON", "RENEW": "KEEP_ON", "OFF": "TURN_OFF", "EXPIRED": "OVER"}
    for name in ("HELLO", "SETUP", "ON", "RENEW", "OFF", "PING", "READY", "SET_UP", "IS_ON", "IS_OFF", "EXPIRED"):
        assert numbers[name] == getattr(serial_frames, same.get(name, name)), name
    for name in ("REFUSED", "PONG", "FAULT", "PIN", "PERIOD_US", "WIDTH_US", "MAX_ON_US"):
        assert numbers[name] == getattr(serial_frames, name), name
