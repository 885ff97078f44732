from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from rtseg.bundle.weights import MAX_HEADER_BYTES, parse_tensors
from rtseg.errors import BundleError

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4), np.float32)}


def packed(header: Any, body: bytes = bytes(24), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


def about(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes}


def test_what_safetensors_writes_is_read() -> None:
    found = parse_tensors(save(TENSORS, {"by": "me"}))
    assert {name: value.tolist() for name, value in found.items()} == {n: v.tolist() for n, v in TENSORS.items()}
    assert parse_tensors(packed(about()))["a"].shape == (2, 3)


def test_tensors_at_odd_places_are_aligned() -> None:
    text = json.dumps(about()).encode()
    for blanks in range(8):
        assert parse_tensors(packed(text + b" " * blanks))["a"].flags.aligned


@pytest.mark.parametrize(
    "data",
    [
        *(b"", bytes(7), bytes(8), packed([]), packed(5), packed(b"{"), packed(b"\xff" * 9)),
        *(packed(about(), length=n) for n in (0, 1, 2**40, 2**63)),
        *(packed(about(dtype=kind)) for kind in ("BF16", None, [], 5)),
        *(packed(about(shape=shape)) for shape in ([-2, -3], [2.0, 3], [True, 6], None, "23", [2**40, 2**40], [7])),
        *(packed(about(data_offsets=two)) for two in ([0, 25], [-24, 0], [24, 48], [24, 0], [0], None, [0.0, 24.0])),
        packed(about(), body=b""),
        packed(b" " * (MAX_HEADER_BYTES + 1)),
        packed(b"[" * 40_000),
    ],
)
def test_what_is_no_safetensors_file_is_a_bundle_error(data: bytes) -> None:
    with pytest.raises(BundleError, match="no safetensors"):
        parse_tensors(data)
