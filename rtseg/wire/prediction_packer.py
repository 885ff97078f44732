"""Predictions as bytes: what never changes about a stream and its model is packed once, the rest put between.

Gives exactly a msgpack map as docs/wire.md describes it, with its times at a fixed place. Compiled, for a batch's
answers are packed in one call.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgpack
import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import Table
from rtseg.wire.messages import MAX_NAME_CHARACTERS, VERSION

Bytes = NDArray[np.uint8]
_UINT64, _UINT16, _BIN16 = b"\xcf", b"\xcd", b"\xc5"
_TIMES = tuple(msgpack.packb(name) + _UINT64 for name in ("seq", "t_source_ns", "t_recv_ns", "t_pub_ns"))
_KEYS = {key: msgpack.packb(key) for key in ("probs", "label", "event", "unsure", "quality", "model")}
_PROBS, _LABELS, _EVENT, _UNSURE, _QUALITY, _MODEL = range(4, 10)
"""Places among the fixed pieces, behind those of the times."""


MOST_PREFIX_BYTES = 4 * MAX_NAME_CHARACTERS + 32


class Packing:
    """How one model's predictions are packed.

    heads: (name, classes, place among the bytes of float32 outputs). model: the bundle's hash. most: bytes of a
    prediction behind its prefix, at most. parts: for `pack`.
    """

    def __init__(self, heads: Sequence[tuple[str, tuple[str, ...], slice]], model: str) -> None:
        self._blob = bytearray()
        n_heads = _map_head(len(heads))
        fixed = [self._put(piece) for piece in _TIMES]
        fixed += [self._put(_KEYS["probs"] + n_heads), self._put(_KEYS["label"] + n_heads)]
        fixed += [self._put(_KEYS["event"]), self._put(_KEYS["unsure"]), self._put(_KEYS["quality"] + _UINT16)]
        fixed.append(self._put(_KEYS["model"] + _packed(model)))
        n_classes = max(len(classes) for _, classes, _ in heads)
        plan, named = [], np.zeros((len(heads), n_classes, 2), np.int64)
        for head, (name, classes, places) in enumerate(heads):
            size = places.stop - places.start
            before = self._put(_packed(name) + _BIN16 + struct.pack(">H", size))
            plan.append((*before, places.start // 4, size // 4, *self._put(_packed(name))))
            named[head, : len(classes)] = [self._put(_packed(name) + _packed(c)) for c in classes]
        longest = int(named[..., 1].max(axis=1).sum())
        self.most = sum(n for _, n in fixed) + 8 * len(_TIMES) + 2 * longest + 8
        self.most += sum(n + 4 * outputs + name_bytes for _, n, _, outputs, _, name_bytes in plan)
        self._kept = (
            np.frombuffer(self._blob, np.uint8),
            np.array(fixed, np.int64),
            np.array(plan, np.int64),
            named.reshape(-1, 2),
        )
        self.parts: Table = array_tables.table(*self._kept)

    def prefix(self, stream: str) -> bytes:
        """What every prediction of a stream begins with."""
        return b"".join((_map_head(12), _packed("v"), _packed(VERSION), _packed("stream"), _packed(stream)))

    def _put(self, piece: bytes) -> tuple[int, int]:
        """Where it stands among the pieces, and its length."""
        at = len(self._blob)
        self._blob += piece
        return at, len(piece)


@njit(cache=True)
def pack(
    out: Bytes,
    at: int,
    prefix: Bytes,
    parts: Table,
    times: tuple[int, int, int, int],
    probs: NDArray[np.float32],
    labels: NDArray[np.int16],
    events: NDArray[np.bool_],
    unsure: NDArray[np.bool_],
    quality: int,
) -> int:
    """One prediction into out, from `at` on; where it ends.

    parts: its model's (`Packing`). times: seq, t_source_ns, t_recv_ns, t_pub_ns. probs (P,); labels, events, unsure
    (H,).
    """
    blob, fixed = array_tables.uint8s(parts, 0), array_tables.int64s_2d(parts, 1)
    heads, named = array_tables.int64s_2d(parts, 2), array_tables.int64s_2d(parts, 3)
    n_heads, n_classes = len(heads), len(named) // len(heads)
    at = _copy(out, at, prefix, 0, len(prefix))
    for i in range(4):
        at = _copy(out, at, blob, fixed[i, 0], fixed[i, 1])
        for shift in range(56, -8, -8):
            out[at] = (times[i] >> shift) & 0xFF
            at += 1
    at = _copy(out, at, blob, fixed[_PROBS, 0], fixed[_PROBS, 1])
    bits = probs.view(np.uint32)
    for head in range(n_heads):
        at = _copy(out, at, blob, heads[head, 0], heads[head, 1])
        for place in range(heads[head, 2], heads[head, 2] + heads[head, 3]):
            for shift in range(0, 32, 8):  # little-endian on every machine
                out[at] = (bits[place] >> shift) & 0xFF
                at += 1
    at = _copy(out, at, blob, fixed[_LABELS, 0], fixed[_LABELS, 1])
    for head in range(n_heads):
        piece = named[head * n_classes + labels[head]]
        at = _copy(out, at, blob, piece[0], piece[1])
    at = _copy(out, at, blob, fixed[_EVENT, 0], fixed[_EVENT, 1])
    at = _count(out, at, int(np.sum(events)), 0x80, 0xDE)
    for head in range(n_heads):
        if events[head]:
            piece = named[head * n_classes + labels[head]]
            at = _copy(out, at, blob, piece[0], piece[1])
    at = _copy(out, at, blob, fixed[_UNSURE, 0], fixed[_UNSURE, 1])
    at = _count(out, at, int(np.sum(unsure)), 0x90, 0xDC)
    for head in range(n_heads):
        if unsure[head]:
            at = _copy(out, at, blob, heads[head, 4], heads[head, 5])
    at = _copy(out, at, blob, fixed[_QUALITY, 0], fixed[_QUALITY, 1])
    out[at], out[at + 1] = (quality >> 8) & 0xFF, quality & 0xFF
    return _copy(out, at + 2, blob, fixed[_MODEL, 0], fixed[_MODEL, 1])


@njit(cache=True)
def _copy(out: Bytes, at: int, source: Bytes, start: int, length: int) -> int:
    for i in range(length):
        out[at + i] = source[start + i]
    return at + length


@njit(cache=True)
def _count(out: Bytes, at: int, n: int, short: int, long: int) -> int:
    """The head of a map or of an array."""
    if n < 16:
        out[at] = short | n
        return at + 1
    out[at], out[at + 1], out[at + 2] = long, (n >> 8) & 0xFF, n & 0xFF
    return at + 3


def _map_head(n: int) -> bytes:
    return bytes([0x80 | n]) if n < 16 else struct.pack(">BH", 0xDE, n)


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
