"""Poses over a plain ZeroMQ socket, as Bonsai and programs without msgpack send them: float32 numbers, or JSON.

A frame is one message, of one or several parts, and its last part is the pose. Binds to loopback alone: ZeroMQ without
keys takes frames from whoever reaches the port.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter

import numpy as np
import zmq
from zmq.utils.monitor import recv_monitor_message

from rtseg.errors import FrameError, ServeError
from rtseg.sources.bridge import SourceFrame
from rtseg.sources.points import MAX_FRAME, DeclaredPoints, frame_number
from rtseg.sources.senders import Senders
from rtseg.wire.addresses import is_loopback

FORMATS = ("float32", "json")
SOCKETS = ("pull", "sub")
MAX_MESSAGE_BYTES = 4_000_000
"""JSON of the largest stream (4,096 points) has a tenth of it."""
_FIELDS = {"pose", "frame", "time"}
_CONNECTIONS = zmq.EVENT_ACCEPTED | zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED


class ZmqSource:
    """Frames from a PULL or SUB socket.

    address: tcp://HOST:PORT or ipc://PATH. bind: whether to listen there rather than to connect. form: float32, little-
    endian values in the order of `points`, with the frame's number (8 bytes, little-endian) in a part before them, if
    there is one; or json, `{"pose": ..., "frame": 12, "time": 0.4}` or the pose alone (docs/sources/bonsai.md). With
    SUB the first of several parts is the topic. Raises ServeError for an address that cannot be used, and for one to
    listen at that reaches beyond this machine.
    """

    def __init__(
        self,
        address: str,
        points: DeclaredPoints,
        *,
        form: str = "float32",
        socket: str = "pull",
        bind: bool = True,
        topic: str = "",
    ) -> None:
        for what, value, known in (("format", form, FORMATS), ("socket", socket, SOCKETS)):
            if value not in known:
                raise ServeError(f"{what}: expected one of {', '.join(known)}, got {value!r}")
        if topic and socket != "sub":
            raise ServeError(f"topic {topic!r}: only a SUB socket has topics; add --socket sub, or leave it out")
        self._points, self._is_json, self._is_sub = points, form == "json", socket == "sub"
        self.skeleton, self.clock, self._topic = points.skeleton, "source", topic.encode()
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB if self._is_sub else zmq.PULL)
        self._socket.setsockopt(zmq.LINGER, 0)
        # What is larger is no pose; without a limit a stranger's message could take all memory.
        self._socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        if self._is_sub:
            self._socket.subscribe(topic)
        self.address = open_socket(self._socket, address, bind=bind)
        self._monitor: zmq.Socket[bytes] = self._socket.get_monitor_socket(_CONNECTIONS)
        self._senders, self._connections = Senders(), Counter[int]()

    def receive(self, timeout_s: float) -> SourceFrame | None:
        """See `bridge.Source`."""
        if not self._socket.poll(max(0, math.ceil(timeout_s * 1000))):
            return None
        frames = self._socket.recv_multipart(copy=False)
        parts = [frame.bytes for frame in frames]
        if self._is_sub and len(parts) > 1:
            # ZeroMQ compares topics by their beginning: `cage1` would hear `cage10` as well.
            if self._topic and parts[0] != self._topic:
                return None
            parts = parts[1:]
        elif self._topic:
            raise FrameError(f"expected the topic {self._topic.decode()!r} in a part of its own before the pose")
        begins = self._take(frames[0])
        frame = self._from_json(parts) if self._is_json else self._from_float32(parts)
        # Where the sender numbers its frames or says when they were, that says what lies between.
        return frame._replace(begins=begins and frame.number is None and frame.t_ns is None)

    def close(self) -> None:
        """Close the socket."""
        if not self._socket.closed:
            self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _take(self, message: zmq.Frame) -> bool:
        """Whether a message is the first one of another connection, after the one whose frames were taken has ended."""
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            descriptor = event["value"]
            if event["event"] == zmq.EVENT_DISCONNECTED:
                self._senders.end((descriptor, self._connections[descriptor]))
            else:
                self._connections[descriptor] += 1  # a number is given again once its connection has ended
        descriptor = int(message.get(zmq.SRCFD))
        return self._senders.take((descriptor, self._connections[descriptor]), time.monotonic())

    def _from_float32(self, parts: list[bytes]) -> SourceFrame:
        number = None
        if len(parts) > 2 or (len(parts) == 2 and len(parts[0]) != 8):
            sizes = ", ".join(str(len(part)) for part in parts)
            raise FrameError(
                f"expected the pose, or the frame's number (8 bytes) and the pose, got parts of {sizes} bytes"
            )
        if len(parts) == 2:
            number = int.from_bytes(parts[0], "little")
            if number > MAX_FRAME:
                raise FrameError(f"expected a frame's number below 2^63 as 8 bytes, little-endian, got {number}")
        if len(parts[-1]) % 4:
            raise FrameError(f"expected float32 values of 4 bytes each, got {len(parts[-1])} bytes")
        return SourceFrame(self._points.from_flat(np.frombuffer(parts[-1], "<f4")), number)

    def _from_json(self, parts: list[bytes]) -> SourceFrame:
        if len(parts) != 1:
            raise FrameError(f"expected JSON in one message part, got {len(parts)}")
        return frame_from_json(parts[0], self._points)


def frame_from_json(data: bytes, points: DeclaredPoints) -> SourceFrame:
    """A frame from JSON: `{"pose": ..., "frame": number, "time": seconds}`, or the pose alone. Raises FrameError."""
    try:
        message = json.loads(data, object_pairs_hook=_map_of)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"expected JSON, got {data[:40]!r}: {str(error)[:100]}") from None
    number = t_ns = None
    pose: object = message
    if isinstance(message, dict) and "pose" in message:
        unknown = set(message) - _FIELDS
        if unknown:
            raise FrameError(f"expected the fields {', '.join(sorted(_FIELDS))}, got also {', '.join(sorted(unknown))}")
        pose = message["pose"]
        number = None if message.get("frame") is None else frame_number(message["frame"])
        t_ns = None if message.get("time") is None else nanoseconds(message["time"])
    return SourceFrame(points.from_nested(pose), number, t_ns)


def _map_of(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A map of JSON, in which Python would let the last one of two equal names win."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise FrameError(f"expected every name once, got {twice[:40]!r} twice")
    return found


def nanoseconds(seconds: object) -> int:
    """A time in seconds as ns, as frames carry it. Raises FrameError for what is none, or before 0."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < MAX_FRAME / 1e9:
        raise FrameError(f"expected a time in seconds from 0 on, got {str(seconds)[:40]!r}")
    return round(seconds * 1e9)


