"""Predictions as bytes: what never changes about a stream and its model is packed once, the rest put between.

Gives exactly a msgpack map as docs/wire.md describes it, with its times at a fixed place. Compiled, for a batch's
answers are packed in one call.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgpack
import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import ArrayTable, TableRows, field_indices
from rtseg.wire.fields import MAX_NAME_CHARACTERS
from rtseg.wire.messages import VERSION

Bytes = NDArray[np.uint8]
MAX_PREFIX_BYTES = 4 * MAX_NAME_CHARACTERS + 32
# Always these widths, where msgpack would take the shortest that fits: no value changes a message's length.
_UINT64, _UINT16, _BIN16 = b"\xcf", b"\xcd", b"\xc5"
_TIMES = ("seq", "t_source_ns", "t_recv_ns", "t_pub_ns")
_FIXED = field_indices(*_TIMES, "probs", "label", "event", "unsure", "quality", "model")
"""The pieces that every prediction of a model has, each the key of a field and what of its value never changes."""
_NAME_AND_SIZE, _NAME_AND_SIZE_BYTES, _OUTPUT, _OUTPUTS, _NAME, _NAME_BYTES = range(6)
"""Columns of a head's row: the piece of its name and its probabilities' size, its first output, how many outputs, and
the piece of its name alone."""


class PackedPieces(NamedTuple):
    """What `pack_prediction` puts together. A piece is its place among the bytes and its length.

    data: (bytes,) uint8, all pieces one after the other. fixed: (10, 2) pieces, see _FIXED. heads: (H, 6), see _NAME.
    labels: (H * most classes, 2) pieces: a head's name with the name of each class.
    """

    data: Bytes
    fixed: NDArray[np.int64]
    heads: NDArray[np.int64]
    labels: NDArray[np.int64]


_PIECES = field_indices(*PackedPieces._fields)


class PredictionPacker:
    """How one model's predictions are packed.

    heads: (name, classes, place among the bytes of float32 outputs). model: the bundle's hash. max_bytes: of a
    prediction after its prefix. table: of `PackedPieces`, its rows are for `pack_prediction`.
    """

    def __init__(self, heads: Sequence[tuple[str, tuple[str, ...], slice]], model: str) -> None:
        self._data = bytearray()
        # Keys in the order in which they travel; what varies comes after each of them.
        fixed = [self._add_piece(_packed(name) + _UINT64) for name in _TIMES]
        fixed += [self._add_piece(_packed(key) + _map_head(len(heads))) for key in ("probs", "label")]
        fixed += [self._add_piece(_packed(key)) for key in ("event", "unsure")]
        fixed += [self._add_piece(_packed("quality") + _UINT16), self._add_piece(_packed("model") + _packed(model))]
        # One row for every head of as many labels: a kernel finds a label by multiplying.
        n_classes = max(len(classes) for _, classes, _ in heads)
        rows, labels = [], np.zeros((len(heads), n_classes, 2), np.int64)
        for head, (name, classes, places) in enumerate(heads):
            size = places.stop - places.start
            name_and_size = self._add_piece(_packed(name) + _BIN16 + struct.pack(">H", size))
            rows.append((*name_and_size, places.start // 4, size // 4, *self._add_piece(_packed(name))))
            labels[head, : len(classes)] = [self._add_piece(_packed(name) + _packed(c)) for c in classes]
        # Every label may stand in it twice, as a label and as an event; 8 bytes for quality and the counts.
        longest = int(labels[..., 1].max(axis=1).sum())
        self.max_bytes = sum(n for _, n in fixed) + 8 * len(_TIMES) + 2 * longest + 8
        self.max_bytes += sum(n + 4 * outputs + name_bytes for _, n, _, outputs, _, name_bytes in rows)
        self.table = ArrayTable(
            PackedPieces(
                data=np.frombuffer(self._data, np.uint8),
                fixed=np.array(fixed, np.int64),
                heads=np.array(rows, np.int64),
                labels=labels.reshape(-1, 2),
            )
        )

    def stream_prefix(self, stream: str) -> bytes:
        """What every prediction of a stream begins with; it ends with the stream's name."""
        # Twelve fields: v, stream, and the ten of _FIXED.
        return b"".join((_map_head(12), _packed("v"), _packed(VERSION), _packed("stream"), _packed(stream)))

    def _add_piece(self, piece: bytes) -> tuple[int, int]:
        """Where it lies among the pieces, and its length."""
        at = len(self._data)
        self._data += piece
        return at, len(piece)


