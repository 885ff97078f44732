"""Which lines are on, by which events, and until when: the dead man's rule, without a clock and without a device.

An event holds its line from its ON until its OFF, and only as long as renewals come before its lease ends. Times are
those at which the daemon sent a command, so nothing that is slow on its way makes an event longer.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from rtseg.sinks.base import LineCommand, LineSpec

LEASE, MAX_ON = "expired", "max_on"
"""Why an event ended without an OFF."""
LATE = "its lease was over when it came"
"""How the reason begins for which an event that would have been taken was not."""
_S = 1_000_000_000


class HeldEvent(NamedTuple):
    """An event that holds its line. until_ns: the end of its lease. off_ns: when its line has been on for max_on_s."""

    command: LineCommand
    lane: Hashable
    until_ns: int
    off_ns: int

    @property
    def ends_ns(self) -> int:
        """When it ends at the latest, as far as is known now."""
        return min(self.until_ns, self.off_ns)

    @property
    def why_it_ends(self) -> str:
        """What it will be that ends it, unless an OFF does."""
        return MAX_ON if self.off_ns <= self.until_ns else LEASE


class LeaseTable:
    """The events that are on.

    shares_lines: whether events with one `LineSpec.line` hold one line together (`Sink.shares_lines`).
    """

    def __init__(self, lines: Sequence[LineSpec], *, shares_lines: bool) -> None:
        self._lines, self._shares_lines = lines, shares_lines
        self._events: dict[int, HeldEvent] = {}
        self._newest = 0

    def __contains__(self, event: int) -> bool:
        return event in self._events

    def __len__(self) -> int:
        return len(self._events)

    def turn_on(self, command: LineCommand, now_ns: int) -> str:
        """Begin an event; returns why it must not. An old one never comes back, and a late one is dropped."""
        if not 0 <= command.line < len(self._lines):
            return f"line {command.line} is none of {len(self._lines)}"
        # Numbers rise within a daemon's run, so whatever is not new is a repetition.
        if command.event <= self._newest:
            return f"event {command.event} is not after {self._newest}"
        self._newest = command.event
        lane = self._lane(command.line, command.event)
        together = [held.off_ns for held in self._events.values() if held.lane == lane]
        # A line that is on already has been on since its first event.
        off_ns = min([command.t_sent_ns + round(self._lines[command.line].max_on_s * _S), *together])
        held = HeldEvent(command, lane, command.t_sent_ns + command.hold_ns, off_ns)
        if held.ends_ns <= now_ns:
            return f"{LATE}, {(now_ns - command.t_sent_ns) / 1e6:.1f} ms after it was sent"
        self._events[command.event] = held
        return ""

    def renew(self, command: LineCommand) -> bool:
        """Make an event's lease longer; False where it is not on, or its lease was over when this was sent."""
        held = self._events.get(command.event)
        if held is None or command.t_sent_ns > held.ends_ns:
            return False
        until_ns = max(held.until_ns, command.t_sent_ns + command.hold_ns)
        self._events[command.event] = held._replace(until_ns=until_ns)
        return True

    def end(self, event: int) -> HeldEvent | None:
        """End an event; None where it is not on."""
        return self._events.pop(event, None)

    def end_lane(self, event: int, line: int | None) -> list[HeldEvent]:
        """End an event and all that hold the same line. line: its index, where the event itself may have ended."""
        if event in self._events:
            lane = self._events[event].lane
        elif line is not None:
            lane = self._lane(line, event)
        else:
            return []
        together = [held for held in self._events.values() if held.lane == lane]
        for held in together:
            del self._events[held.command.event]
        return together

    def lane_is_held(self, lane: Hashable) -> bool:
        """Whether another event still holds that line."""
        return any(held.lane == lane for held in self._events.values())

    def expire(self, now_ns: int) -> list[tuple[HeldEvent, str]]:
        """End the events whose time is over, each with the reason."""
        over = [held for held in self._events.values() if held.ends_ns <= now_ns]
        for held in over:
            del self._events[held.command.event]
        return [(held, held.why_it_ends) for held in over]

    def hold_ns(self, event: int, now_ns: int) -> int:
        """How much longer an event may hold its line."""
        return max(0, self._events[event].ends_ns - now_ns)

    def next_end_ns(self) -> int | None:
        """When the next event's time is over; None where none is on."""
        return min((held.ends_ns for held in self._events.values()), default=None)

    def events(self) -> list[HeldEvent]:
        """All that are on."""
        return list(self._events.values())

    def _lane(self, line: int, event: int) -> Hashable:
        """What an event holds: a line that others may hold as well, or something of its own."""
        return self._lines[line].line if self._shares_lines else event
