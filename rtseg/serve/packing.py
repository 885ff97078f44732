"""Predictions as bytes: what never changes about a stream and its model is packed once, the rest put between.

Gives exactly a msgpack map as docs/wire.md describes it, with its times at a fixed place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgpack

from rtseg.serve.messages import VERSION

_SEQ, _SOURCE, _RECV, _PUB = (msgpack.packb(name) for name in ("seq", "t_source_ns", "t_recv_ns", "t_pub_ns"))
_TIMES = struct.Struct(f">{len(_SEQ)}sBQ{len(_SOURCE)}sBQ{len(_RECV)}sBQ{len(_PUB)}sBQ")
_UINT64, _UINT16, _BIN16 = 0xCF, 0xCD, 0xC5
_LABEL, _EVENT, _UNSURE, _QUALITY = (msgpack.packb(name) for name in ("label", "event", "unsure", "quality"))
_QUALITY_VALUE = struct.Struct(f">{len(_QUALITY)}sBH")


class Packing:
    """How one model's predictions are packed.

    heads: (name, classes, place among the bytes of float32 outputs). model: the bundle's hash.
    """

    def __init__(self, heads: Sequence[tuple[str, tuple[str, ...], slice]], model: str) -> None:
        self._heads = heads
        n_heads = _map_head(len(heads))
        sizes = [places.stop - places.start for _, _, places in heads]
        self._probs = [
            (msgpack.packb(name) + struct.pack(">BH", _BIN16, size), places)
            for (name, _, places), size in zip(heads, sizes, strict=True)
        ]
        self._labels = [[msgpack.packb(name) + msgpack.packb(c) for c in classes] for name, classes, _ in heads]
        self._before_probs = msgpack.packb("probs") + n_heads
        self._before_labels = _LABEL + n_heads
        self._model = msgpack.packb("model") + msgpack.packb(model)
        self._nothing = _EVENT + msgpack.packb({}) + _UNSURE + msgpack.packb([])

    def prefix(self, stream: str) -> bytes:
        """What every prediction of a stream begins with."""
        return b"".join((_map_head(12), _packed("v"), _packed(VERSION), _packed("stream"), _packed(stream)))

    def pack(
        self,
        prefix: bytes,
        times: tuple[int, int, int, int],
        probs: bytes,
        labels: Sequence[int],
        events: Sequence[bool],
        unsure: Sequence[bool],
        quality: int,
    ) -> bytes:
        """One prediction. times: seq, t_source_ns, t_recv_ns and t_pub_ns. labels, events, unsure: one a head."""
        seq, t_source_ns, t_recv_ns, t_pub_ns = times
        parts = [
            prefix,
            _TIMES.pack(
                *(_SEQ, _UINT64, seq, _SOURCE, _UINT64, t_source_ns),
                *(_RECV, _UINT64, t_recv_ns, _PUB, _UINT64, t_pub_ns),
            ),
            self._before_probs,
        ]
        for head, places in self._probs:
            parts.append(head)
            parts.append(probs[places])
        parts.append(self._before_labels)
        parts += [named[label] for named, label in zip(self._labels, labels, strict=True)]
        if True in events or True in unsure:
            parts.append(self._rare(labels, events, unsure))
        else:
            parts.append(self._nothing)
        parts.append(_QUALITY_VALUE.pack(_QUALITY, _UINT16, quality))
        parts.append(self._model)
        return b"".join(parts)

    def _rare(self, labels: Sequence[int], events: Sequence[bool], unsure: Sequence[bool]) -> bytes:
        heads = self._heads
        event = {
            name: classes[label]
            for (name, classes, _), label, begins in zip(heads, labels, events, strict=True)
            if begins
        }
        doubted = [name for (name, _, _), unsure_now in zip(heads, unsure, strict=True) if unsure_now]
        return b"".join((_EVENT, _packed(event), _UNSURE, _packed(doubted)))


def _map_head(n: int) -> bytes:
    return bytes([0x80 | n]) if n < 16 else struct.pack(">BH", 0xDE, n)


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed
