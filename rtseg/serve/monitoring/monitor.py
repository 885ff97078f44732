"""What the daemon does for those who watch over it: signs of life to systemd, its board, and the process that shows it.

Called once a turn of the hot loop; a turn in which nothing is due costs two comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import zmq

from rtseg.config import ServeSettings
from rtseg.serve.monitoring.http_process import HealthProcess
from rtseg.serve.monitoring.shared_status import EVERY_NS, SharedStatus
from rtseg.serve.monitoring.systemd import Notifier

OVERDUE_NS = 1_000_000_000
"""A loop that is never without work writes a piece of the board this often nevertheless."""
Pieces = Callable[[], Iterator[dict[str, Any]]]


class Monitor:
    """The daemon's watchers. url: of the HTTP server, "" where there is none.

    board: for a worker, the file of its board, which the front's server shows. Raises ServeError where the HTTP address
    can't be had, RtsegError where its package is missing.
    """

    def __init__(self, settings: ServeSettings, pieces: Pieces, board: str = "") -> None:
        self._notifier = Notifier()
        self._pieces = pieces
        self._board: SharedStatus | None = None
        self._process: HealthProcess | None = None
        self._wrote_ns = 0
        self.url = ""
        if board:
            self._board = SharedStatus(Path(board))
        elif settings.http:
            self._board = SharedStatus()
            try:
                self._process = HealthProcess(self._board.path, settings.http)
            except BaseException:
                self._board.close()
                raise
            self.url = self._process.url

    def announce_ready(self, now_ns: int, status: str) -> None:
        """The loop begins."""
        if self._board is not None:
            self._board.write_all(self._pieces, now_ns)
            self._board.follow(self._pieces)
        self._notifier.ready(status)

    def run_due(self, now_ns: int, socket: zmq.Socket[bytes]) -> None:
        """Whatever is due; a piece of the board only while nothing waits at `socket`."""
        if self._notifier.watchdog_ns:
            self._notifier.alive(now_ns)
        if self._board is None or now_ns - self._wrote_ns < EVERY_NS:
            return
        waits = cast(int, socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN
        if not waits or now_ns - self._wrote_ns > OVERDUE_NS:
            self._wrote_ns = now_ns
            self._board.turn(now_ns)

    def announce_stopping(self, now_ns: int) -> None:
        """The loop has ended; what is left is draining."""
        self._notifier.stopping()
        if self._board is not None:
            self._board.write_all(self._pieces, now_ns)

    def close(self) -> None:
        """End the HTTP process, forget the board."""
        if self._process is not None:
            self._process.close()
        if self._board is not None:
            self._board.close()
        self._notifier.close()
        self._board = self._process = None
