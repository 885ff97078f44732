"""Files that are whole or not there: written under another name beside their own, then renamed.

Whoever reads a path meanwhile, or after a kill, finds the old file or the new one, never half of one. And files that
somebody else may have put there: only regular files are opened, and no more of them is read than was allowed. And names
of files for what people called a stream or a recording: no two of them meet.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import stat
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

PART = ".part"
NONBLOCKING = getattr(os, "O_NONBLOCK", 0)
"""Windows has no such flag, and no pipes among its files."""
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f]')
"""What the name of a recording may hold, and that of a file may not, here or on Windows."""


def as_file_name(name: str) -> str:
    """A name without signs that no file's may have; each of them is `_`."""
    return _NO_FILE_NAME.sub("_", name)


class FileNames:
    """Names of files for the things of one folder, which the same things in the same order get again."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, of: str) -> str:
        """`as_file_name`, with `-2`, `-3`, ... behind it where an earlier one had it, in letters of either case."""
        plain = as_file_name(of)
        # Without case, because not all file systems tell M1 from m1.
        names = chain([plain], (f"{plain}-{n}" for n in count(2)))
        own = next(name for name in names if name.casefold() not in self._taken)
        self._taken.add(own.casefold())
        return own


@contextlib.contextmanager
def replace_atomically(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """Yield a path to write to; the file there replaces `path` at the end, or is removed where the body raises.

    sync: have the data on the disk before the rename, so that a power cut cannot leave an empty file either.
    """
    # In the same folder, since a rename is atomic within one file system only. The ending keeps it out of every
    # glob for finished files; the process id keeps two writers of one path apart.
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}")
    try:
        yield part
        if sync:
            with part.open("r+b") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and str(error.filename) == str(part):
            error.filename = str(path)  # the name that whoever reads the error has given
        raise


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a whole file at once; a text as UTF-8 with the line ends that it has. Raises OSError."""
    with replace_atomically(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json_atomically(path: Path, value: object) -> None:
    """Write a value as JSON for people: a space of indentation a level, a line end at the end. Raises OSError."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def open_regular(path: Path) -> io.FileIO:
    """Open a regular file to read it, unbuffered. Raises OSError, also for a pipe, a device or a folder.

    Opening a pipe would wait until somebody writes to it, and opening a device may do anything.
    """
    _check_regular(path.stat().st_mode, path)
    # Not blocking, and looked at again: what lies there may have been replaced since.
    file = io.FileIO(os.open(path, os.O_RDONLY | NONBLOCKING))
    try:
        _check_regular(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file. Raises OSError where there is none, and for a larger one before reading it."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise OSError(errno.EFBIG, f"holds {size} bytes, at most {max_bytes} are read", str(path))
        # One call, so that the memory is written to once and other threads run meanwhile. A file that grows is cut, one
        # that shrinks is short: both are for the caller's hash to find.
        return file.read(size)


def _check_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
