"""Which thresholds a goal takes, and what they are worth on recordings that had no part in the choice.

Cross-fitted by video: for every video the choice is made on the others and scored on that one; all of these scores
together are what a new recording may expect. The setting that is written is chosen on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import inf
from operator import add

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import SettingError
from rtseg.evaluation.bootstrap import draw_videos, interval, interval_notes
from rtseg.triggers.trial import TrialScore
from rtseg.tuning.sweep import Candidate

BOUTS, HITS, PROMPT, FALSE_STARTS, ABSENT_MIN = range(5)
"""Places in counts (..., 5). PROMPT: hits within the goal's delay."""
RESAMPLES = 1000
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Goal:
    """Either as many hits as false_starts_per_min allows, or as few false starts as delay_s allows: half of all bouts
    have an event within it, where a bout without an event never has one.
    """

    false_starts_per_min: float | None = None
    delay_s: float | None = None

    def __post_init__(self) -> None:
        if (self.false_starts_per_min is None) == (self.delay_s is None):
            raise SettingError("name one goal: --false-starts-per-min or --delay")
        for option, value in (("--false-starts-per-min", self.false_starts_per_min), ("--delay", self.delay_s)):
            if value is not None and not 0 <= value < inf:
                raise SettingError(f"{option} must be a number from 0 on, got {value:g}")

    def counts(self, score: TrialScore) -> list[float]:
        """A score as numbers that add up over videos."""
        prompt = sum(delay <= self.delay_s for delay in score.delays_s) if self.delay_s is not None else score.hits
        return [score.bouts, score.hits, prompt, score.false_starts, score.absent_s / 60]

    def best(self, counts: F64) -> tuple[int, bool]:
        """Which of the candidates (C, 5) it takes, and whether that one reaches it; else the one that comes nearest."""
        bouts, hits, prompt, false_starts, absent_min = counts.T
        rate = np.divide(false_starts, absent_min, out=np.full(len(counts), np.inf), where=absent_min > 0)
        if self.false_starts_per_min is not None:
            reached = (rate <= self.false_starts_per_min) & (hits > 0)
            # Without any event there is no false start; that is nothing that anybody wants.
            nearest = np.where(hits > 0, rate, np.inf)
            order = np.lexsort((rate, -hits)) if reached.any() else np.argsort(nearest, kind="stable")
        else:
            reached = (2 * prompt >= bouts) & (bouts > 0)
            order = np.lexsort((-hits, rate)) if reached.any() else np.argsort(-prompt, kind="stable")
        if not reached.any():
            return int(order[0]), False
        return int(next(c for c in order if reached[c])), True

    def __str__(self) -> str:
        if self.delay_s is not None:
            return f"half of all bouts with an event within {self.delay_s:g} s"
        return f"at most {self.false_starts_per_min:g} false starts per minute"


@dataclass(frozen=True, eq=False)
class Tuned:
    """What came of one trigger.

    tried: all candidates, the last one what the file has. totals: their scores over all videos. chosen: index of the
    one that is taken. folds: by video, the one that the others take. held_out: all videos, each scored with its fold's.
    intervals: 95 % of the held-out false_starts_per_min, hits (a share) and delay_s (median of hits), over videos.
    notes: what to know beside them.
    """

    name: str
    goal: Goal
    videos: tuple[str, ...]
    tried: tuple[Candidate, ...]
    totals: tuple[TrialScore, ...]
    chosen: int
    folds: tuple[int, ...]
    held_out: TrialScore
    intervals: dict[str, dict[str, float]]
    notes: tuple[str, ...]


def tune(
    name: str, goal: Goal, videos: Sequence[str], tried: Sequence[Candidate], scores: Sequence[Sequence[TrialScore]]
) -> Tuned:
    """The choice from all scores (`sweep`). Raises SettingError where nothing reaches the goal, where there is no bout
    of the behaviour or no time without it, and for a single video: its own score says nothing about others.
    """
    if len(videos) < 2:
        raise SettingError(
            f"triggers.{name}: labels of {len(videos)} recording; thresholds are chosen on some and scored on "
            "others, so at least two are needed"
        )
    totals = [reduce(add, column) for column in zip(*scores, strict=True)]
    if not totals[0].bouts or not totals[0].absent_s:
        what = "no bout of its behaviour" if not totals[0].bouts else "no time without its behaviour"
        raise SettingError(f"triggers.{name}: {what} in {len(videos)} labelled recordings; nothing can be chosen")
    counts = np.array([[goal.counts(score) for score in row] for row in scores], float)  # (V, C, 5)
    total = counts.sum(axis=0)
    chosen, is_reached = goal.best(total)
    if not any(score.hits for score in totals):
        problem = f"at none of {len(tried)} settings does an event fire in one of {totals[0].bouts} bouts"
        raise SettingError(
            f"triggers.{name}: {problem}, whatever the goal; look at the probabilities with rtseg trigger try, and at "
            "how good the model is with rtseg evaluate"
        )
    if not is_reached:
        raise SettingError(
            f"triggers.{name}: no threshold reaches {goal}; the nearest is {_words(tried, totals, chosen)}"
        )
    folds = [goal.best(total - of_video) for of_video in counts]
    fitted = [scores[v][c] for v, (c, _) in enumerate(folds)]
    notes = interval_notes(len(videos))
    missed = sum(not reached for _, reached in folds)
    if missed:
        notes.append(
            f"Without one video no threshold reaches the goal: {missed} of {len(folds)} times the nearest is scored."
        )
    return Tuned(
        name,
        goal,
        tuple(videos),
        tuple(tried),
        tuple(totals),
        chosen,
        tuple(c for c, _ in folds),
        reduce(add, fitted),
        _intervals(fitted),
        tuple(notes),
    )


def _words(tried: Sequence[Candidate], totals: Sequence[TrialScore], c: int) -> str:
    score = totals[c]
    return (
        f"on = {tried[c].on:g}, min_duration_s = {tried[c].min_duration_s:g}: {score.false_starts_per_min:.2f} false "
        f"starts per minute, {score.hits} of {score.bouts} bouts hit{_median_words(score)}"
    )


def _median_words(score: TrialScore) -> str:
    return f" after {np.median(score.delays_s):.2f} s (median)" if score.delays_s else ""


def _intervals(scores: Sequence[TrialScore]) -> dict[str, dict[str, float]]:
    """95 % intervals of what one score a video gives together, by bootstrap over videos."""
    drawn = draw_videos(len(scores), RESAMPLES, seed=0)
    counts = np.array([[s.hits, s.bouts, s.false_starts, s.absent_s / 60] for s in scores], float)
    hits, bouts, false_starts, absent_min = (drawn @ counts).T
    nothing = np.full(len(drawn), np.nan)
    return {
        "false_starts_per_min": interval(np.divide(false_starts, absent_min, out=nothing.copy(), where=absent_min > 0)),
        "hits": interval(np.divide(hits, bouts, out=nothing.copy(), where=bouts > 0)),
        "delay_s": interval(_medians([np.array(s.delays_s, float) for s in scores], drawn)),
    }


def _medians(delays: Sequence[F64], drawn: F64) -> F64:
    """The median of all delays in every resample, (n,); NaN where there is none."""
    found = np.full(len(drawn), np.nan)
    for i, times in enumerate(drawn.astype(int)):
        pooled = np.concatenate([np.repeat(d, n) for d, n in zip(delays, times, strict=True)])
        if len(pooled):
            found[i] = np.median(pooled)
    return found
