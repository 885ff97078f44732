"""Send frames to a daemon and hear its predictions, in a few lines each; usable from a camera loop.

    with Publisher("tcp://127.0.0.1:5757", "cage1", skeleton, fps=30) as publisher:
        publisher.send(keypoints)

Needs numpy, msgpack and pyzmq only: no model and no compiler. Neither class is safe to share between threads.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import msgpack
import numpy as np
import zmq
from numpy.typing import ArrayLike

from rtseg.errors import FrameError, ServeError
from rtseg.serve.messages import (
    FLOAT32,
    VERSION,
    Hello,
    PredictionMessage,
    Served,
    StreamEvent,
    frame_message,
    parse_published,
    unpack,
)
from rtseg.skeleton import Skeleton

QUEUE_MESSAGES = 100_000
"""High-water mark of a client's sockets; a publisher that reaches it gets an error, for then the daemon is stuck."""


class Publisher:
    """One stream of frames to a daemon.

    address: the daemon's frames address. stream: a name of your choice. skeleton: animals and keypoints in the order of
    your arrays; the daemon picks the model's from them by name. fps: camera frames per second, the model's. clock: what
    your t_source_ns count. arena: box x0, y0, x1, y1 in px. names: your animal or keypoint names -> the model's, where
    they differ. Says hello at once; raises ServeError where nobody answers within timeout_s, or with the daemon's
    reason for a refusal.
    """

    def __init__(
        self,
        address: str,
        stream: str,
        skeleton: Skeleton,
        fps: float,
        *,
        clock: str = "monotonic",
        arena: tuple[float, float, float, float] | None = None,
        names: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        hello = Hello(stream, skeleton, fps, clock, arena, dict(names or {}))
        self.address, self.stream = address, stream
        self._shape, self._timeout_s = skeleton.shape, timeout_s
        self._next_seq = 0
        self._packer = msgpack.Packer()
        self._socket = _connect(zmq.DEALER, address)
        try:
            self.served = self._say_hello(hello)
        except BaseException:
            self._socket.close(linger=0)
            raise

    def send(
        self,
        keypoints: ArrayLike,
        confidence: ArrayLike | None = None,
        *,
        seq: int | None = None,
        t_source_ns: int | None = None,
    ) -> int:
        """Send one frame and return its sequence number; never waits.

        keypoints: (A, K, 2) px, NaN = missing. confidence: (A, K) in [0, 1], or None. seq: +1 per camera frame, frames
        that the camera dropped included; counted here where None. t_source_ns: now, on the monotonic clock, where None.
        Raises FrameError for another shape; ServeError where the daemon is gone or has refused an earlier frame (this
        one is on its way then, and sending may go on).
        """
        number = self._next_seq if seq is None else int(seq)
        points = self._bytes(keypoints, (*self._shape, 2), "keypoints", number)
        scores = None if confidence is None else self._bytes(confidence, self._shape, "confidence", number)
        t_ns = time.monotonic_ns() if t_source_ns is None else int(t_source_ns)
        self._put(frame_message(self.stream, number, t_ns, points, scores))
        self._next_seq = number + 1
        self._hear()
        return number

    def close(self) -> dict[str, int]:
        """End the stream, wait for the daemon's goodbye and return its counters of the stream.

        {} where the daemon or the stream is gone.
        """
        if self._socket.closed:
            return {}
        try:
            self._put({"v": VERSION, "type": "bye", "stream": self.stream})
            return dict(self._answer(("goodbye",))["counters"])
        except ServeError:
            return {}
        finally:
            self._socket.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _say_hello(self, hello: Hello) -> Served:
        if not self._socket.poll(_ms(self._timeout_s), zmq.POLLOUT):
            raise _no_daemon(self.address, self._timeout_s)
        self._put(hello.to_message())
        answer = self._answer(("accepted", "refused"))
        if answer["type"] == "refused":
            raise ServeError(f"the daemon at {self.address} refused stream {self.stream!r}: {answer.get('reason')}")
        return Served.from_message(answer)

    def _put(self, message: dict[str, Any]) -> None:
        try:
            self._socket.send(self._packer.pack(message), zmq.NOBLOCK)
        except zmq.Again:
            self._hear()
            raise ServeError(f"the daemon at {self.address} takes no frames: it has stopped or hangs") from None

    def _hear(self) -> None:
        if cast(int, self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._raise_complaint(unpack(self._socket.recv()))

    def _answer(self, kinds: tuple[str, ...]) -> dict[str, Any]:
        """The next message of one of these types. Raises ServeError for a complaint, or where none comes."""
        deadline = time.monotonic() + self._timeout_s
        while self._socket.poll(_ms(deadline - time.monotonic())):
            message = unpack(self._socket.recv())
            if message.get("type") in kinds:
                return message
            # Complaints about the last frames may come before a goodbye; one that names no frame is about the bye.
            if kinds != ("goodbye",) or message.get("seq") is None:
                self._raise_complaint(message)
        raise ServeError(f"the daemon at {self.address} gave no answer within {self._timeout_s} s")

    def _raise_complaint(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "stopping":
            raise ServeError(f"the daemon at {self.address} is stopping")
        if kind == "error":
            raise ServeError(
                f"the daemon at {self.address} refused stream {message.get('stream')!r}, seq {message.get('seq')}: "
                f"{message.get('reason')} ({message.get('repeated', 0)} more like this before)"
            )

    def _bytes(self, values: ArrayLike, shape: tuple[int, ...], what: str, seq: int) -> bytes:
        # Bytes carry no shape: a transposed array would arrive as another animal.
        array = np.asarray(values, dtype=FLOAT32)
        if array.shape != shape:
            raise FrameError(f"stream {self.stream!r}, seq {seq}: {what} must have shape {shape}, got {array.shape}")
        return array.tobytes()


class Subscriber:
    """Predictions of some streams, or of all.

    address: the daemon's predictions address. streams: names; none = all. timeout_s: how long iterating waits for the
    next message; None = for ever. Returns once the daemon has confirmed the subscription, so that nothing published
    after that is lost; raises ServeError where it does not within connect_timeout_s. served says what the
    predictions mean.
    """

    def __init__(
        self,
        address: str,
        streams: str | Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        connect_timeout_s: float = 5.0,
    ) -> None:
        self.address, self.timeout_s = address, timeout_s
        self.streams = frozenset([streams] if isinstance(streams, str) else streams)
        self._waiting: deque[PredictionMessage | StreamEvent] = deque()
        self._socket = _connect(zmq.SUB, address)
        try:
            self.served = self._subscribe(connect_timeout_s)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout_s: float | None = None) -> PredictionMessage | StreamEvent | None:
        """The next message; None where none comes within timeout_s (None = wait for ever)."""
        if self._waiting:
            return self._waiting.popleft()
        return self._receive(timeout_s)

    def __iter__(self) -> Iterator[PredictionMessage]:
        """Predictions as they come.

        Ends where the daemon stops, all named streams have closed, or nothing comes for timeout_s.
        """
        running = set(self.streams)
        while (message := self.receive(self.timeout_s)) is not None:
            if isinstance(message, PredictionMessage):
                yield message
                continue
            if message.type == "closed" and message.fields.get("reason") != "reopened":
                running.discard(message.stream)
            if message.type == "stopping" or (self.streams and not running):
                return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _subscribe(self, timeout_s: float) -> Served:
        missing = set(self.streams) or {""}
        for topic in missing:
            self._socket.subscribe(topic)
        deadline = time.monotonic() + timeout_s
        while message := self._receive(deadline - time.monotonic()):
            if isinstance(message, StreamEvent) and message.type == "subscribed":
                missing.discard(message.stream)
                if not missing:
                    return Served.from_message(message.fields)
            else:
                self._waiting.append(message)
        raise _no_daemon(self.address, timeout_s)

    def _receive(self, timeout_s: float | None) -> PredictionMessage | StreamEvent | None:
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(None if timeout_s is None else _ms(deadline - time.monotonic())):
            topic, data = self._socket.recv_multipart()
            # ZeroMQ matches topics by prefix: "cage1" would hear "cage10" as well.
            if not self.streams or topic.decode() in self.streams:
                return parse_published(unpack(data))
        return None


def ask_status(address: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
    """A daemon's counters and latencies (docs/wire.md, `status`). Raises ServeError where nobody answers."""
    with _connect(zmq.DEALER, address) as socket:
        if socket.poll(_ms(timeout_s), zmq.POLLOUT):
            socket.send(msgpack.packb({"v": VERSION, "type": "status"}), zmq.NOBLOCK)
            if socket.poll(_ms(timeout_s)):
                return unpack(socket.recv())
    raise _no_daemon(address, timeout_s)


def _connect(kind: int, address: str) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = QUEUE_MESSAGES
    if kind == zmq.DEALER:
        socket.setsockopt(zmq.IMMEDIATE, 1)  # what is sent while the daemon is away is refused, not kept
    try:
        socket.connect(address)
    except zmq.ZMQError as error:
        socket.close()
        raise ServeError(f"address {address!r}: expected tcp://HOST:PORT or ipc://PATH: {error}") from None
    return socket


def _no_daemon(address: str, timeout_s: float) -> ServeError:
    return ServeError(f"no daemon at {address} within {timeout_s} s: start `rtseg serve BUNDLE` first")


def _ms(seconds: float) -> int:
    return max(0, math.ceil(seconds * 1000))
