"""The daemon's streams: who may send what, and how a source's points become the model's.

A `Stream` stands between a connection and a `Session`: it turns wire frames into `Frame`s with the model's points in
the model's order. Knows no sockets and reads no clock.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.compiled.array_tables import address_of
from rtseg.errors import FrameError, ServeError
from rtseg.frames.frame import Frame, own_frame
from rtseg.frames.skeleton import Skeleton
from rtseg.inference.predictions import Prediction
from rtseg.inference.session import Session
from rtseg.recordings.recording import Recording
from rtseg.serve.streams.served_model import Model
from rtseg.serve.timing.source_clock import SourceClock
from rtseg.wire.messages import FLOAT32, FrameMessage, Hello

_IS_LITTLE_ENDIAN = sys.byteorder == "little"


class StreamError(ServeError):
    """A stream that is not there, or not this connection's."""


@dataclass(slots=True, eq=False)
class Stream:
    """One open stream.

    model: what answers it. owner: the connection that opened it. shape: (A, K) of its frames as they come. points:
    (A, K) index of the model's points among the source's, None where they are the same. last_ns: when its last frame
    came; alive_ns: when its source last said that it lives; newest_seq: of the frames that came. topic: its name on the
    wire. prefix: what its predictions begin with; prefix_at: its address.

    refused: its messages that were in error. waiting: frames that came and are not answered yet; dropping: how many of
    them will not be; dropped: how many never were. superseded: answers not published because a newer frame waited;
    answers: number of the last one, published or not; opened_ns: when it was opened, where these numbers begin: above
    all that went out under this name before. heard: whether anybody listens, as of the subscriptions numbered heard_at.
    watched, stale: see `vigil`. closed: nothing more comes of it.
    """

    name: str
    owner: bytes
    hello: Hello
    model: Model
    session: Session
    shape: tuple[int, int]
    points: NDArray[np.intp] | None
    last_ns: int
    topic: bytes
    interval_ns: int = 0
    lookahead_frames: int = 0
    prefix: bytes = b""
    prefix_at: int = 0
    clock: SourceClock = field(default_factory=SourceClock)
    refused: int = 0
    waiting: int = 0
    dropping: int = 0
    dropped: int = 0
    superseded: int = 0
    answers: int = 0
    opened_ns: int = 0
    heard: bool = True
    heard_at: int = -1
    newest_seq: int = -1
    alive_ns: int = 0
    overload_ns: int = 0
    watched: bool = False
    stale: bool = False
    closed: bool = False
    _recv_ns: deque[tuple[int, int]] = field(default_factory=deque)  # of frames that a lookahead has not answered yet

    def answered_by(self, model: Model) -> None:
        """This model answers it from here on."""
        self.model, self.lookahead_frames = model, model.bundle.lookahead_frames
        self.prefix = model.packing.stream_prefix(self.name)
        self.prefix_at = address_of(self.prefix)

    def frame(self, message: FrameMessage) -> Frame:
        """The validated frame in a message. Raises FrameError for wrong sizes and whatever `own_frame` refuses."""
        a, k = self.shape
        conf = message.confidence
        if len(message.keypoints) != 8 * a * k or (conf is not None and len(conf) != 4 * a * k):
            raise FrameError(
                f"stream {self.name!r}, seq {message.seq}: {a} animals x {k} keypoints take {8 * a * k} bytes of kp "
                f"and {4 * a * k} of conf, got {len(message.keypoints)} and {'none' if conf is None else len(conf)}"
            )
        # Of copies, for cleaning writes into them.
        points = np.ndarray((a, k, 2), FLOAT32, bytearray(message.keypoints))
        scores = np.ones((a, k), FLOAT32) if conf is None else np.ndarray((a, k), FLOAT32, bytearray(conf))
        if self.points is not None:
            points, scores = points.reshape(a * k, 2).take(self.points, axis=0), scores.take(self.points)
        if not _IS_LITTLE_ENDIAN:
            points, scores = points.astype(np.float32), scores.astype(np.float32)
        return own_frame(points, scores, seq=message.seq, t_source_ns=message.t_source_ns, stream=self.name)

    def note(self, seq: int, t_recv_ns: int) -> None:
        """A frame is answered."""
        if self.lookahead_frames:
            self._recv_ns.append((seq, t_recv_ns))

    def received_ns(self, seq: int, otherwise_ns: int) -> int:
        """When the frame came that is answered now; otherwise_ns for one that never came."""
        waiting = self._recv_ns
        while waiting and waiting[0][0] < seq:
            waiting.popleft()
        return waiting[0][1] if waiting and waiting[0][0] == seq else otherwise_ns

    def counters(self) -> dict[str, int]:
        """The session's, and what happened to frames and answers outside it."""
        outside = {"refused": self.refused, "dropped": self.dropped, "superseded": self.superseded}
        return {**asdict(self.session.counters), **outside}

    def drift(self) -> dict[str, Any]:
        """Which features left training's ranges, and how far; see `Session.drift`."""
        return self.session.drift()


