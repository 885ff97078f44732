"""Lines published over ZeroMQ, for loops on this machine and others (docs/sinks/zmq.md).

Every message carries its lease, so that a line is off at the receiver's end too when nothing more comes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import zmq

from rtseg.config import ZmqSinkSettings
from rtseg.errors import ServeError, SinkError
from rtseg.sinks.base import ACK_OFF, ACK_ON, Answer, LineCommand, Sink
from rtseg.system.machine import boot_id
from rtseg.wire.addresses import bind, remove_ipc_file
from rtseg.wire.fields import MessageError
from rtseg.wire.keys import KeyStore
from rtseg.wire.line_messages import (
    BEAT_TOPIC,
    LINE_BEAT,
    LINE_OFF,
    LINE_ON,
    LINE_RENEW,
    LineAck,
    LineMessage,
    line_topic,
    pack_line,
    pack_line_ack,
    parse_line_ack,
)

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

LINGER_MS = 200
"""How long the last messages, which turn lines off, may take to leave."""
QUEUE_MESSAGES = 1000
"""For each receiver; one that does not read gets nothing more, and its lines go off."""
DOMAIN = "sink"
MAX_BYTES = 4096
"""Of what receivers send: subscriptions and acknowledgements."""


class ZmqSink(Sink):
    """A PUB socket, and a PULL socket for acknowledgements where the settings name one."""

    settings: ZmqSinkSettings

    @property
    def acknowledges(self) -> bool:  # type: ignore[override]
        """Whether receivers are asked to."""
        return bool(self.settings.acknowledgements)

    def open(self) -> str:
        """Listen. Raises ServeError for an address that is in use, or reaches beyond loopback without keys."""
        self._run, self._numbers = os.urandom(8).hex(), Counter[bytes]()
        self._acks: zmq.Socket[bytes] | None = None
        self._addresses: list[str] = []
        self._authenticator: ThreadAuthenticator | None = None
        self._context = zmq.Context()
        if self.settings.keys:
            self._authenticator = self._start_authenticator()
        self._lines_socket = self._bind(zmq.PUB, self.settings.address)
        if self.settings.acknowledgements:
            self._acks = self._bind(zmq.PULL, self.settings.acknowledgements)
        self._boot = boot_id()
        self._nowhere: zmq.Socket[bytes] = self._context.socket(zmq.PUB)  # for `rehearse`
        self._rehearsed_ack = pack_line_ack(LineAck(self._run, 1, True))
        self.heartbeat()
        return f"lines at {', acknowledgements at '.join(self._addresses)}"

    def turn_on(self, command: LineCommand) -> None:
        """Publish it."""
        self._publish(LINE_ON, command)

    def renew(self, command: LineCommand) -> None:
        """Publish it."""
        self._publish(LINE_RENEW, command)

    def turn_off(self, command: LineCommand, reason: str) -> None:
        """Publish it."""
        self._publish(LINE_OFF, command, reason)

    def heartbeat(self) -> None:
        """Publish a sign of life, which also tells receivers that they are connected."""
        message = LineMessage(
            LINE_BEAT,
            self._run,
            self._number(BEAT_TOPIC),
            time.monotonic_ns(),
            boot=self._boot,
            acknowledgements=self._addresses[1] if self._acks is not None else "",
            heartbeat_s=self.settings.heartbeat_s,
        )
        self._send(BEAT_TOPIC, pack_line(message, self.settings.format))

    def rehearse(self, command: LineCommand) -> None:
        """A message that a socket without receivers drops, and an acknowledgement that did not come."""
        message = self._pack(LINE_ON, 1, command, "")
        self._nowhere.send_multipart([line_topic(""), message], zmq.NOBLOCK)
        if self._acks is not None:
            parse_line_ack(self._rehearsed_ack)

    def filenos(self) -> Sequence[int]:
        """Of the acknowledgements. It tells of what is new only, so `poll` takes all."""
        return () if self._acks is None else (int(self._acks.fileno()),)

    def poll(self) -> Iterable[Answer]:
        """Acknowledgements of this run's events; the first one of each counts."""
        while self._acks is not None:
            try:
                data = self._acks.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            # Anybody who may connect may send anything here: what is no acknowledgement acknowledges nothing.
            with contextlib.suppress(MessageError):
                ack = parse_line_ack(data)
                if ack.run == self._run:
                    yield Answer(ACK_ON if ack.is_on else ACK_OFF, ack.event)

    def close(self) -> None:
        """Let the last messages leave, and close."""
        if not hasattr(self, "_context"):
            return
        if self._authenticator is not None:
            self._authenticator.stop()
        self._context.destroy(linger=LINGER_MS)
        for address in self._addresses:
            remove_ipc_file(address)

    def _publish(self, kind: str, command: LineCommand, reason: str = "") -> None:
        topic = line_topic(self.lines[command.line].trigger)
        self._send(topic, self._pack(kind, self._number(topic), command, reason))

    def _pack(self, kind: str, number: int, command: LineCommand, reason: str) -> bytes:
        spec = self.lines[command.line]
        message = LineMessage(
            kind,
            self._run,
            number,
            time.monotonic_ns(),
            command.hold_ns,
            spec.trigger,
            spec.line,
            command.stream,
            command.event,
            command.seq,
            reason,
        )
        return pack_line(message, self.settings.format)

    def _number(self, topic: bytes) -> int:
        self._numbers[topic] += 1
        return self._numbers[topic]

    def _send(self, topic: bytes, packed: bytes) -> None:
        # A PUB socket never waits: it leaves out receivers whose queue is full.
        self._lines_socket.send_multipart([topic, packed], zmq.NOBLOCK)

    def _bind(self, kind: int, address: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = socket.rcvhwm = QUEUE_MESSAGES
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_BYTES)
        if self.settings.keys:
            public, secret = KeyStore(self.settings.keys).server()
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = public.encode(), secret.encode()
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
            socket.setsockopt_string(zmq.ZAP_DOMAIN, DOMAIN)
        try:
            self._addresses.append(bind(socket, address, keyed=bool(self.settings.keys)))
        except ServeError as error:
            raise SinkError(f"sinks.{self.name}: {error}") from None
        return socket

    def _start_authenticator(self) -> ThreadAuthenticator:
        from zmq.auth.thread import ThreadAuthenticator

        authenticator = ThreadAuthenticator(self._context)
        authenticator.start()
        authenticator.configure_curve_callback(DOMAIN, _Keys(KeyStore(self.settings.keys)))
        return authenticator


class _Keys:
    """Which keys may come: those with the role subscribe, as the folder has them at that moment."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    def callback(self, domain: str, key: Any) -> bool:
        """Whether the owner of this public key (Z85) is let in."""
        public = key.decode() if isinstance(key, bytes) else str(key)
        grant = self._store.grants()[0].get(public)
        return grant is not None and "subscribe" in grant.roles
