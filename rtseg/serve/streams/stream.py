"""The daemon's streams: who may send what, and how a source's points become the model's.

A `Stream` stands between a connection and a `Session`: it turns wire frames into `Frame`s with the model's points in
the model's order. Knows no sockets and reads no clock.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
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
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream_records import OutletRecord, QueueRecord, SilenceRecord, SizeRecord
from rtseg.serve.timing.declared_rate import DeclaredRate
from rtseg.serve.timing.source_clock import SourceClock
from rtseg.wire.messages import FLOAT32, FrameMessage, Hello, Served

MAX_REFUSED = 4096
"""Of so many refused frames it is remembered when they came."""
_IS_LITTLE_ENDIAN = sys.byteorder == "little"


class StreamError(ServeError):
    """A stream that is not there, or not this connection's."""


class SequenceError(ServeError):
    """Frames whose numbers began again while their stream is open."""


@dataclass(slots=True, eq=False)
class Stream:
    """One open stream.

    owner: routing id of the connection that opened it, or took it over. model: what answers it. shape: (A, K) of its
    frames as they come. points: (A, K) index of the model's points among the source's, None where they are the same.
    topic: its name on the wire. opened_ns: when it was opened, on the monotonic clock. interval_ns: between two frames
    of its camera. prefix: the bytes that its predictions begin with; prefix_at: their address.

    queued, silence, size, output: the records of the frame queue, the silence watch, the size watch and the outlet,
    which they alone write. trigger_slot: where the trigger stage remembers it, -1 where no trigger applies. clock: its
    source's, as the frame queue compares it; rate: what its frames say of the declared rate. beat_ns: when its source
    last sent a sign of life. refused: its messages that were in error. handled_ns: when the last frame came that was
    stepped or left out. is_closed: whether it has ended; frames of it that still wait are left out.
    """

    name: str
    owner: bytes
    hello: Hello
    model: ServedModel
    session: Session
    shape: tuple[int, int]
    points: NDArray[np.intp] | None
    topic: bytes
    opened_ns: int
    interval_ns: int
    queued: QueueRecord
    output: OutletRecord
    clock: SourceClock
    rate: DeclaredRate
    silence: SilenceRecord = field(default_factory=SilenceRecord)
    size: SizeRecord = field(default_factory=SizeRecord)
    trigger_slot: int = -1
    lookahead_frames: int = 0
    prefix: bytes = b""
    prefix_at: int = 0
    beat_ns: int = 0
    refused: int = 0
    handled_ns: int = 0
    is_closed: bool = False
    _recv_ns: deque[tuple[int, int]] = field(default_factory=deque)  # of frames that a lookahead has not answered yet
    _refused_ns: deque[int] = field(default_factory=partial(deque, maxlen=MAX_REFUSED))  # of frames, see `covered`

    def set_model(self, model: ServedModel) -> None:
        """Let this model answer it from the next frame on."""
        self.model, self.lookahead_frames = model, model.bundle.lookahead_frames
        self.prefix = model.packing.stream_prefix(self.name)
        self.prefix_at = address_of(self.prefix)

    def to_frame(self, message: FrameMessage) -> Frame:
        """The validated frame in a message. Raises FrameError for wrong sizes and whatever `own_frame` refuses."""
        a, k = self.shape
        conf = message.confidence
        if len(message.keypoints) != 8 * a * k or (conf is not None and len(conf) != 4 * a * k):
            raise FrameError(
                f"stream {self.name!r}, seq {message.seq}: {a} animals x {k} keypoints take {8 * a * k} bytes of kp "
                f"and {4 * a * k} of conf, got {len(message.keypoints)} and {'none' if conf is None else len(conf)}"
            )
        # Copies, for cleaning writes into them, and a recording gets the message's bytes as they came.
        points = np.ndarray((a, k, 2), FLOAT32, bytearray(message.keypoints))
        scores = np.ones((a, k), FLOAT32) if conf is None else np.ndarray((a, k), FLOAT32, bytearray(conf))
        if self.points is not None:
            points, scores = points.reshape(a * k, 2).take(self.points, axis=0), scores.take(self.points)
        if not _IS_LITTLE_ENDIAN:
            points, scores = points.astype(np.float32), scores.astype(np.float32)
        seq, t_source_ns = message.seq, message.t_source_ns
        return own_frame(
            points, scores, seq=seq, t_source_ns=t_source_ns, stream=self.name, has_scores=conf is not None
        )

    def move_to(self, owner: bytes) -> None:
        """Its source goes on over another connection."""
        self.owner = owner

    def count_beat(self, now_ns: int) -> None:
        """Its source has sent a sign of life instead of a frame."""
        self.beat_ns = now_ns

    def count_refused(self, t_recv_ns: int | None = None) -> None:
        """A message of its owner was in error. t_recv_ns: when it came, where it was a frame."""
        self.refused += 1
        if t_recv_ns is not None:
            self._refused_ns.append(t_recv_ns)

    def covered(self) -> tuple[int, int]:
        """Until when all frames that came were stepped, left out or refused; how many messages were refused until then.

        A frame in error is refused while others that came before it wait to be stepped. Until they are it does not
        count here: whoever goes on with the stream is handed all frames after that time, and refuses it again.
        """
        ahead = self._refused_ns
        while ahead and (not self.queued.waiting or ahead[0] <= self.handled_ns):
            self.handled_ns = max(self.handled_ns, ahead.popleft())
        return self.handled_ns, self.refused - len(ahead)

    def silent_ns(self, now_ns: int) -> int:
        """How long its source has sent neither a frame nor a sign of life."""
        return now_ns - max(self.queued.last_ns, self.beat_ns)

    def count_left_out(self, t_recv_ns: int) -> None:
        """A frame of it will not be stepped."""
        self.queued.dropped += 1
        self.mark_handled(t_recv_ns)

    def mark_handled(self, t_recv_ns: int) -> None:
        """Frames that came until then need no more to be done."""
        self.handled_ns = max(self.handled_ns, t_recv_ns)

    def continue_as(
        self, opened_ns: int, answers: int, handled_ns: int, refused: int, dropped: int, superseded: int
    ) -> None:
        """Go on with the numbers and counters that the stream had in another process."""
        self.opened_ns, self.output.answers, self.handled_ns = opened_ns, answers, handled_ns
        self.refused, self.queued.dropped, self.output.superseded = refused, dropped, superseded

    def number_answers_from(self, number: int) -> None:
        """The last prediction that went out had this number."""
        self.output.answers = number

    def continue_after_state(self) -> None:
        """Its state was restored: the frames up to the last one in it have come."""
        if self.session.last_seq is not None:
            self.queued.newest_seq = self.session.last_seq

    def expect_frames_from(self, now_ns: int) -> None:
        """What was stepped again came long ago: its next frame is awaited from now on."""
        self.queued.last_ns = now_ns

    def remember_receipt(self, seq: int, t_recv_ns: int) -> None:
        """Keep when a frame came whose prediction only a later frame brings (lookahead)."""
        self._recv_ns.append((seq, t_recv_ns))

    def received_ns(self, seq: int, otherwise_ns: int) -> int:
        """When frame `seq` came, whose prediction is given now; otherwise_ns for one that never came.

        Predictions are asked for in the order of their frames.
        """
        waiting = self._recv_ns
        while waiting and waiting[0][0] < seq:
            waiting.popleft()
        return waiting[0][1] if waiting and waiting[0][0] == seq else otherwise_ns

    def counters(self) -> dict[str, int]:
        """The session's, and what happened to frames and answers outside it."""
        outside = {"refused": self.refused, "dropped": self.queued.dropped, "superseded": self.output.superseded}
        return {**asdict(self.session.counters), **outside}

    def drift(self) -> dict[str, Any]:
        """Which features left training's ranges, and how far; see `Session.drift`."""
        return self.session.drift()


