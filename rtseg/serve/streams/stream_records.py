"""What each part of the daemon knows of one stream: a record for each of them, which it alone writes.

Everybody may read them: a status, a heartbeat and a worker's backup are made from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rtseg.serve.timing.periodic import Periodic

OVERLOAD_EVERY_NS = 1_000_000_000
"""A stream that loses frames is told so this often."""
CONTESTED_EVERY_NS = 100_000_000
"""The owner of a stream that others ask for is told so this often."""


RENUMBERED_EVERY_NS = 1_000_000_000
"""And one whose numbers began again, this often."""
RUN_FROM_START, RUN_IN_ANY_ORDER = 3, 10
"""So many old frames in a row are no late ones: numbers that rise again, far behind; and any others."""


@dataclass(slots=True, eq=False)
class OldFrames:
    """Frames whose numbers are not new, one after another with no new one between them.

    newest: the highest number when the run began. last: the number of its last frame. rising: how many of the last ones
    followed each other number by number; count: how many there are. told: when its sender is told again.
    """

    newest: int = -1
    last: int = -1
    rising: int = 0
    count: int = 0
    told: Periodic = field(default_factory=lambda: Periodic(RENUMBERED_EVERY_NS))

    def add(self, seq: int, newest: int, second_frames: float) -> bool:
        """Take in an old frame; whether its source counts anew, since a network or a tracker that is late does not.

        newest: the highest number that came. second_frames: how many frames the source sends in a second; what is
        further behind is not late.
        """
        if newest != self.newest:
            self.newest, self.last, self.rising, self.count = newest, -1, 0, 0
        self.rising = self.rising + 1 if seq == self.last + 1 and self.count else 1
        self.last, self.count = seq, self.count + 1
        return self.count >= RUN_IN_ANY_ORDER or (self.rising >= RUN_FROM_START and newest - seq >= second_frames)


@dataclass(slots=True, eq=False)
class QueueRecord:
    """The frame queue's.

    last_ns: when the last frame came, on the monotonic clock. newest_seq: the highest that came, -1 before the first.
    waiting: frames in the queue; dropping: how many of them, the oldest ones, will not be stepped; dropped: how many
    never were. overload: when that is said again. old: the run of frames with numbers that are not new. told_clipped:
    whether it was said that confidences are above 1.
    """

    last_ns: int
    newest_seq: int = -1
    waiting: int = 0
    dropping: int = 0
    dropped: int = 0
    overload: Periodic = field(default_factory=lambda: Periodic(OVERLOAD_EVERY_NS))
    old: OldFrames = field(default_factory=OldFrames)
    told_clipped: bool = False


@dataclass(slots=True, eq=False)
class SilenceRecord:
    """The silence watch's. is_watched: whether a next frame is expected. is_stale: whether it is overdue."""

    is_watched: bool = False
    is_stale: bool = False


@dataclass(slots=True, eq=False)
class SizeRecord:
    """The size watch's. out_of_range: answers that were, at the last look. is_out: whether that was told."""

    out_of_range: int = 0
    is_out: bool = False


@dataclass(slots=True, eq=False)
class OutletRecord:
    """The outlet's.

    answers: number of the last prediction, published or not. It begins at the time at which the stream was opened, in
    ns, so that it lies above every number that went out under this name before. superseded: predictions that were not
    published because a newer frame waited. contested: when the owner is told again that another connection asks for
    its stream. frozen: Quality.FROZEN where the last frame that came was flagged so, otherwise 0.
    """

    answers: int
    superseded: int = 0
    frozen: int = 0
    contested: Periodic = field(default_factory=lambda: Periodic(CONTESTED_EVERY_NS))
