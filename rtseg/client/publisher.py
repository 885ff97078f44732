"""Send frames to a daemon from a camera loop.

    with Publisher("tcp://127.0.0.1:5757", "cage1", skeleton, fps=30) as publisher:
        publisher.send(keypoints)

Needs numpy, msgpack and pyzmq only: no model and no compiler. Not safe to share between threads.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, cast

import msgpack
import numpy as np
import zmq
from numpy.typing import ArrayLike

from rtseg.client.connection import (
    Key,
    connect,
    key_of,
    milliseconds,
    no_daemon,
    reachable,
)
from rtseg.client.reconnect import Reconnection
from rtseg.errors import FrameError, RefusedError, ServeError
from rtseg.frames.pose_arrays import split_pose
from rtseg.frames.skeleton import Skeleton
from rtseg.wire.messages import (
    FLOAT32,
    VERSION,
    Hello,
    Served,
    frame_message,
    unpack,
)

LOG = logging.getLogger("rtseg.client")


class Publisher:
    """One stream of frames to a daemon.

    address: the daemon's frames address. stream: a name of your choice. skeleton: animals and keypoints in the order of
    your arrays; the daemon picks the model's from them by name. fps: camera frames per second, the model's. clock: what
    your t_source_ns count. arena: box x0, y0, x1, y1 in px. names: your animal or keypoint names -> the model's, where
    they differ. key: your key file, where the daemon asks for one (`rtseg keys`). Says hello at once; raises ServeError
    where nobody answers within timeout_s, or with the daemon's reason for a refusal.

    policy: what is published where frames wait: `all` answers, or the `newest` one and those with an event, for closed
    loops. resample: take the camera's rate though the model has another one (docs/serving.md); delay_s then says by how
    much answers come later for it, at most. px_per_mm: how many of your px are a mm; where the model's training says it
    too, yours are brought to training's, and scale says how many of yours stand for one there (None: they are as
    training's).

    A daemon that stops or dies is waited for, which the log says (`rtseg.client`): for ever, or for reconnect_s, then
    sending raises (0 = at once). Frames are kept meanwhile, and a daemon that comes back gets those of the last
    keep_frames that it has not seen; one that resumes the stream (`rtseg serve --resume`) goes on where it was. resume:
    go on with a stream of this name that another process left behind; resumed: its last frame that the daemon knows,
    None where it is new.
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
        key: Key = None,
        reconnect_s: float | None = None,
        keep_frames: int = 512,
        resume: bool = False,
        policy: str = "all",
        resample: bool = False,
        px_per_mm: float | None = None,
    ) -> None:
        hello = Hello(stream, skeleton, fps, clock, arena, dict(names or {}), resume, policy, resample, px_per_mm)
        self.address, self.stream = address, stream
        self._shape, self._points_shape, self._timeout_s = skeleton.shape, (*skeleton.shape, 2), timeout_s
        # After a loss the stream always wants to go on where it was.
        self._hello_again, self._hello_afresh = replace(hello, resume=True), replace(hello, resume=False)
        self._reconnection = Reconnection(math.inf if reconnect_s is None else reconnect_s, keep_frames)
        self.resumed: int | None = None
        self.delay_s = 0.0
        self.scale: float | None = None
        self._last_seq_known: int | None = None
        self._packer = msgpack.Packer()
        self._key = key_of(key)
        self._socket = connect(zmq.DEALER, address, self._key)
        try:
            self.served = self._say_hello(hello)
        except BaseException:
            self._socket.close(linger=0)
            raise
        self._next_seq = 0 if self.resumed is None else self.resumed + 1

    @property
    def reconnects(self) -> int:
        """How often the stream came back to a daemon that was lost."""
        return self._reconnection.count

    @property
    def is_away(self) -> bool:
        """Whether the daemon is away: frames are kept for it."""
        return self._reconnection.is_away

    @property
    def frames_lost(self) -> int:
        """How many frames no daemon has got: more than keep_frames came while none was there."""
        return self._reconnection.dropped

    def send(
        self,
        keypoints: ArrayLike,
        confidence: ArrayLike | None = None,
        *,
        seq: int | None = None,
        t_source_ns: int | None = None,
    ) -> int:
        """Send one frame and return its sequence number; never waits.

        keypoints: (A, K, 2) px, NaN = missing. confidence: (A, K) in [0, 1], or None. Or both in one array (A, K, 3),
        as DeepLabCut-Live gives them; of one animal also (K, 2) and (K, 3). seq: +1 per camera frame, frames that the
        camera dropped included; counted here where None. t_source_ns: now, on the monotonic clock, where None.

        Raises FrameError for another shape; ServeError where the daemon has been away for reconnect_s, if that is set,
        or has refused an earlier frame (this one is on its way then, and sending may go on).
        """
        number = self._next_seq if seq is None else int(seq)
        if getattr(keypoints, "shape", None) != self._points_shape:
            keypoints, confidence = split_pose(keypoints, confidence, self._shape)
        points = self._array_bytes(keypoints, self._points_shape, "keypoints", number)
        scores = None if confidence is None else self._array_bytes(confidence, self._shape, "confidence", number)
        t_ns = time.monotonic_ns() if t_source_ns is None else int(t_source_ns)
        data = self._packer.pack(frame_message(self.stream, number, t_ns, points, scores))
        self._next_seq = number + 1
        # Before it is sent: a daemon that takes it may die before it is stepped.
        self._reconnection.keep_frame(number, data)
        # While the daemon is lost a frame is only kept; `_reconnect` sends it once the daemon knows the stream again.
        if not self._reconnection.lost:
            self._send(data, number)
            self._read_complaint(number)
        if self._reconnection.lost:
            self._reconnect()
        return number

    def beat(self) -> None:
        """Tell the daemon that this end is alive without a frame, so that the stream is not idle. Raises as `send`."""
        if not self._reconnection.lost:
            beat = {"v": VERSION, "type": "beat", "stream": self.stream, "t_source_ns": time.monotonic_ns()}
            self._send(self._packer.pack(beat), self._next_seq)
            self._read_complaint(self._next_seq)
        if self._reconnection.lost:
            self._reconnect()

    def restart(self) -> None:
        """Begin the stream afresh with frame 0: for a new trial, or a camera that counts anew.

        Waits for the daemon's answer. Raises ServeError as making a Publisher does.
        """
        self._reconnection.forget()
        while self._socket.poll(0):  # what was complained about is over
            self._socket.recv()
        self.served = self._say_hello(self._hello_afresh)
        self._next_seq = 0

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until the daemon is known to have taken the newest frame; returns whether it has.

        A daemon that was lost meanwhile is waited for, and gets what it has not seen. Raises as `send` does.
        """
        newest, deadline = self._next_seq - 1, time.monotonic() + timeout_s
        # There is no acknowledgement on the wire; the answer to another hello names the last frame that arrived.
        self._last_seq_known = None
        while (left_s := deadline - time.monotonic()) > 0:
            self._reconnection.probe(time.monotonic(), newest)
            self._reconnect()
            if not self._reconnection.lost and self._last_seq_known is not None and self._last_seq_known >= newest:
                return True
            self._socket.poll(milliseconds(min(left_s, 0.01)))
        return False

    def close(self) -> dict[str, int]:
        """End the stream, wait for the daemon's goodbye and return its counters of the stream.

        {} where the daemon or the stream is gone.
        """
        if self._socket.closed:
            return {}
        try:
            self._send_message({"v": VERSION, "type": "bye", "stream": self.stream})
            return dict(self._receive_answer(("goodbye",))["counters"])
        except ServeError:
            return {}
        finally:
            self._socket.close(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _say_hello(self, hello: Hello) -> Served:
        """Open the stream. Raises ServeError where nobody answers, or with the reason of a refusal."""
        # The socket can be written to only once the daemon is connected (IMMEDIATE, see `connect`).
        if not self._socket.poll(milliseconds(self._timeout_s), zmq.POLLOUT):
            raise no_daemon(self.address, self._timeout_s, self._key)
        self._send_message(hello.to_message())
        answer = self._receive_answer(("accepted", "refused"))
        if answer["type"] == "refused":
            raise ServeError(f"the daemon at {self.address} refused stream {self.stream!r}: {answer.get('reason')}")
        self.resumed = answer.get("resumed")
        self.delay_s = float((answer.get("resampled") or {}).get("delay_s", 0.0))
        self.scale = answer.get("scale")
        return reachable(Served.from_message(answer), self.address)

    def _send_message(self, message: dict[str, Any]) -> None:
        """Send a hello or a bye. Raises ServeError where the daemon takes nothing: neither is kept for it."""
        try:
            self._socket.send(self._packer.pack(message), zmq.NOBLOCK)
        except zmq.Again:
            self._read_complaint()
            raise self._takes_nothing() from None

    def _send(self, data: bytes, seq: int) -> None:
        """Send packed bytes without waiting. seq: of the frame, or of the next one where it is none.

        Where the daemon takes nothing it is lost; raises ServeError where it is not waited for.
        """
        try:
            self._socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            self._read_complaint(seq)
            # Only after a complaint was read, which would say why nothing is taken.
            if not self._mark_lost(seq):
                raise self._takes_nothing() from None

    def _takes_nothing(self) -> ServeError:
        return ServeError(f"the daemon at {self.address} takes no frames: it has stopped or hangs")

    def _mark_lost(self, seq: int) -> bool:
        """The daemon is away, or does not know the stream, from frame `seq` on; False where it is not waited for."""
        reconnection, was_away = self._reconnection, self._reconnection.is_away
        if not reconnection.mark_lost(time.monotonic(), seq):
            return False
        if not was_away:
            LOG.warning(
                "stream %r: the daemon at %s is away from frame %d on; frames are kept until it is back",
                *(self.stream, self.address, seq),
            )
        return True

    def _read_complaint(self, seq: int | None = None) -> None:
        """Read a message from the daemon, if there is one, and raise it unless it is a loss. seq: of the last frame."""
        # The socket's own flag, since poll() takes twice as long, at every frame.
        # One message a frame is enough: the daemon complains once a second at most of each kind.
        if cast(int, self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            message = unpack(self._socket.recv())
            # A daemon that was restarted in the meantime knows no stream of this connection; one that stops will not.
            unknown = message.get("type") == "error" and message.get("kind") == "StreamError"
            if seq is not None and (unknown or message.get("type") == "stopping"):
                first = message.get("seq")
                if self._mark_lost(first if isinstance(first, int) else seq):
                    return
            self._raise_complaint(message)

    def _reconnect(self) -> None:
        """Send another hello once a daemon is there, and the frames that it missed once it accepts. Never waits."""
        now_s, reconnection, socket = time.monotonic(), self._reconnection, self._socket
        if reconnection.patience_over(now_s):
            away = f"has been away for {reconnection.patience_s:g} s"
            raise ServeError(f"the daemon at {self.address} {away} (reconnect_s): start it again, or stop sending")
        while reconnection.hello_sent and socket.poll(0):
            message = unpack(socket.recv())
            if message.get("type") == "refused":
                raise ServeError(f"the daemon at {self.address} refused stream {self.stream!r}: {message['reason']}")
            # Sent before the daemon read this hello: it did not know the stream then.
            if message.get("type") == "error" and type(message.get("seq")) is int:
                reconnection.mark_frame_lost(message["seq"])
            if message.get("type") == "accepted":
                self.served = reachable(Served.from_message(message), self.address)
                self._last_seq_known = message.get("resumed")
                was_away, away_s = reconnection.is_away, reconnection.away_s(now_s)
                again = reconnection.accept(self._last_seq_known)
                if was_away:
                    LOG.warning(
                        "stream %r: the daemon at %s is back after %.1f s; %d frames are sent again, %d were lost",
                        *(self.stream, self.address, away_s, len(again), reconnection.dropped),
                    )
                for data in again:
                    self._send(data, self._next_seq - 1)
        if reconnection.lost and socket.poll(0, zmq.POLLOUT) and reconnection.take_hello(now_s):
            self._send_message(self._hello_again.to_message())

    def _receive_answer(self, kinds: tuple[str, ...]) -> dict[str, Any]:
        """The next message of one of these types. Raises ServeError for a complaint, or where none comes."""
        deadline = time.monotonic() + self._timeout_s
        while self._socket.poll(milliseconds(deadline - time.monotonic())):
            message = unpack(self._socket.recv())
            if message.get("type") in kinds:
                return message
            # Complaints about earlier frames may come before the answer; one that names no frame is about this.
            if message.get("seq") is None:
                self._raise_complaint(message)
        raise ServeError(f"the daemon at {self.address} gave no answer within {self._timeout_s} s")

    def _raise_complaint(self, message: dict[str, Any]) -> None:
        kind = message.get("type")
        if kind == "stopping":
            raise ServeError(f"the daemon at {self.address} is stopping")
        if kind == "error":
            raise RefusedError(
                f"the daemon at {self.address} refused stream {message.get('stream')!r}, seq {message.get('seq')}: "
                f"{message.get('reason')} ({message.get('repeated', 0)} more like this before)",
                str(message.get("kind")),
            )

    def _array_bytes(self, values: ArrayLike, shape: tuple[int, ...], what: str, seq: int) -> bytes:
        # Bytes carry no shape: a transposed array would arrive as another animal.
        array = np.asarray(values, dtype=FLOAT32)
        if array.shape != shape:
            raise FrameError(f"stream {self.stream!r}, seq {seq}: {what} must have shape {shape}, got {array.shape}")
        return array.tobytes()
