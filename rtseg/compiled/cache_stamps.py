"""A number for source files as they are: part of a compiled function's key where it calls into other files.

numba's cache looks at the file of the function it caches, not at those of the functions and constants that are compiled
into it. So a kernel that reaches beyond its own file is made by a function `_compiled(stamp)`: numba's key contains the
values that a closure refers to, and `_ = stamp` makes it refer to this one. The functions that it calls in those files
have no cache of their own, or they would be taken from it as they were before.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from types import ModuleType


def source_stamp(*modules: ModuleType) -> int:
    """A number that changes whenever one of the modules' files does.

    From times and sizes, as numba's own stamps; a module without a file adds nothing, 0 where none has one.
    """
    number = 0
    for module in modules:
        path = Path(getattr(module, "__file__", None) or "")
        if path.is_file():
            # Not the contents, which would have to be read at every start.
            about = path.stat()
            # crc32, because Python's own hash of a text differs from process to process and the cache stays.
            number = zlib.crc32(f"{about.st_mtime_ns} {about.st_size}".encode(), number)
    return number
