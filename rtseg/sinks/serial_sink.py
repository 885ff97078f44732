"""Lines of an Arduino or Teensy with the sketch rtseg_line, over a serial port (docs/sinks/serial.md).

The board keeps every lease itself, so that its pins go low when the computer, its cable or this process stops.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from rtseg.config import SerialSinkSettings
from rtseg.errors import SettingError, SinkError, needs_extra
from rtseg.sinks import serial_frames as frames
from rtseg.sinks.base import ACK_OFF, ACK_ON, ERROR, EXPIRED, Answer, LineCommand, LineSpec, Sink
from rtseg.sinks.serial_frames import Frame, FrameReader

GREET_S = 0.2
"""Pause between greetings of a board that restarts, as many do when their port is opened."""
LEAST_WATCHDOG_S = 1.0
REHEARSED = Frame(frames.IS_ON, 0, 0, 1, 0).pack()
_ANSWERS = {frames.IS_ON: ACK_ON, frames.IS_OFF: ACK_OFF}
_MICROSECONDS = 1_000_000


class SerialSink(Sink):
    """A board. Its lines are its pins: two triggers with one pin share it."""

    acknowledges: ClassVar[bool] = True
    shares_lines: ClassVar[bool] = True
    makes_trains: ClassVar[bool] = True
    settings: SerialSinkSettings

    def open(self) -> str:
        """Open the port, greet the board until it answers, and set its pins up."""
        pins = board_lines(self.name, self.lines)
        self._index = [list(pins).index(int(spec.line)) for spec in self.lines]
        self._first_spec = [self._index.index(i) for i in range(len(pins))]
        self._reader, self._number, self._answered = FrameReader(), 0, True
        deadline = time.monotonic() + self.settings.start_s
        self._port = self._open_port()
        self._greet(deadline)
        for index, spec in enumerate(pins.values()):
            for what, value in _set_up(spec):
                self._send(frames.SETUP, index, what, value)
                self._wait_for(frames.SET_UP, f"pin {spec.line}", deadline)
        return f"{self.settings.port}: rtseg_line {frames.VERSION}, pins {', '.join(map(str, pins))}"

    def turn_on(self, command: LineCommand) -> None:
        """Turn a pin on, for as long as the lease is."""
        self._send(frames.TURN_ON, self._index[command.line], command.event, _lease_us(command))

    def renew(self, command: LineCommand) -> None:
        """Make the pin's lease longer."""
        self._send(frames.KEEP_ON, self._index[command.line], command.event, _lease_us(command))

    def turn_off(self, command: LineCommand, reason: str) -> None:
        """Turn a pin off."""
        self._send(frames.TURN_OFF, self._index[command.line], command.event, 0)

    def heartbeat(self) -> None:
        """Ask the board for a sign of life. Raises SinkError where it did not answer the last one."""
        if not self._answered:
            raise SinkError(f"{self.settings.port}: the board did not answer for {self.settings.heartbeat_s} s")
        self._answered = False
        self._send(frames.PING, 0, 0, 0)

    def rehearse(self, command: LineCommand) -> None:
        """A frame for the board that is not written, and an answer that did not come."""
        Frame(frames.TURN_ON, self._index[command.line], 0, command.event, _lease_us(command)).pack()
        with contextlib.suppress(OSError):  # a port that has gone is found by `poll`, which says it in words
            os.write(self._fd, b"")
        for frame in FrameReader().feed(REHEARSED):
            Answer(_ANSWERS[frame.kind], frame.event, f"board_us={frame.value}")

    def filenos(self) -> Sequence[int]:
        """The port."""
        return (self._fd,)

    def poll(self) -> Iterable[Answer]:
        """What the board said."""
        for frame in self._receive():
            if frame.kind in _ANSWERS:
                yield Answer(_ANSWERS[frame.kind], frame.event, f"board_us={frame.value}")
            elif frame.kind == frames.OVER:
                if frame.line >= len(self._first_spec):
                    raise SinkError(f"{self.settings.port}: the board tells of line {frame.line}, which it has not")
                yield Answer(EXPIRED, frame.event, "by the board", self._first_spec[frame.line])
            elif frame.kind == frames.REFUSED:
                reason = f"the board refused: {frames.REFUSALS.get(frame.value, frame.value)}"
                yield Answer(ERROR, frame.event, reason)
            elif frame.kind == frames.PONG:
                self._answered = True
            elif frame.kind == frames.READY:
                raise SinkError(f"{self.settings.port}: the board was restarted")

    def close(self) -> None:
        """Close the port."""
        if hasattr(self, "_port"):
            with contextlib.suppress(OSError):
                self._port.close()

    def _open_port(self) -> Any:
        try:
            import serial
        except ImportError:
            raise needs_extra("pyserial", "serial", "a serial sink") from None
        try:
            port = serial.Serial(self.settings.port, self.settings.baud, timeout=0, exclusive=True)
        except (serial.SerialException, OSError, ValueError) as error:
            raise SinkError(f"sinks.{self.name}: port = {self.settings.port!r}: {error}") from None
        with contextlib.suppress(OSError, ValueError, NotImplementedError):  # where the driver knows it: 1 ms for 16
            port.set_low_latency_mode(True)
        self._fd: int = port.fileno()
        _tell_hang_up(self._fd)
        return port

    def _greet(self, deadline: float) -> None:
        """Send HELLO until the board answers it. A board that is restarting hears nothing for two seconds."""
        session = int.from_bytes(os.urandom(4), "little")
        watchdog_ms = round(max(LEAST_WATCHDOG_S, 4 * self.settings.heartbeat_s) * 1000)
        while time.monotonic() < deadline:
            self._number = 0
            self._send(frames.HELLO, 0, session, frames.VERSION | watchdog_ms << 8)
            until = min(deadline, time.monotonic() + GREET_S)
            while (remaining_s := until - time.monotonic()) > 0:
                select.select([self._fd], [], [], remaining_s)
                for frame in self._receive(heed_faults=False):
                    if frame.kind == frames.READY and frame.event == session:
                        version = frame.value & 0xFF
                        if version != frames.VERSION:
                            raise SinkError(f"{self.settings.port}: the sketch has version {version}: upload this one")
                        return
        raise SinkError(
            f"{self.settings.port}: no board with the sketch rtseg_line answered within {self.settings.start_s} s, at "
            f"{self.settings.baud} baud: upload the sketch, with the same BAUD (docs/sinks/serial.md)"
        )

    def _wait_for(self, kind: int, about: str, deadline: float) -> None:
        while (remaining_s := deadline - time.monotonic()) > 0:
            select.select([self._fd], [], [], remaining_s)
            for frame in self._receive():
                if frame.kind == kind:
                    return
                if frame.kind == frames.REFUSED:
                    reason = frames.REFUSALS.get(frame.value, frame.value)
                    raise SinkError(f"{self.settings.port}: the board refused {about}: {reason}")
        raise SinkError(f"{self.settings.port}: the board did not answer to {about}")

    def _receive(self, *, heed_faults: bool = True) -> list[Frame]:
        """The frames that have come. Raises SinkError for a port that has gone, or a fault that the board tells."""
        received = []
        while True:
            try:
                data = os.read(self._fd, 4096)
            except BlockingIOError:
                break
            except OSError as error:
                raise SinkError(f"{self.settings.port}: unplugged, or cannot be read: {error.strerror}") from None
            if not data:
                raise SinkError(f"{self.settings.port}: unplugged")
            received += self._reader.feed(data)
        for frame in received if heed_faults else ():
            if frame.kind == frames.FAULT:
                raise SinkError(f"{self.settings.port}: the board turned all off: {frames.FAULTS.get(frame.value)}")
        if heed_faults and self._reader.damaged:
            raise SinkError(f"{self.settings.port}: {self._reader.damaged} damaged bytes came from the board")
        if not heed_faults:
            self._reader.damaged = 0  # what was on its way when the port was opened
        return received

    def _send(self, kind: int, line: int, event: int, value: int) -> None:
        """One frame. Raises SinkError where the port takes no more: a board that is stuck, or too slow a port."""
        data = Frame(kind, line, self._number, event, value).pack()
        self._number = (self._number + 1) & 0xFF
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise SinkError(f"{self.settings.port}: unplugged, or cannot be written: {error.strerror}") from None
        if sent < len(data):
            raise SinkError(f"{self.settings.port}: the port takes no more: the board is stuck, or baud too low")