class Streams:
    """All open streams of one daemon. model: what answers those that are opened from now on."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._open: dict[str, Stream] = {}
        self._by_topic: dict[bytes, Stream] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def find(self, name: str) -> Stream | None:
        """The stream of this name, whoever has it."""
        return self._open.get(name)

    def of(self, owner: bytes, name: str) -> Stream:
        """The stream of this name if `owner` opened it. Raises StreamError."""
        stream = self._open.get(name)
        if stream is None:
            raise StreamError(f"stream {name!r} is not open: send a hello first (idle streams are closed)"[:300])
        if stream.owner != owner:
            raise StreamError(f"stream {name!r} was opened by another connection: choose another name"[:300])
        return stream

    def plain(self, owner: bytes, topic: bytes, shape: tuple[int, int]) -> Stream | None:
        """The stream of this name if `owner` opened it and its frames, of this shape (A, K), need no other order."""
        stream = self._by_topic.get(topic)
        if stream is None or stream.owner != owner or stream.points is not None or stream.shape != shape:
            return None
        return stream

    def check(self, hello: Hello, model: Model | None = None) -> NDArray[np.intp] | None:
        """Index of the model's points among the source's, None where they are the same.

        model: another one than for new streams. Raises SkeletonError or RateError where it cannot serve this stream.
        """
        bundle = (model or self.model).bundle
        if model is not None:
            bundle.check_rate(self.model.bundle.fps, f"stream {hello.stream!r}")
        elif not hello.resample:
            bundle.check_rate(hello.fps, f"stream {hello.stream!r}")
        return match_points(bundle.skeleton, hello.skeleton, hello.names)

    def check_swap(self, stream: Stream, model: Model) -> NDArray[np.intp] | None:
        """The same for an open stream that another model is to answer. Raises StreamError besides."""
        points = self.check(stream.hello, model)
        # Between two frames of the camera stands one in the old model's order of points.
        if stream.session.is_resampled and model.bundle.skeleton != stream.model.bundle.skeleton:
            raise StreamError(
                f"stream {stream.name!r} is resampled: the new model must have the same keypoints in the same order"
            )
        return points

    def open(self, owner: bytes, hello: Hello, points: NDArray[np.intp] | None, now_ns: int) -> Stream:
        """A fresh stream for what `check` allowed. Raises RtsegError when all places are taken."""
        capacity = self.model.places
        if len(self._open) >= capacity:  # other models' streams count as well: all must fit one, should they swap
            raise StreamError(
                f"stream {hello.stream!r}: all {capacity} slots are taken; close a stream or serve with more capacity"
            )
        other_rate = hello.resample and not self.model.bundle.has_rate(hello.fps)
        session = self.model.pool.open(hello.stream, hello.arena, hello.fps if other_rate else None)
        stream = Stream(
            name=hello.stream,
            owner=owner,
            hello=hello,
            model=self.model,
            session=session,
            shape=hello.skeleton.shape,
            points=points,
            last_ns=now_ns,
            topic=hello.stream.encode(),
            interval_ns=int(1e9 / hello.fps),
            answers=now_ns,
            opened_ns=now_ns,
        )
        stream.answered_by(self.model)
        self._open[stream.name] = self._by_topic[stream.topic] = stream
        return stream

    def swap(
        self, stream: Stream, model: Model, points: NDArray[np.intp] | None, publish: Callable[[list[Prediction]], None]
    ) -> None:
        """Let `model` answer this stream from its next frame on; points: as `check` gave them.

        publish: gets what the old one's lookahead owes. Numbering and counters go on, the state is fresh.
        """
        session = model.pool.open(stream.name, arena=stream.hello.arena)
        session.follow(stream.session)
        publish(stream.session.finish())
        stream.session.close()
        stream.session, stream.points = session, points
        stream.answered_by(model)

    def close(self, stream: Stream) -> None:
        """Free its place."""
        self._open.pop(stream.name, None)
        self._by_topic.pop(stream.topic, None)
        stream.closed = True
        stream.session.close()


def match_points(wanted: Skeleton, offered: Skeleton, names: dict[str, str]) -> NDArray[np.intp] | None:
    """For each of the model's points (A, K) its index among the source's; None where nothing has to move.

    names: the source's animal or keypoint names -> the model's. Raises SkeletonError where a point has no counterpart.
    """
    renamed = Skeleton(
        animals=tuple(names.get(n, n) for n in offered.animals),
        keypoints=tuple(names.get(n, n) for n in offered.keypoints),
    )
    a, k = renamed.shape
    # The rule of names stands in Recording.select: it is asked with a frame whose coordinates are the points' numbers.
    numbers = np.arange(a * k, dtype=np.float32).reshape(1, a, k)
    asked = Recording("hello", renamed, np.stack([numbers, numbers], axis=-1), numbers, fps=1.0).select(wanted)
    index = asked.confidence[0].astype(np.intp)
    same = renamed.shape == wanted.shape and bool((index.ravel() == np.arange(index.size)).all())
    return None if same else index
