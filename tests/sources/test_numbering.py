"""Sequence numbers of a source's frames: its own count, or what its times say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rtseg.sources.numbering import FrameNumbers, Numbered

MS = 1_000_000


def numbered(fps: float, times_ms: list[float | None]) -> list[int]:
    numbers = FrameNumbers(fps)
    return [numbers.number_frame(None, None if t is None else round(t * MS)).seq for t in times_ms]


def test_frames_are_counted_where_nothing_says_otherwise() -> None:
    assert numbered(30, [None, None, None]) == [0, 1, 2]
    assert numbered(30, [5.0, None, 999.0]) == [0, 1, 2]


def test_times_that_skip_count_the_frames_between() -> None:
    assert numbered(30, [0, 33, 100, 133]) == [0, 1, 3, 4]
    numbers = FrameNumbers(30)
    numbers.number_frame(None, 0)
    assert numbers.number_frame(None, 10_000 * MS) == Numbered(300)
    assert numbers.skipped == 299


def test_a_late_frame_is_no_lost_one() -> None:
    """A Windows timer that ticks every 15.6 ms gives 31 and 47 ms for 33."""
    assert numbered(30, [0, 46.8, 62.4, 109.2, 124.8]) == [0, 1, 2, 3, 4]


def test_the_sources_own_numbers_are_taken_as_they_are() -> None:
    numbers = FrameNumbers(30)
    assert [numbers.number_frame(n, n * 50 * MS).seq for n in (7, 8, 11, 10, 12)] == [7, 8, 11, 10, 12]
    assert numbers.skipped == 2


def test_a_time_that_runs_back_begins_again() -> None:
    numbers = FrameNumbers(30)
    assert [numbers.number_frame(None, t * MS) for t in (5000, 5033)] == [Numbered(0), Numbered(1)]
    assert numbers.number_frame(None, 4500 * MS) == Numbered(2)  # a clock that was corrected
    assert numbers.number_frame(None, 100 * MS) == Numbered(0, begins=True)
    assert numbers.number_frame(None, 133 * MS) == Numbered(1)


def test_a_frame_that_cannot_be_used_leaves_a_gap() -> None:
    numbers = FrameNumbers(30)
    numbers.number_frame(None, None)
    numbers.skip_frame()
    assert numbers.number_frame(None, None).seq == 2


def test_times_tell_whether_what_could_not_be_used_was_a_frame() -> None:
    for t_ms, seq in ((67, 2), (33, 1), (133, 4)):
        numbers = FrameNumbers(30)
        numbers.number_frame(None, 0)
        numbers.skip_frame()
        assert numbers.number_frame(None, t_ms * MS).seq == seq
        assert numbers.number_frame(None, (t_ms + 33) * MS).seq == seq + 1


@given(
    st.sampled_from([15.0, 30.0, 60.0, 250.0]),
    st.lists(st.integers(1, 50), max_size=60),
    st.lists(st.floats(-0.12, 0.12), min_size=61, max_size=61),
    st.integers(0, 2**40),
)
def test_lost_frames_are_found_under_jitter(fps: float, steps: list[int], jitter: list[float], start_ns: int) -> None:
    """Up to an eighth of an interval to either side, whatever was lost before."""
    frames = [0]
    for step in steps:
        frames.append(frames[-1] + step)
    numbers = FrameNumbers(fps)
    times = [start_ns + round((n + j + 1) / fps * 1e9) for n, j in zip(frames, jitter, strict=False)]
    assert [numbers.number_frame(None, t).seq for t in times] == frames
    assert numbers.skipped == frames[-1] - len(steps)
