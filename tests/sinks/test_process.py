"""A sink's process, in this one: nothing that a sink does keeps its other lines on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from rtseg.config import SinkSettings
from rtseg.sinks import LineCommand, LineSpec, Sink
from rtseg.sinks.base import ON
from rtseg.sinks.process import SinkServer

LINES = [LineSpec(name, name, 0.0, 0.005, 60.0) for name in ("a", "b", "c")]


class Stubborn(Sink):
    """One line of it cannot be turned off, which it says with an error of its own."""

    on: set[str]
    is_closed = False

    def open(self) -> str:
        self.on = set()
        return "open"

    def turn_on(self, command: LineCommand) -> None:
        self.on.add(self.lines[command.line].trigger)

    def turn_off(self, command: LineCommand, reason: str) -> None:
        if self.lines[command.line].trigger == "a":
            raise ZeroDivisionError("a is stuck")
        self.on.discard(self.lines[command.line].trigger)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    there.setblocking(False)
    yield here, there
    here.close()
    there.close()


def test_a_line_that_cannot_be_turned_off_keeps_no_other_one_on(ends: tuple[socket.socket, socket.socket]) -> None:
    sink = Stubborn("own", SinkSettings(kind="own"), LINES, [])
    sink.open()
    for event in (1, 2, 3):
        ends[0].send(LineCommand(ON, event, event - 1, 10**10, time.monotonic_ns(), 7, "cage1").pack())
    ends[0].shutdown(socket.SHUT_WR)  # the daemon has ended
    SinkServer(sink, ends[1], None).run()
    assert sink.on == {"a"}
    assert sink.is_closed
