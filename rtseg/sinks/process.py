"""A sink's process: takes the daemon's commands, drives the lines, and lets go of them by itself.

A line is on only while the daemon renews its lease; when the daemon's end of the socket closes, as it does when the
daemon is killed, all lines go off and this ends. Run as `python -m rtseg.sinks.process COMMANDS PROBABILITIES ABOUT` by
`link.SinkLink`; the first two are descriptors of sockets.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from rtseg.config import SinkSettings, from_plain
from rtseg.errors import RtsegError, SinkError
from rtseg.sinks.base import (
    ACK_OFF,
    ACK_ON,
    ALIVE,
    ERROR,
    EXPIRED,
    NO_EVENT,
    OFF,
    ON,
    READY,
    RENEW,
    RESTART_S,
    Answer,
    LineCommand,
    LineSpec,
    ProbabilityRow,
    Sink,
    SinkReport,
)
from rtseg.sinks.leases import LATE, HeldEvent, LeaseTable
from rtseg.sinks.select import sink_class
from rtseg.system.shutdown import STOP_SIGNALS

MESSAGE_BYTES = 65536
ROWS_AT_ONCE = 8
"""Probabilities that are passed on between two looks at the commands, which go first."""
LAST_ANSWERS_NS = 1_000_000_000
"""How long the end may wait for acknowledgements, whatever `answer_s` allows."""
LOOK_S = 0.01
REHEARSE_NS = 100_000
REHEARSED = LineCommand(ON, 1, 0, 1_000_000_000, 0, 0, "rehearsal").pack()
IS_TOLD = "the daemon knows"
FAILED, ENDS = "failed", "ends"
_WAITING = {ON: "on", OFF: "off"}


class SinkServer:
    """Serves one opened sink until the daemon's end of the socket closes.

    commands: a connected socket, where reports go back as well. rows: where probabilities come, or None. Neither waits.
    """

    def __init__(self, sink: Sink, commands: socket.socket, rows: socket.socket | None) -> None:
        self._sink, self._commands, self._rows = sink, commands, rows
        self._leases = LeaseTable(sink.lines, shares_lines=sink.shares_lines)
        self._unanswered: dict[tuple[int, int], tuple[int, LineCommand]] = {}  # (event, ON or OFF) -> until when
        self._heartbeat_ns = round(sink.settings.heartbeat_s * 1e9)
        self._answer_ns = round(sink.settings.answer_s * 1e9)
        self._next_heartbeat_ns = time.monotonic_ns() + self._heartbeat_ns
        self._busy_poll = sink.settings.busy_poll

    def run(self) -> None:
        """Serve. Raises RtsegError or OSError where the far end is lost; what was on is off then, as far as it goes."""
        try:
            while self._take_commands():
                self._take_answers()
                now_ns = time.monotonic_ns()
                self._expire(now_ns)
                self._beat(now_ns)
                self._take_answers()  # what came while something was sent is not told by the descriptor again
                self._take_rows()
                self._wait()
        except Exception as error:
            # First: the daemon must not count on it while the rest is tried.
            tell_end(self._commands, error)
            self._end_all(FAILED)
            error.add_note(IS_TOLD)
            raise
        self._end_all(ENDS)

    def _wait(self) -> None:
        """Until something comes or is due. By `select`, whose time is not rounded to milliseconds as that of `poll`."""
        due_ns = [self._next_heartbeat_ns, *(until_ns for until_ns, _ in self._unanswered.values())]
        if (end_ns := self._leases.next_end_ns()) is not None:
            due_ns.append(end_ns)
        sources = [self._commands.fileno(), *self._sink.filenos()]
        if self._rows is not None:
            sources.append(self._rows.fileno())
        if self._busy_poll:
            self._spin(sources, min(due_ns))
            return
        select.select(sources, [], [], max(0, min(due_ns) - time.monotonic_ns()) / 1e9)

    def _spin(self, sources: Sequence[int], due_ns: int) -> None:
        """The same without ever sleeping, rehearsing an event now and then: code that has not run for long takes
        several times as long.
        """
        rehearsed_ns = time.monotonic_ns()
        while not select.select(sources, [], [], 0)[0] and (now_ns := time.monotonic_ns()) < due_ns:
            if now_ns - rehearsed_ns > REHEARSE_NS:
                self._rehearse(now_ns)
                rehearsed_ns = time.monotonic_ns()
            os.sched_yield()  # where there is no free core, what brings an answer (ZeroMQ's thread) need not wait

    def _rehearse(self, now_ns: int) -> None:
        """Go through what an event takes, with leases of its own and nothing sent."""
        leases = LeaseTable(self._sink.lines, shares_lines=self._sink.shares_lines)
        command = LineCommand.unpack(REHEARSED)._replace(t_sent_ns=now_ns)
        leases.turn_on(command, now_ns)
        self._sink.rehearse(command._replace(hold_ns=leases.hold_ns(command.event, now_ns)))
        SinkReport(ACK_ON, command.event, command.line, now_ns).pack()

    def _take_commands(self) -> bool:
        """Carry out all that wait; False where the daemon has closed its end."""
        while True:
            try:
                data = self._commands.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if not data:
                return False
            command = LineCommand.unpack(data)
            if command.kind == ON:
                self._turn_on(command)
            elif command.kind == RENEW:
                self._renew(command)
            elif (held := self._leases.end(command.event)) is not None:
                # A line of its own name: an OFF carries no more than the event.
                self._turn_off(held, "", command)

    def _turn_on(self, command: LineCommand) -> None:
        now_ns = time.monotonic_ns()
        if reason := self._leases.turn_on(command, now_ns):
            self._report(EXPIRED if reason.startswith(LATE) else ERROR, command, reason)
            return
        self._sink.turn_on(command._replace(hold_ns=self._leases.hold_ns(command.event, now_ns)))
        self._expect(command)

    def _renew(self, command: LineCommand) -> None:
        if self._leases.renew(command):
            hold_ns = self._leases.hold_ns(command.event, time.monotonic_ns())
            self._sink.renew(command._replace(hold_ns=hold_ns))

    def _turn_off(self, held: HeldEvent, reason: str, asked: LineCommand | None = None) -> None:
        """Of an event that the leases have let go."""
        off = held.command._replace(kind=OFF, hold_ns=0, seq=asked.seq if asked else held.command.seq)
        self._unanswered.pop((off.event, ON), None)
        if self._sink.shares_lines and self._leases.lane_is_held(held.lane):
            self._report(ACK_OFF, off, "another event keeps the line on")
            return
        self._sink.turn_off(off, reason)
        self._expect(off)

    def _expect(self, command: LineCommand) -> None:
        """An acknowledgement, within answer_s; where the far end gives none, the hand-over counts."""
        if self._sink.acknowledges:
            until_ns = time.monotonic_ns() + self._answer_ns
            self._unanswered[command.event, command.kind] = until_ns, command
        else:
            self._report(ACK_ON if command.kind == ON else ACK_OFF, command)

    def _take_answers(self) -> None:
        for answer in self._sink.poll():
            self._take_answer(answer)
        now_ns = time.monotonic_ns()
        for (event, kind), (until_ns, _) in self._unanswered.items():
            if until_ns <= now_ns:
                waited_s = self._sink.settings.answer_s
                raise SinkError(f"event {event}: turning it {_WAITING[kind]} was not acknowledged within {waited_s} s")

    def _take_answer(self, answer: Answer) -> None:
        kind = ON if answer.kind == ACK_ON else OFF
        if answer.kind in (ACK_ON, ACK_OFF) and (answer.event, kind) in self._unanswered:
            _, command = self._unanswered.pop((answer.event, kind))
            self._report(answer.kind, command, answer.text)
        elif answer.kind == ACK_OFF and (over := self._leases.end(answer.event)) is not None:
            # A receiver that keeps the lease as well was a moment earlier, and will not say so again.
            self._report(EXPIRED, over.command, over.why_it_ends)
            self._sink.turn_off(over.command._replace(kind=OFF, hold_ns=0), over.why_it_ends)
            self._unanswered.pop((answer.event, ON), None)
            self._report(ACK_OFF, over.command, answer.text)
        elif answer.kind in (EXPIRED, ERROR):
            # At the far end, and with it all events of the same line. They are turned off there once more, for nobody
            # knows what failed.
            for held in self._leases.end_lane(answer.event, answer.line):
                text = f"{held.why_it_ends}, {answer.text}" if answer.kind == EXPIRED else answer.text
                self._report(answer.kind, held.command, text)
                self._turn_off(held, FAILED)

    def _expire(self, now_ns: int) -> None:
        for held, reason in self._leases.expire(now_ns):
            self._report(EXPIRED, held.command, reason)
            self._turn_off(held, reason)

    def _beat(self, now_ns: int) -> None:
        if now_ns < self._next_heartbeat_ns:
            return
        self._next_heartbeat_ns = now_ns + self._heartbeat_ns
        self._sink.heartbeat()
        self._send(SinkReport(ALIVE, NO_EVENT, 0, now_ns))

    def _take_rows(self) -> None:
        """Some probabilities; the rest waits for the next turn, behind commands that have come."""
        for _ in range(ROWS_AT_ONCE if self._rows is not None else 0):
            assert self._rows is not None
            try:
                data = self._rows.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except ConnectionError:
                data = b""
            if not data:  # the daemon has ended: the commands' socket says so as well
                self._rows = None
                return
            self._sink.send_probabilities(ProbabilityRow.unpack(data))

    def _end_all(self, reason: str) -> None:
        """All lines off, one by one, and none left out because another one fails: a sink of somebody's own may raise
        anything.
        """
        for held in self._leases.events():
            self._leases.end(held.command.event)
            with contextlib.suppress(Exception):
                self._turn_off(held, reason)
        with contextlib.suppress(Exception):
            self._wait_for_offs()
        with contextlib.suppress(Exception):
            self._sink.close()

    def _wait_for_offs(self) -> None:
        """Until the far end has acknowledged that its lines are off: closing may lose what is still on its way."""
        deadline_ns = time.monotonic_ns() + min(self._answer_ns, LAST_ANSWERS_NS)
        while any(kind == OFF for _, kind in self._unanswered):
            for answer in self._sink.poll():
                self._take_answer(answer)
            if (remaining_ns := deadline_ns - time.monotonic_ns()) <= 0:
                return
            select.select(self._sink.filenos(), [], [], min(remaining_ns / 1e9, LOOK_S))

    def _report(self, kind: int, command: LineCommand, text: str = "") -> None:
        self._send(SinkReport(kind, command.event, command.line, time.monotonic_ns(), text))

    def _send(self, report: SinkReport) -> None:
        """To the daemon. One that reads no reports hangs: then everything goes off."""
        try:
            self._commands.send(report.pack())
        except BlockingIOError:
            raise SinkError("the daemon does not read its reports: it hangs or is stopped") from None
        except ConnectionError:
            pass  # it has ended: the next look at its commands says so


def serve_sink(commands: socket.socket, rows: socket.socket | None, about: dict[str, Any]) -> None:
    """Open the sink that `about` describes, and serve it until the daemon ends; open it again where it is lost.

    In this process: to start another one would hold up the daemon. Raises what is neither RtsegError nor OSError.
    """
    settings = from_plain(about["settings"], SinkSettings, where=f"sinks.{about['name']}")
    lines = [LineSpec(*line) for line in about["lines"]]
    failures = 0
    while True:
        try:
            sink = sink_class(about["name"], settings.kind)(about["name"], settings, lines, about["channels"])
            open_sink(sink, commands)
            failures = 0
            SinkServer(sink, commands, rows if sink.takes_probabilities else None).run()
            return
        except (RtsegError, OSError) as error:
            tell_end(commands, error)
        except Exception as error:  # a sink of somebody's own may raise anything, and the daemon must hear of it
            tell_end(commands, error)
            raise
        if not wait_for_end(commands, RESTART_S[min(failures, len(RESTART_S) - 1)]):
            return
        failures += 1


def open_sink(sink: Sink, commands: socket.socket) -> None:
    """Open it, and tell the daemon. Raises what it raises, with what was opened closed again."""
    try:
        text = sink.open()
    except Exception:
        with contextlib.suppress(Exception):  # half of it may not be there
            sink.close()
        raise
    commands.send(SinkReport(READY, NO_EVENT, int(sink.acknowledges), time.monotonic_ns(), text).pack())
    gc.collect()
    gc.freeze()  # what is there stays; a collection later on looks at little


def wait_for_end(commands: socket.socket, pause_s: float) -> bool:
    """Wait so long, dropping commands that were sent meanwhile; False where the daemon has ended."""
    deadline = time.monotonic() + pause_s
    while (remaining_s := deadline - time.monotonic()) > 0:
        if select.select([commands], [], [], remaining_s)[0]:
            try:
                if not commands.recv(MESSAGE_BYTES):
                    return False
            except ConnectionError:
                return False
    return True


def tell_end(commands: socket.socket, error: Exception) -> None:
    """Tell the daemon, if it is there and was not told before, why the sink is lost."""
    if IS_TOLD in getattr(error, "__notes__", ()):
        return
    text = str(error) if isinstance(error, RtsegError | OSError) else f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        commands.send(SinkReport(ERROR, NO_EVENT, 0, time.monotonic_ns(), text).pack())


def apply_placement(cpus: Sequence[int], priority: int) -> None:
    """The cores and the real-time priority that the daemon gives its sinks, as far as the system grants them."""
    with contextlib.suppress(OSError, AttributeError):
        if cpus:
            os.sched_setaffinity(0, cpus)
    with contextlib.suppress(OSError, AttributeError):
        if priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def main(arguments: list[str]) -> int:
    """The process: COMMANDS PROBABILITIES ABOUT (JSON)."""
    for number in STOP_SIGNALS:  # a terminal signals all of a daemon's processes, and the daemon ends this one
        signal.signal(number, signal.SIG_IGN)
    about = json.loads(arguments[2])
    apply_placement(about["cpus"], about["priority"])
    commands, rows = (socket.socket(fileno=int(descriptor)) for descriptor in arguments[:2])
    for end in (commands, rows):
        end.setblocking(False)
    try:
        serve_sink(commands, rows, about)
    except RtsegError:  # settings that this process does not understand
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
