"""One slot's part of a state's arrays as bytes, and back: what a snapshot is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SnapshotError


def slot_bytes(state: Iterable[NDArray[Any]], slot: int) -> bytes:
    """One slot of every array (S, ...), one after the other, to be read by `load_slot`."""
    return b"".join(np.ascontiguousarray(part[slot]).tobytes() for part in state)


def load_slot(state: Iterable[NDArray[Any]], data: object, what: str) -> list[NDArray[Any]]:
    """What `slot_bytes` gave, as arrays (...) that share its memory.

    what: names the state in the SnapshotError that is raised for anything but bytes of the right length.
    """
    parts = list(state)
    expected = sum(part[0].nbytes for part in parts)
    # The length is all that tells: the arrays of a bundle have fixed sizes, and float32 may be any bits.
    if not isinstance(data, bytes) or len(data) != expected:
        came = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise SnapshotError(f"the snapshot is damaged: its {what} should have {expected} bytes, got {came}")
    values, at = [], 0
    for part in parts:
        size = part[0].nbytes
        # A read-only view of the bytes; `set_slot` copies it.
        values.append(np.frombuffer(data[at : at + size], part.dtype).reshape(part.shape[1:]))
        at += size
    return values


def set_slot(state: Iterable[NDArray[Any]], slot: int, values: Iterable[NDArray[Any]]) -> None:
    """Put what `load_slot` gave into a slot."""
    for part, value in zip(state, values, strict=True):
        part[slot] = value


def check_values(valid: bool, what: str) -> None:
    """Raise SnapshotError for values that no state can have: with them a kernel would read outside its arrays."""
    if not valid:
        raise SnapshotError(f"the snapshot is damaged: its {what} cannot be")
