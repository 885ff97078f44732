"""What engines of the CPU have in common: every slot's memory and count of frames, reset, taken out and put back.

Also how their arrays lie: beginning at a cache line, and in huge pages where there is much of them.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.architecture import Architecture
from rtseg.compiled.lanes import LANES
from rtseg.engine.base import Engine
from rtseg.errors import EngineError

LINE_BYTES, HUGE_BYTES = 64, 2 << 20
# From this size on an array lies in huge pages (`aligned`).
MUCH_BYTES = 256 << 10


class SlotMemoryEngine(Engine):
    """An engine whose slots are rows of one array. A slot that starts again holds zeros, as offline padding does."""

    name = "numba"

    def __init__(self, spec: Architecture, capacity: int) -> None:
        super().__init__(spec, capacity)
        self._state_floats = spec.state_floats
        # Every slot begins at a cache line, so that streams share none.
        self._memory: NDArray[np.float32] = aligned((capacity, padded(self._state_floats)), np.float32)
        self._frames = np.zeros(capacity, np.int64)

    def reset(self, slots: NDArray[np.int32]) -> None:
        self._memory[slots] = 0.0
        self._frames[slots] = 0

    def snapshot(self, slot: int) -> bytes:
        # Without the padding up to a cache line. The frame count says at which phase the rings are.
        data: bytes = self._frames[slot].tobytes() + self._memory[slot, : self._state_floats].tobytes()
        return data

    def restore(self, slot: int, data: bytes) -> None:
        expected = 8 + 4 * self._state_floats
        if len(data) != expected:
            raise EngineError(
                f"a snapshot of this model has {expected} bytes, got {len(data)}: other bundle or engine?"
            )
        self._frames[slot] = np.frombuffer(data[:8], np.int64)[0]
        self._memory[slot, : self._state_floats] = np.frombuffer(data[8:], np.float32)


def padded(n: int) -> int:
    """Whole LANES."""
    return -(-n // LANES) * LANES


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros that begin at a cache line; much of it in huge pages where the system has them.

    A processor that slept looks up where every page lies: a step of `rats58` after a sleep takes an eighth less.
    """
    item = np.dtype(dtype).itemsize
    size = int(np.prod(shape)) * item
    if size < MUCH_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        room, border = np.zeros(size + LINE_BYTES, np.uint8), LINE_BYTES
    else:
        # One page more than needed, so that an aligned start can be found; untouched pages take no memory.
        whole = -(-size // HUGE_BYTES) * HUGE_BYTES + HUGE_BYTES
        pages = mmap.mmap(-1, whole, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a system that was built without them
            pages.madvise(mmap.MADV_HUGEPAGE)
        # The array keeps the mapping alive.
        room, border = np.frombuffer(pages, np.uint8), HUGE_BYTES
    start = -room.ctypes.data % border
    values: NDArray[Any] = room[start : start + size].view(dtype).reshape(shape)
    return values


def laid(values: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a cache line."""
    room = aligned(values.shape, values.dtype)
    room[:] = values
    return room
