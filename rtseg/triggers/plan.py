"""Triggers as numbers: their settings in frames, and their conditions on a model's outputs.

No kernel: `rule` steps what is made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtseg.config import QUALITY_FLAGS, TriggerSettings
from rtseg.errors import SettingError
from rtseg.recordings.heads import Head, output_offsets

TRIGGER, HEAD, NEGATE = range(3)
"""Places in a condition's row."""


class TriggerNumbers(NamedTuple):
    """Whole numbers of a trigger; a row of int64 in this order. flags: which quality flags are forbidden."""

    min_frames: int
    refractory_frames: int
    pulse_frames: int
    max_on_frames: int
    max_events: int
    duty_frames: int
    window_frames: int
    flags: int
    needs_all: int
    uses_probability: int
    n_arms: int
    block_events: int


def trigger_numbers(t: TriggerSettings, fps: float) -> TriggerNumbers:
    """A trigger's settings in frames of the model's rate."""

    def frames(seconds: float) -> int:
        return round(seconds * fps)

    window = max(frames(t.window_s), 1)
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
        needs_all=t.combine == "all",
        uses_probability=t.source == "probability",
        n_arms=len(t.arms.shares),
        block_events=t.arms.block_events if t.arms.assign == "blocks" else 0,
    )


def condition_arrays(
    triggers: Mapping[str, TriggerSettings], heads: tuple[Head, ...]
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """conditions (C, 3), chosen (C, P) and outputs (2, P), see `rule.TriggerArrays`. Raises SettingError."""
    offsets, names = output_offsets(heads), [head.name for head in heads]
    conditions, chosen = [], []
    for r, (name, trigger) in enumerate(triggers.items()):
        for condition in trigger.conditions:
            if condition.head not in names:
                raise SettingError(
                    f"triggers.{name}: the model has no head {condition.head!r}; it has: {', '.join(names)}"
                )
            h = names.index(condition.head)
            classes = heads[h].classes
            unknown = sorted(set(condition.behaviours) - set(classes))
            if unknown:
                raise SettingError(
                    f"triggers.{name}: head {condition.head!r} has no behaviour {', '.join(unknown)}; "
                    f"it has: {', '.join(classes)}"
                )
            row = np.zeros(offsets[-1], np.uint8)
            row[[offsets[h] + classes.index(behaviour) for behaviour in condition.behaviours]] = 1
            conditions.append((r, h, int(condition.negate)))
            chosen.append(row)
    head_at = np.repeat(np.arange(len(heads)), np.diff(offsets))
    outputs = np.stack([head_at, np.arange(offsets[-1]) - np.array(offsets)[head_at]]).astype(np.int64)
    return np.array(conditions, np.int64), np.stack(chosen), outputs
