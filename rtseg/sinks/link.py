"""A daemon's end of a sink: starts its process, hands it commands, and brings its reports. Never waits.

A far end that is lost is the process's business, which opens it again; a process that ends or hangs is started again,
with longer and longer pauses. Each begins with all lines off. Nothing here raises into the daemon's loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence

from rtseg.config import SinkSettings, to_plain
from rtseg.errors import ServeError
from rtseg.sinks.base import (
    ALIVE,
    ERROR,
    LOST,
    NO_EVENT,
    READY,
    RESTART_S,
    LineCommand,
    LineSpec,
    ProbabilityRow,
    SinkReport,
)
from rtseg.sinks.select import sink_class
from rtseg.system.capabilities import why_no_sinks
from rtseg.system.child_process import module_command, module_environment

STARTING, IS_READY, IS_LOST, CLOSED = "starting", "ready", "lost", "closed"
MESSAGE_BYTES = 65536
COMMAND_BUFFER = 32768
"""Bytes of the kernel's queue for commands, its own bookkeeping included: room for about eighty on Linux."""
ROW_BUFFER = 1 << 18
SILENT_S = 2.0
"""A process that says nothing for so long hangs, unless its heartbeats are rarer still."""
CLOSE_S = 2.0
"""How long `close` waits for a process that turns its lines off."""


