"""Late frames and repeated ones are told from a source that counts anew."""

from __future__ import annotations

from rtseg.serve.streams.stream_records import OldFrames


def found(numbers: list[int], newest: int, old: OldFrames | None = None) -> int | None:
    """After how many of these old frames it is said."""
    old = old or OldFrames()
    return next((i for i, seq in enumerate(numbers, 1) if old.add(seq, newest, 30.0)), None)


def test_numbers_that_begin_again_are_found_by_the_third_frame() -> None:
    assert found([0, 1, 2, 3], 89) == 3
    assert found([500, 501, 502], 5000) == 3
    assert found(list(range(20)), 20) == 10  # within the last second it may be a network that is late
    assert found([42] * 12, 42) == 10  # a counter that stands still


def test_late_frames_are_late() -> None:
    assert found([10, 700, 40, 41, 90, 9], 1000) is None
    old = OldFrames()
    # A source that sends every frame twice: a new one comes between any two old ones.
    assert all(found([newest], newest, old) is None for newest in range(100, 200))
    assert all(found([n - 200, n - 199], n, old) is None for n in range(300, 400))
