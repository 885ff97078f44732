"""Triggers as numbers: their settings in frames, points and places of tables.

No kernel: `rule` steps what is made here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from rtseg.config import QUALITY_FLAGS, TriggerSettings


class TriggerNumbers(NamedTuple):
    """Whole numbers of a trigger; a row of int64 in this order.

    flags: which quality flags are forbidden. max_missing: points. block: of arms, in events or, where blocks_in_time is
    1, in frames; 0 = none. is_yoked: whether the rows yoked_from to yoked_to of the recorded events say when its events
    begin.
    """

    min_frames: int
    refractory_frames: int
    pulse_frames: int
    max_on_frames: int
    max_events: int
    duty_frames: int
    window_frames: int
    flags: int
    max_missing: int
    needs_all: int
    uses_probability: int
    n_arms: int
    block: int
    blocks_in_time: int
    is_yoked: int
    yoked_from: int
    yoked_to: int


def trigger_numbers(t: TriggerSettings, fps: float, points: int, yoked_from: int = 0) -> TriggerNumbers:
    """A trigger's settings in frames of the model's rate. points: of a frame, of all animals together."""

    def frames(seconds: float) -> int:
        return round(seconds * fps)

    window = max(frames(t.window_s), 1)
    in_time = t.arms.assign == "time_blocks"
    blocks = {"blocks": t.arms.block_events, "time_blocks": max(frames(t.arms.block_s), 1)}
    return TriggerNumbers(
        # At least one frame each: a duration shorter than a frame is not "never".
        min_frames=max(frames(t.min_duration_s), 1),
        refractory_frames=frames(t.refractory_s),
        pulse_frames=max(frames(t.pulse_s), 1) if t.pulse_s else 0,
        max_on_frames=max(frames(t.max_on_s), 1),
        max_events=t.max_events,
        duty_frames=int(t.max_duty * window),
        window_frames=window,
        flags=sum(1 << QUALITY_FLAGS.index(flag) for flag in t.never_on),
        # A share that is just a number of points must not lose one of them to rounding.
        max_missing=math.floor(t.max_missing * points + 1e-6),
        needs_all=t.combine == "all",
        uses_probability=t.source == "probability",
        n_arms=len(t.arms.shares),
        block=blocks.get(t.arms.assign, 0),
        blocks_in_time=in_time,
        is_yoked=t.arms.is_yoked,
        yoked_from=yoked_from,
        yoked_to=yoked_from + len(t.arms.yoked_events),
    )