def open_socket(socket: zmq.Socket[bytes], address: str, *, bind: bool) -> str:
    """Bind a socket on this machine, or connect it; the address that it has. Where it cannot be had, the socket is
    closed and ServeError raised.
    """
    try:
        if bind:
            socket.bind(local_address(address))
        else:
            socket.connect(address)
    except (zmq.ZMQError, ServeError) as error:
        socket.close()
        if isinstance(error, ServeError):
            raise
        raise ServeError(f"address {address!r}: expected tcp://HOST:PORT or ipc://PATH: {error}") from None
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))


def local_address(address: str) -> str:
    """The address, if it can be reached from this machine alone. Raises ServeError."""
    scheme, _, rest = address.partition("://")
    host, colon, _ = rest.rpartition(":")
    if scheme == "tcp" and colon and not is_loopback(host):
        raise ServeError(f"address {address!r} {beyond_this_machine('tcp://127.0.0.1:PORT')}")
    # libzmq knows localhost only as a name of both families.
    return address.replace("tcp://localhost:", "tcp://127.0.0.1:")


def beyond_this_machine(instead: str) -> str:
    """Why a source listens on loopback alone, and what to do: for errors."""
    return (
        f"can be reached from other machines, which such a source cannot tell apart: listen at {instead} on the "
        "sender's machine, and send on from there with a key (--to tcp://HOST:PORT --key FILE; docs/security.md)"
    )
