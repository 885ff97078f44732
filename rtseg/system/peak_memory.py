"""How much memory a piece of work takes at its peak, from the operating system's own mark."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS, MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """A list that holds, once the block is left, how far the process's resident memory rose in it, in MiB.

    NaN where the system keeps no mark that can be reset (Linux does). Memory that the process had been given before
    and uses again is not counted: for comparisons, measure each piece of work in a process of its own.
    """
    found = [math.nan]
    gc.collect()  # garbage given back in the middle of the work would hide as much of it
    try:
        MARK.write_text("5", encoding="ascii")  # the mark falls to what is resident now
        before = _resident("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found[0] = max(_resident("VmHWM") - before, 0.0)


def _resident(field: str) -> float:
    """A field of the process's status, in MiB."""
    line = next(line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024
