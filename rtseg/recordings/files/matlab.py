"""MATLAB's .mat, of every version, as plain values: structs, cells, texts and arrays of numbers.

Versions up to 7 are read with scipy, 7.3 is HDF5 and read with h5py. Objects of MATLAB's classes are not read, and
nothing in such a file can run.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtseg.errors import RecordingError, needs_extra
from rtseg.recordings.files.hdf5 import open_hdf5
from rtseg.recordings.files.text import read_bytes

_HDF5_VERSION = b"MATLAB 7.3"
_OF_DAMAGED_BYTES = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RuntimeError,
)
_PURPOSE = "MATLAB's files of version 7.3"


def variables_of(path: Path) -> frozenset[str]:
    """The names of the file's variables. Raises as `read_matlab`."""
    if _is_hdf5(path):
        with open_hdf5(path, _PURPOSE) as file:
            return frozenset(file)
    return frozenset(name for name, _, _ in _with_scipy(path, "whosmat"))


def read_matlab(path: Path, names: Sequence[str]) -> dict[str, Any]:
    """Those of the variables that the file has.

    A struct is a dict and an array of structs a list of them, a cell a list in MATLAB's order, a text a str, and
    numbers are a flat float64 array in MATLAB's order. Raises RecordingError where the file is damaged or no .mat.
    """
    if _is_hdf5(path):
        with open_hdf5(path, _PURPOSE) as file:
            return {name: _of_hdf5(file, file[name]) for name in names if name in file}
    found = _with_scipy(path, "loadmat", variable_names=list(names))
    return {name: _of_scipy(found[name]) for name in names if name in found}


def _is_hdf5(path: Path) -> bool:
    return read_bytes(path, len(_HDF5_VERSION)) == _HDF5_VERSION


def _with_scipy(path: Path, function: str, **options: Any) -> Any:
    """What a function of scipy.io says of the file."""
    try:
        import scipy.io
    except ImportError as error:
        raise needs_extra("scipy", "io", "Reading MATLAB's files") from error
    try:
        return getattr(scipy.io, function)(path, **options)
    # Its own error, and what it makes of bytes that it takes for sizes and types.
    except (scipy.io.matlab.MatReadError, zlib.error, *_OF_DAMAGED_BYTES) as error:
        raise RecordingError(path, f"is MATLAB's and cannot be read ({error}); it was cut, copy it again") from error


def _of_scipy(value: Any) -> Any:
    if value.dtype.names is not None:
        records = [{name: _of_scipy(one[name]) for name in value.dtype.names} for one in value.ravel(order="F")]
        return records[0] if len(records) == 1 else records
    if value.dtype == object:
        return [_of_scipy(one) for one in value.ravel(order="F")]
    if value.dtype.kind in "US":
        return "".join(str(one) for one in value.ravel())
    return value.ravel(order="F").astype(np.float64)


def _of_hdf5(file: Any, node: Any) -> Any:
    import h5py

    if isinstance(node, h5py.Group):
        return {name: _of_hdf5(file, node[name]) for name in node}
    kind = node.attrs.get("MATLAB_class", b"")
    if node.attrs.get("MATLAB_empty"):
        return "" if kind == b"char" else [] if kind == b"cell" else np.zeros(0)
    # HDF5 counts dimensions from the other end, so that its own order is MATLAB's.
    values = node[()].ravel()
    if kind == b"cell":
        return [_of_hdf5(file, file[one]) for one in values]
    if kind == b"char":
        return "".join(map(chr, values.tolist()))
    return values.astype(np.float64)
