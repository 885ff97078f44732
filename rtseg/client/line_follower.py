"""Which lines of a `zmq` sink are on, by what has come and what has not. No socket and no clock: times are told.

All is reckoned in the sender's time, so that a message that was held up on its way makes no line late or long: the
difference of the clocks is taken from the messages that came fastest.
"""

from __future__ import annotations

from typing import NamedTuple

from rtseg.wire.line_messages import LINE_BEAT, LINE_OFF, LINE_ON, LINE_RENEW, LineMessage

WINDOW_NS = 30_000_000_000
"""Clocks of two machines drift by some milliseconds an hour: the fastest message of one to two windows counts."""
LEASE_OVER, RESTARTED = "expired", "the sink was restarted"


class LineChange(NamedTuple):
    """A line that went on or off.

    trigger, line, stream: whose. event: number of the event, seq: the frame that decided it. reason: of going off: ""
    where the rule ended it, `expired` where no renewal came in time, or the sink's. run: of the sink.
    """

    is_on: bool
    trigger: str
    line: int | str
    stream: str
    event: int
    seq: int
    reason: str
    run: str


class LineFollower:
    """Follows one sink. boot: a name of this start of this machine: a sender with the same has the same clock.

    late: messages that would have turned a line on and came when their lease was over. missed: messages that were lost,
    by their numbers.
    """

    def __init__(self, boot: str = "") -> None:
        self._boot, self._run = boot, ""
        self._on: dict[int, tuple[LineChange, int]] = {}  # event -> what is on, until when in the sender's time
        self._newest = 0
        self._numbers: dict[str, int] = {}
        self._floor_ns: int | None = None
        self._shares_clock = False
        self._windows: list[tuple[int, int]] = []  # (since when, smallest difference), the newest last
        self.late = self.missed = 0

    @property
    def on(self) -> tuple[LineChange, ...]:
        """What is on."""
        return tuple(change for change, _ in self._on.values())

    def take(self, message: LineMessage, now_ns: int) -> list[LineChange]:
        """What a message changes. now_ns: when it came."""
        changes = self._follow_run(message.run)
        self._set_clock(message, now_ns)
        if message.type == LINE_BEAT:
            return changes
        expected = self._numbers.get(message.trigger, message.n)
        self.missed += max(0, message.n - expected)
        self._numbers[message.trigger] = message.n + 1
        until_ns = message.sent_ns + message.hold_ns
        held = self._on.get(message.event)
        if message.type == LINE_ON and message.event > self._newest:
            self._newest = message.event
            if until_ns <= self._sender_ns(now_ns):
                self.late += 1
                return changes
            change = _change(message, is_on=True)
            self._on[message.event] = change, until_ns
            changes.append(change)
        elif message.type == LINE_RENEW and held is not None and message.sent_ns <= held[1]:
            self._on[message.event] = held[0], max(held[1], until_ns)
        elif message.type == LINE_OFF and held is not None:
            del self._on[message.event]
            changes.append(_change(message, is_on=False))
        return changes

    def expire(self, now_ns: int) -> list[LineChange]:
        """What is over by now."""
        if not self._on:
            return []
        sender_ns = self._sender_ns(now_ns)
        over = [event for event, (_, until_ns) in self._on.items() if until_ns <= sender_ns]
        return [self._on.pop(event)[0]._replace(is_on=False, reason=LEASE_OVER) for event in over]

    def next_end_ns(self) -> int | None:
        """When the next line is over, in this machine's time; None where none is on."""
        if not self._on:
            return None
        return min(until_ns for _, until_ns in self._on.values()) + (self._floor_ns or 0)

    def end_all(self, reason: str) -> list[LineChange]:
        """All off."""
        ended = [change._replace(is_on=False, reason=reason) for change in self.on]
        self._on.clear()
        return ended

    def _follow_run(self, run: str) -> list[LineChange]:
        if run == self._run:
            return []
        self._run, self._newest = run, 0
        self._numbers.clear()
        self._windows.clear()
        self._shares_clock = False
        return self.end_all(RESTARTED)

    def _set_clock(self, message: LineMessage, now_ns: int) -> None:
        """Follow the difference between this machine's clock and the sender's."""
        if message.boot and message.boot == self._boot:
            self._shares_clock = True
        if self._shares_clock:
            self._floor_ns = 0
            return
        difference_ns = now_ns - message.sent_ns
        if not self._windows or now_ns - self._windows[-1][0] > WINDOW_NS:
            self._windows = [*self._windows[-1:], (now_ns, difference_ns)]
        since_ns, smallest_ns = self._windows[-1]
        self._windows[-1] = since_ns, min(smallest_ns, difference_ns)
        self._floor_ns = min(smallest for _, smallest in self._windows)

    def _sender_ns(self, now_ns: int) -> int:
        return now_ns - (self._floor_ns or 0)


def _change(message: LineMessage, *, is_on: bool) -> LineChange:
    return LineChange(
        is_on,
        message.trigger,
        message.line,
        message.stream,
        message.event,
        message.seq,
        message.reason,
        message.run,
    )
