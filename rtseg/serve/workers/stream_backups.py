"""What a front keeps of every stream so that another worker can go on with it: its last state, and the frames since.

Why nothing is lost: a frame is kept before it is handed to a worker, until a state comes that covers it; and a state
comes over the same socket as the answers that it covers, after them.

Why nothing is doubled: every answer has a number that only grows, and the front lets each number pass once. A worker
that takes another one's place steps the same frames from the same state, so it gives the same answers the same numbers.
(The exception is frames that the worker before had left out because too many waited: docs/serving.md, Workers.)

Bounded: of a stream as many frames as come between two states while nothing is wrong, and `backlog_frames` besides.
Knows no socket and reads no clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from rtseg.config import ServeSettings
from rtseg.serve.streams.stream_records import CONTESTED_EVERY_NS
from rtseg.serve.timing.periodic import Periodic
from rtseg.serve.workers.worker_protocol import HeldFrame, RestoreStream, StreamState
from rtseg.wire.messages import unpack

FRAME_HEADER_BYTES = 512
"""More than everything else in a frame's message takes."""


class StreamBackup:
    """One open stream.

    owner: routing id of the client that has it. state: the last one that its worker sent. max_frames: how many frames
    are kept at most; max_frame_bytes: how large a message one of its frames may be. contested: when the owner is told
    again that another client asks for the stream; the outlet's.
    """

    def __init__(self, state: StreamState, settings: ServeSettings) -> None:
        # States come every `worker_snapshot_s`, twice as late under load, and not at all from a worker that hangs.
        held_s = 2 * settings.worker_snapshot_s + settings.worker_silence_s
        self.max_frames = settings.backlog_frames + math.ceil(held_s * state.fps)
        self.owner, self.state = state.owner, replace(state, waiting=())
        self._frames: deque[HeldFrame] = deque(state.waiting)
        skeleton = unpack(state.hello)["skeleton"]
        n_points = len(skeleton["animals"]) * len(skeleton["keypoints"])
        self.max_frame_bytes = 12 * n_points + len(state.stream.encode()) + FRAME_HEADER_BYTES
        self.contested = Periodic(CONTESTED_EVERY_NS)

    @property
    def n_frames(self) -> int:
        """How many frames are kept, which its last state does not cover."""
        return len(self._frames)

    def keep_frame(self, seq: int, t_recv_ns: int, data: bytes) -> bool:
        """Keep a frame before it is handed on; whether the oldest one was left out for it."""
        self._frames.append((seq, t_recv_ns, data))
        if len(self._frames) <= self.max_frames:
            return False
        self._frames.popleft()
        return True

    def update_state(self, state: StreamState) -> None:
        """A newer state, maybe of another owner; the frames that it covers need not be kept."""
        self.owner, self.state = state.owner, state
        # By when they came and not by their seq, which is the source's: one that was refused may have any. Frames keep
        # the order in which they came, for the worker must take them in that order.
        while self._frames and self._frames[0][1] <= state.handled_ns:
            self._frames.popleft()

    def restore_message(self, published: int) -> RestoreStream:
        """For the worker that goes on with it. published: number of its newest answer that went out."""
        return RestoreStream(self.state, list(self._frames), published)


class StreamBackups:
    """Of all streams of a front."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._streams: dict[str, StreamBackup] = {}
        self._published: dict[bytes, int] = {}  # topic -> number of the newest answer that went out

    def find(self, name: str, owner: bytes | None = None) -> StreamBackup | None:
        """The backup of the stream of this name, and of this owner where one is named."""
        backup = self._streams.get(name)
        return backup if backup is not None and owner in (None, backup.owner) else None

    def stream_names(self) -> list[str]:
        """Of all that are open."""
        return list(self._streams)

    @property
    def declared_fps(self) -> float:
        """Frames per second of all streams together, as declared in their hellos."""
        return sum(backup.state.fps for backup in self._streams.values())

    def record_state(self, state: StreamState) -> None:
        """A worker has opened a stream, or sends a newer state of one."""
        backup = self._streams.get(state.stream)
        # A name that was closed and opened again while its worker was replaced is another stream: the frames of the
        # one before are nothing to it.
        if backup is None or backup.state.opened_ns != state.opened_ns:
            self._streams[state.stream] = StreamBackup(state, self._settings)
        else:
            backup.update_state(state)

    def forget_stream(self, name: str) -> None:
        """A worker has closed a stream."""
        self._streams.pop(name, None)
        self._published.pop(name.encode(), None)

    def restore_messages(self) -> Iterator[RestoreStream]:
        """For each stream what the worker that goes on with it must be told."""
        for name, backup in self._streams.items():
            yield backup.restore_message(self._published.get(name.encode(), 0))

    def admit_answer(self, topic: bytes, number: int) -> bool:
        """Whether an answer has not gone out yet; the caller sends it then.

        Numbers begin at the time at which a stream was opened, so they also grow from one opening of a name to the
        next, and a late answer of the last opening cannot hold back the first ones of this.
        """
        if number <= self._published.get(topic, 0):
            return False
        # The last answers of a closed stream pass, and are not remembered: no other worker gives them again.
        if topic.decode(errors="replace") in self._streams:
            self._published[topic] = number
        return True
