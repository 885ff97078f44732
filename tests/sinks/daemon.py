"""The daemon's side of a sink: a link that is told what a daemon tells it."""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import Self

from rtseg.config import SinkSettings
from rtseg.sinks import ACK_ON, EXPIRED, ON, LineCommand, LineSpec, SinkLink, SinkReport
from rtseg.sinks.link import IS_READY
from tests.sinks.peers import BRIEF_S, LONG_S, TIMEOUT_S


class Daemon:
    """A daemon's use of a link: commands, and reports as they come. Line 0 may be on for long, line 1 for BRIEF_S."""

    def __init__(self, settings: SinkSettings, line: int | str, *, cpus: Sequence[int] = ()) -> None:
        lines = [LineSpec("attack", line, 0.0, 0.005, LONG_S), LineSpec("brief", line, 0.0, 0.005, BRIEF_S)]
        self.link = SinkLink("laser", settings, lines, ("task1:attack", "task1:other"), cpus=cpus)
        self._reports: list[SinkReport] = []
        self._event = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()

    def command(self, kind: int, event: int, hold_s: float = 0.0, *, line: int = 0, ago_s: float = 0.0) -> bool:
        """Send a command, as if it had been sent ago_s before."""
        t_ns = time.monotonic_ns() - round(ago_s * 1e9)
        return self.link.send(LineCommand(kind, event, line, round(hold_s * 1e9), t_ns, 17, "cage1"))

    def next_event(self) -> int:
        self._event += 1
        return self._event

    def turn_on(self, hold_s: float = LONG_S, *, line: int = 0) -> int:
        """An event that is on; where this machine is so busy that its short lease is over at once, another one."""
        for _ in range(100):
            event = self.next_event()
            self._hand_over(event, hold_s, line)
            if self.wait_for(ACK_ON, EXPIRED, event=event).kind == ACK_ON:
                return event
        raise AssertionError("this machine is too busy")

    def _hand_over(self, event: int, hold_s: float, line: int) -> None:
        """An ON, as soon as a queue that was full has room."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.command(ON, event, hold_s, line=line):
            assert self.link.state == IS_READY, f"{self.link.state}: {self.link.text}"
            assert time.monotonic() < deadline, "the queue stays full"
            select.select([self.link], [], [], 0.05)
            self._reports += self.link.receive() + self.link.look_after()

    def wait_for(self, *kinds: int, event: int = 0) -> SinkReport:
        """The next report of one of these kinds about this event; others before it are dropped."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            while self._reports:
                report = self._reports.pop(0)
                if report.kind in kinds and report.event == event:
                    return report
            select.select([self.link], [], [], 0.05)
            self._reports += self.link.receive() + self.link.look_after()
        raise AssertionError(f"no report of {kinds} about event {event}; {self.link.state}: {self.link.text}")
