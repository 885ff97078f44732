"""Lines as messages of Open Sound Control over UDP, as Bonsai and others receive them (docs/sinks/osc.md).

UDP loses messages without a word: each carries its lease, and a receiver may acknowledge.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from rtseg.config import OscSinkSettings
from rtseg.errors import SinkError, needs_extra
from rtseg.sinks.base import ACK_OFF, ACK_ON, NO_EVENT, OFF, Answer, LineCommand, Sink

REFUSED_S = 0.1
"""How long to wait, at the start, for word from the receiver's machine that nobody listens."""
MAX_BYTES = 65536
_INT32 = 0x7FFFFFFF
"""Numbers are sent as OSC's 32 bits, which every receiver knows; what is larger begins again at 0."""


class OscSink(Sink):
    """A UDP socket that is connected to one receiver, so that nobody else's packets are taken for its answers."""

    settings: OscSinkSettings

    @property
    def acknowledges(self) -> bool:  # type: ignore[override]
        """Whether the receiver is asked to."""
        return self.settings.acknowledge

    def open(self) -> str:
        """Reach the receiver. Raises SinkError where its machine says that nobody listens there."""
        try:
            from pythonosc.osc_message import OscMessage, ParseError
            from pythonosc.osc_message_builder import OscMessageBuilder
        except ImportError:
            raise needs_extra("python-osc", "osc", "an OSC sink") from None
        self._message, self._parse_error, self._builder = OscMessage, ParseError, OscMessageBuilder
        self._beats = 0
        host, _, port = self.settings.address.rpartition(":")
        try:
            family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind)
            self._socket.connect(address)
        except OSError as error:
            raise SinkError(f"sinks.{self.name}: address = {self.settings.address!r}: {error}") from None
        self._socket.setblocking(False)
        self.heartbeat()
        # One that ended without a word may have left lines on.
        for index in range(len(self.lines)):
            self._send_line(LineCommand(OFF, NO_EVENT, index, 0, 0, 0), 0, "start")
        if select.select([self._socket], [], [], REFUSED_S)[0]:
            list(self.poll())
        return f"OSC at {self.settings.address}{self.settings.prefix}"

    def turn_on(self, command: LineCommand) -> None:
        """PREFIX/line with state 1."""
        self._send_line(command, 1, "")

    def turn_off(self, command: LineCommand, reason: str) -> None:
        """PREFIX/line with state 0."""
        self._send_line(command, 0, reason)

    def renew(self, command: LineCommand) -> None:
        """PREFIX/renew."""
        spec = self.lines[command.line]
        self._send("renew", ("s", spec.trigger), ("i", command.event & _INT32), ("f", command.hold_ns / 1e6))

    def heartbeat(self) -> None:
        """PREFIX/beat."""
        self._send("beat", ("i", self._beats & _INT32))
        self._beats += 1

    def filenos(self) -> Sequence[int]:
        """The socket."""
        return (self._socket.fileno(),)

    def poll(self) -> Iterable[Answer]:
        """Acknowledgements: PREFIX/ack with an event's number and 1 or 0."""
        while True:
            try:
                data = self._socket.recv(MAX_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                raise self._nobody(error) from None
            with contextlib.suppress(self._parse_error, ValueError, IndexError):
                message = self._message(data)
                match list(message):
                    case [int(event), int(state)] if message.address == f"{self.settings.prefix}/ack":
                        yield Answer(ACK_ON if state else ACK_OFF, event)

    def close(self) -> None:
        """Close the socket."""
        if hasattr(self, "_socket"):
            self._socket.close()

    def _send_line(self, command: LineCommand, state: int, reason: str) -> None:
        spec = self.lines[command.line]
        self._send(
            "line",
            ("s", spec.trigger),
            ("i", state),
            ("s", command.stream),
            ("i", command.event & _INT32),
            ("i", command.seq & _INT32),
            ("f", command.hold_ns / 1e6),
            ("s", str(spec.line)),
            ("s", reason),
        )

    def _send(self, name: str, *arguments: tuple[str, Any]) -> None:
        builder = self._builder(f"{self.settings.prefix}/{name}")
        for kind, value in arguments:
            builder.add_arg(value, kind)
        try:
            self._socket.send(builder.build().dgram)
        except OSError as error:  # also what came back of an earlier packet
            raise self._nobody(error) from None

    def _nobody(self, error: OSError) -> SinkError:
        return SinkError(f"sinks.{self.name}: nobody listens at {self.settings.address}: {error.strerror}")
