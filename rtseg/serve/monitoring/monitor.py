"""What a daemon does for those who watch over it: signs of life to systemd, a shared status, a process that shows it.

Called once in each turn of the hot loop; where nothing is due that costs two comparisons.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.monitoring.http_process import HealthProcess
from rtseg.serve.monitoring.shared_status import PIECE_EVERY_NS, Pieces, SharedStatus
from rtseg.serve.monitoring.systemd import Notifier
from rtseg.serve.timing.periodic import Periodic

PROCESS_CHECK_NS = 1_000_000_000
OVERDUE_NS = 1_000_000_000
"""A loop that is never without work shares a piece this often nevertheless."""


class Monitor:
    """A daemon's, a front's or a worker's. url: of the HTTP server, "" where there is none.

    pieces: what is shared. status_file: for a worker, where it shares its status, which the front's server shows.
    Raises ServeError where the HTTP address can't be had, RtsegError where its package is missing.
    """

    def __init__(self, settings: ServeSettings, pieces: Pieces, status_file: str = "") -> None:
        self._notifier = Notifier()
        self._pieces = pieces
        self._shared: SharedStatus | None = None
        self._process: HealthProcess | None = None
        self._next_piece, self._process_check = Periodic(PIECE_EVERY_NS), Periodic(PROCESS_CHECK_NS)
        self.url = ""
        if status_file:
            self._shared = SharedStatus(Path(status_file))
        elif settings.http:
            self._shared = SharedStatus()
            # The child opens the file at once, so the file comes first, and goes where the child cannot start.
            try:
                self._process = HealthProcess(self._shared.path, settings.http)
            except BaseException:
                self._shared.close()
                raise
            self.url = self._process.url

    def announce_ready(self, now_ns: int, status: str) -> None:
        """The loop begins. status: a line that systemd shows."""
        if self._shared is not None:
            # Whole before systemd is told: /readyz must say the same by then.
            self._shared.write_all(self._pieces, now_ns)
            self._shared.follow(self._pieces)
        self._notifier.notify_ready(status)

    def run_due(self, now_ns: int, socket: zmq.Socket[bytes]) -> None:
        """Whatever is due; a piece of the status only while nothing waits at `socket`."""
        if self._notifier.watchdog_ns:
            self._notifier.notify_alive(now_ns)
        if self._shared is None or not self._next_piece.is_due(now_ns):
            return
        # A piece takes microseconds, which a frame that waits would be late by.
        is_waiting = cast(int, socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN
        if not is_waiting or now_ns - self._next_piece.last_ns > OVERDUE_NS:
            self._next_piece.restart(now_ns)
            self._shared.write_piece(now_ns)
            if self._process is not None and self._process_check.restart_if_due(now_ns):
                self._process.restart_if_ended()

    def announce_stopping(self, now_ns: int) -> None:
        """The loop has ended; what is left is draining."""
        self._notifier.notify_stopping()
        if self._shared is not None:
            self._shared.write_all(self._pieces, now_ns)

    def close(self) -> None:
        """End the HTTP process, remove the shared status."""
        if self._process is not None:
            self._process.close()
        if self._shared is not None:
            self._shared.close()
        self._notifier.close()
        self._shared = self._process = None
