"""Memory that a peer fills without end: noticed, and the connection that fills it is ended.

libzmq keeps what has come until it is taken, without a limit (`client_sockets` says why), and the parts of a message
until its last one is there. Nothing of that can be asked for. The process's memory can, and of each TCP connection the
kernel counts the bytes that it has brought: one that has brought most of what the memory grew by is the cause. They are
counted by `flood_watch`'s thread, for there may be very many connections.

Linux only; over ipc the kernel counts no bytes. Slow growth is not noticed, as it might be anybody's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtseg.serve.access.connections import end_connection
from rtseg.serve.access.flood_watch import FloodWatch

LOG = logging.getLogger("rtseg.serve")
LOOK_NS = 100_000_000
MIN_GROWTH = 10 << 20
"""Less in one look is nobody's fault: streams that are opened and bundles that are loaded take memory as well."""
MOST_CAUSES = 256
"""So many are ended at one look at most: the loop waits for it. The next look goes on with those that still bring."""
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class MemoryWatch:
    """Looks after the memory of this process. max_growth: bytes, 0 = any.

    addresses: those that clients connect to; they may be filled in later. flood_watch: whose thread counts.

    Memory may grow by max_growth after the first look; from there on whoever lets it grow further is disconnected.
    ended: connections for which that was done.
    """

    def __init__(self, addresses: Sequence[str], max_growth: int, flood_watch: FloodWatch) -> None:
        self._addresses, self._max_growth, self._flood_watch, self.ended = addresses, max_growth, flood_watch, 0
        self._first: int | None = None
        self._asked: int | None = None  # memory when the counts were asked for that have not been taken yet
        self._last: tuple[int, NDArray[np.int64]] | None = None  # memory, and what connections had brought by then
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
            self._asked = self._last = None
            return
        if self._asked is not None:
            received = self._flood_watch.take_received()
            if received is None:
                return
            if self._last is not None and (growth := self._asked - self._last[0]) >= MIN_GROWTH:
                self._end_causes(growth, received, self._last[1])
            self._last = self._asked, received
        self._asked = now
        self._flood_watch.ask_received()

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._statm is not None:
            os.close(self._statm)
            self._statm = None

    def _end_causes(self, growth: int, received: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """End those that brought the most between two counts, until what they brought explains half of the growth.

        Where all together do not, the memory went elsewhere, and nobody is ended.
        """
        # Less than before: the number is another connection's by now.
        brought = np.where(received >= before, received - before, received)
        if 2 * int(brought.sum()) < growth:
            return
        explained, most = 0, np.argpartition(-brought, MOST_CAUSES)[:MOST_CAUSES]
        for descriptor in most[np.argsort(-brought[most])].tolist():
            if 2 * explained >= growth:
                break
            explained += int(brought[descriptor])
            if end_connection(descriptor, tuple(self._addresses), least_received=int(received[descriptor])):
                self.ended += 1
                LOG.warning(
                    "a connection is ended: memory grew by %d MB between two looks, and it brought %d MB",
                    growth >> 20,
                    brought[descriptor] >> 20,
                )


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
