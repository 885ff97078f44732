"""The gap rule: which frames are stepped for one that came, their flags, and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.frames.frame import Frame, missing_frame
from rtseg.inference.gap_rule import GAP_FILLED, RESET, WARMING_UP, Counters, GapRule

SHAPE = (2, 3)
FILL, WARMUP = 4, 6


def rule_after(*seqs: int) -> GapRule:
    rule = GapRule("s", SHAPE, FILL, WARMUP)
    for seq in seqs:
        steps(rule, seq)
    return rule


def frame(seq: int) -> Frame:
    return Frame("s", seq, 1000 * seq, np.ones((*SHAPE, 2), np.float32), np.ones(SHAPE, np.float32))


def steps(rule: GapRule, seq: int) -> list[tuple[int, int, int]]:
    """(seq, t_source_ns, flags) of every frame to step, by whichever way takes the frame."""
    one = frame(seq)
    if rule.takes_next(one):
        return [(one.seq, one.t_source_ns, 0)]
    rule.counters.frames += 1
    return [(f.seq, f.t_source_ns, flags) for f, flags in rule.flag_warm_up(rule.frames_to_step(one))]


def test_the_first_frames_are_warming_up() -> None:
    rule = rule_after()
    flags = [steps(rule, seq)[0][2] for seq in range(10, 20)]
    assert flags == [WARMING_UP] * WARMUP + [0] * (10 - WARMUP)
    assert rule.counters == Counters(frames=10)


def test_a_short_gap_is_filled_with_frames_without_points_at_even_times() -> None:
    rule = rule_after(*range(10))
    assert steps(rule, 13) == [
        (10, 10_000, GAP_FILLED),
        (11, 11_000, GAP_FILLED),
        (12, 12_000, GAP_FILLED),
        (13, 13_000, 0),
    ]
    assert (rule.counters.gaps, rule.counters.filled, rule.counters.restarts) == (1, 3, 0)
    filled, _ = rule_after(0).frames_to_step(frame(2))[0]
    blank = missing_frame(SHAPE, seq=1, t_source_ns=1000, stream="s")
    assert np.isnan(filled.keypoints).all()
    assert filled[:3] == blank[:3]


@pytest.mark.parametrize(("missing", "restarts"), [(FILL, 0), (FILL + 1, 1)])
def test_beyond_the_limit_the_stream_restarts(missing: int, restarts: int) -> None:
    rule = rule_after(*range(10))
    stepped = steps(rule, 10 + missing)
    assert rule.counters.restarts == restarts
    assert stepped[-1] == (10 + missing, 1000 * (10 + missing), RESET | WARMING_UP if restarts else 0)
    assert len(stepped) == (1 if restarts else missing + 1)


def test_duplicates_and_late_frames_are_dropped_and_counted() -> None:
    rule = rule_after(*range(10))
    assert steps(rule, 9) == steps(rule, 3) == []
    assert (rule.counters.duplicates, rule.counters.late) == (1, 1)
    assert rule.last == (9, 9000)


def test_a_reset_keeps_the_counters() -> None:
    rule = rule_after(*range(10))
    rule.reset()
    assert steps(rule, 3) == [(3, 3000, WARMING_UP)]
    assert rule.counters.frames == 11


def test_steps_are_counted_as_many_at_once_as_one_by_one() -> None:
    many, single = rule_after(), rule_after()
    assert many.count_steps(4) == sum(single.count_steps(1) for _ in range(4)) == 4
    assert many.count_steps(10) == sum(single.count_steps(1) for _ in range(10)) == WARMUP - 4
    assert many.since_reset == single.since_reset == 14


@given(st.lists(st.integers(-2, 8), max_size=40))
def test_the_short_way_of_most_frames_is_the_rule(jumps: list[int]) -> None:
    """`takes_next` never says anything else than `frames_to_step` would."""
    quick, whole, seq = rule_after(), rule_after(), 5
    for jump in jumps:
        seq = max(seq + jump, 0)
        whole.counters.frames += 1
        expected = [(f.seq, f.t_source_ns, flags) for f, flags in whole.flag_warm_up(whole.frames_to_step(frame(seq)))]
        assert steps(quick, seq) == expected
        assert (quick.counters, quick.last, quick.since_reset) == (whole.counters, whole.last, whole.since_reset)
