"""What waits at the daemon's socket, taken in one compiled call: frames come decoded, everything else as it came.

A message's cost in Python is what limits how many cameras a core can serve; of a frame, receiving, reading and checking
need none. Every rule stands elsewhere and is called from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import zmq
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps, libzmq
from rtseg.compiled.libzmq import (
    CLOCK,
    CLOSE,
    DATA,
    DONTWAIT,
    GET,
    GETS,
    INIT,
    MESSAGE_WORDS,
    MONOTONIC,
    MORE,
    RECV,
    SIZE,
    SOURCE_FD,
    call,
)
from rtseg.frames.frame import Float32
from rtseg.wire import frame_parser
from rtseg.wire.frame_parser import N_FIELDS, SEQ, SOURCE_NS, STREAM, STREAM_BYTES

ParsedFrame = tuple[bytes, int, int, Float32, Float32]
"""A frame: its stream's name, seq, t_source_ns, keypoints (A, K, 2) and confidence (A, K), checked and cleaned."""
Sender = tuple[bytes, int]
"""Public half of a connection's key (Z85), empty where it has none, and its file descriptor."""
ReceivedMessage = tuple[bytes, bytes, int, ParsedFrame | None, int, Sender | None]
"""Routing id, bytes, when it came (the monotonic clock), the frame where it plainly is one, how many parts it had, and
whose it is where that was asked for."""
_PARTS, _ID, _ID_END, _START, _STOP, _RECEIVED_NS, _PLAIN = range(7)
_NAME, _NAME_END, _SEQ, _SOURCE_NS, _KEY, _KEY_END, _FD, _USED = range(7, 15)
"""What is told of a message: where its two parts stand among the bytes, and a plain frame's name and numbers."""
_WORDS = _USED + N_FIELDS
_USER_ID = b"User-Id\0"
"""What libzmq calls the public half of a sender's key among a message's properties."""
_KEY_CHARACTERS = 40
HEADERS_ONLY = 0, 0
_STAMP = cache_stamps.of(libzmq, frame_parser, array_tables, *frame_parser.RULES)


