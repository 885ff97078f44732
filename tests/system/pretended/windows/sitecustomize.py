"""Takes away from this Python what it has not on Windows, and lets sockets, pipes and clocks behave as there.

Not pretended: paths and their drives, and that a file in use cannot be removed or renamed.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import multiprocessing.context
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

from taking_away import hide_folders, take_away

# The library's own processes are started and killed as before: they have what they need from here on.
assert multiprocessing.context is not None
subprocess.signal = SimpleNamespace(**vars(signal))  # type: ignore[attr-defined]

for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # type: ignore[assignment]
take_away(
    os,
    (
        *("chown", "confstr", "copy_file_range", "ctermid", "fchdir", "fchmod", "fchown", "fdatasync", "fork"),
        *("forkpty", "fpathconf", "fstatvfs", "lockf", "mkfifo", "mknod", "nice", "openpty", "pipe2", "pread"),
        *("preadv", "pwrite", "pwritev", "readv", "register_at_fork", "sendfile", "set_blocking", "splice", "statvfs"),
        *("sync", "sysconf", "tcgetpgrp", "ttyname", "wait", "wait3", "wait4", "waitid", "writev", "killpg"),
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "getloadavg", "environb"),
    ),
    beginnings=(
        *("posix_", "sched_", "SCHED_", "getpg", "setpg", "getsid", "setsid", "getpriority", "setpriority", "getuid"),
        *("geteuid", "getgid", "getegid", "getgroups", "getres", "setres", "setuid", "seteuid", "setgid", "eventfd"),
        *("memfd_", "pidfd_", "EFD_", "MFD_", "getxattr", "setxattr", "listxattr", "RTLD_"),
    ),
)
take_away(
    signal,
    (
        *("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGCONT", "SIGSTOP", "SIGQUIT"),
        *("setitimer", "getitimer", "alarm", "pause", "siginterrupt"),
    ),
    beginnings=("pthread_", "sigwait", "sigpending", "sigtimedwait"),
)
take_away(mmap, beginnings=("MAP_", "PROT_", "MADV_"))
take_away(socket, ("AF_UNIX", "SO_REUSEPORT", "send_fds", "recv_fds"))
take_away(select, ("epoll", "poll"))
hide_folders("/proc", "/sys", "/dev/shm")

_fstat, _dup, _select, _load = os.fstat, os.dup, select.select, ctypes.CDLL.__init__


def _no_socket(number: int) -> int:
    """A socket is a handle there, which these functions do not know."""
    if stat.S_ISSOCK(_fstat(number).st_mode):
        raise OSError(errno.EBADF, "Bad file descriptor")
    return number


def _select_sockets(*lists: object) -> tuple[list[object], list[object], list[object]]:
    if any(not isinstance(one, socket.socket) for some in lists[:3] for one in some):  # type: ignore[attr-defined]
        raise OSError(errno.ENOTSOCK, "An operation was attempted on something that is not a socket")
    return _select(*lists)  # type: ignore[arg-type]


def _load_library(self: ctypes.CDLL, name: object, *arguments: object, **named: object) -> None:
    if name is None:
        raise TypeError("bad argument type for built-in operation")
    _load(self, name, *arguments, **named)  # type: ignore[arg-type]


os.fstat = lambda number: _fstat(_no_socket(number))
os.dup = lambda number: _dup(_no_socket(number))
select.select = _select_sockets  # type: ignore[assignment]
ctypes.CDLL.__init__ = _load_library  # type: ignore[method-assign, assignment]

# Before Python 3.13 the monotonic clock moves in steps there.
STEP_NS = 15_625_000
_monotonic_ns, _clock_info = time.monotonic_ns, time.get_clock_info
time.monotonic_ns = lambda: _monotonic_ns() // STEP_NS * STEP_NS
time.monotonic = lambda: time.monotonic_ns() / 1e9
time.get_clock_info = lambda clock: (  # type: ignore[assignment]
    SimpleNamespace(resolution=STEP_NS / 1e9) if clock == "monotonic" else _clock_info(clock)  # type: ignore[arg-type]
)
