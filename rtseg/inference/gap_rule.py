"""The gap rule: which frames are stepped for one that came, and what a stream has seen. Bookkeeping, no numbers.

Up to `fill_frames` missing frames are stepped as frames without any point, each flagged; beyond that the stream
restarts. Duplicates and late frames are dropped. The frames after a start are flagged as warming up. Everything is
counted. A recording's frames are not looked at one by one, only its gaps (`count_stretch`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtseg.frames.frame import Frame, missing_frame
from rtseg.frames.gaps import filled_time_ns, is_filled
from rtseg.inference.predictions import Quality

# As int: an IntFlag's `|` takes a microsecond where a frame has forty.
WARMING_UP, GAP_FILLED, RESET = map(int, (Quality.WARMING_UP, Quality.GAP_FILLED, Quality.RESET))
FlaggedFrame = tuple[Frame, int]
"""A frame to step, and its flags."""


@dataclass(slots=True)
class Counters:
    """What a stream has seen. filled: frames that never came; restarts: gaps too long to fill.

    out_of_range: answered frames whose features were not like training's (`Session.drift` says which). identity_jumps:
    answered frames at which two animals seem to have been mixed up. frozen: answered frames at which a tracker has
    repeated one frame for too long. clipped: frames with a confidence above 1.
    """

    frames: int = 0
    duplicates: int = 0
    late: int = 0
    gaps: int = 0
    filled: int = 0
    restarts: int = 0
    out_of_range: int = 0
    identity_jumps: int = 0
    frozen: int = 0
    clipped: int = 0


class GapRule:
    """What is known of one stream's numbering.

    shape: (A, K) of its frames. warmup_frames: how many frames after a start lack the context that training had.
    last: seq and t_source_ns of the newest frame, None before the first. since_reset: frames stepped since the start.
    """

    def __init__(self, stream: str, shape: tuple[int, int], fill_frames: int, warmup_frames: int) -> None:
        self._stream, self._shape = stream, shape
        self._fill_frames, self._warmup_frames = fill_frames, warmup_frames
        self.counters = Counters()
        self.last: tuple[int, int] | None = None
        self.since_reset = 0

    def reset(self) -> None:
        """The next frame is a first one; what was counted stays."""
        self.last, self.since_reset = None, 0

    def takes_next(self, frame: Frame) -> bool:
        """Whether this frame follows the last one of a warm stream, as nearly all do: it is then counted, and needs no
        flag. Where not, nothing has changed, and `frames_to_step` decides.
        """
        last = self.last
        # The short way of nearly every frame: three comparisons, and no list.
        if last is None or frame.seq != last[0] + 1 or self.since_reset < self._warmup_frames:
            return False
        self.counters.frames += 1
        if frame.is_clipped:
            self.counters.clipped += 1
        self.since_reset += 1
        self.last = (frame.seq, frame.t_source_ns)
        return True

    def frames_to_step(self, frame: Frame) -> list[FlaggedFrame]:
        """The frame, after those that are missing before it; none for a duplicate or late one.

        Not yet flagged as warming up: a caller may restart the stream at the frame first (`restart`).
        """
        last = self.last
        if last is None or frame.seq == last[0] + 1:
            self.last = (frame.seq, frame.t_source_ns)
            return [(frame, 0)]
        # A late frame is not stepped: the network's state is beyond it, and its answer has been published as a filled
        # frame's or given up by a restart.
        if frame.seq <= last[0]:
            self.count_old(frame.seq, last[0])
            return []
        self.last = (frame.seq, frame.t_source_ns)
        # By numbers, not by times: a source's clock may jump, and its frame numbers tell how many did not come.
        missing = frame.seq - last[0] - 1
        if not self.bridge_gap(missing):
            # Its answers start from nothing, as those of a stream's first frame do.
            return [(frame, RESET)]
        return [*self._filled(*last, frame, missing), (frame, 0)]

    def bridge_gap(self, missing: int) -> bool:
        """Count a gap of so many frames before the newest one; whether they are filled. Else the stream restarts."""
        # One gap, however many frames it lacks.
        self.counters.gaps += 1
        if not is_filled(missing, self._fill_frames):
            self.restart()
            return False
        self.counters.filled += missing
        return True

    def count_stretch(self, came: NDArray[np.bool_], missing_before: int) -> bool:
        """Count frames (N,) that are stepped at once, of which some `came` and the others are filled; whether the
        stream restarts at the first. missing_before: how many frames lie between it and the last one that came.
        """
        is_restart = missing_before > 0 and not self.bridge_gap(missing_before)
        at = np.flatnonzero(came)
        self.counters.frames += len(at)
        gaps = np.diff(at) - 1
        for missing in gaps[gaps > 0].tolist():
            self.bridge_gap(missing)
        return is_restart

    def restart(self) -> None:
        """The stream starts again at the newest frame."""
        self.counters.restarts += 1
        self.since_reset = 0

    def flag_warm_up(self, frames: list[FlaggedFrame]) -> list[FlaggedFrame]:
        """The same frames, flagged where they come too soon after a start; they count as stepped."""
        cold = self.count_steps(len(frames))
        return [(f, flags | WARMING_UP if i < cold else flags) for i, (f, flags) in enumerate(frames)]

    def count_steps(self, n: int) -> int:
        """Count n steps; how many of them, the first ones, are still warming up."""
        # Counted, not measured in seconds: a filled frame is a step of the network like any other.
        cold = self._warmup_frames - self.since_reset
        self.since_reset += n
        return min(max(cold, 0), n)

    def count_old(self, seq: int, last_seq: int) -> None:
        """A frame came that is not newer than the last one."""
        # Apart, since they have different causes: a source that repeats itself, and a network that reorders.
        self.counters.duplicates += seq == last_seq
        self.counters.late += seq < last_seq

    def _filled(self, last_seq: int, last_t_ns: int, frame: Frame, missing: int) -> list[FlaggedFrame]:
        """A frame without points for each missing one, at evenly spaced times."""
        filled = []
        for i in range(1, missing + 1):
            t_ns = filled_time_ns(last_t_ns, frame.t_source_ns, i, missing)
            blank = missing_frame(self._shape, seq=last_seq + i, t_source_ns=t_ns, stream=self._stream)
            filled.append((blank, GAP_FILLED))
        return filled
