"""Which sequence number a source's frame gets: the source's own count, or what the times between frames say.

A gap must reach the daemon as one, whatever the source says about its frames: the gap rule goes by numbers alone. Pure
bookkeeping; knows no source, and reads no clock.
"""

from __future__ import annotations

from typing import NamedTuple

LOST_FROM = 1.75
"""Frame intervals between two frames from which the ones between count as lost: a late frame (a busy machine, a timer
that ticks every 15.6 ms at 30 frames per second) stays below, and a camera that left one out is at two."""
BACK_S = 1.0
"""A source whose time runs back by more has begun again; by less, its clock was corrected."""


class Numbered(NamedTuple):
    """seq: of this frame. begins: whether the source has begun again, so that nothing before belongs to it."""

    seq: int
    begins: bool = False


class FrameNumbers:
    """Sequence numbers of one source's frames.

    fps: of the camera. skipped: frames that the source did not bring, by its numbers or its times.
    """

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._seq = -1
        self._t_ns: int | None = None
        self._unusable = 0  # counted since the last frame, whose times nobody knows
        self.skipped = 0

    def number_frame(self, number: int | None, t_ns: int | None) -> Numbered:
        """The number of the next frame.

        number: the source's own, None where it counts none. t_ns: when the source says that it was, on its own clock;
        None where it does not. Without a number the next one is given; where the time since the last frame says that
        frames were lost, those are counted. Numbers that come twice or late stay as they are: the daemon leaves such
        frames out, counts them, and complains where a source counts anew.
        """
        if number is not None:
            self.skipped += max(0, number - self._seq - 1) if self._seq >= 0 else 0
            self._seq, self._t_ns, self._unusable = max(number, self._seq), t_ns, 0
            return Numbered(number)
        step, begins = 1, False
        if t_ns is not None and self._t_ns is not None:
            intervals = (t_ns - self._t_ns) * 1e-9 * self._fps
            begins = intervals < -BACK_S * self._fps
            # Messages that could not be used lie within that time.
            step = (round(intervals) if intervals >= LOST_FROM else 1) - self._unusable
        if begins:
            self.begin()
            step = 1
        self._seq += step
        self._t_ns, self._unusable = t_ns, 0
        self.skipped += max(0, step - 1)
        return Numbered(self._seq, begins)

    def skip_frame(self) -> None:
        """A frame came that cannot be used: the next one is not its successor."""
        self._seq += 1
        self._unusable += 1

    def begin(self) -> None:
        """Count from 0: the source has begun again."""
        self._seq, self._t_ns, self._unusable = -1, None, 0
