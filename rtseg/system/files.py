"""Files that are whole or not there: written under another name beside their own, then renamed.

Whoever reads a path meanwhile, or after a kill, finds the old file or the new one, never half of one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

PART = ".part"


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
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a whole file at once; a text as UTF-8 with the line ends that it has. Raises OSError."""
    with replace_atomically(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json_atomically(path: Path, value: object) -> None:
    """Write a value as JSON for people: a space of indentation a level, a line end at the end. Raises OSError."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")
