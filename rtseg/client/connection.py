"""A connection to a daemon: how it is made, what can be asked over it, and why nobody answers.

Shared by publishers, subscribers and the commands. Knows no stream.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import zmq

from rtseg.errors import ServeError
from rtseg.wire.addresses import seen_from
from rtseg.wire.keys import ClientKey, read_client_key
from rtseg.wire.messages import VERSION, Served, unpack

Key = ClientKey | Path | str | None
"""A key, or the file that holds it."""
QUEUE_MESSAGES = 100_000
"""High-water mark of a client's sockets; a publisher that reaches it gets an error, for then the daemon is stuck."""

CONNECT_S = 5.0
"""How long a daemon may take to accept the connection for a request."""


def ask_status(address: str, *, timeout_s: float = 5.0, key: Key = None) -> dict[str, Any]:
    """A daemon's counters and latencies (docs/wire.md, `status`).

    key: your key file, with the role control. Raises ServeError where nobody answers, or with the reason for a refusal.
    """
    return _ask(address, {"v": VERSION, "type": "status"}, timeout_s, key)


def ask_load(
    address: str, bundle: Path | str, *, stream: str | None = None, timeout_s: float = 120.0, key: Key = None
) -> dict[str, Any]:
    """Swap a daemon's bundle while it serves (docs/wire.md, `load`); returns once it answers with the new one.

    bundle: folder on the daemon's machine. stream: only this one; None = all, and those to come. Raises ServeError with
    the reason for a refusal, or where no answer comes within timeout_s.
    """
    return _ask(address, {"v": VERSION, "type": "load", "bundle": str(bundle), "stream": stream}, timeout_s, key)


def ask_arm(
    address: str, stream: str | None = None, *, for_s: float | None = None, timeout_s: float = 5.0, key: Key = None
) -> dict[str, Any]:
    """Arm a daemon's triggers (docs/wire.md, `arm`); who is armed now.

    stream: only this one, which must be open; None = all, and those that are opened later. for_s: after so many seconds
    they are disarmed; None = until somebody does. key: with the role arm. Raises ServeError with the reason for a
    refusal.
    """
    message: dict[str, Any] = {"v": VERSION, "type": "arm", "stream": stream, "for_s": for_s}
    return _ask(address, message, timeout_s, key)


def ask_disarm(address: str, stream: str | None = None, *, timeout_s: float = 5.0, key: Key = None) -> dict[str, Any]:
    """Disarm a daemon's triggers; what runs ends at once. stream: as of `ask_arm`. Raises ServeError."""
    return _ask(address, {"v": VERSION, "type": "disarm", "stream": stream}, timeout_s, key)


def ask_stop(address: str, *, timeout_s: float = 5.0, key: Key = None) -> dict[str, Any]:
    """Make a daemon drain and end, as SIGTERM does (docs/wire.md, `stop`). Raises ServeError."""
    return _ask(address, {"v": VERSION, "type": "stop"}, timeout_s, key)


def _ask(address: str, message: dict[str, Any], timeout_s: float, key: Key) -> dict[str, Any]:
    own = key_of(key)
    deadline = time.monotonic() + timeout_s
    with connect(zmq.DEALER, address, own) as socket:
        # Loading a bundle may take minutes, but a missing daemon is noticed within seconds.
        connect_s = min(timeout_s, CONNECT_S)
        if not socket.poll(milliseconds(connect_s), zmq.POLLOUT):
            raise no_daemon(address, connect_s, own)
        socket.send(msgpack.packb(message), zmq.NOBLOCK)
        if not socket.poll(milliseconds(deadline - time.monotonic())):
            raise ServeError(f"the daemon at {address} gave no answer to {message['type']} within {timeout_s} s")
        answer = unpack(socket.recv())
    if answer.get("type") in ("error", "refused"):
        raise ServeError(f"the daemon at {address} refused {message['type']}: {answer.get('reason')}")
    return answer


def key_of(key: Key) -> ClientKey | None:
    """The key itself, read where a file is given. Raises KeyFileError for no key file, or one that others can read."""
    return key if key is None or isinstance(key, ClientKey) else read_client_key(key)


def reachable(served: Served, address: str) -> Served:
    """`served` with an address for predictions that works from here: the host by which the daemon was found."""
    return replace(served, predictions=seen_from(served.predictions, address))


def connect(kind: int, address: str, key: ClientKey | None = None) -> zmq.Socket[bytes]:
    """A socket to a daemon, which need not be there yet. Raises ServeError for what is no address."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    # Closing must never wait for a daemon that is gone.
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = QUEUE_MESSAGES
    if key is not None:
        socket.curve_serverkey = key.server.encode()
        socket.curve_publickey, socket.curve_secretkey = key.public.encode(), key.secret.encode()
    if kind == zmq.DEALER:
        # What is sent while the daemon is away is refused at once; else ZeroMQ would keep it, and nobody would notice.
        socket.setsockopt(zmq.IMMEDIATE, 1)
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close()
        raise ServeError(f"address {address!r}: expected tcp://HOST:PORT or ipc://PATH: {error}") from None
    return socket


def no_daemon(address: str, timeout_s: float, key: ClientKey | None) -> ServeError:
    """The error for a daemon that did not answer, with what may be the reason."""
    if key is None:
        otherwise = "start `rtseg serve BUNDLE` first (one that was started with --keys takes connections with a key)"
    else:
        otherwise = (
            f"start `rtseg serve BUNDLE --keys FOLDER` first, or it refused key {key.name!r}: revoked, without the "
            "role, or of another daemon; its log says which"
        )
    return ServeError(f"no daemon at {address} within {timeout_s} s: {otherwise}")


def milliseconds(seconds: float) -> int:
    """Seconds as ZeroMQ takes a timeout: whole milliseconds, not below 0 (which would mean for ever)."""
    return max(0, math.ceil(seconds * 1000))
