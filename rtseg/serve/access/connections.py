"""Connections behind ZeroMQ's sockets: which one a message came over, whether it is still there, and how to end it.

ZeroMQ shows its user topics and routing ids, which peers choose. What cannot be chosen is the connection itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket as plain_socket
from collections.abc import Iterator
from typing import NamedTuple

import zmq

from rtseg.system.capabilities import SOCKETS_ARE_FILES


class Connection(NamedTuple):
    """One connection. descriptor: of its socket here; inode: of the same, for descriptors are used again.

    Where a socket has no inode (Windows; TCP on macOS), a number made from the other end's address stands there.
    """

    descriptor: int
    inode: int


def message_property(frame: zmq.Frame, name: str) -> str:
    """What ZeroMQ knows of a message's connection (`zmq_msg_gets`); "" where it knows nothing."""
    try:
        return str(frame.get(name))
    except zmq.ZMQError:  # the connection has just gone
        return ""


def descriptor_of(frame: zmq.Frame) -> int | None:
    """Of the socket that a message came over; None for what ZeroMQ made itself, and within a process."""
    number = message_property(frame, "__fd")
    return int(number) if number.isdigit() else None


def connection_of(frame: zmq.Frame) -> Connection | None:
    """The connection that a message came over; None as of `descriptor_of`, or where it has just gone."""
    descriptor = descriptor_of(frame)
    if descriptor is None:
        return None
    try:
        return Connection(descriptor, _inode(descriptor))
    except OSError:
        return None


def is_open(connection: Connection) -> bool:
    """Whether ZeroMQ still has it."""
    try:
        return _inode(connection.descriptor) == connection.inode
    except OSError:
        return False


TCP_INFO, RECEIVED_AT, TCP_INFO_BYTES = 11, 128, 136
"""Linux' option, where `tcpi_bytes_received` stands in it (64 bits), and how much of it is read."""


def end_connection(
    descriptor: int | None, addresses: tuple[str, ...], inode: int | None = None, least_received: int = 0
) -> bool:
    """End a connection; whether it was there. ZeroMQ has no call for that: its socket is shut from this side, and
    ZeroMQ sees it closed.

    addresses: those that the daemon's sockets are bound to. inode: where it is known, no other connection that has got
    this descriptor since is ended; otherwise that one connects again, for which it needs its key. least_received: the
    same for one that is known by the bytes that it has brought (Linux, TCP).
    """
    if descriptor is None:
        return False
    with contextlib.suppress(OSError), _socket_of(descriptor) as connection:
        if inode is not None and _inode(connection.fileno()) != inode:
            return False
        if least_received and received_bytes(connection) < least_received:
            return False
        connection.getpeername()  # an error where it isn't connected: a listener must not be shut
        if _is_ours(connection.getsockname(), addresses):
            connection.shutdown(plain_socket.SHUT_RDWR)
            return True
    return False


def received_bytes(connection: plain_socket.socket) -> int:
    """What a TCP connection has brought since it began (Linux from 4.1 on). Raises OSError for any other one."""
    info = connection.getsockopt(plain_socket.IPPROTO_TCP, TCP_INFO, TCP_INFO_BYTES)
    return int.from_bytes(info[RECEIVED_AT:TCP_INFO_BYTES], "little")


def _inode(descriptor: int) -> int:
    """Raises OSError where there is no such connection."""
    inode = os.fstat(descriptor).st_ino if SOCKETS_ARE_FILES else 0
    if inode:
        return inode
    with _socket_of(descriptor) as connection:
        return hash(connection.getpeername())


@contextlib.contextmanager
def _socket_of(descriptor: int) -> Iterator[plain_socket.socket]:
    """ZeroMQ's socket as one of Python's, which leaves it open. Raises OSError where there is none."""
    if SOCKETS_ARE_FILES and (copy := _copy_of(descriptor)) is not None:
        with plain_socket.socket(fileno=copy) as connection:
            yield connection
        return
    connection = plain_socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _copy_of(descriptor: int) -> int | None:
    """A copy, which stays this connection's when ZeroMQ closes its own and the number is used again; None where no
    descriptor is left for one. Raises OSError where there is none to copy.
    """
    try:
        return os.dup(descriptor)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return None
        raise


def _is_ours(name: object, addresses: tuple[str, ...]) -> bool:
    """Whether a socket of this local name belongs to one of the daemon's addresses, and not to a pipe or a log."""
    if isinstance(name, tuple):
        return any(a.startswith("tcp://") and a.rpartition(":")[2] == str(name[1]) for a in addresses)
    return any(a == f"ipc://{name}" for a in addresses)
