"""Arrays opened by their addresses are the arrays: same numbers, same memory."""

from __future__ import annotations

import gc
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables
from rtseg.compiled.array_tables import ArrayTable, field_indices


class Arrays(NamedTuple):
    flags: NDArray[np.bool_]
    places: NDArray[np.uintp]
    few: NDArray[np.int32]
    deep: NDArray[np.int32]
    long: NDArray[np.int64]
    exact: NDArray[np.float64]
    flat: NDArray[np.float32]
    wide: NDArray[np.float32]
    points: NDArray[np.float32]
    ring: NDArray[np.float32]


ROW = field_indices(*Arrays._fields)


@njit
def halved(rows: Any) -> Any:
    """Every opened array's shape; each of its values is halved or turned, in place."""
    flags, places = array_tables.bools(rows, ROW.flags), array_tables.uintps(rows, ROW.places)
    few, deep = array_tables.int32s_2d(rows, ROW.few), array_tables.int32s_3d(rows, ROW.deep)
    long = array_tables.int64s(rows, ROW.long)
    exact, flat = array_tables.float64s(rows, ROW.exact), array_tables.float32s(rows, ROW.flat)
    wide, points = array_tables.float32s_2d(rows, ROW.wide), array_tables.float32s_4d(rows, ROW.points)
    ring = array_tables.float32s_5d(rows, ROW.ring)
    for i in range(len(flags)):
        flags[i] = not flags[i]
    places //= np.uint64(2)
    few //= 2
    deep //= 2
    long //= 2
    exact /= 2
    flat /= np.float32(2)
    wide /= np.float32(2)
    points /= np.float32(2)
    ring /= np.float32(2)
    return flags.shape, few.shape, deep.shape, wide.shape, points.shape, ring.shape


def test_a_kernel_sees_and_changes_the_arrays_themselves() -> None:
    kinds: list[tuple[Any, tuple[int, ...]]] = [
        (np.bool_, (3,)),
        (np.uintp, (4,)),
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
    shapes = halved(ArrayTable(Arrays(*arrays)).rows)
    assert shapes == tuple(kinds[i][1] for i in (0, 2, 3, 7, 8, 9))
    np.testing.assert_array_equal(arrays[0], ~before[0])
    for array, old in zip(arrays[1:], before[1:], strict=True):
        np.testing.assert_array_equal(array, old // 2 if old.dtype.kind in "iu" else old / 2)


def test_an_array_that_is_not_in_one_piece_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="contiguous"):
        ArrayTable((np.zeros((4, 4), np.float32)[:, ::2],))


@njit
def total(rows: Any) -> Any:
    return array_tables.float64s(rows, 0).sum()


def test_a_table_keeps_its_arrays_alive() -> None:
    tables = [ArrayTable((np.full(10_000, float(n)),)) for n in range(20)]
    gc.collect()
    others = [np.full(10_000, -1.0) for _ in range(20)]  # would lie where the tables' arrays lay
    assert [total(table.rows) for table in tables] == [10_000.0 * n for n in range(20)]
    assert len(others) == 20


def test_a_field_s_index_is_its_place_in_the_named_tuple() -> None:
    assert [getattr(ROW, name) for name in Arrays._fields] == list(range(len(Arrays._fields)))