class Streams:
    """All open streams of one daemon.

    model: what answers those that are opened from now on. by_topic: the open streams by their names' bytes; to be read
    only.
    """

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._open: dict[str, Stream] = {}
        self.by_topic: dict[bytes, Stream] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._open.values()))

    def __len__(self) -> int:
        return len(self._open)

    def find(self, name: str) -> Stream | None:
        """The open stream of this name, whoever owns it."""
        return self._open.get(name)

    def served_to(self, name: str) -> Served:
        """What answers the stream of this name, or would if it were opened now."""
        stream = self._open.get(name)
        return (self.model if stream is None else stream.model).served

    def owned_stream(self, owner: bytes, name: str) -> Stream:
        """The stream of this name if `owner` opened it. Raises StreamError."""
        stream = self._open.get(name)
        if stream is None:
            raise StreamError(f"stream {name!r} is not open: send a hello first (idle streams are closed)"[:300])
        if stream.owner != owner:
            raise StreamError(f"stream {name!r} was opened by another connection: choose another name"[:300])
        return stream

    def match_hello(self, hello: Hello, model: ServedModel | None = None) -> NDArray[np.intp] | None:
        """Index of the model's points among the source's, None where they are the same.

        model: another one than for new streams. Raises SkeletonError or RateError where it cannot serve this stream.
        """
        bundle = (model or self.model).bundle
        if model is not None:
            bundle.check_rate(self.model.bundle.fps, f"stream {hello.stream!r}")
        elif not hello.resample:
            bundle.check_rate(hello.fps, f"stream {hello.stream!r}")
        return match_points(bundle.skeleton, hello.skeleton, hello.names)

    def check_new_model(self, stream: Stream, model: ServedModel) -> NDArray[np.intp] | None:
        """The same for an open stream that another model is to answer. Raises StreamError besides."""
        points = self.match_hello(stream.hello, model)
        # Between two frames of the camera stands one in the old model's order of points.
        if stream.session.is_resampled and model.bundle.skeleton != stream.model.bundle.skeleton:
            raise StreamError(
                f"stream {stream.name!r} is resampled: the new model must have the same keypoints in the same order"
            )
        return points

    def open_stream(self, owner: bytes, hello: Hello, points: NDArray[np.intp] | None, now_ns: int) -> Stream:
        """A fresh stream for what `match_hello` allowed. Raises RtsegError when all places are taken."""
        capacity = self.model.places
        if len(self._open) >= capacity:  # other models' streams count as well: all must fit one, should they swap
            raise StreamError(
                f"stream {hello.stream!r}: all {capacity} slots are taken; close a stream or serve with more capacity"
            )
        other_rate = hello.resample and not self.model.bundle.has_rate(hello.fps)
        fps = hello.fps if other_rate else None
        session = self.model.pool.open(hello.stream, hello.arena, fps, hello.px_per_mm)
        interval_ns = int(1e9 / hello.fps)
        stream = Stream(
            name=hello.stream,
            owner=owner,
            hello=hello,
            model=self.model,
            session=session,
            shape=hello.skeleton.shape,
            points=points,
            topic=hello.stream.encode(),
            opened_ns=now_ns,
            interval_ns=interval_ns,
            queued=QueueRecord(now_ns),
            output=OutletRecord(now_ns),
            clock=SourceClock(interval_ns),
            rate=DeclaredRate(hello.fps, now_ns),
        )
        stream.set_model(self.model)
        self._open[stream.name] = self.by_topic[stream.topic] = stream
        return stream

    def swap_model(
        self,
        stream: Stream,
        model: ServedModel,
        points: NDArray[np.intp] | None,
        publish: Callable[[list[Prediction]], None],
    ) -> None:
        """Let `model` answer this stream from its next frame on; points: as `match_hello` gave them.

        publish: gets what the old one's lookahead owes. Numbering and counters go on, the state is fresh.
        """
        hello = stream.hello
        session = model.pool.open(hello.stream, arena=hello.arena, px_per_mm=hello.px_per_mm)
        session.follow(stream.session)
        publish(stream.session.finish())
        stream.session.close()
        stream.session, stream.points = session, points
        stream.set_model(model)

    def close_stream(self, stream: Stream) -> None:
        """Free its place."""
        self._open.pop(stream.name, None)
        self.by_topic.pop(stream.topic, None)
        stream.is_closed = True
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
