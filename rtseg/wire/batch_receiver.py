"""What waits at the daemon's socket, taken in one compiled call: frames come parsed, everything else as it came.

A message's cost in Python is what limits how many cameras a core can serve; of a frame, receiving, reading and checking
need none. Its rules are those of `frame_parser` and `frames.frame`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import zmq
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps, libzmq
from rtseg.compiled.array_tables import ArrayTable, TableRows, address_of, field_indices
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
from rtseg.wire.frame_parser import CLIPPED_FRAME, N_FIELDS, SEQ, SOURCE_NS, STREAM, STREAM_BYTES

Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]
ParsedFrame = tuple[bytes, int, int, Float32, Float32, bool]
"""A frame: its stream's name, seq, t_source_ns, keypoints (A, K, 2) and confidence (A, K), checked and cleaned, and
whether confidences were clipped."""
Sender = tuple[bytes, int]
"""Public half of a connection's key (Z85), empty where it has none, and its file descriptor."""
ReceivedMessage = tuple[bytes, bytes, int, ParsedFrame | None, int, Sender | None]
"""Routing id, bytes, when it came (the monotonic clock), the frame where it is one that `frame_parser` knows, how many
parts it had, and its sender where every message's is wanted. A plain tuple: making a named one takes a call."""
HEADERS_ONLY = 0, 0
"""In place of (A, K): names and numbers of all frames are read, and no points."""
_PARTS, _ID, _ID_END, _START, _STOP, _RECEIVED_NS, _IS_FRAME = range(7)
_NAME, _NAME_END, _SEQ, _SOURCE_NS, _KEY, _KEY_END, _FD, _USED = range(7, 15)
"""Columns of a message's row: where its two parts lie among the bytes, a parsed frame's name, numbers and sender."""
_WORDS = _USED + N_FIELDS
"""After them comes what `frame_parser.parse_frame_fields` writes."""
_USER_ID = b"User-Id\0"
"""What libzmq calls the public half of a sender's key among a message's properties."""
_KEY_CHARACTERS = 40
_ROUTING_ID_AND_KEY_BYTES = 512
"""More than both of them can have."""


class ReceiverArrays(NamedTuple):
    """What the compiled call works with.

    functions: libzmq's. message: room for a zmq_msg_t. data: room for the bytes of all messages, one after the other.
    time: for the clock. rows: (most, _WORDS), see _PARTS.
    """

    functions: I64
    message: I64
    data: Bytes
    time: I64
    rows: I64


_ARRAYS = field_indices(*ReceiverArrays._fields)


class BatchReceiver:
    """Takes messages of two parts, a routing id and bytes, from a ROUTER socket.

    functions: `libzmq.addresses`. most: messages a call. shape: (A, K) of the frames that are parsed here, others come
    as they came; or HEADERS_ONLY. keyed: whether every message comes with its sender. The socket must have a
    MAXMSGSIZE.
    """

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        functions: I64,
        most: int,
        shape: tuple[int, int],
        *,
        keyed: bool = False,
    ) -> None:
        self._user_id = address_of(_USER_ID) if keyed else 0
        self.shape, self._points_shape = shape, (most, *shape, 2)
        self._largest = cast(int, socket.getsockopt(zmq.MAXMSGSIZE)) + _ROUTING_ID_AND_KEY_BYTES
        # A socket without a limit says -1: then no room would be large enough.
        assert self._largest > _ROUTING_ID_AND_KEY_BYTES
        # Twice the largest: a call ends where a message of that size might not fit any more.
        self._data = np.empty(2 * self._largest, np.uint8)
        rows = np.zeros((most, _WORDS), np.int64)
        message, time = np.zeros(MESSAGE_WORDS, np.int64), np.zeros(2, np.int64)
        self._table = ArrayTable(ReceiverArrays(functions, message, self._data, time, rows))
        self._array_rows, self._found = self._table.rows, rows[:, :_USED]
        self._socket, self._handle = socket, socket.underlying  # the handle is the socket's as long as that lives

    def receive_messages(self) -> list[ReceivedMessage]:
        """All waiting messages, in order; an empty list where none waits."""
        # Fresh each time, for frames refer to them.
        keypoints, confidence = np.empty(self._points_shape, np.float32), np.empty(self._points_shape[:-1], np.float32)
        n, used = _receive(self._handle, self._array_rows, self._largest, self._user_id, keypoints, confidence)
        # One copy of all bytes and one list of all numbers; slices of them are cheaper than numpy's items, and so is to
        # go through arrays: all that is made here is made for every frame.
        data, messages, keyed = self._data[:used].tobytes(), list[ReceivedMessage](), self._user_id
        for row, points, scores in zip(self._found[:n].tolist(), keypoints, confidence, strict=False):
            parts, owner, owner_end, start, stop, came_ns, is_frame, name, name_end, seq, t_ns, key, key_end, fd = row
            frame = (data[name:name_end], seq, t_ns, points, scores, is_frame == CLIPPED_FRAME) if is_frame else None
            sender = (data[key:key_end], fd) if keyed else None
            messages.append((data[owner:owner_end], data[start:stop], came_ns, frame, parts, sender))
        return messages


