"""Which streams have fallen silent."""

from __future__ import annotations

from dataclasses import dataclass, field

from rtseg.serve.streams.stream_records import QueueRecord, SilenceRecord
from rtseg.serve.timing.silence import SilenceWatch


@dataclass(eq=False)
class Source:
    interval_ns: int
    queued: QueueRecord = field(default_factory=lambda: QueueRecord(0))
    silence: SilenceRecord = field(default_factory=SilenceRecord)
    is_closed: bool = False


def test_silence_is_seen_once_and_within_two_intervals() -> None:
    watch: SilenceWatch[Source] = SilenceWatch()
    assert watch.next_due_ns() is None
    source = Source(100)
    watch.watch_stream(source)
    assert watch.next_due_ns() == 175
    assert watch.fallen_silent(174) == []
    assert watch.fallen_silent(175) == [source]
    assert (source.silence.is_stale, source.silence.is_watched, watch.next_due_ns()) == (True, False, None)
    assert watch.fallen_silent(10_000) == []


def test_frames_cost_nothing_and_put_it_off() -> None:
    watch: SilenceWatch[Source] = SilenceWatch()
    quick, slow = Source(10), Source(100)
    watch.watch_stream(quick)
    watch.watch_stream(slow)
    for now in range(0, 150, 10):
        quick.queued.last_ns = now
        assert watch.fallen_silent(now) == []
    assert watch.fallen_silent(180) == [quick, slow]
    slow.queued.last_ns = 190
    watch.watch_stream(slow)
    assert not slow.silence.is_stale
    assert watch.fallen_silent(190 + 174) == []
    assert watch.fallen_silent(190 + 175) == [slow]


def test_closed_streams_are_forgotten() -> None:
    watch: SilenceWatch[Source] = SilenceWatch()
    source = Source(10)
    watch.watch_stream(source)
    source.is_closed = True
    assert watch.fallen_silent(1000) == []
    assert watch.next_due_ns() is None
