"""What the daemon tells systemd: ready, alive, stopping (sd_notify's protocol: datagrams to NOTIFY_SOCKET).

Does nothing where no manager listens. Reads no clock; never waits.
"""

from __future__ import annotations

import contextlib
import os
import socket as plain_socket
from collections.abc import Mapping

from rtseg.errors import ServeError
from rtseg.serve.timing.periodic import Periodic


class Notifier:
    """Tells a service's manager of it. environment: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; None = os's.

    watchdog_ns: `notify_alive` must be called at least this often, half of what systemd allows; 0 = it need not be.
    Raises ServeError for a WATCHDOG_USEC that is no number.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        variables = os.environ if environment is None else environment
        self._address = variables.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # an abstract socket of Linux
        # The variables are inherited: the watchdog may be meant for a parent process.
        is_meant = variables.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        allowed = variables.get("WATCHDOG_USEC", "0") if self._address and is_meant else "0"
        if not allowed.isdigit():
            raise ServeError(f"WATCHDOG_USEC: expected microseconds, got {allowed!r}")
        self.watchdog_ns = int(allowed) * 1000 // 2
        self._socket: plain_socket.socket | None = None
        if self._address:
            self._socket = plain_socket.socket(plain_socket.AF_UNIX, plain_socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._watchdog = Periodic(self.watchdog_ns)

    def notify_ready(self, status: str) -> None:
        """The service takes frames from now on. status: a line that systemd shows."""
        self._send(f"READY=1\nMAINPID={os.getpid()}\nSTATUS={status}")

    def notify_alive(self, now_ns: int) -> None:
        """Sends a sign of life when one is due. Called by the hot loop in each turn: a loop that hangs does not."""
        if self.watchdog_ns and self._watchdog.restart_if_due(now_ns):
            self._send("WATCHDOG=1")

    def notify_stopping(self) -> None:
        """The service is on its way out."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Send nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is not None:
            # A manager that doesn't read must not stop the daemon; a lost sign of life is followed by the next.
            with contextlib.suppress(OSError):
                self._socket.sendto(message.encode(), self._address)
