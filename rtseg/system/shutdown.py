"""How a serving process ends: signals stop it, and how long it may take to drain."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

LOG = logging.getLogger("rtseg.serve")
QUIET_MS = 10
"""Stopping: the sockets are read until nothing comes for this long."""
CAUGHT_UP_S = 0.5
"""After so long a shorter silence is enough, see `quiet_ms`."""
COUNT_S = 1.0
"""What still waits when the time to drain is over is counted for this long at most."""
LINGER_MS = 1000
"""How long unsent messages may hold up the end."""
HANGUP = getattr(signal, "SIGHUP", None)
"""None on Windows, where a console that is closed sends SIGBREAK."""
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)


class Stoppable(Protocol):
    """What a signal can stop."""

    def stop(self) -> None:
        """Begin to drain; called from a signal handler."""


@contextlib.contextmanager
def stopped_by_signals(daemon: Stoppable) -> Iterator[None]:
    """STOP_SIGNALS stop the daemon; a second one raises SystemExit. Outside the main thread: nothing.

    SIGHUP is never a second one: a terminal that is closed may send it twice. A process that was started to ignore it
    (`nohup`) goes on to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = 0

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal signals
        signals += number != HANGUP
        if signals > 1:
            raise SystemExit(1)
        daemon.stop()

    handled = [n for n in STOP_SIGNALS if n != HANGUP or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if signals > 1:  # a SystemExit raised while garbage was collected is swallowed there
            raise SystemExit(1)


def quiet_ms(passed_s: float, drain_s: float) -> int:
    """How long nothing must come, so that all that had arrived counts as read. passed_s: since the end was asked for.

    Sources may go on sending, and many of them leave no pause. What they send now came after the end was asked for, so
    in the end a look that finds nothing is enough. Not from the start: the network thread may be about to bring more.
    """
    if passed_s < CAUGHT_UP_S:
        return QUIET_MS
    return 1 if passed_s < drain_s / 2 else 0


def ignore_stop_signals() -> None:
    """For a daemon's own children: terminals and service managers signal all, and the daemon ends them when it ends."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def print_line(line: str) -> None:
    """Print a line to stdout and flush it: the process that started this one waits for it.

    Where it has gone, or a terminal was closed, or the disk behind it is full, that is logged, and nothing else.
    """
    try:
        print(line, flush=True)
    except OSError as error:
        LOG.warning("stdout takes nothing any more (%s): %.200s", error.strerror, line)
        # What it has kept would be tried again at the process's end, and change its exit status.
        with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
