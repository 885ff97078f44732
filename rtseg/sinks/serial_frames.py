"""The frames between the serial sink and the sketch, as `sketch/rtseg_line/rtseg_line.h` has them.

14 bytes: a start byte, kind, line, number, event, value, and a CRC-16 of all but the start byte. No port is known here.
"""

from __future__ import annotations

import binascii
import struct
from typing import NamedTuple

VERSION = 1
LINES = 8
"""Lines that a board has; each is a pin."""
HELLO, SETUP, TURN_ON, KEEP_ON, TURN_OFF, PING = 1, 2, 3, 4, 5, 6
READY, SET_UP, IS_ON, IS_OFF, OVER, REFUSED, PONG, FAULT = 65, 66, 67, 68, 69, 70, 71, 72
PIN, PERIOD_US, WIDTH_US, MAX_ON_US = 1, 2, 3, 4
"""What SETUP sets, in its field event."""
REFUSALS = {1: "no such line", 2: "the sketch may not drive this pin", 3: "a value out of range", 4: "not set up"}
FAULTS = {1: "a damaged frame", 2: "a frame out of order", 3: "the computer was silent"}
LONGEST_LEASE_US = 60_000_000
LONGEST_ON_US = 0x7FFFFFFF
START = 0xA5
_BODY = struct.Struct("<BBBII")
_CRC = struct.Struct("<H")
FRAME_BYTES = 1 + _BODY.size + _CRC.size


class Frame(NamedTuple):
    """One frame. number: counts up, mod 256. event, value: 32 bits, by kind."""

    kind: int
    line: int
    number: int
    event: int
    value: int

    def pack(self) -> bytes:
        """As bytes."""
        body = _BODY.pack(self.kind, self.line, self.number & 0xFF, self.event & 0xFFFFFFFF, self.value)
        return bytes([START]) + body + _CRC.pack(binascii.crc_hqx(body, 0xFFFF))


class FrameReader:
    """Frames out of bytes as they come. damaged: bytes that belonged to none."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self.damaged = 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now."""
        self._bytes += data
        frames = []
        while len(self._bytes) >= FRAME_BYTES or (self._bytes and self._bytes[0] != START):
            body = bytes(self._bytes[1 : 1 + _BODY.size])
            if self._bytes[0] == START and self._bytes[FRAME_BYTES - 2 : FRAME_BYTES] == _CRC.pack(
                binascii.crc_hqx(body, 0xFFFF)
            ):
                frames.append(Frame(*_BODY.unpack(body)))
                del self._bytes[:FRAME_BYTES]
                continue
            # A start byte may also be a value: the next one in what is here may begin a frame.
            following = self._bytes.find(START, 1)
            skip = following if following > 0 else len(self._bytes)
            self.damaged += skip
            del self._bytes[:skip]
        return frames
