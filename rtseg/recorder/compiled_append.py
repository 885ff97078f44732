"""Messages that compiled code appends to the ring: a call that packs, records and sends does it in this order.

The record is `Recorder`'s, which hands its ring over before such a call and takes the counts back after it. There must
be room: nothing is checked here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import ArrayTable, TableRows, field_indices
from rtseg.compiled.libzmq import COPY, call
from rtseg.recorder.mcap_records import IN_MESSAGE, MESSAGE, MESSAGE_HEAD
from rtseg.recorder.ring import Ring

HEAD_BYTES = MESSAGE_HEAD.size
CURSOR_WORDS = 4
HEAD, COUNT, CHANNEL, EPOCH = range(CURSOR_WORDS)
"""What `RingArrays.cursor` holds: the ring's head, messages of the channel so far, its number, and what the monotonic
clock lacks to ns since 1970."""


class RingArrays(NamedTuple):
    """What the compiled code works with.

    functions: `libzmq.addresses`. ring: (size,) its bytes. head: (1,) the word that its reader sees. cursor: (4,), see
    HEAD. record_head: (HEAD_BYTES,) room for what stands before a message's data.
    """

    functions: NDArray[np.int64]
    ring: NDArray[np.uint8]
    head: NDArray[np.int64]
    cursor: NDArray[np.int64]
    record_head: NDArray[np.uint8]


_ARRAYS = field_indices(*RingArrays._fields)


def ring_table(functions: NDArray[np.int64], ring: Ring, channel: int, epoch_ns: int) -> tuple[memoryview, ArrayTable]:
    """The cursor and the table for `append_message`. The ring cannot be closed as long as they exist."""
    data, head = ring.shared_views()
    cursor = np.array([ring.head, 0, channel, epoch_ns], np.int64)
    views = np.frombuffer(data, np.uint8), np.frombuffer(head, np.int64)
    return cursor.data, ArrayTable(RingArrays(functions, *views, cursor, np.zeros(HEAD_BYTES, np.uint8)))


@njit(cache=False)
def append_message(arrays: TableRows, data_at: int, n_bytes: int, time_ns: int) -> None:
    """One message, logged at a time of the monotonic clock. arrays: of `RingArrays`. data_at: address of its data."""
    cursor, record_head = array_tables.int64s(arrays, _ARRAYS.cursor), array_tables.uint8s(arrays, _ARRAYS.record_head)
    log_ns = cursor[EPOCH] + time_ns
    at = _put_little_endian(record_head, 0, MESSAGE, 1)
    at = _put_little_endian(record_head, at, IN_MESSAGE + n_bytes, 8)
    at = _put_little_endian(record_head, at, cursor[CHANNEL], 2)
    at = _put_little_endian(record_head, at, cursor[COUNT], 4)
    at = _put_little_endian(record_head, at, log_ns, 8)
    at = _put_little_endian(record_head, at, log_ns, 8)
    _append_bytes(arrays, cursor, arrays[_ARRAYS.record_head, 0], HEAD_BYTES)
    _append_bytes(arrays, cursor, data_at, n_bytes)
    cursor[COUNT] += 1
    # Only now can the reader see it, and it sees it whole: no store is moved across calls that are not known.
    array_tables.int64s(arrays, _ARRAYS.head)[0] = cursor[HEAD]


@njit(cache=False)
def _append_bytes(arrays: TableRows, cursor: NDArray[np.int64], data_at: int, n_bytes: int) -> None:
    copy = array_tables.int64s(arrays, _ARRAYS.functions)[COPY]
    ring_at, size = arrays[_ARRAYS.ring, 0], arrays[_ARRAYS.ring, 1]
    at = cursor[HEAD] % size
    first = min(n_bytes, size - at)
    call(copy, ring_at + at, data_at, first, 0)
    if first < n_bytes:
        call(copy, ring_at, data_at + first, n_bytes - first, 0)
    cursor[HEAD] += n_bytes


@njit(cache=False)
def _put_little_endian(out: NDArray[np.uint8], at: int, value: int, n_bytes: int) -> int:
    for i in range(n_bytes):
        out[at + i] = (value >> (8 * i)) & 0xFF
    return at + n_bytes
