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
    assert vigil.next_ns() is None
    source = Source(100)
    vigil.watch(source)
    assert vigil.next_ns() == 175
    assert vigil.overdue(174) == []
    assert vigil.overdue(175) == [source]
    assert (source.stale, source.watched, vigil.next_ns()) == (True, False, None)
    assert vigil.overdue(10_000) == []


def test_frames_cost_nothing_and_put_it_off() -> None:
    vigil: SilenceWatch[Source] = SilenceWatch()
    quick, slow = Source(10), Source(100)
    vigil.watch(quick)
    vigil.watch(slow)
    for now in range(0, 150, 10):
        quick.last_ns = now
        assert vigil.overdue(now) == []
    assert vigil.overdue(180) == [quick, slow]
    slow.last_ns = 190
    vigil.watch(slow)
    assert not slow.stale
    assert vigil.overdue(190 + 174) == []
    assert vigil.overdue(190 + 175) == [slow]


def test_closed_streams_are_forgotten() -> None:
    vigil: SilenceWatch[Source] = SilenceWatch()
    source = Source(10)
    vigil.watch(source)
    source.closed = True
    assert vigil.overdue(1000) == []
    assert vigil.next_ns() is None
