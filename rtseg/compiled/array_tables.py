"""Arrays that compiled code finds by their addresses: handing an array over costs a call 0.25 µs, an address nothing.

An `ArrayTable` writes down where the arrays of a named tuple lie and how large they are, once. A kernel gets its rows,
and opens an array with the reader of its type and dimensions: `float32s_2d(rows, MEMORY.averages)`, where
`MEMORY = field_indices(*Memory._fields)`. The named tuple is the one place that says in which row an array stands.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import extending, njit, types
from numba.np.numpy_support import carray
from numpy.typing import NDArray

TableRows = NDArray[np.int64]
"""(arrays, WORDS)."""
# The deepest array has five dimensions (`float32s_5d`): rows of one width make the table itself an array.
WORDS = 6
"""Numbers in a row: an address, and up to five lengths."""
intrinsic: Any = extending.intrinsic  # calls of what it makes take other arguments than its definition


class ArrayTable:
    """The addresses and shapes of some arrays, for kernels; keeps the arrays, since an address keeps nothing alive.

    arrays: a named tuple of contiguous arrays; AssertionError for others. rows: what a kernel is handed. Small numbers
    stand in an array of their own beside the others, since a row holds no values.
    """

    __slots__ = ("arrays", "rows")

    def __init__(self, arrays: tuple[NDArray[Any], ...]) -> None:
        self.arrays = arrays
        self.rows: TableRows = np.zeros((len(arrays), WORDS), np.int64)
        for row, array in zip(self.rows, arrays, strict=True):
            # A kernel computes places from the lengths alone, and writes.
            assert array.flags.carray, "not contiguous, not aligned or read-only"
            row[0], row[1 : 1 + array.ndim] = array.ctypes.data, array.shape


def field_indices(*names: str) -> Any:
    """The place of every name in their order, by name: `field_indices("a", "b").b == 1`.

    numba takes such a tuple for constants, so an index by name costs a kernel nothing.
    """
    kind: Any = namedtuple("FieldIndices", names)  # type: ignore[misc]
    return kind(*range(len(names)))


def address_of(data: bytes) -> int:
    """Where these bytes lie, valid as long as they are referenced elsewhere."""
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def _pointer(kind: Any) -> Any:
    """From an address to a pointer to values of a kind."""

    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            # No check at all: a wrong address reads whatever lies there.
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), code  # type: ignore[no-untyped-call]

    return pointer


# None of the readers has a cache of its own: numba's cache of a function looks at that function's file only, so a
# kernel that uses them and is cached names this file in its stamp (`cache_stamps`). Their arguments are Any: numba
# finds the types when it compiles.
_uint8s, _bools, _uintps = _pointer(types.uint8), _pointer(types.boolean), _pointer(types.uintp)
_int32s, _int64s = _pointer(types.int32), _pointer(types.int64)
_float32s, _float64s = _pointer(types.float32), _pointer(types.float64)


@njit(cache=False)
def uint8s_at(address: Any, n: Any) -> Any:
    """What lies at an address, (n,) uint8."""
    return carray(_uint8s(address), (n,))


@njit(cache=False)
def uint8s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) uint8."""
    return carray(_uint8s(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def bools(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) bool."""
    return carray(_bools(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def uint8s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) uint8."""
    return carray(_uint8s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=False)
def uint8s_3d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o) uint8."""
    return carray(_uint8s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3]))


@njit(cache=False)
def uintps(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) uintp."""
    return carray(_uintps(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def int32s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) int32."""
    return carray(_int32s(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def int32s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) int32."""
    return carray(_int32s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=False)
def int32s_3d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o) int32."""
    return carray(_int32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3]))


@njit(cache=False)
def int64s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) int64."""
    return carray(_int64s(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def int64s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) int64: another table."""
    return carray(_int64s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=False)
def int64s_3d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o) int64."""
    return carray(_int64s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3]))


@njit(cache=False)
def float64s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) float64."""
    return carray(_float64s(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def float64s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) float64."""
    return carray(_float64s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=False)
def float32s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1],))


@njit(cache=False)
def float32s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=False)
def float32s_3d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3]))


@njit(cache=False)
def float32s_4d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o, p) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4]))


@njit(cache=False)
def float32s_5d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o, p, q) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4], rows[i, 5]))
