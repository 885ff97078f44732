"""The table of leases beside an obvious one: events as intervals of time, asked at every moment."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from rtseg.sinks import OFF, ON, RENEW, LineCommand, LineSpec
from rtseg.sinks.leases import LEASE, MAX_ON, LeaseTable

MS = 1_000_000
LINES = [LineSpec("a", 8, 0, 0.01, 0.05), LineSpec("b", 8, 0, 0.01, 0.02), LineSpec("c", 9, 0, 0.01, 0.03)]


@dataclass
class Interval:
    line: int
    until: int
    off: int


class ObviousTable:
    """In milliseconds. Every event in a dictionary, and nothing shared or remembered beyond that."""

    def __init__(self, *, shares_lines: bool) -> None:
        self.shares_lines, self.on, self.seen = shares_lines, dict[int, Interval](), set[int]()

    def command(self, kind: int, event: int, line: int, hold: int, sent: int, now: int) -> None:
        if kind == ON:
            is_new = all(event > other for other in self.seen)
            self.seen.add(event)
            off = sent + round(LINES[line].max_on_s * 1000)
            if self.shares_lines:
                off = min([off, *(i.off for i in self.on.values() if LINES[i.line].line == LINES[line].line)])
            if is_new and sent + hold > now and off > now:
                self.on[event] = Interval(line, sent + hold, off)
        elif kind == RENEW and event in self.on:
            interval = self.on[event]
            if sent <= min(interval.until, interval.off):
                interval.until = max(interval.until, sent + hold)
        elif kind == OFF:
            self.on.pop(event, None)

    def pass_time(self, now: int) -> dict[int, str]:
        over = {e: i for e, i in self.on.items() if min(i.until, i.off) <= now}
        for event in over:
            del self.on[event]
        return {e: MAX_ON if i.off <= i.until else LEASE for e, i in over.items()}


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from([ON, ON, RENEW, RENEW, OFF]),
        st.integers(1, 6),  # event
        st.integers(0, 2),  # line
        st.integers(0, 40),  # hold
        st.integers(0, 15),  # how long it was on its way
        st.integers(0, 12),  # what passes before the next one
    ),
    max_size=30,
)


@given(COMMANDS, st.booleans())
def test_the_same_events_are_on_at_every_moment(commands: list[tuple[int, ...]], shares_lines: bool) -> None:
    table, obvious, now = LeaseTable(LINES, shares_lines=shares_lines), ObviousTable(shares_lines=shares_lines), 100
    for kind, event, line, hold, delay, pause in commands:
        sent = now - delay
        command = LineCommand(kind, event, line, hold * MS, sent * MS, 0, "cage1")
        if kind == ON:
            table.turn_on(command, now * MS)
        elif kind == RENEW:
            table.renew(command)
        else:
            table.end(event)
        obvious.command(kind, event, line, hold, sent, now)
        now += pause
        over = {held.command.event: reason for held, reason in table.expire(now * MS)}
        assert over == obvious.pass_time(now)
        assert {held.command.event for held in table.events()} == set(obvious.on)
        ends = [min(i.until, i.off) * MS for i in obvious.on.values()]
        assert table.next_end_ns() == (min(ends) if ends else None)


def test_a_line_of_its_own_and_a_shared_one() -> None:
    for shares_lines in (True, False):
        table = LeaseTable(LINES, shares_lines=shares_lines)
        for event, line in ((1, 0), (2, 1), (3, 2)):
            assert not table.turn_on(LineCommand(ON, event, line, 100 * MS, 0, 0), 0)
        (held,) = [held for held in table.events() if held.command.event == 1]
        assert len(table.end_lane(2, None)) == (2 if shares_lines else 1)
        assert table.lane_is_held(held.lane) is not shares_lines
        # The event has ended already: its line says which ones are meant.
        table = LeaseTable(LINES, shares_lines=shares_lines)
        table.turn_on(LineCommand(ON, 1, 0, 100 * MS, 0, 0), 0)
        table.turn_on(LineCommand(ON, 2, 1, 100 * MS, 0, 0), 0)
        table.end(1)
        assert len(table.end_lane(1, 0)) == (1 if shares_lines else 0)


def test_refusals_say_why() -> None:
    table = LeaseTable(LINES, shares_lines=True)
    assert table.turn_on(LineCommand(ON, 1, 7, 100 * MS, 0, 0), 0) == "line 7 is none of 3"
    assert table.turn_on(LineCommand(ON, 4, 0, 10 * MS, 0, 0), 12 * MS).endswith(
        "when it came, 12.0 ms after it was sent"
    )
    assert table.turn_on(LineCommand(ON, 4, 0, 100 * MS, 0, 0), 0) == "event 4 is not after 4"
    assert not table.events()
