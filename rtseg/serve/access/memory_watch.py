"""Memory that a peer fills without end: noticed, and the connection that fills it is ended.

libzmq keeps what has come until it is taken, without a limit (`client_sockets` says why), and the parts of a message
until its last one is there. Nothing of that can be asked for. The process's memory can, and of each TCP connection the
kernel counts the bytes that it has brought: one that has brought most of what the memory grew by is the cause.

Linux only; over ipc the kernel counts no bytes. Slow growth is not noticed, as it might be anybody's.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from rtseg.serve.access.connections import Connection, end_connection

LOG = logging.getLogger("rtseg.serve")
LOOK_NS = 100_000_000
MIN_GROWTH = 10 << 20
"""Less in one look is nobody's fault: streams that are opened and bundles that are loaded take memory as well."""
TCP_INFO, RECEIVED_AT, TCP_INFO_BYTES = 11, 128, 136
"""Linux' option, where `tcpi_bytes_received` stands in it (64 bits), and how much of it is read."""
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class MemoryWatch:
    """Looks after the memory of this process. max_growth: bytes, 0 = any.

    addresses: those that clients connect to; they may be filled in later.

    Memory may grow by max_growth after the first look; from there on whoever lets it grow further is disconnected.
    ended: connections for which that was done.
    """

    def __init__(self, addresses: Sequence[str], max_growth: int) -> None:
        self._addresses, self._max_growth, self.ended = addresses, max_growth, 0
        self._first: int | None = None
        self._last, self._received = 0, dict[Connection, int]()
        # Opened once: later there may be no descriptor left.
        self._statm = _open_statm() if max_growth else None

    def look(self) -> None:
        """Look; to be called each LOOK_NS."""
        if self._statm is None:
            return
        now = _own_memory(self._statm)
        if self._first is None:
            self._first = now
        if now - self._first <= self._max_growth:
            self._received.clear()
            return
        received = bytes_received()
        growth = now - self._last
        if self._received and growth >= MIN_GROWTH:
            self._end_causes(growth, received)
        self._last, self._received = now, received

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _end_causes(self, growth: int, received: dict[Connection, int]) -> None:
        """End those that brought the most since the last look, until what they brought explains half of the growth.

        Where all together do not, the memory went elsewhere, and nobody is ended.
        """
        brought = {each: n - self._received.get(each, 0) for each, n in received.items()}
        explained, causes = 0, list[Connection]()
        for each in sorted(brought, key=lambda connection: -brought[connection]):
            if 2 * explained >= growth:
                break
            explained += brought[each]
            causes.append(each)
        if 2 * explained < growth:
            return
        for each in causes:
            if end_connection(each.descriptor, tuple(self._addresses), each.inode):
                self.ended += 1
                LOG.warning(
                    "a connection is ended: memory grew by %d MB in a tenth of a second, and it brought %d MB",
                    growth >> 20,
                    brought[each] >> 20,
                )


def bytes_received() -> dict[Connection, int]:
    """What each TCP connection of this process has brought since it began (Linux)."""
    libc, info, found = ctypes.CDLL(None), ctypes.create_string_buffer(TCP_INFO_BYTES), dict[Connection, int]()
    for descriptor in _descriptors():
        size = ctypes.c_uint(TCP_INFO_BYTES)
        if libc.getsockopt(descriptor, socket.IPPROTO_TCP, TCP_INFO, info, ctypes.byref(size)) == 0:
            if size.value < TCP_INFO_BYTES:  # a kernel before 4.1
                return {}
            n_bytes = int.from_bytes(info.raw[RECEIVED_AT:TCP_INFO_BYTES], "little")
            try:
                found[Connection(descriptor, os.fstat(descriptor).st_ino)] = n_bytes
            except OSError:
                continue  # it has just gone
    return found


def _descriptors() -> Iterable[int]:
    """Those of this process (Linux). Where none is left to list them with, every number is one."""
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        return range(int(os.sysconf("SC_OPEN_MAX")))


def _open_statm() -> int | None:
    if not hasattr(os, "pread"):  # Windows
        return None
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None


def _own_memory(statm: int) -> int:
    """Bytes of memory that are this process's own; what it shares, such as a recording's ring, is not."""
    _, resident, shared, *_ = os.pread(statm, 128, 0).split()
    return (int(resident) - int(shared)) * _PAGE
