"""A number for source files as they are: part of a compiled function's key where it calls into other files.

numba's cache looks at the file of the function it keeps, not at those of the functions that are compiled into it.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from types import ModuleType


def of(*modules: ModuleType) -> int:
    """Changes whenever one of the modules' files does: times and sizes, as numba's own stamps; 0 for one without."""
    number = 0
    for module in modules:
        path = Path(getattr(module, "__file__", None) or "")
        if path.is_file():
            about = path.stat()
            number = zlib.crc32(f"{about.st_mtime_ns} {about.st_size}".encode(), number)
    return number
