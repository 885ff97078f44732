"""The daemon's streams: who may send what, and how a source's points become the model's.

A `Stream` stands between a connection and a `Session`: it turns wire frames into `Frame`s with the model's points in
the model's order. Knows no sockets and reads no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle import Bundle
from rtseg.errors import FrameError, ServeError
from rtseg.frames import Frame, frame
from rtseg.recordings.recording import Recording
from rtseg.serve.messages import FLOAT32, FrameMessage, Hello
from rtseg.session import Session, SessionPool
from rtseg.skeleton import Skeleton


class StreamError(ServeError):
    """A stream that is not there, or not this connection's."""


@dataclass(slots=True, eq=False)
class Stream:
    """One open stream.

    owner: the connection that opened it. points: (A, K) index of the model's points among the source's, None where they
    are the same. topic: its name on the wire. last_ns: when its last frame came. refused: its messages that were in
    error.
    """

    name: str
    owner: bytes
    hello: Hello
    session: Session
    shape: tuple[int, int]
    points: NDArray[np.intp] | None
    last_ns: int
    topic: bytes
    lookahead_frames: int
    refused: int = 0
    _recv_ns: deque[tuple[int, int]] = field(default_factory=deque)  # of frames that a lookahead has not answered yet

    def frame(self, message: FrameMessage) -> Frame:
        """The validated frame in a message. Raises FrameError for wrong sizes and whatever `rtseg.frames` refuses."""
        a, k = self.hello.skeleton.shape
        conf = message.confidence
        if len(message.keypoints) != 8 * a * k or (conf is not None and len(conf) != 4 * a * k):
            raise FrameError(
                f"stream {self.name!r}, seq {message.seq}: {a} animals x {k} keypoints take {8 * a * k} bytes of kp "
                f"and {4 * a * k} of conf, got {len(message.keypoints)} and {'none' if conf is None else len(conf)}"
            )
        points = np.frombuffer(message.keypoints, FLOAT32)
        scores = None if conf is None else np.frombuffer(conf, FLOAT32)
        if self.points is None:
            points = points.reshape(a, k, 2)
            scores = None if scores is None else scores.reshape(a, k)
        else:
            points = points.reshape(a * k, 2).take(self.points, axis=0)
            scores = None if scores is None else scores.take(self.points)
        return frame(
            points, scores, shape=self.shape, seq=message.seq, t_source_ns=message.t_source_ns, stream=self.name
        )

    def note(self, seq: int, t_recv_ns: int) -> None:
        """A frame came."""
        self.last_ns = t_recv_ns
        if self.lookahead_frames:
            self._recv_ns.append((seq, t_recv_ns))

    def received_ns(self, seq: int, otherwise_ns: int) -> int:
        """When the frame came that is answered now; otherwise_ns for one that never came."""
        waiting = self._recv_ns
        while waiting and waiting[0][0] < seq:
            waiting.popleft()
        return waiting[0][1] if waiting and waiting[0][0] == seq else otherwise_ns

    def counters(self) -> dict[str, int]:
        """The session's, and the frames that were refused before it."""
        return {**asdict(self.session.counters), "refused": self.refused}

    def drift(self) -> dict[str, Any]:
        """Which features left training's ranges, and how far; see `Session.drift`."""
        return self.session.drift()


class Streams:
    """All open streams of one daemon."""

    def __init__(self, bundle: Bundle, pool: SessionPool) -> None:
        self._bundle, self._pool = bundle, pool
        self._open: dict[str, Stream] = {}

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

    def check(self, hello: Hello) -> NDArray[np.intp] | None:
        """Index of the model's points among the source's, None where they are the same.

        Raises SkeletonError or RateError where the model cannot serve this stream.
        """
        self._bundle.check_rate(hello.fps, f"stream {hello.stream!r}")
        return match_points(self._bundle.skeleton, hello.skeleton, hello.names)

    def open(self, owner: bytes, hello: Hello, points: NDArray[np.intp] | None, now_ns: int) -> Stream:
        """A fresh stream for what `check` allowed. Raises RtsegError when all places are taken."""
        session = self._pool.open(hello.stream, arena=hello.arena)
        stream = Stream(
            name=hello.stream,
            owner=owner,
            hello=hello,
            session=session,
            shape=self._bundle.skeleton.shape,
            points=points,
            last_ns=now_ns,
            topic=hello.stream.encode(),
            lookahead_frames=self._bundle.lookahead_frames,
        )
        self._open[stream.name] = stream
        return stream

    def close(self, stream: Stream) -> None:
        """Free its place."""
        self._open.pop(stream.name, None)
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
