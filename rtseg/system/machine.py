"""Where, when and with what a result was made: every result carries it, since machines cannot be compared.

Reads the machine and the installed packages only; times nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rtseg

_CACHE_FILES = ("type", "level", "size")
READ_TOGETHER_NS = 100_000_000
"""Two clocks that are read within this are read together."""


def describe_run(packages: Sequence[str]) -> dict[str, Any]:
    """Date, commit, machine and versions of the named packages (None = not installed), for a result's head."""
    # Those that this process may use: in a container or under a scheduler fewer than there are.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "cores_usable": cores,
            "os": platform.platform(),
            "load_average_before": load_average(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
    }


def suspended_ns() -> int:
    """For how long this machine has been suspended since its start, which the monotonic clock leaves out (Linux); 0
    where the system does not tell.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    before_ns = time.monotonic_ns()
    while True:
        boot_ns, after_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.monotonic_ns()
        if after_ns - before_ns < READ_TOGETHER_NS:
            return boot_ns - after_ns
        before_ns = after_ns  # this process stood still in between, which is no suspended machine


def load_average() -> float | None:
    """The system's load average of the last minute; None where the system does not tell."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def commit() -> str | None:
    """The commit of this checkout, `+dirty` where tracked files differ from it; None for an installed package."""
    home = Path(rtseg.__file__).parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(home), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    # An installed package may lie inside somebody's own repository: its commit would be the wrong one.
    if not (home / ".git").exists():
        return None
    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def cpu_flags() -> frozenset[str]:
    """The processor's features (Linux), as /proc/cpuinfo lists them; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    # `flags` on x86-64, `Features` on Arm.
    flags = [line.partition(":")[2] for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(flags[0].split()) if flags else frozenset()


def caches_kb() -> dict[str, int]:
    """Name -> kB of the first core's data caches, `L1d`, `L2`, `L3` (Linux); empty where the system does not tell."""
    found: dict[str, int] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((folder / part).read_text(encoding="utf-8").strip() for part in _CACHE_FILES)
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            found[f"L{level}" + ("d" if kind == "Data" else "")] = int(size[:-1])
    return found


def cpu_name() -> str:
    """The processor's model name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    if package == "rtseg":
        return rtseg.__version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def boot_id() -> str:
    """A name of this start of the machine, during which the monotonic clock runs on; "" where none is told."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
