"""The gatekeeper: tells ZeroMQ which keys to let in (ZAP, RFC 27), on a thread beside the hot loop.

It answers a question a connection, hears which handshakes failed, and looks whether the folder of keys has changed.
Fails closed: while it doesn't answer, nobody new gets in. Which message a key may send is `guard`'s affair.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from rtseg.wire.keys import Grant, KeyStore

LOG = logging.getLogger("rtseg.serve")
LOOK_MS = 500
"""How soon a change in the folder of keys is seen."""
REFUSALS_PER_MINUTE = 60
"""More refused connections than this are counted, not logged: whoever knocks in a loop must not fill a disk."""
FRAMES, PREDICTIONS = "frames", "predictions"
_ROLES = {FRAMES: ("publish", "control"), PREDICTIONS: ("subscribe",)}
"""Which roles open which socket."""
_ENDPOINT = "inproc://zeromq.zap.01"
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class Authenticator:
    """Lets the keys of a store in, and follows its changes.

    grants: public half -> what it may do; replaced as a whole, so that another thread may read it. changes: how often
    that has happened. refused: connections that were not let in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], store: KeyStore) -> None:
        self._store = store
        self._public, self._secret = store.server()
        self.grants: dict[str, Grant] = {}
        self.changes = self.refused = 0
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._said: deque[float] = deque(maxlen=REFUSALS_PER_MINUTE)
        self._look()
        self._monitors: dict[zmq.Socket[bytes], str] = {}
        self._secured: list[zmq.Socket[bytes]] = []
        self._questions = context.socket(zmq.REP)
        self._questions.linger = 0
        self._questions.bind(_ENDPOINT)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtseg gatekeeper", daemon=True)

    def secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        """Make `socket` take connections with a key only; before it is bound, and before `start`."""
        socket.curve_server = True
        socket.curve_secretkey = self._secret.encode()
        socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # no gatekeeper, no entry
        # Room without end: where its reader is slow, ZeroMQ's own thread would wait, and with it every message.
        place = f"inproc://rtseg.refused.{domain}"
        socket.monitor(place, _FAILURES)
        monitor = socket.context.socket(zmq.PAIR)
        monitor.rcvhwm = 0
        monitor.connect(place)
        self._monitors[monitor] = domain
        self._secured.append(socket)

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for secured in self._secured:
            if not secured.closed:
                secured.monitor(None, 0)  # before its listener goes: it would wait for it
        for socket in (self._questions, *self._monitors):
            socket.close(linger=0)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            # Nobody would hear of a revoked key any more: better nobody has one.
            self.grants, self.changes = {}, self.changes + 1
            LOG.exception("the gatekeeper failed: no key is valid until the daemon is started again")

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in (self._questions, *self._monitors):
            poller.register(socket, zmq.POLLIN)
        looked = time.monotonic()
        while not self._stopping.is_set():
            ready = dict(poller.poll(LOOK_MS))
            # Whoever knocks in a loop must not keep it from seeing a revoked key.
            if not ready or time.monotonic() - looked > LOOK_MS / 1000:
                looked = time.monotonic()
                self._look()
            if self._questions in ready:
                self._answer(self._questions.recv_multipart())
            for socket, domain in self._monitors.items():
                if socket in ready:
                    self._hear_failure(socket, domain)

    def _look(self) -> None:
        seen = self._store.fingerprint()
        if seen == self._seen and self.changes:
            return
        self._seen = seen
        self.grants, problems = self._store.grants()
        self.changes += 1
        for problem in problems:
            LOG.error("a key file lets nobody in: %s", problem)

    def _answer(self, question: list[bytes]) -> None:
        """One ZAP request: version, id, domain, address, identity, mechanism, public key."""
        version, number, domain, address, _, mechanism, *credentials = [*question, *[b""] * 7][: max(7, len(question))]
        where, grant, reason = domain.decode(errors="replace"), None, ""
        if version != b"1.0" or mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != 32:
            reason = "it has no key"
        else:
            self._look()  # a key made or revoked a moment ago counts at once
            public = z85.encode(credentials[0]).decode()
            grant = self.grants.get(public)
            if grant is None:
                reason = f"its key {public[:8]}... is unknown or revoked"
            elif not set(grant.roles) & set(_ROLES.get(where, ())):
                reason = f"key {grant.name!r} has the roles {', '.join(grant.roles)}"
        if grant is None or reason:
            self._refuse(f"from {address.decode(errors='replace')} to the {where} socket", reason)
            self._questions.send_multipart([b"1.0", number, b"400", b"refused", b"", b""])
        else:
            self._questions.send_multipart([b"1.0", number, b"200", b"OK", grant.public.encode(), b""])

    def _hear_failure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        with contextlib.suppress(zmq.ZMQError, RuntimeError):
            event = recv_monitor_message(socket, zmq.NOBLOCK)
            # One that was refused above has been told already.
            if event["event"] != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                # ZeroMQ tells the address that was knocked at, not the one that it came from.
                where = event["endpoint"].decode(errors="replace")
                self._refuse(f"to the {domain} socket, {where},", "its handshake failed: no key, or another daemon's")

    def _refuse(self, connection: str, reason: str) -> None:
        self.refused += 1
        now = time.monotonic()
        if len(self._said) == REFUSALS_PER_MINUTE and now - self._said[0] < 60:
            return
        self._said.append(now)
        LOG.warning("connection %s refused: %s", connection, reason)
