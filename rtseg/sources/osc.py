"""Poses over OSC (UDP), as Bonsai, Max and TouchDesigner send them: one message a frame, its arguments the values.

Listens on loopback alone: OSC knows no sender. The protocol is python-osc's to read.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Hashable

import numpy as np

from rtseg.errors import FrameError, ServeError, needs_extra
from rtseg.sources.bridge import SourceFrame
from rtseg.sources.points import DeclaredPoints, frame_number
from rtseg.sources.senders import OtherSenderError, Senders
from rtseg.sources.zeromq import beyond_this_machine
from rtseg.wire.addresses import is_loopback

BUFFER_BYTES = 4_000_000
"""Asked of the system for what waits; it gives what it allows."""
MOST_NESTED = 8
"""Bundles within bundles, arrays within arrays."""
_BUNDLE = b"#bundle\0"
_BUNDLE_HEAD_BYTES = 16
_TYPES = frozenset(b"ifhdsbrmtTFN[]")
"""The types of arguments that python-osc reads. What it does not know it leaves out, and what follows is read from the
wrong place."""


class OscSource:
    """Frames from an OSC address such as /pose.

    host, port: where to listen; port 0 = a free one, see `port`. The arguments of a message are the values in the order
    of `points`, alone or after the frame's number, and may stand in arrays or in a blob of float32. Messages to other
    addresses are left aside; those of a bundle are frames in its order. Raises ServeError where the port cannot be had
    or the host is another than this machine, and RtsegError without python-osc.
    """

    def __init__(self, host: str, port: int, points: DeclaredPoints, *, address: str = "/pose") -> None:
        try:
            from pythonosc import osc_packet
        except ImportError:
            raise needs_extra("python-osc", "osc", "Receiving OSC") from None
        self._packet, self._parse_error = osc_packet.OscPacket, osc_packet.ParseError
        if not is_loopback(host):
            raise ServeError(f"OSC at {host}:{port} {beyond_this_machine('127.0.0.1')}")
        self._points, self._address = points, address
        self.skeleton, self.clock = points.skeleton, "monotonic"
        self._waiting: list[list[object]] = []
        self._senders, self._begins = Senders(), False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.setblocking(False)
        try:
            self._socket.bind((host.strip("[]"), port))
        except OSError as error:
            self._socket.close()
            raise ServeError(f"OSC at {host}:{port}: {error.strerror or error}; choose another port") from None
        self.port = int(self._socket.getsockname()[1])

    def receive(self, timeout_s: float) -> SourceFrame | None:
        """See `bridge.Source`."""
        if not self._waiting:
            if not select.select([self._socket], [], [], timeout_s)[0]:
                return None
            data, sender = self._socket.recvfrom(65_536)
            self._read_packet(data)
            if self._waiting:  # what is for other addresses may be of other programs
                self._take(sender)
        return self._frame_of(self._waiting.pop(0)) if self._waiting else None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _read_packet(self, data: bytes) -> None:
        check_packet(data, self._address.encode())
        try:
            messages = [timed.message for timed in self._packet(data).messages]
        except (self._parse_error, ValueError, IndexError) as error:
            raise FrameError(f"expected an OSC message, got {len(data)} bytes: {str(error)[:100]}") from None
        self._waiting += [message.params for message in messages if message.address == self._address]

    def _take(self, sender: Hashable) -> None:
        try:
            self._begins = self._senders.take(sender, time.monotonic())
        except OtherSenderError:
            self._waiting.clear()
            raise

    def _frame_of(self, params: list[object]) -> SourceFrame:
        begins, self._begins = self._begins, False
        number, values = None, flat(params)
        # One value more than the points need can be nothing else.
        if len(values) == self._points.n_values + 1:
            number, values = frame_number(values[0]), values[1:]
        return SourceFrame(self._points.from_flat(values), number, begins=begins and number is None)


def check_packet(data: bytes, address: bytes, nested: int = 0) -> None:
    """Raise FrameError for a packet that python-osc would never finish, or whose values it would read wrongly.

    address: of the messages whose arguments matter.
    """
    if not data.startswith(_BUNDLE):
        _check_arguments(data, address)
        return
    at = _BUNDLE_HEAD_BYTES
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4
        if size <= 0 or at + size > len(data) or nested == MOST_NESTED:
            raise FrameError(f"expected an OSC bundle, got {len(data)} bytes with an element of {size} at byte {at}")
        check_packet(data[at : at + size], address, nested + 1)
        at += size


def _check_arguments(data: bytes, address: bytes) -> None:
    """The types of a message's arguments, which stand after its address; each text ends in a 0 at a multiple of 4."""
    found, _, _ = data.partition(b"\0")
    if found != address:
        return
    types, _, _ = data[(len(found) // 4 + 1) * 4 :].partition(b"\0")
    if unknown := set(types[1:]) - _TYPES:
        shown = ", ".join(repr(chr(kind)) for kind in sorted(unknown))
        raise FrameError(f"expected numbers (OSC's types f, d, i, h), got arguments of type {shown}")
    depth = 0
    for kind in types:
        depth += (kind == ord("[")) - (kind == ord("]"))
        if depth > MOST_NESTED:
            raise FrameError(f"expected arrays within {MOST_NESTED} others at most")


def flat(values: list[object]) -> list[object]:
    """The values with those of arrays and of blobs among them, in order; a blob is float32, little-endian, as Bonsai
    packs arrays of floats. Raises FrameError for blobs of another length."""
    found: list[object] = []
    for value in values:
        if isinstance(value, bytes):
            if len(value) % 4:
                raise FrameError(f"expected a blob of float32 values, 4 bytes each, got {len(value)} bytes")
            found += np.frombuffer(value, "<f4").tolist()
        else:
            found += flat(value) if isinstance(value, list) else [value]
    return found
