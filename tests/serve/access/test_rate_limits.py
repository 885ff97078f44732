"""How many streams a key may have, and how many frames a stream may send."""

from __future__ import annotations

import pytest

from rtseg.config import ServeSettings
from rtseg.serve.access.rate_limits import MAX_BUCKETS, Buckets, LimitError, OpeningLimits, RateLimits


def test_a_rate_is_a_bucket_that_fills_again() -> None:
    limits = RateLimits(ServeSettings(max_frames_per_s=10.0, max_streams_per_key=1))
    limits.stream_opened("k", "s")
    for _ in range(10):
        limits.count_frame("s", 0)
    with pytest.raises(LimitError, match="more than 10 frames per second"):
        limits.count_frame("s", 0)
    limits.count_frame("s", 100_000_000)  # a tenth of a second later there is room for one
    with pytest.raises(LimitError):
        limits.count_frame("s", 100_000_000)
    for t in range(100):
        limits.count_frame("s", 10**9 + t * 100_000_000)  # at the rate itself, for ever
    limits.check_new_stream("k", "s")
    with pytest.raises(LimitError, match="has 1 open streams"):
        limits.check_new_stream("k", "another")
    limits.stream_closed("k", "s")
    limits.check_new_stream("k", "another")


def test_neither_a_hello_nor_another_name_fills_a_bucket() -> None:
    limits = RateLimits(ServeSettings(max_frames_per_s=10.0, max_streams_per_key=2))
    sent = 0
    for name in ("a", "a", "b", "a", "c", "d", "a", "b", "e"):
        limits.check_new_stream("k", name)
        limits.stream_opened("k", name)
        limits.stream_opened("k", name)  # its source says hello again
        for _ in range(20):
            try:
                limits.count_frame(name, 0)
            except LimitError:
                continue
            sent += 1
        limits.stream_closed("k", name)
    assert sent == 20  # two streams are what the key may have, with ten frames at once each
    limits.stream_opened("k", "f")
    limits.count_frame("f", 100_000_000)
    limits.stream_opened("another key", "g")
    for _ in range(10):
        limits.count_frame("g", 0)


def test_hellos_of_a_key_and_openings_are_limited() -> None:
    limits = RateLimits(ServeSettings(max_streams_per_key=4))
    for _ in range(100):
        limits.count_hello("k", 0)
    with pytest.raises(LimitError, match="more than 10 hellos a second from one key"):
        limits.count_hello("k", 0)
    limits.count_hello("another", 0)
    limits.count_hello("k", 100_000_000)
    openings = OpeningLimits(capacity=50)
    for _ in range(100):
        openings.check_opening("cage1", 0)
        openings.count_opening("cage1", 0)
    with pytest.raises(LimitError, match="'cage1' was opened more than 10 times a second"):
        openings.check_opening("cage1", 0)
    for i in range(900):
        openings.check_opening(f"s{i}", 0)
        openings.count_opening(f"s{i}", 0)
    with pytest.raises(LimitError, match="more than 50 streams a second"):
        openings.check_opening("one more", 0)
    openings.check_opening("one more", 10**9)


def test_names_without_end_fill_no_table() -> None:
    buckets = Buckets(10.0, 2.0)
    assert all(buckets.take_one(f"name {i}", i * 1000) for i in range(20_000))
    assert len(buckets._buckets) <= MAX_BUCKETS + 1
