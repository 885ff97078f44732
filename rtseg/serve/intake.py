"""What waits at the daemon's socket, taken in one compiled call: frames come decoded, everything else as it came.

A message's cost in Python is what limits how many cameras a core can serve; of a frame, receiving, reading and checking
need none. Every rule stands elsewhere and is called from here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import zmq
from numba import njit
from numpy.typing import NDArray

from rtseg import pointers, stamps
from rtseg.frames import Float32
from rtseg.serve import libzmq, plain_frames
from rtseg.serve.libzmq import CLOCK, CLOSE, DATA, DONTWAIT, INIT, MESSAGE_WORDS, MONOTONIC, MORE, RECV, SIZE, call
from rtseg.serve.plain_frames import SEQ, SOURCE_NS, STREAM, STREAM_BYTES

Plain = tuple[bytes, int, int, Float32, Float32]
"""A frame: its stream's name, seq, t_source_ns, keypoints (A, K, 2) and confidence (A, K), checked and cleaned."""
Message = tuple[bytes, bytes, int, Plain | None, int]
"""Routing id, bytes, when it came (the monotonic clock), the frame where it plainly is one, how many parts it had."""
_PARTS, _ID, _ID_BYTES, _BYTES_AT, _BYTES, _RECEIVED_NS, _PLAIN, _FRAME = range(8)
_WORDS = _FRAME + 8
_STAMP = stamps.of(libzmq, plain_frames, pointers, *plain_frames.RULES)


class Intake:
    """Takes messages of two parts, a routing id and bytes, from a ROUTER socket.

    functions: `libzmq.addresses`. most: messages a call. shape: (A, K) of the frames that are decoded here; others come
    as they came.
    """

    def __init__(
        self, socket: zmq.Socket[bytes], functions: NDArray[np.int64], most: int, shape: tuple[int, int]
    ) -> None:
        self.shape, self._most = shape, most
        self._largest = cast(int, socket.getsockopt(zmq.MAXMSGSIZE)) + 512  # with its routing id
        self._data = np.empty(2 * self._largest, np.uint8)
        self._told = np.zeros((most, _WORDS), np.int64)
        self._kept = functions, np.zeros(MESSAGE_WORDS, np.int64), self._data, np.zeros(2, np.int64)
        self._table = pointers.table(*self._kept)
        self._socket, self._handle = socket, socket.underlying  # the handle is the socket's as long as that lives

    def receive(self) -> list[Message]:
        """What waits, in order; nothing where nothing does."""
        most, told = self._most, self._told
        keypoints = np.empty((most, *self.shape, 2), np.float32)
        confidence = np.empty((most, *self.shape), np.float32)
        n, used = _receive(self._handle, self._table, told, self._largest, keypoints, confidence)
        data, messages = self._data[:used].tobytes(), []
        for i, row in enumerate(told[:n].tolist()):
            parts, at, length, bytes_at, n_bytes, received_ns, is_plain = row[:_FRAME]
            plain = None
            if is_plain:
                name_at = row[_FRAME + STREAM]
                name = data[name_at : name_at + row[_FRAME + STREAM_BYTES]]
                plain = name, row[_FRAME + SEQ], row[_FRAME + SOURCE_NS], keypoints[i], confidence[i]
            messages.append((data[at : at + length], data[bytes_at : bytes_at + n_bytes], received_ns, plain, parts))
        return messages


def _compiled(stamp: int) -> Callable[..., Any]:
    """The call. stamp: of the files of what is compiled into it."""

    @njit(cache=True)
    def receive(
        socket: int,
        at: pointers.Table,
        told: NDArray[np.int64],
        largest: int,
        keypoints: Float32,
        confidence: Float32,
    ) -> tuple[int, int]:
        """(messages, bytes); told (N, _WORDS) says of each what it is and where its parts stand."""
        _ = stamp
        functions, message = pointers.int64s(at, 0), at[1, 0]
        data, time = pointers.uint8s(at, 2), pointers.int64s(at, 3)
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
                    size = call(functions[SIZE], message, 0, 0, 0)
                    source = pointers.uint8s_at(call(functions[DATA], message, 0, 0, 0), size)
                    row[_ID + 2 * parts], row[_ID + 2 * parts + 1] = used, size
                    for i in range(size):
                        data[used + i] = source[i]
                    used += size
                parts += 1
                more = np.int32(call(functions[MORE], message, 0, 0, 0)) != 0
                call(functions[CLOSE], message, 0, 0, 0)
            if not parts:
                break
            call(functions[CLOCK], MONOTONIC, at[3, 0], 0, 0)
            row[_PARTS], row[_RECEIVED_NS], row[_PLAIN] = parts - 1, time[0] * 1_000_000_000 + time[1], 0
            if parts == 2:
                start, fields = row[_BYTES_AT], row[_FRAME:]
                if plain_frames.read(data, start, start + row[_BYTES], fields):
                    row[_PLAIN] = plain_frames.points(data, fields, keypoints[n], confidence[n])
            n += 1
        return n, used

    return receive


_receive = _compiled(_STAMP)
