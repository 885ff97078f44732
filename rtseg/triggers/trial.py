"""What triggers would have done about a recording, and how good that is beside a person's labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtseg.bundle.bundle import Bundle
from rtseg.config import TriggerFile, TriggerSettings, load_settings
from rtseg.errors import SettingError
from rtseg.inference.predictions import Predictions
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.heads import Head
from rtseg.recordings.recording import IGNORE, Labels, Recording
from rtseg.triggers.events import CLOSED, TriggerEvent, events_of
from rtseg.triggers.rule import LINE, TriggerRule
from rtseg.triggers.yoked import with_yoked_events


@dataclass(frozen=True, eq=False)
class Trial:
    """A recording gone through. fps: of its frames' numbers; answer_fps: of its answers, another one where it was
    resampled. first_seq: of its first frame. seq: (T,) of the answers. line: (T, R), on. events: all, fired or
    withheld.
    """

    name: str
    fps: float
    answer_fps: float
    first_seq: int
    triggers: tuple[str, ...]
    seq: NDArray[np.int64]
    line: NDArray[np.bool_]
    events: tuple[TriggerEvent, ...]


@dataclass(frozen=True)
class TrialScore:
    """One trigger beside the labels of one or more recordings.

    bouts: of its behaviour in the labels; hits: those in which an event fired. false_starts: events that fired where
    the behaviour was not. delays_s: of each hit, from the bout's first frame to the first event in it. labelled_s and
    absent_s: how long frames were labelled, and how long the behaviour was absent. Events
    and bouts in frames without labels do not count.
    """

    bouts: int = 0
    hits: int = 0
    false_starts: int = 0
    delays_s: tuple[float, ...] = ()
    labelled_s: float = 0.0
    absent_s: float = 0.0

    def __add__(self, other: TrialScore) -> TrialScore:
        return TrialScore(
            self.bouts + other.bouts,
            self.hits + other.hits,
            self.false_starts + other.false_starts,
            self.delays_s + other.delays_s,
            self.labelled_s + other.labelled_s,
            self.absent_s + other.absent_s,
        )

    @property
    def false_starts_per_min(self) -> float:
        """By the time in which the behaviour was absent; NaN where there was none."""
        return self.false_starts / self.absent_s * 60 if self.absent_s else float("nan")


def load_triggers(path: Path | str, overrides: Sequence[str] = ()) -> Mapping[str, TriggerSettings]:
    """The triggers of a file, the yoked ones with the events of their logs. Raises SettingError, which names it."""
    return load_trigger_file(path, overrides).triggers


def load_trigger_file(path: Path | str, overrides: Sequence[str] = ()) -> TriggerFile:
    """All of a trigger file, as `load_triggers`. Raises SettingError, which names it."""
    try:
        file = load_settings(path, TriggerFile, overrides)
        return replace(file, triggers=with_yoked_events(file.triggers, Path(path).parent))
    except SettingError as error:
        # What a value must be is checked by the settings themselves, which know no file.
        text = str(error)
        raise SettingError(text if str(path) in text else f"{path}: {text}") from None


def try_triggers(
    triggers: Mapping[str, TriggerSettings], predictions: Predictions, recording: Recording, bundle: Bundle
) -> Trial:
    """What the triggers decide about a recording's answers, armed all through. They count in frames of the bundle's
    rate, to which another recording was resampled.
    """
    rule = TriggerRule(triggers, predictions.heads, bundle.fps, slots=1, points=math.prod(bundle.skeleton.shape))
    name, n = recording.name, len(predictions)
    is_resampled = not bundle.has_rate(recording.fps)
    rule.open_slot(0, name, recording.fps if is_resampled else None)
    decided = rule.step(
        np.zeros(n, np.int32),
        predictions.seq,
        predictions.probs,
        predictions.labels,
        predictions.quality,
        missing_points(predictions, triggers),
        armed=np.ones(n, np.bool_),
    )
    # As live, where the end of a stream ends its events.
    events = events_of(rule, name, predictions.seq, decided, ended=CLOSED)
    line = decided[:, :, LINE].astype(np.bool_)
    answer_fps = bundle.fps if is_resampled else recording.fps
    return Trial(name, recording.fps, answer_fps, recording.first_seq, rule.names, predictions.seq, line, tuple(events))


def missing_points(predictions: Predictions, triggers: Mapping[str, TriggerSettings]) -> NDArray[np.int32]:
    """How many points of each frame were missing (T,). Raises SettingError where it is not known and a trigger asks."""
    if predictions.missing is not None:
        return predictions.missing
    asking = [name for name, trigger in triggers.items() if trigger.max_missing < 1]
    if asking:
        raise SettingError(f"triggers.{asking[0]}: max_missing needs the frames; published answers have flags only")
    return np.zeros(len(predictions), np.int32)


def truth_of(trigger: TriggerSettings, heads: Sequence[Head], labels: Mapping[str, Labels], n: int) -> NDArray[np.int8]:
    """Whether the watched behaviour is there by a person's labels (T,): 1, 0, or IGNORE where that is not known."""
    combined: NDArray[np.int8] | None = None
    for condition in trigger.conditions:
        if condition.head not in labels:
            return np.full(n, IGNORE, np.int8)
        classes = next(head.classes for head in heads if head.name == condition.head)
        frames = labels[condition.head].frames
        here = np.isin(frames, [classes.index(b) for b in condition.behaviours]) != condition.negate
        known = np.where(frames == IGNORE, IGNORE, here).astype(np.int8)
        if combined is None:
            combined = known
            continue
        # One true of `any`, or one false of `all`, settles it though the other is not known.
        settles = 1 if trigger.combine == "any" else 0
        settled = (combined == settles) | (known == settles)
        unknown = (combined == IGNORE) | (known == IGNORE)
        combined = np.where(settled, settles, np.where(unknown, IGNORE, 1 - settles)).astype(np.int8)
    assert combined is not None
    return combined


def score_trial(trial: Trial, trigger: str, truth: NDArray[np.int8]) -> TrialScore:
    """One trigger of a trial beside the truth (T,) of all frames of the recording (`truth_of`)."""
    starts = np.array([e.seq for e in trial.events if e.trigger == trigger and e.fired], np.int64) - trial.first_seq
    starts = starts[starts < len(truth)]
    bouts = [bout for bout in bouts_of(truth) if bout.label == 1]
    inside = [starts[(starts >= bout.start) & (starts < bout.stop)] for bout in bouts]
    return TrialScore(
        bouts=len(bouts),
        hits=sum(len(found) > 0 for found in inside),
        false_starts=int(np.count_nonzero(truth[starts] == 0)),
        delays_s=tuple(
            float(found[0] - bout.start) / trial.fps for bout, found in zip(bouts, inside, strict=True) if len(found)
        ),
        labelled_s=float(np.count_nonzero(truth != IGNORE)) / trial.fps,
        absent_s=float(np.count_nonzero(truth == 0)) / trial.fps,
    )
