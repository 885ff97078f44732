"""What this operating system offers to a daemon: looked for in Python, not deduced from the system's name.

Linux has all of it, macOS nearly all, Windows less (docs/systems.md). Each function says in one line why something is
not to be had here and what to do instead, "" where it is: errors and `rtseg doctor` use the same words.
"""

from __future__ import annotations

import importlib.util
import os
import socket

SOCKETS_ARE_FILES = hasattr(os, "fork")
"""Whether a socket's number is a file descriptor, as POSIX has it. Windows gives handles, which `os` does not know."""
FILES_HAVE_OWNERS = hasattr(os, "geteuid")
"""Whether a file's mode and owner say who may read it. On Windows they say nothing: access lists do, which are left
to whoever sets up the machine."""


def why_no_recording() -> str:
    """Of `rtseg serve --record`: the daemon and the process that writes its file lock it, and share mapped memory."""
    if _has("fcntl") and hasattr(os, "pwrite"):
        return ""
    return (
        "this system has no file locks of POSIX (flock), by which a daemon and the writer of its recording know of one "
        "another: record on Linux or macOS; `rtseg listen > answers.jsonl` keeps the answers anywhere"
    )


def why_no_ipc() -> str:
    """Of ipc:// addresses."""
    if hasattr(socket, "AF_UNIX"):
        return ""
    return "this system has no Unix sockets (AF_UNIX), which ipc addresses need: use tcp://127.0.0.1:PORT"


def why_no_workers() -> str:
    """Of `rtseg serve --workers`: nobody but the front may reach its workers, which ipc files in its folder ensure."""
    if not why_no_ipc():
        return ""
    return (
        "this system has no Unix sockets (AF_UNIX), over which a front and its workers speak: serve with one process "
        "(workers = 1), or several daemons at ports of their own"
    )


def why_no_sinks() -> str:
    """Of sinks: a daemon hands its commands to a process of its own, message by message, and sees it end."""
    try:
        for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET):
            end.close()
    except (AttributeError, OSError):  # Windows lacks the names, macOS what they stand for
        return (
            "this system has no Unix sockets that keep messages apart (SOCK_SEQPACKET), over which a daemon and a "
            "sink's process speak: serve triggers on Linux; `rtseg.Subscriber` receives the same events on any system"
        )
    return ""


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # a module that was set to None, as tests do
        return False
