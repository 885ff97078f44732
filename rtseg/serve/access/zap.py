"""The authenticator: tells ZeroMQ which keys to let in (ZAP, RFC 27), on a thread beside the hot loop.

It answers one request for each connection, logs which handshakes failed, and looks whether the folder of keys has
changed. Fails closed: while it doesn't answer, nobody new gets in. Which message a key may send, `guard` decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import time
from collections import deque

import zmq
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from rtseg.serve.access.connection_limit import MAX_WAITING, WAIT_MS, ZAP_ENDPOINT, ConnectionLimit
from rtseg.serve.timing.periodic import Periodic
from rtseg.wire.keys import Grant, KeyStore, UnreadableKeysError

LOG = logging.getLogger("rtseg.serve")
CHECK_MS = 500
"""How soon a change in the folder of keys is seen."""
FRAMES, PREDICTIONS = "frames", "predictions"
_ROLES = {FRAMES: ("publish", "control", "arm"), PREDICTIONS: ("subscribe",)}
"""Which roles open which socket."""
_DOMAIN_AT = 4
"""In a request with its two parts of ROUTER's."""
TROUBLE_EVERY_NS = 10_000_000_000
"""That the keys cannot be read is logged this often."""
ID_BEGIN, ID_BYTES = b"\1", 15
"""Of the routing id that a connection is given: this byte, and so many random ones. One that a peer gives itself could
silence another that has the same, or abort the process (`client_sockets`): with keys nobody chooses its own."""
HOLD_NS = 20_000_000
"""An answer waits for this long. Of the routing id in it and the one that the peer names in its handshake, libzmq takes
the one that it reads last; it reads the peer's right after it has sent the request."""
_FAILURES = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH


