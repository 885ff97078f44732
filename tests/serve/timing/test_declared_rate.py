"""A camera at another rate than declared is found; jitter, pauses, lost and held-back frames are not taken for one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.serve.timing.declared_rate import DeclaredRate
from rtseg.serve.timing.source_clock import SourceClock

SECOND = 1_000_000_000
OPENED_NS = 50 * SECOND


class Stream:
    """One stream's clock and rate, fed as the frame queue feeds them. changes: (time, whether the rate is wrong)."""

    def __init__(self, fps: float = 30.0) -> None:
        self.clock, self.rate = SourceClock(int(1e9 / fps)), DeclaredRate(fps, OPENED_NS)
        self.changes: list[tuple[float, bool]] = []

    def send(self, seq: int, source_ns: int, recv_ns: int) -> None:
        if self.clock.takes_next(source_ns, recv_ns):
            return
        self.clock.compare_times(source_ns, recv_ns)
        is_due = source_ns >= self.rate.due_source_ns or recv_ns >= self.rate.due_recv_ns
        if is_due and self.rate.close_window(seq, source_ns, recv_ns, self.clock.long_intervals):
            self.changes.append(((recv_ns - OPENED_NS) / 1e9, self.rate.is_wrong))
        self.clock.compare_from(self.rate.due_source_ns, self.rate.due_recv_ns)


def sent(times_s: Sequence[float], *, by: str = "source", seqs: Sequence[int] | None = None, fps: float = 30) -> Stream:
    """Frames at these times; by receipt: t_source_ns is 0, or counts frames."""
    stream = Stream(fps)
    for i, time_s in enumerate(times_s):
        recv_ns = OPENED_NS + int(time_s * 1e9)
        source_ns = {"source": int(time_s * 1e9), "receipt": 0, "counted": i}[by]
        stream.send(i if seqs is None else seqs[i], source_ns, recv_ns + (2_000_000 if by == "source" else 0))
    return stream


@pytest.mark.parametrize("by", ["source", "receipt", "counted"])
@pytest.mark.parametrize("factor", [2.0, 1.2, 2 / 3, 25 / 30, 0.1, 7.0])
def test_another_rate_is_found_and_its_end_as_well(factor: float, by: str) -> None:
    wrong = np.arange(int(30 * factor * 60)) / (30 * factor)
    right = 60 + np.arange(30 * 30) / 30
    stream = sent([*wrong, *right], by=by)
    assert [wrong for _, wrong in stream.changes] == [True, False]
    found_s = stream.changes[0][0]
    # Three windows; a little above the declared rate it takes longer to tell it from what was held back.
    assert found_s < (16 if factor < 0.3 else 8)
    assert 60 < stream.changes[1][0] < 68
    assert stream.rate.summary() == {
        "declared": 30,
        "measured": pytest.approx(30, rel=0.05),
        "by": "source" if by == "source" else "receipt",
        "wrong": False,
    }


@pytest.mark.parametrize("by", ["source", "receipt"])
@pytest.mark.parametrize("factor", [2.0, 2 / 3])
def test_six_seconds_are_enough(factor: float, by: str) -> None:
    times = np.arange(int(30 * factor * 6)) / (30 * factor)
    stream = sent(times, by=by)
    assert stream.changes[0][1]
    assert stream.rate.measured_fps == pytest.approx(30 * factor, rel=0.02)


def test_a_slow_camera_is_judged_by_enough_frames() -> None:
    assert sent(np.arange(120) / 2.0, fps=2).changes == []
    assert [wrong for _, wrong in sent(np.arange(120) / 4.0, fps=2).changes] == [True]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["source", "receipt"]), st.sampled_from([10.0, 30.0, 120.0]))
def test_an_uneven_camera_of_the_declared_rate_is_left_alone(seed: int, by: str, fps: float) -> None:
    rng = np.random.default_rng(seed)
    times = np.arange(int(60 * fps)) / fps
    # Jitter of a tenth of an interval, counted and uncounted losses, pauses of up to a minute.
    times = np.sort(times + rng.normal(0, 0.1 / fps, len(times)))
    for at in rng.integers(0, len(times), rng.integers(0, 4)):
        times[at:] += rng.uniform(0, 60)
    seqs = np.arange(len(times))
    kept = rng.random(len(times)) > rng.choice([0.0, 0.1, 0.2])
    counted = bool(rng.integers(0, 2))
    stream = sent(times[kept] - min(0, times.min()), by=by, seqs=seqs[kept] if counted else None, fps=fps)
    assert stream.changes == []


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 4.5), st.floats(1.5, 20), st.floats(0, 20))
def test_frames_that_were_held_back_and_come_at_once_are_no_faster_camera(
    held_s: float, speed: float, at: float
) -> None:
    times = np.arange(60 * 30) / 30
    # From `at` on they are held back, then they come faster than they were taken until none is left.
    came = np.maximum(times, at + held_s + (times - at) / speed)
    came[times < at] = times[times < at]
    assert sent(came, by="receipt").changes == []


def test_a_clock_that_is_set_changes_no_rate() -> None:
    stream = Stream()
    for i in range(900):
        time_ns = i * SECOND // 30
        stream.send(
            i,
            10**15 + time_ns + (3600 * SECOND if i > 300 else 0) - (20 * SECOND if i > 600 else 0),
            OPENED_NS + time_ns,
        )
    assert stream.clock.jumps == 2
    assert stream.changes == []
