"""Arrays that compiled code finds by their addresses: handing an array over costs a call 0.25 µs, an address nothing.

`table` writes down where arrays lie and how large they are, once; a kernel that gets the table opens them with `bools`,
`floats` and their like, in the table's order. Whoever keeps a table keeps its arrays, too: an address holds nothing.
After a change here touch the kernels' files: numba's cache looks at the file of the function it keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import extending, njit, types
from numba.np.numpy_support import carray
from numpy.typing import NDArray

Table = NDArray[np.int64]
WORDS = 6
"""Of a table's row: an address, and up to five lengths."""
intrinsic: Any = extending.intrinsic  # calls of what it makes take other arguments than its definition


def table(*arrays: NDArray[Any]) -> Table:
    """Where these arrays lie, a row each; they must be contiguous."""
    rows = np.zeros((len(arrays), WORDS), np.int64)
    for row, array in zip(rows, arrays, strict=True):
        assert array.flags.carray, "not contiguous, not aligned or read-only"
        row[0], row[1 : 1 + array.ndim] = array.ctypes.data, array.shape
    return rows


def address(data: bytes) -> int:
    """Where these bytes lie, as long as they are kept."""
    return int(np.frombuffer(data, np.uint8).ctypes.data)


def _pointer(kind: Any) -> Any:
    """From an address to a pointer to values of a kind."""

    @intrinsic
    def pointer(_: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), code  # type: ignore[no-untyped-call]

    return pointer


_uint8s, _bools, _uintps = _pointer(types.uint8), _pointer(types.boolean), _pointer(types.uintp)
_int32s, _int64s = _pointer(types.int32), _pointer(types.int64)
_float32s, _float64s = _pointer(types.float32), _pointer(types.float64)


@njit(cache=True)
def uint8s_at(address: Any, n: Any) -> Any:
    """What lies at an address, (n,) uint8."""
    return carray(_uint8s(address), (n,))


@njit(cache=True)
def uint8s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) uint8."""
    return carray(_uint8s(rows[i, 0]), (rows[i, 1],))


@njit(cache=True)
def bools(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) bool."""
    return carray(_bools(rows[i, 0]), (rows[i, 1],))


@njit(cache=True)
def uintps(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) uintp."""
    return carray(_uintps(rows[i, 0]), (rows[i, 1],))


@njit(cache=True)
def uintps_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) uintp."""
    return carray(_uintps(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=True)
def int32s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) int32."""
    return carray(_int32s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=True)
def int32s_3d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o) int32."""
    return carray(_int32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3]))


@njit(cache=True)
def int64s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) int64."""
    return carray(_int64s(rows[i, 0]), (rows[i, 1],))


@njit(cache=True)
def int64s_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) int64: another table."""
    return carray(_int64s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=True)
def float64s(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) float64."""
    return carray(_float64s(rows[i, 0]), (rows[i, 1],))


@njit(cache=True)
def floats(rows: Any, i: Any) -> Any:
    """Array i of a table, (n,) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1],))


@njit(cache=True)
def floats_2d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2]))


@njit(cache=True)
def floats_4d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o, p) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4]))


@njit(cache=True)
def floats_5d(rows: Any, i: Any) -> Any:
    """Array i of a table, (n, m, o, p, q) float32."""
    return carray(_float32s(rows[i, 0]), (rows[i, 1], rows[i, 2], rows[i, 3], rows[i, 4], rows[i, 5]))
