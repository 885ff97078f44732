"""Who has fallen silent."""

from __future__ import annotations

from dataclasses import dataclass

from rtseg.serve.timing.silence import SilenceWatch


@dataclass(eq=False)
class Source:
    interval_ns: int
    last_ns: int = 0
    watched: bool = False
    stale: bool = False
    closed: bool = False


def test_silence_is_seen_once_and_within_two_intervals() -> None:
    vigil: SilenceWatch[Source] = SilenceWatch()
    assert vigil.next_due_ns() is None
    source = Source(100)
    vigil.watch_stream(source)
    assert vigil.next_due_ns() == 175
    assert vigil.fallen_silent(174) == []
    assert vigil.fallen_silent(175) == [source]
    assert (source.stale, source.watched, vigil.next_due_ns()) == (True, False, None)
    assert vigil.fallen_silent(10_000) == []


def test_frames_cost_nothing_and_put_it_off() -> None:
    vigil: SilenceWatch[Source] = SilenceWatch()
    quick, slow = Source(10), Source(100)
    vigil.watch_stream(quick)
    vigil.watch_stream(slow)
    for now in range(0, 150, 10):
        quick.last_ns = now
        assert vigil.fallen_silent(now) == []
    assert vigil.fallen_silent(180) == [quick, slow]
    slow.last_ns = 190
    vigil.watch_stream(slow)
    assert not slow.stale
    assert vigil.fallen_silent(190 + 174) == []
    assert vigil.fallen_silent(190 + 175) == [slow]


def test_closed_streams_are_forgotten() -> None:
    vigil: SilenceWatch[Source] = SilenceWatch()
    source = Source(10)
    vigil.watch_stream(source)
    source.closed = True
    assert vigil.fallen_silent(1000) == []
    assert vigil.next_due_ns() is None