def board_lines(name: str, lines: Sequence[LineSpec]) -> dict[int, LineSpec]:
    """A board's lines by pin, each with what all triggers that have it need. Raises SettingError."""
    pins: dict[int, LineSpec] = {}
    for spec in lines:
        if not isinstance(spec.line, int):
            raise SettingError(f"triggers.{spec.trigger}: sink {name!r} is a board: line must be the number of a pin")
        if not 0 <= spec.line <= 255:
            raise SettingError(f"triggers.{spec.trigger}: line must be the number of a pin, got {spec.line}")
        other = pins.setdefault(spec.line, spec)
        if (other.train_hz, other.train_width_s) != (spec.train_hz, spec.train_width_s):
            raise SettingError(
                f"triggers.{other.trigger} and {spec.trigger}: pin {spec.line} has one train_hz and width"
            )
        if spec.max_on_s * _MICROSECONDS > frames.LONGEST_ON_US:
            raise SettingError(f"triggers.{spec.trigger}: a board keeps max_on_s of 2147 at most, got {spec.max_on_s}")
        # The process keeps each event's own; the board keeps the longest, for when the process is gone.
        pins[spec.line] = other._replace(max_on_s=max(other.max_on_s, spec.max_on_s))
    if len(pins) > frames.LINES:
        raise SettingError(f"sinks.{name}: a board has {frames.LINES} lines; the triggers have {len(pins)} pins")
    return pins


def _set_up(spec: LineSpec) -> list[tuple[int, int]]:
    """What SETUP says of a line."""
    period_us = round(_MICROSECONDS / spec.train_hz) if spec.train_hz else 0
    return [
        (frames.PIN, int(spec.line)),
        (frames.PERIOD_US, period_us),
        (frames.WIDTH_US, round(spec.train_width_s * _MICROSECONDS) if period_us else 0),
        (frames.MAX_ON_US, round(spec.max_on_s * _MICROSECONDS)),
    ]


def _lease_us(command: LineCommand) -> int:
    return min(max(command.hold_ns // 1000, 1), frames.LONGEST_LEASE_US)


def _tell_hang_up(fd: int) -> None:
    """Make reading an empty port an error, so that nothing read means that it was unplugged."""
    import termios

    settings = termios.tcgetattr(fd)
    settings[6][termios.VMIN] = 1
    termios.tcsetattr(fd, termios.TCSANOW, settings)