class SinkLink:
    """A sink's process, and the way to it.

    lines: one for each trigger that names the sink; a command's `line` is an index into them. channels: names of the
    probabilities that `send_probabilities` hands over. cpus, priority: where the process runs (none and 0: where this
    thread does now, without one).

    state: `starting`, `ready`, `lost` or `closed`; text: what it is, or why it is lost. acknowledges: whether its
    acknowledgements come from the far end itself; known when ready. restarts: how often its process was started again.
    dropped_rows: probabilities that had no room. Raises ServeError where this system has no such processes,
    SettingError for a kind that nobody brings.
    """

    def __init__(
        self,
        name: str,
        settings: SinkSettings,
        lines: Sequence[LineSpec],
        channels: Sequence[str] = (),
        *,
        cpus: Sequence[int] = (),
        priority: int = 0,
    ) -> None:
        if reason := why_no_sinks():
            raise ServeError(f"sinks.{name}: {reason}")
        self.name, self.settings, self.lines = name, settings, tuple(lines)
        # Asked for now, so that a file that names no sink is refused before anything starts.
        self.takes_probabilities = sink_class(name, settings.kind).takes_probabilities
        # Those of this thread as it is now: the loop, which may start it again, has cores of its own later.
        if not cpus and hasattr(os, "sched_getaffinity"):
            cpus = sorted(os.sched_getaffinity(0))
        self._about = json.dumps(
            {
                "name": name,
                "settings": to_plain(settings),
                "lines": lines,
                "channels": list(channels),
                "cpus": list(cpus),
                "priority": priority,
            }
        )
        self.state, self.text, self.acknowledges = STARTING, "", False
        self.restarts = self.dropped_rows = 0
        self._failures = 0
        # What stands under the numbers while there is no process: nothing ever comes from it. Made now, for a process
        # may end when the daemon has no descriptor left.
        self._idle_ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._idle_ends[0].setblocking(False)
        self._commands, self._rows = _socket_pair_end(), _socket_pair_end()
        self._start()

    def fileno(self) -> int:
        """Readable when reports wait; the same number for as long as this lives, for `poll`.

        Not for `epoll`, which forgets a descriptor that stands for another socket after a restart.
        """
        return self._commands.fileno()

    @property
    def pid(self) -> int:
        """The process's number; 0 where there is none."""
        return 0 if self._process is None else self._process.pid

    def send(self, command: LineCommand) -> bool:
        """Hand a command over; False where the sink is not ready, or has not taken in what was sent before."""
        if self.state != IS_READY:
            return False
        try:
            self._commands.send(command.pack())
        except OSError:  # no room, or its end is closed, of which `receive` tells more
            return False
        return True

    def send_probabilities(self, stream: str, seq: int, t_ns: int, fps: float, probs: bytes) -> bool:
        """Hand an answer over, see `ProbabilityRow`; False, and counted, where there is no room."""
        if self.state != IS_READY:
            return False
        try:
            self._rows.send(ProbabilityRow(stream, seq, t_ns, fps, probs).pack())
        except OSError:
            self.dropped_rows += 1
            return False
        return True

    def receive(self) -> list[SinkReport]:
        """All reports that wait. One of the kind LOST comes where the sink or its process is lost."""
        reports: list[SinkReport] = []
        while self._is_connected:
            try:
                data = self._commands.recv(MESSAGE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self._disconnect()
                if self.state != IS_LOST:  # it has not said why
                    reports.append(self._lose(self._no_process or "its process ended"))
                break
            report = SinkReport.unpack(data)
            self._heard_ns = time.monotonic_ns()
            if report.kind == READY:
                if self.state == IS_READY:  # a daemon that was stopped has not heard all
                    reports.append(self._lose("it was opened again"))
                self.state, self.text, self.acknowledges = IS_READY, report.text, bool(report.line)
                self._failures = 0
                report = report._replace(line=0)
            elif report.kind == ERROR and report.event == NO_EVENT:
                report = self._lose(report.text)  # its process tries again
            if report.kind != ALIVE:
                reports.append(report)
        return reports

    def look_after(self) -> list[SinkReport]:
        """To be called several times a second: kills a process that hangs, and starts another where one has ended.

        A start takes this thread some milliseconds; a far end that is lost takes none. Returns what `receive` does.
        """
        now_ns = time.monotonic_ns()
        # The next one may need what the last one still has, as a port.
        if not self._is_connected and self._last_has_ended(now_ns) and now_ns >= self._restart_ns:
            self.restarts += 1
            self._start()
        reports = self.receive()  # a loop that was held up has not read yet what it is about to miss
        silent_s = (now_ns - self._heard_ns) / 1e9
        longest_s = self.settings.start_s + RESTART_S[-1] + SILENT_S
        if self.state == IS_READY:
            longest_s = max(SILENT_S, 4 * self.settings.heartbeat_s)
        if self._is_connected and silent_s > longest_s:
            if self._process is not None:
                self._process.kill()
            self._disconnect()
            reports.append(self._lose(f"its process said nothing for {silent_s:.1f} s"))
        return reports

    def close(self) -> None:
        """Turn all off and end the process, within about CLOSE_S."""
        if self.state == CLOSED:
            return
        self.state = CLOSED
        # Its end of the commands says to the process that it is over.
        for end in (self._commands, self._rows, *self._idle_ends):
            end.close()
        if self._process is None:
            return
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the system holds it: there is no more to be done
                self._process.wait(CLOSE_S)

    def _start(self) -> None:
        """A process for sockets that are new, under the old numbers."""
        self.state, self.text, self._no_process = STARTING, "", ""
        self._is_connected, self._heard_ns = True, time.monotonic_ns()
        self._process: subprocess.Popen[bytes] | None = None
        try:
            commands, rows = _renewed_ends(self._commands, self._rows)
        except OSError as error:  # no descriptors: tried again
            self.state, self.text = IS_LOST, str(error)
            self._disconnect()
            return
        try:
            self._process = subprocess.Popen(
                module_command("rtseg.sinks.process", str(commands.fileno()), str(rows.fileno()), self._about),
                stdin=subprocess.DEVNULL,
                stdout=2,  # the daemon's own output is read by programs
                env=module_environment(),
                pass_fds=(commands.fileno(), rows.fileno()),
            )
        except OSError as error:  # not even a process can be had: tried again
            self._no_process = str(error)
        finally:
            # With this end closed here, the process's death is the end of what can be read.
            commands.close()
            rows.close()

    def _lose(self, reason: str) -> SinkReport:
        self.state, self.text = IS_LOST, reason
        return SinkReport(LOST, NO_EVENT, 0, time.monotonic_ns(), reason)

    def _disconnect(self) -> None:
        """The process has ended or was killed: another one is started after a pause."""
        self._is_connected, self._lost_ns = False, time.monotonic_ns()
        self._restart_ns = self._lost_ns + round(RESTART_S[min(self._failures, len(RESTART_S) - 1)] * 1e9)
        self._failures += 1
        # What an ended process leaves would be readable for ever, and the loop would never sleep.
        for end in (self._commands, self._rows):
            os.dup2(self._idle_ends[0].fileno(), end.fileno(), inheritable=False)

    def _last_has_ended(self, now_ns: int) -> bool:
        """Whether the process that was lost is gone; it is killed where it takes its time."""
        if self._process is None or self._process.poll() is not None:
            return True
        if now_ns - self._lost_ns > CLOSE_S * 1e9:
            self._process.kill()
        return False


def _socket_pair_end() -> socket.socket:
    """A socket to stand under a number until `_renew_end` connects it."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _renewed_ends(commands: socket.socket, rows: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Connect both anew, and return their other ends. Raises OSError where no sockets can be had."""
    of_commands = _renew_end(commands, COMMAND_BUFFER)
    try:
        return of_commands, _renew_end(rows, ROW_BUFFER)
    except OSError:
        of_commands.close()
        raise


def _renew_end(end: socket.socket, buffer_bytes: int) -> socket.socket:
    """Connect `end` anew, keeping its number, and return the other end of the pair."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
    here.setblocking(False)
    os.dup2(here.fileno(), end.fileno(), inheritable=False)
    here.close()
    end.setblocking(False)
    return there
