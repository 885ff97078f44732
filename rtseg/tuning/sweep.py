"""Every setting of a trigger tried on every recording: each is answered once, and the rule stepped many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.config import TriggerSettings
from rtseg.inference.predictions import Predictions
from rtseg.recordings.recording import Recording
from rtseg.triggers.trial import TrialScore, score_trial, try_triggers

LEVELS = (*(round(0.02 * i, 2) for i in range(2, 50)), 0.99)
"""Thresholds that are tried."""
DURATIONS_S = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Minimum durations that are tried, as far as they are different numbers of frames."""


@dataclass(frozen=True, eq=False)
class Example:
    """A recording with its answers, and by trigger whether a person says that the behaviour is there
    (`triggers.trial.truth_of`).
    """

    recording: Recording
    predictions: Predictions
    truth: dict[str, NDArray[np.int8]]


@dataclass(frozen=True)
class Candidate:
    """What is chosen of a trigger: its thresholds and its minimum duration."""

    on: float
    off: float
    min_duration_s: float


def candidate_of(trigger: TriggerSettings) -> Candidate:
    """What a trigger has now."""
    return Candidate(trigger.on, trigger.off, trigger.min_duration_s)


def with_candidate(trigger: TriggerSettings, candidate: Candidate) -> TriggerSettings:
    """The trigger with other thresholds and another minimum duration."""
    return replace(trigger, on=candidate.on, off=candidate.off, min_duration_s=candidate.min_duration_s)


def candidates(trigger: TriggerSettings, fps: float) -> list[Candidate]:
    """What is tried, by minimum duration and threshold; the last one is what the trigger has now.

    `off` keeps its ratio to `on`. A trigger on decoded bouts has no thresholds. fps: the model's rate.
    """
    ratio = trigger.off / trigger.on if trigger.on else 1.0
    levels = LEVELS if trigger.source == "probability" else (trigger.on,)
    different = {max(round(seconds * fps), 1): seconds for seconds in reversed(DURATIONS_S)}
    tried = [
        Candidate(on, round(on * ratio, 4) if on != trigger.on else trigger.off, seconds)
        for seconds in sorted(different.values())
        for on in levels
    ]
    now = candidate_of(trigger)
    return [*(candidate for candidate in tried if candidate != now), now]


def sweep(
    name: str, trigger: TriggerSettings, tried: Sequence[Candidate], examples: Sequence[Example], bundle: Bundle
) -> list[list[TrialScore]]:
    """The scores of every candidate, recording by recording; all of the trigger's other settings stay."""
    changed = [with_candidate(trigger, candidate) for candidate in tried]
    return [
        [
            score_trial(try_triggers({name: one}, e.predictions, e.recording, bundle), name, e.truth[name])
            for one in changed
        ]
        for e in examples
    ]
