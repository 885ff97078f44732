"""HDF5 as readers need it: errors that name the file, and compression that h5py does not know.

Nothing here unpickles; arrays of objects other than text are refused by the readers that could meet them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rtseg.errors import RecordingError, needs_extra
from rtseg.recordings.files.text import read_bytes

_COMPRESSIONS = {32001: "blosc", 32026: "blosc2", 32000: "lzf", 32004: "lz4", 32015: "zstd", 307: "bzip2", 305: "lzo"}
"""HDF5's registered numbers of compressions that PyTables and others use."""


@contextmanager
def open_hdf5(path: Path, purpose: str) -> Iterator[Any]:
    """The opened file (h5py.File). purpose: what needs h5py, as in 'NWB files'.

    Raises RecordingError where the file is damaged or no HDF5, and an error with the mend where h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise needs_extra("h5py", "io", f"Reading {purpose}") from error
    if is_netcdf3(path):
        problem = "is netCDF 3, of which only movement's poses are read: a .nc with position, time and space"
        raise RecordingError(path, problem)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, LookupError, ValueError, TypeError) as error:
        if "unable to lock file" in str(error):
            problem = "is open for writing in another program; wait until that is done with it, or close it there"
            raise RecordingError(path, problem) from error
        # All that h5py says of cut and damaged files; what a reader misses itself is a RecordingError already.
        raise RecordingError(path, f"cannot be read as HDF5 ({error}); it was cut or damaged, copy it again") from error


def is_netcdf3(path: Path) -> bool:
    """Whether the file is netCDF 3, which is no HDF5. Raises RecordingError where it cannot be read."""
    return read_bytes(path, 3) == b"CDF"


def readable_array(path: Path, group: Any, name: str) -> Any:
    """The dataset of that name in a group.

    Raises RecordingError where there is none, and where it is compressed in a way that h5py cannot undo: such a file is
    whole, and must be written anew.
    """
    import h5py

    node = group.get(name)
    if not isinstance(node, h5py.Dataset):
        raise RecordingError(path, f"holds no array {name!r}; the file is damaged, export it again")
    # Asked before reading, because h5py's own error is the same as for a damaged file.
    settings = node.id.get_create_plist()
    for i in range(settings.get_nfilters()):
        code, _, _, label = settings.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            compression = _COMPRESSIONS.get(code) or text_of(label) or str(code)
            problem = (
                f"its array {name!r} is compressed with {compression}, which cannot be read here; write it anew with "
                "pandas: pandas.read_hdf(FILE).to_hdf(NEW, key='df', complib='zlib', complevel=5), or save it as CSV"
            )
            raise RecordingError(path, problem)
    return node


def text_of(value: Any) -> str:
    """A text of HDF5, which may come as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
