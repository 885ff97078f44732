"""A sink that the test itself is: what a `SinkLink` is to the daemon, with a line that can be looked at."""

from __future__ import annotations

from collections import deque

from rtseg.config import SinkSettings
from rtseg.sinks.base import ACK_OFF, ACK_ON, EXPIRED, LOST, NO_EVENT, OFF, ON, LineCommand, SinkReport
from rtseg.sinks.link import IS_LOST, IS_READY


class TestedSink:
    """Takes commands at once. is_full: it takes none. on: the events whose line is on. begun: all that ever were.

    untold: events whose end it was not told while it was full; their lines stay on until their leases end (`expire`).
    """

    __test__ = False

    def __init__(self, name: str = "laser") -> None:
        self.name, self.settings = name, SinkSettings(kind="tested")
        self.state, self.text, self.acknowledges, self.restarts = IS_READY, "a test", True, 0
        self.takes_probabilities = self.is_full = False
        self.on: set[int] = set()
        self.untold: set[int] = set()
        self.begun: list[int] = []
        self.commands: list[LineCommand] = []
        self._reports: deque[SinkReport] = deque()

    def fileno(self) -> int:
        return -1

    def send(self, command: LineCommand) -> bool:
        if self.is_full or self.state != IS_READY:
            if command.kind == OFF:
                self.untold.add(command.event)
            return False
        self.commands.append(command)
        if command.kind == ON:
            assert not self.begun or command.event > self.begun[-1], "an event that was there before"
            self.begun.append(command.event)
            self.on.add(command.event)
            self._reports.append(SinkReport(ACK_ON, command.event, command.line, command.t_sent_ns))
        elif command.kind == OFF:
            self.on.discard(command.event)
            self._reports.append(SinkReport(ACK_OFF, command.event, command.line, command.t_sent_ns))
        return True

    def expire(self) -> None:
        """The leases of all lines end."""
        self._reports.extend(SinkReport(EXPIRED, event, 0, 1, "expired") for event in sorted(self.on))
        self.on.clear()

    def lose(self) -> None:
        """Its process ends."""
        self.on.clear()
        self.state, self.text = IS_LOST, "unplugged"
        self._reports.append(SinkReport(LOST, NO_EVENT, 0, 1, self.text))

    def receive(self) -> list[SinkReport]:
        reports = list(self._reports)
        self._reports.clear()
        return reports

    def look_after(self) -> list[SinkReport]:
        return self.receive()

    def close(self) -> None:
        self.on.clear()
