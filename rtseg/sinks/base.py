"""What passes between a daemon and a sink's process, and what a sink is.

A sink drives lines: a pin, a TTL channel, a message. It runs in a process of its own (`process`), so that a slow port
never holds the daemon's loop, and lines go off when the daemon is killed or stopped. To write one, see
docs/sinks/own.md.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from rtseg.config import SinkSettings

ON, RENEW, OFF = 1, 2, 3
"""Kinds of commands."""
ACK_ON, ACK_OFF, EXPIRED, ERROR, READY, LOST, ALIVE = 1, 2, 3, 4, 5, 6, 7
"""Kinds of reports."""
NO_EVENT = 0
"""The event of a report that is about the whole sink; events are numbered from 1."""
MAX_TEXT_BYTES = 1000
"""Of a stream's name, or a report's text."""
RESTART_S = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Pauses before one attempt after the other to have a sink that was lost; the last one again and again."""
_COMMAND = struct.Struct("<BxHqqqq")
_REPORT = struct.Struct("<BxHqq")
_PROBABILITIES = struct.Struct("<Hxxqqd")


class LineSpec(NamedTuple):
    """A trigger's line at one sink. line: as the trigger file has it, its name where it has none. train_hz,
    train_width_s: pulses while it is on (0 Hz = steady). max_on_s: it is never on for longer.
    """

    trigger: str
    line: int | str
    train_hz: float
    train_width_s: float
    max_on_s: float


class LineCommand(NamedTuple):
    """What a daemon tells a sink about one event.

    kind: ON, RENEW, OFF. event: its number, unique within the daemon's run, from 1. line: index into the sink's lines.
    hold_ns: of ON and RENEW: the line goes off by itself so long after this was sent, unless it is renewed. t_sent_ns:
    when that was, on the monotonic clock. seq: the frame that decided it. stream: whose frame.
    """

    kind: int
    event: int
    line: int
    hold_ns: int
    t_sent_ns: int
    seq: int
    stream: str = ""

    def pack(self) -> bytes:
        """As bytes; a stream's name is cut at MAX_TEXT_BYTES."""
        head = _COMMAND.pack(self.kind, self.line, self.event, self.hold_ns, self.t_sent_ns, self.seq)
        return head + self.stream.encode()[:MAX_TEXT_BYTES]

    @staticmethod
    def unpack(data: bytes) -> LineCommand:
        """From `pack`'s bytes."""
        kind, line, event, hold_ns, t_sent_ns, seq = _COMMAND.unpack_from(data)
        stream = data[_COMMAND.size :].decode(errors="replace")
        return LineCommand(kind, event, line, hold_ns, t_sent_ns, seq, stream)


class SinkReport(NamedTuple):
    """What a sink tells its daemon.

    kind: ACK_ON, ACK_OFF: the line is on or off, by the device's or peer's own word, or handed over where there is none
    (`SinkLink.acknowledges`). EXPIRED: the event's lease or `max_on_s` ended, or the device's, and the line was turned
    off. ERROR: this event failed and the line was turned off. READY: everything is off, and commands are taken. LOST:
    its process has ended or hangs; what was on goes off by the far end's own watchdog, where it has one. event, line:
    NO_EVENT and 0 where it is about the sink. t_ns: when, on the monotonic clock. text: for a person.
    """

    kind: int
    event: int
    line: int
    t_ns: int
    text: str = ""

    def pack(self) -> bytes:
        """As bytes; the text is cut at MAX_TEXT_BYTES."""
        head = _REPORT.pack(self.kind, self.line, self.event, self.t_ns)
        return head + self.text.encode(errors="replace")[:MAX_TEXT_BYTES]

    @staticmethod
    def unpack(data: bytes) -> SinkReport:
        """From `pack`'s bytes."""
        kind, line, event, t_ns = _REPORT.unpack_from(data)
        return SinkReport(kind, event, line, t_ns, data[_REPORT.size :].decode(errors="replace"))