class BatchReceiver:
    """Takes messages of two parts, a routing id and bytes, from a ROUTER socket.

    functions: `libzmq.addresses`. most: messages a call. shape: (A, K) of the frames that are decoded here, others come
    as they came; HEADERS_ONLY: names and numbers of all frames are read. keyed: whether every message's sender is told.
    The socket must have a MAXMSGSIZE.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        functions: NDArray[np.int64],
        most: int,
        shape: tuple[int, int],
        *,
        keyed: bool = False,
    ) -> None:
        self._user_id = array_tables.address(_USER_ID) if keyed else 0
        self.shape, self._points = shape, (most, *shape, 2)
        self._largest = cast(int, socket.getsockopt(zmq.MAXMSGSIZE)) + 512  # with its routing id and its key
        assert self._largest > 512
        self._data = np.empty(2 * self._largest, np.uint8)
        told = np.zeros((most, _WORDS), np.int64)
        self._kept = functions, np.zeros(MESSAGE_WORDS, np.int64), self._data, np.zeros(2, np.int64), told
        self._table, self._told = array_tables.table(*self._kept), told.reshape(-1).data
        self._socket, self._handle = socket, socket.underlying  # the handle is the socket's as long as that lives

    def receive_messages(self) -> list[ReceivedMessage]:
        """What waits, in order; nothing where nothing does."""
        keypoints, confidence = np.empty(self._points, np.float32), np.empty(self._points[:-1], np.float32)
        n, used = _receive(self._handle, self._table, self._largest, self._user_id, keypoints, confidence)
        data, told = self._data[:used].tobytes(), self._told[: n * _WORDS].tolist()
        messages: list[ReceivedMessage] = []
        for i, at in enumerate(range(0, n * _WORDS, _WORDS)):
            parts, owner, owner_end, start, stop, received_ns, is_plain = told[at : at + _NAME]
            name, name_end, seq, t_ns, key, key_end, descriptor = told[at + _NAME : at + _USED]
            plain = (data[name:name_end], seq, t_ns, keypoints[i], confidence[i]) if is_plain else None
            sender = (data[key:key_end], descriptor) if self._user_id else None
            messages.append((data[owner:owner_end], data[start:stop], received_ns, plain, parts, sender))
        return messages


def parse_messages(clients: Sequence[tuple[bytes, int, bytes]], shape: tuple[int, int]) -> list[ReceivedMessage]:
    """The same of messages that came some other way: routing id, when it came, bytes."""
    n = len(clients)
    data = b"".join([each for _, _, each in clients])
    ends = np.cumsum([len(each) for _, _, each in clients])
    keypoints, confidence = np.empty((n, *shape, 2), np.float32), np.empty((n, *shape), np.float32)
    rows = np.zeros((n, _WORDS), np.int64)
    _read(np.frombuffer(data, np.uint8), ends, rows, keypoints, confidence)
    messages: list[ReceivedMessage] = []
    for i, ((owner, t_recv_ns, each), row) in enumerate(zip(clients, rows.tolist(), strict=True)):
        plain = None
        if row[_PLAIN]:
            name = data[row[_NAME] : row[_NAME_END]]
            plain = name, row[_SEQ], row[_SOURCE_NS], keypoints[i], confidence[i]
        messages.append((owner, each, t_recv_ns, plain, 1, None))
    return messages


@njit(cache=True)
def _copy(data: NDArray[np.uint8], at: int, source: NDArray[np.uint8]) -> int:
    for i in range(len(source)):
        data[at + i] = source[i]
    return at + len(source)


def _compiled(stamp: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Both calls. stamp: of the files of what is compiled into them."""

    @njit(cache=False)
    def take(data: NDArray[np.uint8], row: NDArray[np.int64], keypoints: Float32, confidence: Float32) -> None:
        """One message from row's start to stop, where it is plainly a frame."""
        fields = row[_USED:]
        row[_PLAIN] = frame_parser.read(data, row[_START], row[_STOP], fields)
        if row[_PLAIN] and confidence.size:
            row[_PLAIN] = frame_parser.points(data, fields, keypoints, confidence)
        row[_NAME], row[_NAME_END] = fields[STREAM], fields[STREAM] + fields[STREAM_BYTES]
        row[_SEQ], row[_SOURCE_NS] = fields[SEQ], fields[SOURCE_NS]

    @njit(cache=True)
    def read(
        data: NDArray[np.uint8],
        ends: NDArray[np.int64],
        rows: NDArray[np.int64],
        keypoints: Float32,
        confidence: Float32,
    ) -> None:
        """All messages of which one begins where another ends."""
        _ = stamp
        start = 0
        for n in range(len(ends)):
            rows[n, _START], rows[n, _STOP] = start, ends[n]
            take(data, rows[n], keypoints[n], confidence[n])
            start = ends[n]

    @njit(cache=True)
    def receive(
        socket: int,
        at: array_tables.Table,
        largest: int,
        user_id: int,
        keypoints: Float32,
        confidence: Float32,
    ) -> tuple[int, int]:
        """(messages, bytes)."""
        _ = stamp
        functions, message = array_tables.int64s(at, 0), at[1, 0]
        data, time, told = array_tables.uint8s(at, 2), array_tables.int64s(at, 3), array_tables.int64s_2d(at, 4)
        n, used = 0, 0
        while n < len(told) and used + largest <= len(data):
            row = told[n]
            parts, more = 0, True
            while more:
                call(functions[INIT], message, 0, 0, 0)
                if np.int32(call(functions[RECV], message, socket, DONTWAIT, 0)) < 0:
                    call(functions[CLOSE], message, 0, 0, 0)
                    break
                if parts < 2:  # of a message with more parts these will do
                    size = min(call(functions[SIZE], message, 0, 0, 0), len(data) - used)  # MAXMSGSIZE sees to it
                    source = array_tables.uint8s_at(call(functions[DATA], message, 0, 0, 0), size)
                    row[_ID + 2 * parts] = used
                    used = row[_ID_END + 2 * parts] = _copy(data, used, source)
                parts += 1
                more = np.int32(call(functions[MORE], message, 0, 0, 0)) != 0
                if user_id and not more:
                    row[_FD] = np.int32(call(functions[GET], message, SOURCE_FD, 0, 0))
                    row[_KEY] = used
                    key = call(functions[GETS], message, user_id, 0, 0)
                    if key:  # as libzmq made it: always so long
                        used = _copy(data, used, array_tables.uint8s_at(key, _KEY_CHARACTERS))
                    row[_KEY_END] = used
                call(functions[CLOSE], message, 0, 0, 0)
            if not parts:
                break
            call(functions[CLOCK], MONOTONIC, at[3, 0], 0, 0)
            row[_PARTS], row[_RECEIVED_NS], row[_PLAIN] = parts - 1, time[0] * 1_000_000_000 + time[1], 0
            if parts == 2:
                take(data, row, keypoints[n], confidence[n])
            n += 1
        return n, used

    return read, receive


_read, _receive = _compiled(_STAMP)
