"""Where the daemon may listen: ipc files and the loopback interface; beyond it only with keys.

Binds a socket or says in one line why that cannot be.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket as plain_socket
import stat
from pathlib import Path

import zmq

from rtseg.errors import ServeError
from rtseg.system.capabilities import why_no_ipc

_EXPECTED = "expected ipc:///PATH, tcp://127.0.0.1:PORT or tcp://127.0.0.1:* for a free port"


def bind(socket: zmq.Socket[bytes], address: str, *, keyed: bool = False) -> str:
    """Bind `socket` and return the address that clients connect to.

    keyed: it accepts only connections with a key (`zap.Authenticator.secure`). Raises ServeError for an address beyond
    loopback without keys, one in use, or none at all.
    """
    path = ipc_path(address)
    if path is not None:
        if reason := why_no_ipc():
            raise ServeError(f"address {address!r}: {reason}")
        _check_free(path, address)
    else:
        address = _tcp(address, keyed)
    try:
        socket.bind(address)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise _in_use(address) from None
        raise ServeError(f"cannot listen at {address!r}: {error}; {_EXPECTED}") from None
    # The address as bound: `*` has become a port.
    return str(socket.getsockopt_string(zmq.LAST_ENDPOINT))


def remove_ipc_file(address: str) -> None:
    """Remove the file of an ipc address, if there is one."""
    path = ipc_path(address)
    if path is not None:
        with contextlib.suppress(OSError):
            path.unlink()


def ipc_path(address: str) -> Path | None:
    """The file of an ipc address; None for any other."""
    scheme, _, rest = address.partition("://")
    if scheme != "ipc":
        return None
    # `@` is ZeroMQ's abstract namespace and `*` a temporary name: neither names a file.
    if not rest or rest[0] in "@*":
        raise ServeError(f"address {address!r}: {_EXPECTED}")
    return Path(rest)


def seen_from(address: str, peer: str) -> str:
    """An address that a daemon has sent, as a client that reached it at `peer` can use it.

    A daemon that listens on every interface calls itself 0.0.0.0; the client knows by which name it got there.
    """
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    peer_scheme, _, peer_rest = peer.partition("://")
    if scheme != "tcp" or peer_scheme != "tcp" or host not in ("0.0.0.0", "[::]", "*"):
        return address
    return f"tcp://{peer_rest.rpartition(':')[0]}:{port}"


def is_loopback(host: str) -> bool:
    """Whether this host (a name or an IP address, with or without brackets) is this machine and no other."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _tcp(address: str, keyed: bool) -> str:
    scheme, _, rest = address.partition("://")
    host, colon, port = rest.rpartition(":")
    if scheme != "tcp" or not colon or not (port == "*" or (port.isascii() and port.isdigit() and int(port) < 65536)):
        raise ServeError(f"address {address!r}: {_EXPECTED}")
    host = "127.0.0.1" if host == "localhost" else host
    if not keyed and not is_loopback(host):
        raise ServeError(
            f"address {address!r} can be reached from other machines: that needs keys (`rtseg keys new NAME --role "
            f"ROLE`, then `rtseg serve --keys FOLDER`); {_EXPECTED}"
        )
    return f"tcp://{host}:{port}"


def _check_free(path: Path, address: str) -> None:
    # ZeroMQ would unlink whatever lies there, a living daemon's socket and a user's file alike.
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ServeError(f"address {address!r}: the folder {path.parent} does not exist: make it first") from None
        return
    except OSError as error:
        raise ServeError(f"address {address!r}: {error}") from None
    if not stat.S_ISSOCK(kind):
        raise ServeError(f"address {address!r}: there is a file that is no socket: choose another path")
    with plain_socket.socket(plain_socket.AF_UNIX) as probe:
        try:
            # Only connecting tells a living daemon's socket from one that a killed daemon left behind.
            probe.connect(str(path))
        except OSError:
            return  # left behind by a daemon that was killed
    raise _in_use(address)


def _in_use(address: str) -> ServeError:
    return ServeError(f"address {address} is in use: stop the daemon that has it, or choose another address")
