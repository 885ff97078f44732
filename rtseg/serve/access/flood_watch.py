"""Floods of subscriptions, which libzmq takes in on the loop's own thread for as long as any wait: cut off.

Nothing that the loop does could end such a flood, since the loop waits in libzmq while it lasts. So a thread of its own
looks at the connections of the predictions' socket. It is compiled and runs without Python's lock: the loop never waits
for it. A subscriber sends a topic now and then; whoever brings more than BURST bytes and RATE bytes a second is
disconnected. Over ipc, where no bytes are counted, that is whoever has PENDING bytes waiting at PENDING_LOOKS looks.
It also counts for `memory_watch` what all connections have brought: with many of them that takes long.

Linux only; elsewhere nobody looks.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rtseg.compiled import array_tables, cache_stamps, libzmq
from rtseg.compiled.libzmq import call, call_with_six
from rtseg.serve.access.connections import RECEIVED_AT, TCP_INFO, TCP_INFO_BYTES

LOG = logging.getLogger("rtseg.serve")
LOOK_US, ALERT_LOOK_US, ALERT_US = 20_000, 1_000, 15_000_000
"""Time between two looks, and between those of so long after a connection was ended: whoever floods comes back."""
BURST, RATE = 64 << 10, 16 << 10
"""Bytes of one connection at once, and in a second. Two thousand topics of thirty bytes are fewer."""
PENDING, PENDING_LOOKS = 16 << 10, 5
MAX_DESCRIPTORS, MAX_GAP = 1 << 16, 256
"""Descriptors that are looked at, and how many that are none end a look: the lowest free one is always given first."""
RECEIVE_BUFFER = 2 << 10
"""Of the predictions' socket: what the kernel holds of a flood is still read after its connection was ended."""
_NAMES = "getsockname", "getsockopt", "ioctl", "shutdown", "usleep"
_GETSOCKNAME, _GETSOCKOPT, _IOCTL, _SHUTDOWN, _USLEEP = range(len(_NAMES))
_IS_STOPPING, _ENDED, _ASKED, _COUNTED = range(4)
_FIONREAD, _IS_UNIX, _PORT_AT = 0x541B, int(getattr(socket, "AF_UNIX", 1)), 2
_STAMP = cache_stamps.source_stamp(libzmq, array_tables)


