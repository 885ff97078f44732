"""Takes away from this Python what it has not on macOS, on a processor of Apple's."""

from __future__ import annotations

import mmap
import os
import platform
import resource
import select
import stat

from taking_away import hide_folders, take_away

take_away(
    os,
    ("posix_fallocate", "posix_fadvise", "fdatasync", "copy_file_range", "splice", "O_DIRECT", "O_TMPFILE", "pipe2"),
    beginnings=("sched_", "SCHED_", "eventfd", "memfd_", "pidfd_", "EFD_", "MFD_", "getres", "setres", "getxattr"),
)
take_away(mmap, ("MADV_HUGEPAGE", "MADV_NOHUGEPAGE", "MAP_POPULATE", "MAP_STACK", "MAP_NORESERVE"))
take_away(resource, ("RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_NICE", "RLIMIT_SIGPENDING", "prlimit"))
take_away(select, beginnings=("epoll", "EPOLL"))
hide_folders("/proc", "/sys", "/dev/shm")

platform.machine = lambda: "arm64"
_fstat = os.fstat


def _without_inode(number: int) -> os.stat_result:
    """A socket has none there."""
    found = _fstat(number)
    return os.stat_result((found[0], 0, *found[2:])) if stat.S_ISSOCK(found.st_mode) else found


os.fstat = _without_inode
