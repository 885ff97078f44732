"""What is told of a source's clock: drift, and jumps, however unevenly frames come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.serve.timing.declared_rate import DeclaredRate
from rtseg.serve.timing.source_clock import SourceClock

SECOND = 1_000_000_000


def run(clock: SourceClock, seconds: float, *, ppm: float = 0.0, shift_ns: int = 0, seed: int = 0) -> list[bool]:
    """30 frames per second of a source that is fast by `ppm`, on ways of 1 ms and now and then far more."""
    rng = np.random.default_rng(seed)
    said = []
    for i in range(int(seconds * 30)):
        now_ns = 10 * SECOND + i * SECOND // 30
        way_ns = int(1e6 + rng.exponential(3e6))
        said.append(clock.compare_times(int(now_ns * (1 + ppm * 1e-6)) + shift_ns, now_ns + way_ns))
    return said


@pytest.mark.parametrize("ppm", [0.0, 40.0, -150.0])
def test_drift_is_found_behind_uneven_ways(ppm: float) -> None:
    clock = SourceClock(SECOND // 30)
    assert not any(run(clock, 150, ppm=ppm, shift_ns=5 * SECOND))
    summary = clock.summary()
    assert summary["drift_ppm"] == pytest.approx(ppm, abs=5.0)
    assert summary["offset_ns"] == pytest.approx(-5 * SECOND, abs=40e6)
    assert summary["jumps"] == 0


def test_nothing_is_said_before_it_can_be_known() -> None:
    clock = SourceClock(SECOND // 30)
    assert clock.summary() == {"offset_ns": None, "drift_ppm": None, "jumps": 0}
    run(clock, 3)
    assert clock.summary()["drift_ppm"] is None
    assert clock.summary()["offset_ns"] == pytest.approx(1e6, abs=5e6)


@pytest.mark.parametrize("jump_ns", [-5 * SECOND, 10 * SECOND])
def test_a_clock_that_was_set_is_seen_at_once(jump_ns: int) -> None:
    clock = SourceClock(SECOND // 30)
    run(clock, 20)
    now_ns = 31 * SECOND
    assert clock.compare_times(now_ns + jump_ns, now_ns)
    assert not clock.compare_times(now_ns + jump_ns + 33_000_000, now_ns + 33_000_000)
    assert clock.summary()["jumps"] == 1
    assert clock.summary()["offset_ns"] == -jump_ns


def test_a_clock_that_stood_still_for_a_while_is_seen() -> None:
    clock = SourceClock(SECOND // 30)
    run(clock, 20)
    said = [clock.compare_times((29 * 30 + i) * SECOND // 30, (31 * 30 + i) * SECOND // 30) for i in range(200)]
    assert sum(said) == 1


def test_frames_that_came_late_together_are_no_jump() -> None:
    clock = SourceClock(SECOND // 30)
    run(clock, 20)
    for i in range(60):  # two seconds of frames, held up and then delivered at once
        assert not clock.compare_times(30 * SECOND + i * SECOND // 30, 33 * SECOND + i)


@pytest.mark.parametrize("step_ns", [0, 1])
def test_a_source_without_times_has_no_clock_to_be_set(step_ns: int) -> None:
    clock = SourceClock(SECOND // 30)
    assert not any(clock.compare_times(i * step_ns, i * SECOND // 30) for i in range(300))
    assert clock.summary()["jumps"] == 0


STEPS_MS = st.tuples(st.sampled_from([0, 1, 33, 33, 33, 34, 70, 400, -50, 3000]), st.integers(0, 40))
"""From one frame to the next by the source's clock, and how long the frame travels."""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(STEPS_MS, st.integers(1, 60)), min_size=1, max_size=12), st.booleans())
def test_frames_that_are_only_taken_in_leave_what_comparing_every_one_does(
    stretches: list[tuple[tuple[int, int], int]], stands_still: bool
) -> None:
    """Windows and jumps of a clock, and windows of a rate: whether frames pass `takes_next` first changes none."""
    quick, full = SourceClock(SECOND // 30), SourceClock(SECOND // 30)
    rates = DeclaredRate(30.0, 0), DeclaredRate(30.0, 0)
    source_ns, now_ns, seq, taken = 5 * SECOND, 10 * SECOND, 0, 0
    for (step_ms, travels_ms), frames in stretches:
        for _ in range(frames):
            source_ns += 0 if stands_still else step_ms * 1_000_000
            now_ns += 33_000_000
            recv_ns, seq = now_ns + travels_ms * 1_000_000, seq + 1
            jumped = full.compare_times(source_ns, recv_ns)
            changed = _close_if_due(rates[1], full, seq, source_ns, recv_ns)
            if quick.takes_next(source_ns, recv_ns):
                taken += 1
                assert (jumped, changed) == (False, False)
            else:
                assert quick.compare_times(source_ns, recv_ns) == jumped
                assert _close_if_due(rates[0], quick, seq, source_ns, recv_ns) == changed
                quick.compare_from(rates[0].due_source_ns, rates[0].due_recv_ns)
            assert (quick.summary(), quick.jumps, quick.long_intervals) == (
                full.summary(),
                full.jumps,
                full.long_intervals,
            )
            assert rates[0].summary() == rates[1].summary()
    assert taken == 0 or not stands_still


def test_nearly_every_frame_of_a_steady_camera_is_only_taken_in() -> None:
    clock, rate, taken = SourceClock(SECOND // 30), DeclaredRate(30.0, 0), 0
    for seq in range(3000):
        source_ns = seq * SECOND // 30
        recv_ns = source_ns + 2_000_000 + (seq % 7) * 100_000
        if clock.takes_next(source_ns, recv_ns):
            taken += 1
            continue
        clock.compare_times(source_ns, recv_ns)
        _close_if_due(rate, clock, seq, source_ns, recv_ns)
        clock.compare_from(rate.due_source_ns, rate.due_recv_ns)
    assert taken > 2800
    assert not rate.is_wrong


def _close_if_due(rate: DeclaredRate, clock: SourceClock, seq: int, source_ns: int, recv_ns: int) -> bool:
    is_due = source_ns >= rate.due_source_ns or recv_ns >= rate.due_recv_ns
    return is_due and rate.close_window(seq, source_ns, recv_ns, clock.long_intervals)
