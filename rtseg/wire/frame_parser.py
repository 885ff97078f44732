"""Frames parsed by compiled code, as nearly all messages are: a msgpack map of a frame's fields and nothing else.

`messages` says what a frame is. This file knows those whose bytes leave no doubt, in any order of their fields; all
others, and every error message, are left to `messages`. It reads no byte beyond the message.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import uint8s_at
from rtseg.frames import frame
from rtseg.frames.frame import CLIPPED, Float32, clean

Bytes = NDArray[np.uint8]
Fields = NDArray[np.int64]
STREAM, STREAM_BYTES, SEQ, SOURCE_NS, KP, KP_BYTES, CONF, CONF_BYTES = range(8)
"""A frame's fields: its numbers, and where its stream's name, kp and conf stand and how long they are; CONF is 0 where
there is none."""
N_FIELDS = 8
NO_FRAME, PLAIN_FRAME, CLIPPED_FRAME = range(3)
"""What a message is: the last one is a frame with confidences above 1, which were taken as 1."""
COMPILED_IN = frame, array_tables
"""Files whose code is compiled into this one's, for `cache_stamps`."""
# No two fields' names have the same length, so that it says which one is meant.
_V, _KP, _SEQ, _CONF, _STREAM, _SOURCE_NS = 1, 2, 3, 4, 6, 11
_NAMES = np.zeros((12, 11), np.uint8)
for _name in (b"v", b"kp", b"seq", b"conf", b"stream", b"t_source_ns"):
    _NAMES[len(_name), : len(_name)] = list(_name)
_NEEDED = 1 << _V | 1 << _KP | 1 << _SEQ | 1 << _STREAM | 1 << _SOURCE_NS
_ALL = _NEEDED | 1 << _CONF


@njit(cache=False)
def parse_frame_fields(data: Bytes, start: int, stop: int, fields: Fields) -> bool:
    """Whether data[start:stop] is a frame that leaves no doubt; its fields then stand in fields (8,)."""
    if start >= stop or data[start] & 0xF0 != 0x80:
        return False
    # Names are fixstr, the map a fixmap: that is how every packer writes so few and so short ones.
    entries, at, seen = int(data[start]) & 0x0F, start + 1, 0
    # The only field that may be missing; a message that lacks another one is refused at the end.
    fields[CONF] = fields[CONF_BYTES] = 0
    for _ in range(entries):
        # msgpack's first bytes: 0x80-0x8F fixmap, 0xA0-0xBF fixstr, each with its length in the lower bits.
        if at >= stop or data[at] & 0xE0 != 0xA0:
            return False
        length = int(data[at]) & 0x1F
        at += 1
        # Refused: a length that no field's name has, no byte left for the value, or a field that comes twice.
        if length > _SOURCE_NS or at + length >= stop or not (_ALL >> length) & 1 or (seen >> length) & 1:
            return False
        seen |= 1 << length
        for i in range(length):
            if data[at + i] != _NAMES[length, i]:
                return False
        at += length
        if length == _V:
            if data[at] != 1:
                return False
            at += 1
        elif length == _SEQ:
            fields[SEQ], at = _number(data, at, stop)
        elif length == _SOURCE_NS:
            fields[SOURCE_NS], at = _number(data, at, stop)
        elif length == _STREAM:
            fields[STREAM_BYTES], at = _text_head(data, at, stop)
            fields[STREAM], at = at, _end_of(at, fields[STREAM_BYTES], stop)
        elif length == _KP:
            fields[KP_BYTES], at = _bin_head(data, at, stop)
            fields[KP], at = at, _end_of(at, fields[KP_BYTES], stop)
        elif data[at] == 0xC0:  # conf is nil
            at += 1
        else:
            fields[CONF_BYTES], at = _bin_head(data, at, stop)
            fields[CONF], at = at, _end_of(at, fields[CONF_BYTES], stop)
        if at < 0:  # a value of another type, or one that ends beyond the message
            return False
    # Nothing after the map: two messages in one are for the general rules to refuse.
    return at == stop and seen & _NEEDED == _NEEDED


@njit(cache=False)
def copy_points(data: Bytes, fields: Fields, keypoints: Float32, confidence: Float32) -> int:
    """A frame's points into (A, K, 2) and (A, K), cleaned by `frames.frame.clean`; NO_FRAME where they are wrong.

    Wrong means another number of points than (A, K), or points that `clean` refuses.
    """
    n = confidence.size
    if fields[KP_BYTES] != 8 * n or (fields[CONF] and fields[CONF_BYTES] != 4 * n):
        return NO_FRAME
    # Copied as bytes, since the message may have them at any address and floats must be aligned.
    _copy(data, fields[KP], uint8s_at(keypoints.ctypes.data, 8 * n))
    if fields[CONF]:
        _copy(data, fields[CONF], uint8s_at(confidence.ctypes.data, 4 * n))
    else:
        confidence[:] = 1.0
    # The same rule as for every other frame; which problem it is, the general way finds out and says.
    found = clean(keypoints, confidence, fields[CONF] != 0)
    if found > CLIPPED:
        return NO_FRAME
    return CLIPPED_FRAME if found == CLIPPED else PLAIN_FRAME


@njit(cache=False)
def _copy(data: Bytes, at: int, to: Bytes) -> None:
    for i in range(len(to)):
        to[i] = data[at + i]


@njit(cache=False)
def _end_of(at: int, length: int, stop: int) -> int:
    """Where a value ends; -1 = beyond the message, or where `at` is -1 already."""
    return at + length if at >= 0 and at + length <= stop else -1


@njit(cache=False)
def _number(data: Bytes, at: int, stop: int) -> Any:
    """(value, where it ends) of an integer in 0 .. 2^63-1; -1 for anything else."""
    kind = data[at]
    if kind < 0x80:
        return np.int64(kind), at + 1
    # uint8 to uint64; each is twice as long as the one before.
    if kind < 0xCC or kind > 0xCF:
        return np.int64(0), -1
    return _big_endian(data, at + 1, 1 << (kind - 0xCC), stop)


@njit(cache=False)
def _text_head(data: Bytes, at: int, stop: int) -> Any:
    """(length in bytes, where it begins) of a text; -1 for anything else."""
    kind = data[at]
    # Whether the bytes are UTF-8 is not looked at: a name that is no text is no open stream's.
    if kind & 0xE0 == 0xA0:
        return np.int64(kind & 0x1F), at + 1
    # str8 to str32.
    if kind < 0xD9 or kind > 0xDB:
        return np.int64(0), -1
    return _big_endian(data, at + 1, 1 << (kind - 0xD9), stop)


@njit(cache=False)
def _bin_head(data: Bytes, at: int, stop: int) -> Any:
    """(length, where they begin) of bytes; -1 for anything else."""
    kind = data[at]
    # bin8 to bin32.
    if kind < 0xC4 or kind > 0xC6:
        return np.int64(0), -1
    return _big_endian(data, at + 1, 1 << (kind - 0xC4), stop)


@njit(cache=False)
def _big_endian(data: Bytes, at: int, length: int, stop: int) -> Any:
    if at + length > stop:
        return np.int64(0), -1
    value = np.int64(0)
    for i in range(length):
        # msgpack's numbers are big-endian; the points within `kp` are little-endian (docs/wire.md).
        value = (value << 8) | np.int64(data[at + i])
    if value < 0:  # beyond 2^63-1
        return np.int64(0), -1
    return value, at + length
