"""Brings the frames of a source that is no publisher itself (OSC, LSL, a growing file, ...) to a daemon.

One thread: waits for the source, sends what came, and goes on whatever either end does. Predictions are not its
business: whoever wants them subscribes.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rtseg.client import Publisher
from rtseg.errors import FrameError, RefusedError, ServeError, clip_reason
from rtseg.frames.skeleton import Skeleton
from rtseg.sources.numbering import FrameNumbers
from rtseg.sources.points import Pose
from rtseg.sources.senders import OtherSenderError

LOG = logging.getLogger("rtseg.sources")
WAIT_S = 0.25
"""How long a wait for the source lasts before the end is looked for."""
TOLD_EVERY_S = 10.0
"""A problem that goes on is told again after so long, with a count."""


class SourceFrame(NamedTuple):
    """One frame of a source. number: its own count; t_ns: when it says that the frame was, on its clock.

    begins: whether the source has begun again with it.
    """

    pose: Pose
    number: int | None = None
    t_ns: int | None = None
    begins: bool = False


class Source(Protocol):
    """Where frames come from. clock: what its times count, for the stream's hello."""

    clock: str

    @property
    def skeleton(self) -> Skeleton:
        """Animals and keypoints of its poses, in their order."""

    def receive(self, timeout_s: float) -> SourceFrame | None:
        """The next frame, None where none comes within the time.

        Raises FrameError for a message that cannot be used, after which the next one can be; any other RtsegError ends
        the source.
        """

    def close(self) -> None:
        """Give back what it holds."""


@dataclass
class BridgeCounts:
    """frames: sent. unusable: messages of the source that were left out. others: those of a second program that sends
    to the same address. refused: complaints of the daemon.

    skipped: frames that the source did not bring, by its numbers or times. restarts: how often the source began again.
    reconnects, lost: of the publisher, how often its daemon came back and how many frames no daemon has got.
    """

    frames: int = 0
    unusable: int = 0
    others: int = 0
    refused: int = 0
    skipped: int = 0
    restarts: int = 0
    reconnects: int = 0
    lost: int = 0

    def summary(self) -> str:
        """One line: how many frames were sent, and whatever else is not 0."""
        others = (
            (self.unusable, "message{s} that could not be used"),
            (self.others, "message{s} of a second program left out"),
            (self.refused, "refused by the daemon"),
            (self.skipped, "frame{s} that the source skipped"),
            (self.restarts, "time{s} begun again"),
            (self.reconnects, "time{s} the daemon came back"),
            (self.lost, "frame{s} lost while it was away"),
        )
        counted = [(self.frames, "frame{s} sent"), *(other for other in others if other[0])]
        return ", ".join(f"{n} {what.format(s='' if n == 1 else 's')}" for n, what in counted)


class Bridge:
    """A source and the publisher that it feeds."""

    def __init__(self, source: Source, publisher: Publisher, fps: float) -> None:
        self._source, self._publisher = source, publisher
        self._numbers = FrameNumbers(fps)
        self._frames = self._unusable = self._others = self._refused = self._restarts = 0
        self._told: dict[str, tuple[float, int]] = {}  # kind of problem -> when told, how many since
        self._stopping = False

    def stop(self) -> None:
        """End `run` soon; from a signal handler as well."""
        self._stopping = True

    @property
    def counts(self) -> BridgeCounts:
        """What has happened so far."""
        publisher = self._publisher
        return BridgeCounts(
            self._frames, self._unusable, self._others, self._refused, self._numbers.skipped, self._restarts,
            publisher.reconnects, publisher.frames_lost,
        )  # fmt: skip

    def run(self, silence_s: float | None = None) -> BridgeCounts:
        """Send frames until `stop`, or until the source is silent for silence_s.

        Raises what ends the source. A message that cannot be used, a daemon that is away and frames that it refuses are
        counted and logged.
        """
        heard_s = time.monotonic()
        while not self._stopping:
            if self.step(WAIT_S if silence_s is None else min(WAIT_S, silence_s)):
                heard_s = time.monotonic()
            elif silence_s is not None and time.monotonic() - heard_s >= silence_s:
                break
        return self.counts

    def step(self, timeout_s: float) -> bool:
        """Send the source's next frame; False where none came, or one that cannot be used."""
        try:
            frame = self._source.receive(timeout_s)
        except OtherSenderError as error:  # no frame of this stream, so the next one is the successor of the last
            self._others += 1
            self._tell("a second program sends", error)
            return False
        except FrameError as error:
            self._unusable += 1
            self._numbers.skip_frame()
            self._tell("a message cannot be used and is left out", error)
            return False
        if frame is None:
            return False
        seq, begins = self._numbers.number_frame(frame.number, frame.t_ns)
        if (begins or frame.begins) and self._frames:
            self._begin_again("the source has begun again")
            seq, _ = self._numbers.number_frame(frame.number, frame.t_ns)
        self._send(frame, seq)
        return True

    def _send(self, frame: SourceFrame, seq: int) -> None:
        self._frames += 1
        confidence = frame.pose[..., 2] if frame.pose.shape[-1] == 3 else None
        try:
            self._publisher.send(frame.pose[..., :2], confidence, seq=seq, t_source_ns=frame.t_ns)
        except RefusedError as error:
            self._refused += 1
            self._tell("the daemon refuses", error)
            if error.kind == "SequenceError":
                self._begin_again("the source counts from an earlier number")
        except ServeError as error:
            self._refused += 1
            self._tell("the daemon refuses", error)

    def _begin_again(self, why: str) -> None:
        """What came before does not belong to what comes: the stream starts afresh."""
        self._restarts += 1
        self._numbers.begin()
        LOG.warning("stream %r: %s: the stream starts afresh", self._publisher.stream, why)
        try:
            self._publisher.restart()
        except ServeError as error:
            # It stays lost until the daemon is back, and is then opened afresh with what comes.
            self._refused += 1
            self._tell("the stream could not be opened again", error)

    def _tell(self, kind: str, error: Exception) -> None:
        """Log a problem at once, and again every TOLD_EVERY_S while it goes on."""
        now_s = time.monotonic()
        told_s, since = self._told.get(kind, (-TOLD_EVERY_S, 0))
        if now_s - told_s < TOLD_EVERY_S:
            self._told[kind] = (told_s, since + 1)
            return
        more = f" ({since} more since it was last told)" if since else ""
        LOG.warning("stream %r: %s: %s%s", self._publisher.stream, kind, clip_reason(error), more)
        self._told[kind] = (now_s, 0)
