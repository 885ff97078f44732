"""How a serving process ends: signals stop it, and how long it may take to drain."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Protocol

QUIET_MS = 10
DRAIN_S = 0.5
"""Stopping: the sockets are read until they are quiet for QUIET_MS, for DRAIN_S at most."""
LINGER_MS = 1000
"""How long unsent messages may hold up the end."""


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Begin to drain; called from a signal handler."""


@contextlib.contextmanager
def stopped_by_signals(daemon: Stoppable) -> Iterator[None]:
    """SIGINT and SIGTERM stop the daemon; a second one raises SystemExit. Outside the main thread: nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = 0

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            raise SystemExit(1)
        daemon.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if signals > 1:  # a SystemExit raised while garbage was collected is swallowed there
            raise SystemExit(1)


def print_line(line: str) -> None:
    """Print a line to stdout and flush it: the process that started this one waits for it."""
    print(line, flush=True)