def parse_messages(clients: Sequence[tuple[bytes, int, bytes]], shape: tuple[int, int]) -> list[ReceivedMessage]:
    """Parse messages that were received in another way: routing id, time of receipt, bytes."""
    n = len(clients)
    # One call for all messages: what a call costs is more than what a message does.
    data = b"".join([each for _, _, each in clients])
    ends = np.cumsum([len(each) for _, _, each in clients])
    keypoints, confidence = np.empty((n, *shape, 2), np.float32), np.empty((n, *shape), np.float32)
    rows = np.zeros((n, _WORDS), np.int64)
    _parse(np.frombuffer(data, np.uint8), ends, rows, keypoints, confidence)
    messages: list[ReceivedMessage] = []
    for i, ((owner, t_recv_ns, each), row) in enumerate(zip(clients, rows.tolist(), strict=True)):
        frame = None
        if row[_IS_FRAME]:
            name = data[row[_NAME] : row[_NAME_END]]
            frame = name, row[_SEQ], row[_SOURCE_NS], keypoints[i], confidence[i], row[_IS_FRAME] == CLIPPED_FRAME
        messages.append((owner, each, t_recv_ns, frame, 1, None))
    return messages


@njit(cache=False)
def _copy(data: Bytes, at: int, source: Bytes) -> int:
    for i in range(len(source)):
        data[at + i] = source[i]
    return at + len(source)


@njit(cache=False)
def _parse_one(data: Bytes, row: I64, keypoints: Float32, confidence: Float32) -> None:
    """One message from row's start to stop, where it is a frame that leaves no doubt."""
    fields = row[_USED:]
    row[_IS_FRAME] = frame_parser.parse_frame_fields(data, row[_START], row[_STOP], fields)
    # Without points for a front, which only passes frames on.
    if row[_IS_FRAME] and confidence.size:
        row[_IS_FRAME] = frame_parser.copy_points(data, fields, keypoints, confidence)
    row[_NAME], row[_NAME_END] = fields[STREAM], fields[STREAM] + fields[STREAM_BYTES]
    row[_SEQ], row[_SOURCE_NS] = fields[SEQ], fields[SOURCE_NS]


