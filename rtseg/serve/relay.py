"""What a front (`front`) and its workers say to each other besides what clients send: no client can send these.

A worker is a daemon whose ROUTER has one peer, the front. Messages carry the client's routing id before them; a
prediction carries its number within the stream behind it, so that nothing is published twice when a worker is replaced.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import msgpack

from rtseg.errors import ServeError
from rtseg.serve.messages import Hello
from rtseg.serve.streams import Stream

RELAY = b"front"
"""The front's routing id at its workers."""
NOBODY = b""
"""Stands where a client would: the message is between front and worker."""
_ORDINAL = struct.Struct(">Q")


@dataclass(frozen=True)
class Relay:
    """A worker's place behind a front. predictions: the address that clients subscribe at. every_s: of snapshots."""

    predictions: str
    every_s: float


def ordinal(number: int) -> bytes:
    """Third part of a prediction: the stream's n-th answer."""
    return _ORDINAL.pack(number)


def number_of(part: bytes) -> int:
    """The inverse of `ordinal`."""
    return int(_ORDINAL.unpack(part)[0])


def snapshot(stream: Stream) -> bytes:
    """A stream's state on its way to the front."""
    packed: bytes = msgpack.packb(
        {
            "type": "snapshot",
            "stream": stream.name,
            "state": stream.session.snapshot(),
            "seq": stream.session.last_seq,
            "answers": stream.answers,
        }
    )
    return packed


def ended(stream: str) -> bytes:
    """A stream has been closed. Goes the way of the answers, so that a new one of its name can't be meant."""
    packed: bytes = msgpack.packb({"type": "ended", "stream": stream})
    return packed


def restore(owner: bytes, hello: bytes, state: bytes | None, answers: int) -> bytes:
    """A stream on its way back to a worker. hello: as its client sent it."""
    packed: bytes = msgpack.packb(
        {"type": "restore", "owner": owner, "hello": hello, "state": state, "answers": answers}
    )
    return packed


def gone(owner: bytes) -> bytes:
    """A client that can't be reached any more."""
    packed: bytes = msgpack.packb({"type": "gone", "owner": owner})
    return packed


def unpack(data: bytes) -> dict[str, Any]:
    """One of these messages. Raises ServeError for anything else."""
    message = msgpack.unpackb(data)
    if not isinstance(message, dict) or message.get("type") not in ("snapshot", "ended", "restore", "gone"):
        raise ServeError("front and workers are not of the same version of rtseg")
    return message


def hello_of(message: dict[str, Any]) -> Hello:
    """The hello in a `restore`."""
    return Hello.from_message(msgpack.unpackb(message["hello"]))
