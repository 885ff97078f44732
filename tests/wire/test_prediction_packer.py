"""Predictions packed in pieces are the very map that packing a dict gives."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray

from rtseg.wire.messages import PredictionMessage, parse_published, unpack
from rtseg.wire.prediction_packer import MAX_PREFIX_BYTES, PredictionPacker, pack_prediction

HEADS = [("task1", ("attack", "other"), slice(0, 8)), ("größe", ("nein", "ja", "weiß nicht"), slice(8, 20))]


def packed(
    packing: PredictionPacker,
    stream: str,
    times: tuple[int, int, int, int],
    probs: NDArray[np.float32],
    labels: list[int],
    events: list[bool],
    unsure: list[bool],
    quality: int,
) -> bytes:
    """One prediction."""
    prefix, out = (
        np.frombuffer(packing.stream_prefix(stream), np.uint8),
        np.zeros(MAX_PREFIX_BYTES + packing.max_bytes, np.uint8),
    )
    flags = np.array(events), np.array(unsure)
    end = pack_prediction(out, 0, prefix, packing.table.rows, times, probs, np.array(labels, np.int16), *flags, quality)
    assert not out[end:].any()
    return out[:end].tobytes()


@pytest.mark.parametrize("events", [[False, False], [True, False], [True, True]])
@pytest.mark.parametrize("unsure", [[False, False], [False, True]])
@pytest.mark.parametrize("stream", ["cage1", "Käfig " * 30])
def test_as_if_a_dict_were_packed(events: list[bool], unsure: list[bool], stream: str) -> None:
    packing = PredictionPacker(HEADS, "f" * 64)
    probs = np.linspace(0, 1, 5, dtype="<f4").tobytes()
    times = (7, 2**63 - 1, 5, 2**40)
    data = packed(packing, stream, times, np.frombuffer(probs, np.float32), [1, 2], events, unsure, 265)
    labels = {"task1": "other", "größe": "weiß nicht"}
    assert msgpack.unpackb(data) == {
        "v": 1,
        "stream": stream,
        "seq": 7,
        "t_source_ns": 2**63 - 1,
        "t_recv_ns": 5,
        "t_pub_ns": 2**40,
        "probs": {"task1": probs[:8], "größe": probs[8:]},
        "label": labels,
        "event": {name: labels[name] for name, begins in zip(labels, events, strict=True) if begins},
        "unsure": [name for name, doubted in zip(labels, unsure, strict=True) if doubted],
        "quality": 265,
        "model": "f" * 64,
    }
    parsed = parse_published(unpack(data))
    assert isinstance(parsed, PredictionMessage)
    assert parsed.probs["größe"].tobytes() == probs[8:]


def test_more_heads_than_a_short_map_holds() -> None:
    heads = [(f"h{i}", ("a", "b"), slice(8 * i, 8 * i + 8)) for i in range(20)]
    packing = PredictionPacker(heads, "m")
    nothing = np.zeros(40, np.float32)
    data = packed(packing, "s", (0, 0, 0, 0), nothing, [0] * 20, [True] * 20, [False] * 20, 0)
    assert len(msgpack.unpackb(data)["label"]) == len(msgpack.unpackb(data)["event"]) == 20
