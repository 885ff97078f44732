"""Arrays opened by their addresses are the arrays: same numbers, same memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import ArrayTable


@njit
def halved(rows: Any) -> Any:
    """Every opened array's shape; each of its values is halved or turned, in place."""
    flags, places, table = array_tables.bools(rows, 0), array_tables.uintps(rows, 1), array_tables.uintps_2d(rows, 2)
    few, deep, long = array_tables.int32s_2d(rows, 3), array_tables.int32s_3d(rows, 4), array_tables.int64s(rows, 5)
    exact, flat, wide = array_tables.float64s(rows, 6), array_tables.float32s(rows, 7), array_tables.float32s_2d(rows, 8)
    points, ring = array_tables.float32s_4d(rows, 9), array_tables.float32s_5d(rows, 10)
    for i in range(len(flags)):
        flags[i] = not flags[i]
    places //= np.uint64(2)
    table //= np.uint64(2)
    few //= 2
    deep //= 2
    long //= 2
    exact /= 2
    flat /= np.float32(2)
    wide /= np.float32(2)
    points /= np.float32(2)
    ring /= np.float32(2)
    return flags.shape, table.shape, few.shape, deep.shape, wide.shape, points.shape, ring.shape


def test_a_kernel_sees_and_changes_the_arrays_themselves() -> None:
    kinds: list[tuple[Any, tuple[int, ...]]] = [
        (np.bool_, (3,)),
        (np.uintp, (4,)),
        (np.uintp, (2, 3)),
        (np.int32, (2, 3)),
        (np.int32, (2, 3, 4)),
        (np.int64, (5,)),
        (np.float64, (6,)),
        (np.float32, (7,)),
        (np.float32, (2, 5)),
        (np.float32, (2, 3, 4, 5)),
        (np.float32, (2, 3, 1, 2, 3)),
    ]
    arrays = [np.arange(np.prod(shape)).reshape(shape).astype(dtype) for dtype, shape in kinds]
    before = [array.copy() for array in arrays]
    shapes = halved(ArrayTable(tuple(arrays)).rows)
    assert shapes == tuple(kinds[i][1] for i in (0, 2, 3, 4, 8, 9, 10))
    np.testing.assert_array_equal(arrays[0], ~before[0])
    for array, old in zip(arrays[1:], before[1:], strict=True):
        np.testing.assert_array_equal(array, old // 2 if old.dtype.kind in "iu" else old / 2)


def test_an_array_that_is_not_in_one_piece_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="contiguous"):
        ArrayTable((np.zeros((4, 4), np.float32)[:, ::2],))
