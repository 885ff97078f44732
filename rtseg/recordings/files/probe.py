"""What a file shows of itself before it is read: the end of its name, its lines, or the names inside an HDF5 file.

Readers look at a probe to say whether a file is theirs. It holds the file's text, so that asking several readers reads
the file once.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from rtseg.recordings.files.hdf5 import is_netcdf3, open_hdf5
from rtseg.recordings.files.text import read_bytes, read_lines


class FileProbe:
    """A file that no reader has opened yet. path: the file. suffix: the end of its name in lower case, such as '.csv'.

    Its properties raise RecordingError where the file cannot be read as what they look for.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.suffix = path.suffix.lower()

    @cached_property
    def first_bytes(self) -> bytes:
        """The first bytes of the file, which tell its kind whatever it is called."""
        return read_bytes(self.path, 8)

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a text file, one at least."""
        # Its warnings are dropped: the reader that takes the file meets them again.
        return read_lines(self.path)[0]

    @cached_property
    def is_netcdf3(self) -> bool:
        """Whether it is netCDF 3, which has no names in HDF5's manner."""
        return is_netcdf3(self.path)

    @cached_property
    def hdf5_names(self) -> tuple[str, ...]:
        """The names at the top of an HDF5 file, by which its writer can be told."""
        with open_hdf5(self.path, "HDF5 files") as file:
            return tuple(file)
