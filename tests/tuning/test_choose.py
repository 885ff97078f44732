"""The choice: what a goal takes, that a video has no part in its own, and the intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import SettingError
from rtseg.triggers.trial import TrialScore
from rtseg.tuning.choose import Goal, tune
from rtseg.tuning.sweep import Candidate

RATE, DELAY = Goal(false_starts_per_min=1.0), Goal(delay_s=0.5)
TRIED = [Candidate(on, on / 2, 0.0) for on in (0.2, 0.5, 0.8)]


def score(hits: int, false_starts: int, delay: float = 0.3, bouts: int = 10) -> TrialScore:
    """Ten bouts in two minutes, one of them without the behaviour."""
    return TrialScore(bouts, hits, false_starts, (delay,) * hits, labelled_s=120.0, absent_s=60.0)


def test_as_many_hits_as_the_rate_allows() -> None:
    rows = [[score(9, 5), score(8, 1), score(7, 1)], [score(9, 3), score(6, 1), score(5, 0)]]
    tuned = tune("laser", RATE, ("a", "b"), TRIED, rows)
    assert tuned.tried[tuned.chosen].on == 0.5
    assert tuned.totals[1] == score(8, 1) + score(6, 1)


def test_as_few_false_starts_as_the_delay_allows() -> None:
    rows = [[score(9, 5), score(8, 3), score(8, 1, delay=0.6)]] * 2
    assert tune("laser", DELAY, ("a", "b"), TRIED, rows).chosen == 1
    # Two prompt hits of ten bouts are no prompt trigger, however few its false starts.
    rows = [[score(9, 5), score(8, 3), score(2, 0, delay=0.1)]] * 2
    assert tune("laser", DELAY, ("a", "b"), TRIED, rows).chosen == 1


def test_a_video_has_no_part_in_the_choice_that_it_is_scored_with() -> None:
    # Only in video a the first threshold has false starts: b and c alone would take it.
    rows = [
        [score(9, 9), score(5, 0), score(1, 0)],
        [score(9, 0), score(5, 0), score(1, 0)],
        [score(9, 0), score(5, 0), score(1, 0)],
    ]
    tuned = tune("laser", RATE, ("a", "b", "c"), TRIED, rows)
    assert tuned.chosen == 1
    assert tuned.folds == (0, 1, 1)
    assert tuned.held_out == score(9, 9) + score(5, 0) + score(5, 0)
    assert tuned.held_out.false_starts_per_min == 3.0
    assert tuned.notes == ("Intervals are over 3 videos: of fewer than 5 they say little about new animals.",)


def test_where_others_do_not_reach_the_goal_the_nearest_is_scored_and_it_is_said() -> None:
    rows = [[score(9, 9), score(9, 3), score(0, 0)], [score(9, 9), score(9, 0), score(0, 0)]]
    tuned = tune("laser", Goal(1.5), ("a", "b"), TRIED, rows)
    assert tuned.folds == (1, 1)
    assert "1 of 2 times the nearest is scored" in tuned.notes[-1]


def test_intervals_hold_the_value_and_shrink_with_videos() -> None:
    rng = np.random.default_rng(0)
    rows = [
        [score(int(rng.integers(2, 9)), int(rng.integers(0, 3)), float(rng.random())) for _ in TRIED] for _ in range(40)
    ]
    few, many = (tune("x", Goal(9.0), [str(i) for i in range(n)], TRIED, rows[:n]) for n in (6, 40))
    for part in ("false_starts_per_min", "hits", "delay_s"):
        assert few.intervals[part]["low"] < few.intervals[part]["high"]
    widths = [t.intervals["hits"]["high"] - t.intervals["hits"]["low"] for t in (few, many)]
    assert widths[1] < widths[0]
    assert many.intervals["hits"]["low"] < many.held_out.hits / many.held_out.bouts < many.intervals["hits"]["high"]
    assert not many.notes


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[score(5, 0)] * 3], "labels of 1 recording"),
        ([[score(0, 0, bouts=0)] * 3] * 2, "no bout of its behaviour in 2"),
        ([[TrialScore(5, 5, 0, (0.1,) * 5, 60.0, 0.0)] * 3] * 2, "no time without its behaviour"),
        ([[score(0, 1), score(0, 0), score(0, 0)]] * 2, "at none of 3 settings does an event fire in one of 20 bouts"),
        ([[score(9, 9), score(4, 3), score(0, 0)]] * 2, "nearest is on = 0.5.*3.00 false starts.* 8 of 20 bouts hit"),
    ],
)
def test_what_cannot_be_chosen_is_told(rows: list[list[TrialScore]], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        tune("laser", RATE, [str(i) for i in range(len(rows))], TRIED, rows)


@pytest.mark.parametrize("goals", [(None, None), (1.0, 0.5)])
def test_one_goal_is_named(goals: tuple[float | None, float | None]) -> None:
    with pytest.raises(SettingError, match="name one goal"):
        Goal(*goals)


@pytest.mark.parametrize("number", [math.nan, math.inf, -1.0])
def test_a_goal_is_a_number_from_0_on(number: float) -> None:
    with pytest.raises(SettingError, match=f"--false-starts-per-min must be a number from 0 on, got {number:g}"):
        Goal(false_starts_per_min=number)
    with pytest.raises(SettingError, match=f"--delay must be a number from 0 on, got {number:g}"):
        Goal(delay_s=number)


counts = st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from([0.1, 0.4, 0.9]))


@given(
    rows=st.lists(st.lists(counts, min_size=3, max_size=3), min_size=2, max_size=5),
    limit=st.sampled_from([0.5, 2.0, 5.0]),
)
@settings(max_examples=25, deadline=None)
def test_nothing_better_is_left_lying(rows: list[list[tuple[int, int, float]]], limit: float) -> None:
    scores = [[score(hits, false, delay) for hits, false, delay in row] for row in rows]
    for goal in (Goal(limit), Goal(delay_s=limit / 5)):
        try:
            tuned = tune("x", goal, [str(i) for i in range(len(rows))], TRIED, scores)
        except SettingError:
            assert not any(_reaches(goal, total) for total in map(sum_of, zip(*scores, strict=True)))
            continue
        best = tuned.totals[tuned.chosen]
        assert _reaches(goal, best)
        for total in tuned.totals:
            if goal.delay_s is None:
                assert not _reaches(goal, total) or total.hits <= best.hits
            else:
                assert not _reaches(goal, total) or total.false_starts >= best.false_starts


def sum_of(column: tuple[TrialScore, ...]) -> TrialScore:
    total = column[0]
    for one in column[1:]:
        total += one
    return total


def _reaches(goal: Goal, total: TrialScore) -> bool:
    if goal.false_starts_per_min is not None:
        return total.hits > 0 and total.false_starts_per_min <= goal.false_starts_per_min
    assert goal.delay_s is not None
    return float(np.median([*total.delays_s, *[np.inf] * (total.bouts - total.hits)])) <= goal.delay_s or (
        2 * sum(d <= goal.delay_s for d in total.delays_s) >= total.bouts
    )