@njit(cache=False)
def pack_prediction(
    out: Bytes,
    at: int,
    prefix: Bytes,
    pieces: TableRows,
    times: tuple[int, int, int, int],
    probs: NDArray[np.float32],
    labels: NDArray[np.int16],
    events: NDArray[np.bool_],
    unsure: NDArray[np.bool_],
    quality: int,
) -> int:
    """One prediction into out, from `at` on; where it ends.

    pieces: its model's (`PredictionPacker.table`). times: seq, t_source_ns, t_recv_ns, t_pub_ns. probs (P,); labels,
    events, unsure (H,). out has room for MAX_PREFIX_BYTES + max_bytes: nothing is checked here.
    """
    data, fixed = array_tables.uint8s(pieces, _PIECES.data), array_tables.int64s_2d(pieces, _PIECES.fixed)
    heads, named = array_tables.int64s_2d(pieces, _PIECES.heads), array_tables.int64s_2d(pieces, _PIECES.labels)
    # Labels lie in rows of the largest head's length.
    n_heads, n_classes = len(heads), len(named) // len(heads)
    at = _copy(out, at, prefix, 0, len(prefix))
    for i in range(4):
        at = _copy_piece(out, at, data, fixed[i])
        at = _put_big_endian(out, at, times[i], 8)
    at = _copy_piece(out, at, data, fixed[_FIXED.probs])
    at = _put_probabilities(out, at, data, heads, probs)
    at = _copy_piece(out, at, data, fixed[_FIXED.label])
    for head in range(n_heads):
        at = _copy_piece(out, at, data, named[head * n_classes + labels[head]])
    at = _copy_piece(out, at, data, fixed[_FIXED.event])
    # A map of those heads only that have an event, so its size varies: fixmap (0x80) or map16 (0xDE).
    at = _put_count(out, at, int(np.sum(events)), 0x80, 0xDE)
    for head in range(n_heads):
        if events[head]:
            at = _copy_piece(out, at, data, named[head * n_classes + labels[head]])
    at = _copy_piece(out, at, data, fixed[_FIXED.unsure])
    # An array: fixarray (0x90) or array16 (0xDC).
    at = _put_count(out, at, int(np.sum(unsure)), 0x90, 0xDC)
    for head in range(n_heads):
        if unsure[head]:
            at = _copy_piece(out, at, data, heads[head, _NAME:])
    at = _copy_piece(out, at, data, fixed[_FIXED.quality])
    at = _put_big_endian(out, at, quality, 2)
    return _copy_piece(out, at, data, fixed[_FIXED.model])


@njit(cache=False)
def _put_probabilities(out: Bytes, at: int, data: Bytes, heads: NDArray[np.int64], probs: NDArray[np.float32]) -> int:
    """Every head's name and float32 values, little-endian on every machine."""
    # As bits: shifting them gives the same bytes whatever the machine's order is.
    bits = probs.view(np.uint32)
    for head in range(len(heads)):
        at = _copy(out, at, data, heads[head, _NAME_AND_SIZE], heads[head, _NAME_AND_SIZE_BYTES])
        for place in range(heads[head, _OUTPUT], heads[head, _OUTPUT] + heads[head, _OUTPUTS]):
            for shift in range(0, 32, 8):
                out[at] = (bits[place] >> shift) & 0xFF
                at += 1
    return at


@njit(cache=False)
def _copy_piece(out: Bytes, at: int, data: Bytes, piece: NDArray[np.int64]) -> int:
    return _copy(out, at, data, piece[0], piece[1])


@njit(cache=False)
def _copy(out: Bytes, at: int, source: Bytes, start: int, length: int) -> int:
    # A loop, not a slice: for the few bytes of a piece a slice's assignment costs more than they do.
    for i in range(length):
        out[at + i] = source[start + i]
    return at + length


@njit(cache=False)
def _put_big_endian(out: Bytes, at: int, value: int, n_bytes: int) -> int:
    for i in range(n_bytes):
        out[at + i] = (value >> (8 * (n_bytes - 1 - i))) & 0xFF
    return at + n_bytes


@njit(cache=False)
def _put_count(out: Bytes, at: int, n: int, short: int, long: int) -> int:
    """The head of a map or of an array: msgpack's short form below 16, as its own packer chooses it."""
    if n < 16:
        out[at] = short | n
        return at + 1
    out[at] = long
    return _put_big_endian(out, at + 1, n, 2)


def _map_head(n: int) -> bytes:
    return bytes([0x80 | n]) if n < 16 else struct.pack(">BH", 0xDE, n)


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
