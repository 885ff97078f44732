"""What passes between a worker and its front, and nobody else (docs/serving.md, Workers).

Clients' messages go to a worker many at once, each with its routing id and the time at which the front got it.
Predictions come many at once, each with its number, so that nothing goes out twice when a worker is replaced. All that
a worker says goes one way, in order: who has a stream's state has had the answers before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgpack

from rtseg.errors import ServeError
from rtseg.serve.streams.stream import Stream
from rtseg.wire.messages import Hello

FRONT_ID = b"front"
"""The front's routing id at its workers."""
NO_CLIENT = b""
"""Stands where a client would: the message is between front and worker."""
_FROM_WORKER = ("answers", "stream", "ended", "alive", "prepared")
_FROM_FRONT = ("messages", "restore", "gone", "refused", "end", "prepare", "commit", "abandon", "stop")
ALIVE_NS = 200_000_000
"""A worker without anything to say gives a sign of life this often."""


def worker_of(stream: str, workers: int) -> int:
    """Always the same one: by a hash of the name that is the same in every process."""
    return zlib.crc32(stream.encode(errors="replace")) % workers


def messages(of: Sequence[tuple[bytes, int, bytes]]) -> bytes:
    """What clients sent, in order: the routing id, when the front got it, and the bytes."""
    return _packed({"type": "messages", "of": of})


def answers(of: Sequence[tuple[bytes, int, bytes]]) -> bytes:
    """Predictions, in order: the topic, the number within it, and the bytes; from worker to front."""
    return _packed({"type": "answers", "of": of})


def state_of(stream: Stream, waiting: Sequence[tuple[int, int, bytes]] = ()) -> bytes:
    """All that another worker must know to go on with a stream after the frame `seq`; from worker to front.

    waiting: frames that the front did not hand on and that come next, each with its seq, its time and as it came.
    """
    return _packed(
        {
            "type": "stream",
            "stream": stream.name,
            "owner": stream.owner,
            "hello": stream.hello.to_message(),
            "model": stream.model.served.model,
            "opened_ns": stream.opened_ns,
            "state": stream.session.snapshot() if stream.session.last_seq is not None else None,
            "seq": stream.session.last_seq,
            "answers": stream.output.answers,
            "outside": [stream.refused, stream.queued.dropped, stream.output.superseded],
            "waiting": waiting,
        }
    )


def ended(stream: str) -> bytes:
    """A stream has been closed."""
    return _packed({"type": "ended", "stream": stream})


def alive() -> bytes:
    """A worker's loop turns."""
    return _packed({"type": "alive"})


def restore(told: dict[str, Any], owner: bytes, frames: list[tuple[int, bytes]], published: int) -> bytes:
    """A stream on its way back: what `state_of` said, and the frames since, each with its time and as it came.

    published: the number of its newest answer that went out.
    """
    return _packed(told | {"type": "restore", "owner": owner, "frames": frames, "published": published})


def gone(owner: bytes) -> bytes:
    """A client that can't be reached any more."""
    return _packed({"type": "gone", "owner": owner})


def refused(stream: str) -> bytes:
    """The front has refused a message of a stream's owner: it counts as if the worker had."""
    return _packed({"type": "refused", "stream": stream})


def end(stream: str, reason: str) -> bytes:
    """A stream shall end."""
    return _packed({"type": "end", "stream": stream, "reason": reason})


def prepare(load: int, bundle: str) -> bytes:
    """Load another bundle and wait. load: its number."""
    return _packed({"type": "prepare", "load": load, "bundle": bundle})


def prepared(load: int, worker: int, served: dict[str, Any], error: str) -> bytes:
    """It is loaded and would serve this, or cannot be; from worker to front."""
    return _packed({"type": "prepared", "load": load, "worker": worker, "served": served, "error": error})


def commit(load: int) -> bytes:
    """All have loaded it: it answers from here on."""
    return _packed({"type": "commit", "load": load})


def abandon(load: int) -> bytes:
    """Forget it."""
    return _packed({"type": "abandon", "load": load})


def stop() -> bytes:
    """The worker shall drain and end. No signal, for that would come before what is on its way."""
    return _packed({"type": "stop"})


def unpack(data: bytes) -> dict[str, Any]:
    """One of these messages. Raises ServeError for anything else."""
    message = msgpack.unpackb(data)
    if not isinstance(message, dict) or message.get("type") not in _FROM_WORKER + _FROM_FRONT:
        raise ServeError("front and workers are not of the same version of rtseg: start the front again")
    return message


def hello_of(message: dict[str, Any]) -> Hello:
    """The hello in a `restore`."""
    return Hello.from_message(message["hello"])


def _packed(message: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(message)
    return packed