class Authenticator:
    """Lets the keys of a store in, and follows its changes.

    grants: public half -> what it may do; replaced as a whole, so that another thread may read it. changes: how often
    that has happened. refused: connections that were not let in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], store: KeyStore, limit: ConnectionLimit) -> None:
        self._store, self._limit = store, limit
        self._public, self._secret = store.server()
        self.grants: dict[str, Grant] = {}
        self.changes = self.refused = 0
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._trouble = Periodic(TROUBLE_EVERY_NS)
        self._read_keys()
        self._monitors: dict[zmq.Socket[bytes], str] = {}
        self._secured: list[zmq.Socket[bytes]] = []
        self._requests = context.socket(zmq.ROUTER)
        self._held: deque[tuple[int, list[bytes]]] = deque()  # when each request is to be answered, and its parts
        self._subscribers: deque[list[bytes]] = deque(maxlen=MAX_WAITING)  # those that wait for `ConnectionLimit`
        self._requests.linger = 0
        self._requests.setsockopt(zmq.ROUTER_MANDATORY, 1)  # whoever has gone takes nobody's place
        self._requests.bind(ZAP_ENDPOINT)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rtseg authenticator", daemon=True)

    def secure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        """Make `socket` take connections with a key only; before it is bound, and before `start`."""
        socket.curve_server = True
        socket.curve_secretkey = self._secret.encode()
        socket.setsockopt_string(zmq.ZAP_DOMAIN, domain)
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # where nobody answers, nobody gets in
        # Its queue has no limit: where its reader is slow, ZeroMQ's own thread would wait, and with it every message.
        events = f"inproc://rtseg.refused.{domain}"
        socket.monitor(events, _FAILURES)
        monitor = socket.context.socket(zmq.PAIR)
        monitor.rcvhwm = 0
        monitor.connect(events)
        self._monitors[monitor] = domain
        self._secured.append(socket)

    def start(self) -> None:
        """Begin to answer ZeroMQ's requests."""
        self._thread.start()

    def close(self) -> None:
        """Stop answering, and close its sockets."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for secured in self._secured:
            if not secured.closed:
                secured.monitor(None, 0)  # before its listener goes: it would wait for it
        for socket in (self._requests, *self._monitors):
            socket.close(linger=0)

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:
            # A key that is revoked from now on would stay valid: so none is valid any more.
            self.grants, self.changes = {}, self.changes + 1
            LOG.exception("the authenticator failed: no key is valid until the daemon is started again")

    def _serve(self) -> None:
        poller = zmq.Poller()
        for socket in (self._requests, *self._monitors):
            poller.register(socket, zmq.POLLIN)
        keys_check = Periodic(CHECK_MS * 1_000_000, time.monotonic_ns())
        while not self._stopping.is_set():
            wait_ms = CHECK_MS
            if self._held:
                wait_ms = max(0, -(-(self._held[0][0] - time.monotonic_ns()) // 1_000_000))
            if self._subscribers:
                wait_ms = min(wait_ms, WAIT_MS)
            ready = dict(poller.poll(min(CHECK_MS, wait_ms)))
            # A stranger who connects in a loop must not keep it from seeing a revoked key.
            now_ns = time.monotonic_ns()
            if not ready or keys_check.is_due(now_ns):
                keys_check.restart(now_ns)
                self._read_keys()
            if self._requests in ready:
                self._held.append((now_ns + HOLD_NS, self._requests.recv_multipart()))
            while self._held and self._held[0][0] <= now_ns:
                _, request = self._held.popleft()
                if request[_DOMAIN_AT : _DOMAIN_AT + 1] == [PREDICTIONS.encode()]:
                    self._subscribers.append(request)
                else:
                    self._answer(request)
            while self._subscribers and self._limit.take_one():
                # A refused one takes nobody's place either.
                if not self._answer(self._subscribers.popleft()):
                    self._limit.put_back()
            for socket, domain in self._monitors.items():
                if socket in ready:
                    self._count_failure(socket, domain)

    def _read_keys(self) -> None:
        """Read the folder of keys where it has changed.

        Strangers who take all file descriptors must not revoke a key. Where the folder cannot be read, a key is revoked
        whose file has gone, which takes none to see, and nothing else. Raises UnreadableKeysError the first time.
        """
        try:
            seen = self._store.fingerprint()
            if seen == self._seen and self.changes:
                return
            grants, problems = self._store.grants()
        except UnreadableKeysError as error:
            if not self.changes:
                raise
            left = {public: grant for public, grant in self.grants.items() if self._store.has_file(public)}
            if len(left) < len(self.grants):
                self.grants, self.changes = left, self.changes + 1
            if self._trouble.restart_if_due(time.monotonic_ns()):
                LOG.error("%s: until they can be read, the keys that were valid are, but those without a file", error)
            return
        self._seen, self.grants = seen, grants
        self.changes += 1
        for problem in problems:
            LOG.error("a key file lets nobody in: %s", problem)

    def _answer(self, request: list[bytes]) -> bool:
        """Answer one request of ZeroMQ's; whether a connection is let in."""
        asker, empty, *fields = request
        answer = self._decide(fields)
        with contextlib.suppress(zmq.ZMQError):  # it has gone
            self._requests.send_multipart([asker, empty, *answer])
            return answer[2] == b"200"
        return False

    def _decide(self, request: list[bytes]) -> list[bytes]:
        """To one ZAP request: version, id, domain, address, identity, mechanism, public key."""
        version, number, domain, address, _, mechanism, *credentials = [*request, *[b""] * 7][: max(7, len(request))]
        where, grant, reason = domain.decode(errors="replace"), None, ""
        if version != b"1.0" or mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != 32:
            reason = "it has no key"
        else:
            self._read_keys()  # a key that was made or revoked a moment ago counts at once
            public = z85.encode(credentials[0]).decode()
            grant = self.grants.get(public)
            if grant is None:
                reason = f"its key {public[:8]}... is unknown or revoked"
            elif not set(grant.roles) & set(_ROLES.get(where, ())):
                reason = f"key {grant.name!r} has the roles {', '.join(grant.roles)}"
        if grant is None or reason:
            self._refuse(f"from {address.decode(errors='replace')} to the {where} socket", reason)
            return [b"1.0", number, b"400", b"refused", b"", b""]
        # Only at the clients' socket are there routing ids.
        given = _metadata(b"Identity", ID_BEGIN + os.urandom(ID_BYTES)) if where == FRAMES else b""
        return [b"1.0", number, b"200", b"OK", grant.public.encode(), given]

    def _count_failure(self, socket: zmq.Socket[bytes], domain: str) -> None:
        with contextlib.suppress(zmq.ZMQError, RuntimeError):
            event = recv_monitor_message(socket, zmq.NOBLOCK)
            # What `_answer` refused is counted there.
            if event["event"] != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                # ZeroMQ tells the address that was connected to, not the one that it came from.
                where = event["endpoint"].decode(errors="replace")
                self._refuse(f"to the {domain} socket, {where},", "its handshake failed: no key, or another daemon's")

    def _refuse(self, connection: str, reason: str) -> None:
        self.refused += 1
        LOG.warning("connection %s refused: %s", connection, reason)


def _metadata(name: bytes, value: bytes) -> bytes:
    """One property, as ZMTP and ZAP write it."""
    return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value
