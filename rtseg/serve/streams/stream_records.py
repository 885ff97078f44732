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


@dataclass(slots=True, eq=False)
class QueueRecord:
    """The frame queue's.

    last_ns: when the last frame came, on the monotonic clock. newest_seq: the highest that came, -1 before the first.
    waiting: frames in the queue; dropping: how many of them, the oldest ones, will not be stepped; dropped: how many
    never were. overload: when that is said again. told_clipped: whether it was said that confidences are above 1.
    """

    last_ns: int
    newest_seq: int = -1
    waiting: int = 0
    dropping: int = 0
    dropped: int = 0
    overload: Periodic = field(default_factory=lambda: Periodic(OVERLOAD_EVERY_NS))
    told_clipped: bool = False


@dataclass(slots=True, eq=False)
class SilenceRecord:
    """The silence watch's. is_watched: whether a next frame is expected. is_stale: whether it is overdue."""

    is_watched: bool = False
    is_stale: bool = False


@dataclass(slots=True, eq=False)
class OutletRecord:
    """The outlet's.

    answers: number of the last prediction, published or not. It begins at the time at which the stream was opened, in
    ns, so that it lies above every number that went out under this name before. superseded: predictions that were not
    published because a newer frame waited. contested: when the owner is told again that another connection asks for
    its stream.
    """

    answers: int
    superseded: int = 0
    contested: Periodic = field(default_factory=lambda: Periodic(CONTESTED_EVERY_NS))
