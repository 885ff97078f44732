"""What the daemon tells systemd: ready, alive, stopping (sd_notify's protocol: datagrams to NOTIFY_SOCKET).

Does nothing where nobody listens. Reads no clock; never waits.
"""

from __future__ import annotations

import contextlib
import os
import socket as plain_socket
from collections.abc import Mapping

from rtseg.errors import ServeError


class Notifier:
    """One service's way to its manager. environment: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read from it.

    watchdog_ns: `alive` must come at least this often, half of what systemd allows; 0 = nobody asks. Raises ServeError
    for a WATCHDOG_USEC that is no number.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        about = os.environ if environment is None else environment
        self._address = about.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # an abstract socket of Linux
        meant = about.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        allowed = about.get("WATCHDOG_USEC", "0") if self._address and meant else "0"
        if not allowed.isdigit():
            raise ServeError(f"WATCHDOG_USEC: expected microseconds, got {allowed!r}")
        self.watchdog_ns = int(allowed) * 1000 // 2
        self._socket: plain_socket.socket | None = None
        if self._address:
            self._socket = plain_socket.socket(plain_socket.AF_UNIX, plain_socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._told_ns = 0

    def ready(self, status: str) -> None:
        """The service takes frames from now on."""
        self._tell(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={status}")

    def alive(self, now_ns: int) -> None:
        """Called from the hot loop, each turn: a loop that hangs doesn't call it. Tells systemd when it is time."""
        if self.watchdog_ns and now_ns - self._told_ns >= self.watchdog_ns:
            self._told_ns = now_ns
            self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """The service is on its way out."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, message: str) -> None:
        if self._socket is not None:
            # A manager that doesn't read must not stop the daemon; a lost sign of life is followed by the next.
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)