class ProbabilityRow(NamedTuple):
    """One answer of one stream. t_ns: when its frame came, on the monotonic clock. fps: the stream's. probs: float32,
    one for each of the sink's channels, as bytes.
    """

    stream: str
    seq: int
    t_ns: int
    fps: float
    probs: bytes

    def pack(self) -> bytes:
        """As bytes."""
        name = self.stream.encode()[:MAX_TEXT_BYTES]
        return _PROBABILITIES.pack(len(name), self.seq, self.t_ns, self.fps) + name + self.probs

    @staticmethod
    def unpack(data: bytes) -> ProbabilityRow:
        """From `pack`'s bytes."""
        length, seq, t_ns, fps = _PROBABILITIES.unpack_from(data)
        end = _PROBABILITIES.size + length
        return ProbabilityRow(data[_PROBABILITIES.size : end].decode(errors="replace"), seq, t_ns, fps, data[end:])


class Answer(NamedTuple):
    """What a device or peer said of one event. kind: ACK_ON, ACK_OFF, EXPIRED (its own watchdog turned the line off) or
    ERROR (it refused, or failed). line: index of the line, for EXPIRED and ERROR of a line that several events hold.
    """

    kind: int
    event: int
    text: str = ""
    line: int | None = None


class Sink(ABC):
    """One way to drive lines. Its methods are called from one thread, and none may wait: what must be waited for is
    asked for in `open`, or comes through `filenos` and `poll`.

    Raise RtsegError or OSError where the far end is lost: the process turns off what it can, closes the sink, and opens
    another one after a pause.

    acknowledges: whether `poll` brings an ACK_ON or ACK_OFF for every event that was turned on or off. shares_lines:
    whether two events with the same `LineSpec.line` act on one thing, as a pin: it is then on as long as one of them
    is. makes_trains: whether it makes the pulses of `LineSpec.train_hz`. takes_probabilities: whether
    `send_probabilities` does anything.
    """

    acknowledges: ClassVar[bool] = False
    shares_lines: ClassVar[bool] = False
    makes_trains: ClassVar[bool] = False
    takes_probabilities: ClassVar[bool] = False

    def __init__(self, name: str, settings: SinkSettings, lines: Sequence[LineSpec], channels: Sequence[str]) -> None:
        """Keep what is needed; touches nothing outside. name: its section's. channels: names of probabilities."""
        self.name, self.settings, self.lines, self.channels = name, settings, tuple(lines), tuple(channels)

    @abstractmethod
    def open(self) -> str:
        """Reach the far end, with every line off, and say in a few words what it is. May wait for `start_s`."""

    @abstractmethod
    def turn_on(self, command: LineCommand) -> None:
        """Turn a line on. command.hold_ns: what is left of its lease, for far ends that keep it as well."""

    @abstractmethod
    def turn_off(self, command: LineCommand, reason: str) -> None:
        """Turn a line off. reason: "" = the daemon asked for it; else `expired`, `max_on`, `failed` or `ends`."""

    def renew(self, command: LineCommand) -> None:  # noqa: B027 - most protocols know no lease
        """An event goes on, for command.hold_ns from now."""

    def heartbeat(self) -> None:  # noqa: B027
        """Called every `heartbeat_s`. Raise RtsegError where the far end did not answer the last one."""

    def filenos(self) -> Sequence[int]:
        """File descriptors that become readable when something comes from the far end."""
        return ()

    def poll(self) -> Iterable[Answer]:
        """What came, never waiting: called after each wait, and before it."""
        return ()

    def rehearse(self, command: LineCommand) -> None:  # noqa: B027
        """Called all the time with `busy_poll`: go through what `turn_on` and `poll` do, with nothing sent and nothing
        remembered, so that their code and data stay in the caches. command: an ON of no event.
        """

    def send_probabilities(self, row: ProbabilityRow) -> None:  # noqa: B027
        """An answer's probabilities, where `takes_probabilities`. What is slow may leave some out."""

    def close(self) -> None:  # noqa: B027
        """Let the far end go; every line was turned off just before."""