class FloodWatch:
    """Watches the connections to one address from `start` to `close`."""

    def __init__(self) -> None:
        self._words, self._told = np.zeros(4, np.int64), 0
        self._received = np.zeros(MAX_DESCRIPTORS, np.int64)
        self._thread: threading.Thread | None = None

    def start(self, address: str) -> None:
        """Begin to look. address: what the socket is bound to."""
        if libzmq.addresses() is None:
            return
        system = ctypes.CDLL(None)
        functions = [ctypes.cast(getattr(system, name), ctypes.c_void_p).value for name in _NAMES]
        own = _own_name(address)
        arguments = np.array(functions, np.int64), own, address.startswith("ipc://"), self._words, self._received
        self._words[_IS_STOPPING] = 1
        _watch(*arguments)  # returns at once: compiled here, and not while frames come
        self._words[_IS_STOPPING] = 0
        self._thread = threading.Thread(target=_watch, args=arguments, name="rtseg floods", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> int:
        """Connections that were ended."""
        return int(self._words[_ENDED])

    def ask_received(self) -> None:
        """Let the bytes be counted that all TCP connections of this process have brought."""
        self._words[_ASKED] += 1

    def take_received(self) -> NDArray[np.int64] | None:
        """Those that were asked for, by descriptor, 0 where there is no such connection; None while it counts."""
        return self._received.copy() if self._words[_COUNTED] == self._words[_ASKED] else None

    def log_ended(self) -> None:
        """Say so where any were ended since the last time."""
        if (ended := self.ended) > self._told:
            LOG.warning("%d connections are ended, which flooded the socket with subscriptions", ended - self._told)
            self._told = ended

    def close(self) -> None:
        """Stop looking."""
        self._words[_IS_STOPPING] = 1
        if self._thread is not None:
            self._thread.join()


def _own_name(address: str) -> NDArray[np.uint8]:
    """What the kernel's name of a connection to this address has after the family: a port, or a file."""
    kind, _, rest = address.partition("://")
    name = rest.encode() + b"\0" if kind == "ipc" else struct.pack(">H", int(rest.rpartition(":")[2]))
    return np.frombuffer(bytearray(name), np.uint8)


def _compiled(stamp: int) -> Callable[..., Any]:
    """The thread's function. stamp: of the files of what is compiled into it."""

    @njit(cache=True, nogil=True)
    def watch(
        functions: NDArray[np.int64],
        own: NDArray[np.uint8],
        is_ipc: bool,
        words: NDArray[np.int64],
        all_received: NDArray[np.int64],
    ) -> None:
        _ = stamp
        allowance = np.full(MAX_DESCRIPTORS, BURST, np.int64)  # over ipc: looks with much waiting
        before = np.zeros(MAX_DESCRIPTORS, np.int64)  # bytes that had been received
        name, size, value = np.zeros(128, np.uint8), np.zeros(1, np.int32), np.zeros(TCP_INFO_BYTES // 8, np.int64)
        name_at, size_at, value_at = name.ctypes.data, size.ctypes.data, value.ctypes.data
        if is_ipc:
            allowance[:] = 0
        look_us, alert_us = LOOK_US, 0
        while not words[_IS_STOPPING]:
            gap = 0
            asked = words[_ASKED]
            is_counting = asked != words[_COUNTED]
            if is_counting:
                all_received[:] = 0
            for fd in range(MAX_DESCRIPTORS):
                size[0] = len(name)
                if np.int32(call(functions[_GETSOCKNAME], fd, name_at, size_at, 0)) < 0:
                    gap += 1
                    if gap > MAX_GAP:
                        break
                    continue
                gap = 0
                if is_counting and name[0] != _IS_UNIX:
                    size[0] = TCP_INFO_BYTES
                    failed = np.int32(
                        call_with_six(functions[_GETSOCKOPT], fd, socket.IPPROTO_TCP, TCP_INFO, value_at, size_at, 0)
                    )
                    # Less is told by a kernel before 4.1, which does not count them.
                    if not failed and size[0] == TCP_INFO_BYTES:
                        all_received[fd] = value[RECEIVED_AT // 8]
                if (name[0] == _IS_UNIX) != is_ipc or not (name[_PORT_AT : _PORT_AT + len(own)] == own).all():
                    continue
                if is_ipc:
                    value[0] = 0
                    call(functions[_IOCTL], fd, _FIONREAD, value_at, 0)
                    allowance[fd] = allowance[fd] + 1 if value[0] >= PENDING else 0
                    is_flood = allowance[fd] >= PENDING_LOOKS
                else:
                    size[0] = TCP_INFO_BYTES
                    call_with_six(functions[_GETSOCKOPT], fd, socket.IPPROTO_TCP, TCP_INFO, value_at, size_at, 0)
                    received = value[RECEIVED_AT // 8]
                    if received < before[fd]:  # another connection by now
                        allowance[fd], before[fd] = BURST, 0
                    allowance[fd] = min(BURST, allowance[fd] + RATE * look_us // 1_000_000) - (received - before[fd])
                    before[fd] = received
                    is_flood = allowance[fd] < 0
                if is_flood:
                    allowance[fd] = 0 if is_ipc else BURST
                    if np.int32(call(functions[_SHUTDOWN], fd, 2, 0, 0)) == 0:
                        words[_ENDED] += 1
                        alert_us = ALERT_US
            words[_COUNTED] = asked
            look_us = LOOK_US if alert_us <= 0 else ALERT_LOOK_US
            alert_us -= look_us
            call(functions[_USLEEP], look_us, 0, 0, 0)

    return watch


_watch = _compiled(_STAMP)
