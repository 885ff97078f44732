"""What a front and its workers send each other, over sockets of their own: a frozen dataclass for each kind of message.

A front hands a worker many clients' messages at once, and a worker hands back many answers at once: these two kinds are
on every frame's way. All others are rare, and say which streams, clients and bundles there are (docs/serving.md).

A worker sends everything over one socket, and ZeroMQ keeps the order. That nothing is lost or doubled rests on it: a
front that has a `StreamState` has had every answer before it. And what a worker sent before it was killed is read
before its replacement is connected.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import msgpack

from rtseg.errors import ServeError

FRONT_ID = b"front"
"""The front's routing id at its workers."""
NO_CLIENT = b""
"""Stands where a client's routing id would: the message is between front and worker."""
NOT_CLOSED = 4
"""Exit status of a worker that was told to stop and has ended in order, but for its recording, which is not whole."""
ALIVE_NS = 200_000_000
"""A worker gives the front a sign of life this often."""

# These three are made once a frame. A NamedTuple costs ten times a tuple there, so they are unpacked by position.
ClientMessage = tuple[bytes, int, bytes]
"""The client's routing id, when the front received it (ns, monotonic clock), and the message as it came."""
NumberedAnswer = tuple[bytes, int, bytes]
"""The topic, the answer's number within its stream, and the answer as subscribers get it."""
HeldFrame = tuple[int, int, bytes]
"""The frame's seq, when it was received (ns, monotonic clock), and the message as it came."""


@dataclass(frozen=True, slots=True)
class ClientMessages:
    """What clients sent to streams of a worker, in the order in which the front received it."""

    messages: Sequence[ClientMessage]


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions, in the order in which a worker made them."""

    answers: Sequence[NumberedAnswer]


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that another worker must know to go on with a stream: sent by the worker that has it.

    hello: the stream's, as its client sent it. fps: of its camera, as the hello says. model: hash of the bundle that
    answers it. opened_ns: when it was opened, on the monotonic clock. snapshot: the session's, None before the first
    frame. handled_ns: when the last frame came that snapshot and counters cover, 0 = none. last_answer: number of the
    last answer up to there. refused, dropped, superseded: the stream's counters outside its session. waiting: frames
    that come next and that the front has not seen, because they were read from a recording.
    """

    stream: str
    owner: bytes
    hello: bytes
    fps: float
    model: str
    opened_ns: int
    snapshot: bytes | None
    handled_ns: int
    last_answer: int
    refused: int
    dropped: int
    superseded: int
    waiting: Sequence[HeldFrame] = ()


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A worker has closed a stream, or never had it."""

    stream: str


@dataclass(frozen=True, slots=True)
class Alive:
    """A worker's loop turns."""


@dataclass(frozen=True, slots=True)
class BundlePrepared:
    """A worker has loaded a bundle and would serve this, or cannot take it: then `error` says why.

    load: the number of the load. worker: the worker's number. served: the fields that clients would be told.
    """

    load: int
    worker: int
    served: dict[str, Any]
    error: str


@dataclass(frozen=True, slots=True)
class RestoreStream:
    """A stream comes back to the worker that replaces its own.

    state: the last one that the front was sent. frames: those that the front has handed on since, oldest first.
    published: number of the newest answer that subscribers were sent.
    """

    state: StreamState
    frames: Sequence[HeldFrame]
    published: int


@dataclass(frozen=True, slots=True)
class TakeoverHello:
    """A client's hello for a stream whose owner's connection has ended, so that it may be taken over.

    gone_owner: the owner as the front knows it. client, t_recv_ns, data: the hello, as in a `ClientMessage`.
    """

    gone_owner: bytes
    client: bytes
    t_recv_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """The front has refused a message of a stream's owner: it counts as if the worker had."""

    stream: str


@dataclass(frozen=True, slots=True)
class EndStream:
    """A stream is to be ended, for this reason."""

    stream: str
    reason: str


@dataclass(frozen=True, slots=True)
class PrepareBundle:
    """Load the bundle in this folder and wait for the word. load: the number of the load."""

    load: int
    bundle: str


@dataclass(frozen=True, slots=True)
class CommitBundle:
    """All workers have loaded it: it answers every frame that comes after this message."""

    load: int


@dataclass(frozen=True, slots=True)
class AbandonBundle:
    """Not all could load it: forget it."""

    load: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain and end. A message and no signal, for a signal would overtake the frames that are still on their way.

    drain_s: how long frames that have arrived may be answered at most.
    """

    drain_s: float


FromWorker = Answers | StreamState | StreamEnded | Alive | BundlePrepared
FromFront = (
    ClientMessages
    | RestoreStream
    | TakeoverHello
    | MessageRefused
    | EndStream
    | PrepareBundle
    | CommitBundle
    | AbandonBundle
    | Stop
)
_TYPES: dict[str, type[FromWorker | FromFront]] = {
    "answers": Answers,
    "stream": StreamState,
    "ended": StreamEnded,
    "alive": Alive,
    "prepared": BundlePrepared,
    "messages": ClientMessages,
    "restore": RestoreStream,
    "takeover": TakeoverHello,
    "refused": MessageRefused,
    "end": EndStream,
    "prepare": PrepareBundle,
    "commit": CommitBundle,
    "abandon": AbandonBundle,
    "stop": Stop,
}
_FIELDS = {kind: (name, tuple(field.name for field in fields(kind))) for name, kind in _TYPES.items()}


def worker_of(stream: str, workers: int) -> int:
    """The number of the worker that serves a stream, of this many.

    By a hash of the name that is the same in every process and in every run (Python's own is not): a worker that is
    replaced, and a front that resumes from recordings, must find the same streams.
    """
    return zlib.crc32(stream.encode(errors="replace")) % workers


def encode(message: FromWorker | FromFront) -> bytes:
    """One of these messages as it travels: a msgpack map of its type and its fields."""
    packed: bytes = _PACKER.pack(_to_map(message))
    return packed


def decode(data: bytes) -> FromWorker | FromFront:
    """The message in these bytes. Raises ServeError for any other type, and for missing or unknown fields.

    Sequences come out as tuples, which spares the two kinds that are on every frame's way a copy of each element.
    """
    try:
        return _from_map(msgpack.unpackb(data, use_list=False))
    except (AttributeError, KeyError, TypeError):
        raise ServeError("front and workers are not of the same version of rtseg: start the front again") from None


def _to_map(message: FromWorker | FromFront) -> dict[str, Any]:
    name, names = _FIELDS[type(message)]
    plain: dict[str, Any] = {"type": name}
    for each in names:  # not a comprehension, which in Python 3.11 is one call more for each batch of frames
        plain[each] = getattr(message, each)
    return plain


def _from_map(plain: dict[str, Any]) -> FromWorker | FromFront:
    kind = _TYPES[plain.pop("type")]
    if kind is RestoreStream:
        plain["state"] = _from_map(plain["state"])
    return kind(**plain)


# The only object that msgpack does not know itself is the state within a `RestoreStream`. One packer for the process,
# for making one costs as much as packing a frame; only the loop's thread packs.
_PACKER = msgpack.Packer(default=_to_map)
