"""TTL lines of the Open Ephys GUI, by the text protocol of its plugin Network Events (docs/sinks/open_ephys.md).

Its acknowledgement is the plugin's reply. The plugin replies the same where it drops an event, because the GUI is not
acquiring, and where it has not understood which line was meant: so both are looked at here.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

import zmq

from rtseg.config import OpenEphysSinkSettings
from rtseg.errors import SettingError, SinkError
from rtseg.sinks.base import ACK_OFF, ACK_ON, ERROR, Answer, LineCommand, Sink

LINES = 256
NO_EVENT = 0
QUEUE_MESSAGES = 100
LINGER_MS = 200
_TTL_REPLY = re.compile(r"TTLHandled: \w+=(\d+) \w+=(\d+)")
_ACQUIRING = "IsAcquiring"


class _Request(NamedTuple):
    """What a reply is still to come for. line, state: of a TTL event; state -1 = `IsAcquiring`."""

    event: int
    line: int
    state: int


class OpenEphysSink(Sink):
    """A GUI. Its lines are TTL lines 1 to 256: two triggers with one line share it.

    The plugin's socket answers one request after the other, so replies come in the order of the requests.
    """

    acknowledges: ClassVar[bool] = True
    shares_lines: ClassVar[bool] = True
    settings: OpenEphysSinkSettings

    def open(self) -> str:
        """Reach the GUI, see that it acquires, and turn all lines off. Raises SinkError."""
        for spec in self.lines:
            if not isinstance(spec.line, int) or not 1 <= spec.line <= LINES:
                raise SettingError(
                    f"triggers.{spec.trigger}: sink {self.name!r} is an Open Ephys GUI: line must be a number from 1 "
                    f"to {LINES}, got {spec.line!r}"
                )
        self._requests: deque[_Request] = deque()
        self._context = zmq.Context()
        # As REQ, but without its rule that a request waits for the reply before it: an OFF must not wait.
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.sndhwm = self._socket.rcvhwm = QUEUE_MESSAGES
        self._socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing is kept for a GUI that is away, and sent to it later
        try:
            self._socket.connect(self.settings.address)
        except zmq.ZMQError as error:
            raise SinkError(f"sinks.{self.name}: address = {self.settings.address!r}: {error}") from None
        deadline = time.monotonic() + self.settings.start_s
        if not self._socket.poll(round(self.settings.start_s * 1000), zmq.POLLOUT):
            raise SinkError(f"no Open Ephys GUI with Network Events at {self.settings.address}")
        self._request(_Request(NO_EVENT, 0, -1))
        for line in sorted({int(spec.line) for spec in self.lines}):
            self._request(_Request(NO_EVENT, line, 0))
        while self._requests:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not self._socket.poll(round(remaining_s * 1000)):
                raise SinkError(f"the Open Ephys GUI at {self.settings.address} did not reply")
            list(self.poll())
        return f"Open Ephys at {self.settings.address}"

    def turn_on(self, command: LineCommand) -> None:
        """A TTL event with state 1."""
        self._request(_Request(command.event, self._line(command), 1))

    def turn_off(self, command: LineCommand, reason: str) -> None:
        """A TTL event with state 0."""
        self._request(_Request(command.event, self._line(command), 0))

    def heartbeat(self) -> None:
        """Ask whether the GUI acquires. Raises SinkError where it did not reply to the last question."""
        if any(request.state < 0 for request in self._requests):
            raise SinkError(f"the Open Ephys GUI did not reply for {self.settings.heartbeat_s} s")
        self._request(_Request(NO_EVENT, 0, -1))

    def filenos(self) -> Sequence[int]:
        """The socket's. It tells of what is new only, so `poll` takes all."""
        return (int(self._socket.fileno()),)

    def poll(self) -> Iterable[Answer]:
        """Replies."""
        while True:
            try:
                *_, reply = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if not self._requests:
                raise SinkError(f"the Open Ephys GUI replied {reply[:80]!r} to nothing")
            request = self._requests.popleft()
            answer = self._judge(request, reply.decode(errors="replace"))
            if answer is not None and request.event != NO_EVENT:
                yield answer

    def close(self) -> None:
        """Close the socket, with a moment for what is still to leave."""
        if hasattr(self, "_context"):
            self._context.destroy(linger=LINGER_MS)

    def _line(self, command: LineCommand) -> int:
        return int(self.lines[command.line].line)

    def _request(self, request: _Request) -> None:
        text = _ACQUIRING
        if request.state >= 0:
            # Older plugins know `Channel` and `on` and take what they do not know for "line 1 off"; newer ones know
            # `Line` and `State`. Each leaves the other's aside.
            line, state = request.line, request.state
            text = f"TTL Line={line} State={state} Channel={line} on={state}"
        try:
            self._socket.send_multipart([b"", text.encode()], zmq.NOBLOCK)
        except zmq.Again:
            raise SinkError(f"the Open Ephys GUI at {self.settings.address} is gone, or takes nothing more") from None
        self._requests.append(request)

    def _judge(self, request: _Request, reply: str) -> Answer | None:
        """What a reply says. Raises SinkError for one that leaves a line in doubt, or a GUI that does not acquire."""
        if request.state < 0:
            if reply != "1":
                raise SinkError("the Open Ephys GUI does not acquire, and drops events: start the acquisition")
            return None
        match = _TTL_REPLY.fullmatch(reply)
        if match and (int(match[1]), int(match[2])) == (request.line, request.state):
            return Answer(ACK_ON if request.state else ACK_OFF, request.event)
        told = f"the Open Ephys GUI replied {reply[:80]!r} to line {request.line}, state {request.state}"
        if request.state == 0:
            raise SinkError(told)
        return Answer(ERROR, request.event, told)