@njit(cache=False)
def _receive_parts(
    socket: int, functions: I64, message: int, data: Bytes, used: int, user_id: int, row: I64
) -> tuple[int, int]:
    """All parts of one message, the first two into data; (how many, 0 where none waits, and bytes used).

    ZeroMQ hands over a message with all its parts or not at all, so only the first receive can find nothing.
    """
    parts, more = 0, True
    while more:
        call(functions[INIT], message, 0, 0, 0)
        # Only the lower 32 bits of a returned `int` are valid (`libzmq.call`).
        if np.int32(call(functions[RECV], message, socket, DONTWAIT, 0)) < 0:
            call(functions[CLOSE], message, 0, 0, 0)
            break
        if parts < 2:  # a message with more parts is refused, whatever they are
            # MAXMSGSIZE ensures that a part fits; it is cut all the same, since the memory after `data` is not ours.
            size = min(call(functions[SIZE], message, 0, 0, 0), len(data) - used)
            source = array_tables.uint8s_at(call(functions[DATA], message, 0, 0, 0), size)
            # _ID, _ID_END, _START and _STOP are neighbours: part 0 has the first pair, part 1 the second.
            row[_ID + 2 * parts] = used
            used = row[_ID_END + 2 * parts] = _copy(data, used, source)
        parts += 1
        more = np.int32(call(functions[MORE], message, 0, 0, 0)) != 0
        # Before the message is closed: its properties lie in it.
        if user_id and not more:
            used = _copy_sender(functions, message, data, used, user_id, row)
        call(functions[CLOSE], message, 0, 0, 0)
    return parts, used


@njit(cache=False)
def _copy_sender(functions: I64, message: int, data: Bytes, used: int, user_id: int, row: I64) -> int:
    """The sender's key into data, which is used up to the number that is given back, and its descriptor into row."""
    row[_FD] = np.int32(call(functions[GET], message, SOURCE_FD, 0, 0))
    # After the message's own bytes, in the same array.
    row[_KEY] = used
    key = call(functions[GETS], message, user_id, 0, 0)
    if key:  # libzmq made it of the handshake's 32 bytes, so it always has this length
        used = _copy(data, used, array_tables.uint8s_at(key, _KEY_CHARACTERS))
    row[_KEY_END] = used
    return used


def _compiled(stamp: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Both calls. stamp: of the files of what is compiled into them (`cache_stamps`)."""

    @njit(cache=True)
    def parse(data: Bytes, ends: I64, rows: I64, keypoints: Float32, confidence: Float32) -> None:
        """Parse messages that lie one after the other; ends: where each of them ends."""
        _ = stamp
        start = 0
        for n in range(len(ends)):
            rows[n, _START], rows[n, _STOP] = start, ends[n]
            _parse_one(data, rows[n], keypoints[n], confidence[n])
            start = ends[n]

    @njit(cache=True)
    def receive(
        socket: int, arrays: TableRows, largest: int, user_id: int, keypoints: Float32, confidence: Float32
    ) -> tuple[int, int]:
        """(messages, bytes). user_id: address of _USER_ID; 0: senders are not wanted."""
        _ = stamp
        functions, message = array_tables.int64s(arrays, _ARRAYS.functions), arrays[_ARRAYS.message, 0]
        data, rows = array_tables.uint8s(arrays, _ARRAYS.data), array_tables.int64s_2d(arrays, _ARRAYS.rows)
        time, time_at = array_tables.int64s(arrays, _ARRAYS.time), arrays[_ARRAYS.time, 0]
        n, used = 0, 0
        # Nothing may be received that might find no room: ZeroMQ does not take a message back.
        while n < len(rows) and used + largest <= len(data):
            row = rows[n]
            parts, used = _receive_parts(socket, functions, message, data, used, user_id, row)
            if not parts:
                break
            # After receiving, and for each message: a frame is not to have come before it was there.
            call(functions[CLOCK], MONOTONIC, time_at, 0, 0)
            # The routing id, which ROUTER puts first, is not counted. _IS_FRAME is cleared, since rows are reused.
            row[_PARTS], row[_RECEIVED_NS], row[_IS_FRAME] = parts - 1, time[0] * 1_000_000_000 + time[1], 0
            # A message of any other number of parts is left to Python, which refuses it and says why.
            if parts == 2:
                _parse_one(data, row, keypoints[n], confidence[n])
            n += 1
        return n, used

    return parse, receive


_parse, _receive = _compiled(cache_stamps.source_stamp(libzmq, frame_parser, array_tables, *frame_parser.COMPILED_IN))
