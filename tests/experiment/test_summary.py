"""A session in numbers, from messages as a daemon records them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rtseg.experiment.summary import Summary, summarise
from rtseg.inference.predictions import Quality
from rtseg.recorder import layout, mcap_records

Message = tuple[str, int, Mapping[str, Any]]
Summed = Callable[..., Summary]


@pytest.fixture
def summed(tmp_path: Path) -> Summed:
    """The summary of a recording of these messages: topic, ms, fields. cut: bytes that its end lacks."""

    def summary(messages: list[Message], cut: int = 0) -> Summary:
        numbers = {topic: number for number, (topic, _) in layout.CHANNELS.items()}
        recorded = [
            mcap_records.message(numbers[topic], n, ms * 1_000_000, msgpack.packb(dict(fields)))
            for n, (topic, ms, fields) in enumerate(messages)
        ]
        data = b"".join([layout.beginning(layout.LIBRARY, {}), *recorded, mcap_records.end()])
        (tmp_path / "f.mcap").write_bytes(data[: len(data) - cut])
        return summarise([tmp_path / "f.mcap"], ("laser",))[0]

    return summary


def hello(ms: int, *, resumed: bool = False) -> Message:
    return "events", ms, {"type": "hello", "stream": "top", "fps": 10.0, "resumed": resumed}


def answers(ms: int, first: int, last: int, quality: int = 0) -> list[Message]:
    """Frames and answers a tenth of a second apart."""
    found: list[Message] = []
    for seq in range(first, last + 1):
        at = ms + 100 * (seq - first)
        found.append(("frames", at, {"stream": "top", "seq": seq}))
        found.append(("predictions", at + 1, {"stream": "top", "seq": seq, "quality": quality}))
    return found


def fired(ms: int, seq: int, event: int, arm: str = "real") -> Message:
    fields = {"type": "trigger", "stream": "top", "trigger": "laser", "seq": seq, "decision": "fired", "arm": arm}
    times = {"count": event, "event": event, "t_recv_ns": 1_000_000, "t_decided_ns": 1_400_000, "t_sent_ns": 1_500_000}
    return "triggers", ms, fields | times


def ended(ms: int, seq: int, event: int, last_seq: int) -> Message:
    fields = {"type": "trigger_end", "stream": "top", "trigger": "laser", "seq": seq, "arm": "real", "count": event}
    return "triggers", ms, fields | {"event": event, "last_seq": last_seq, "ended": "pulse over"}


def acknowledged(ms: int, event: int, report: str) -> Message:
    about = {"type": "trigger_ack", "stream": "top", "trigger": "laser", "event": event, "sink": "box", "text": ""}
    return "triggers", ms, about | {"report": report, "t_sink_ns": 2_500_000}


def test_an_event_stands_at_its_frames_times(summed: Summed) -> None:
    found = summed(
        [hello(0), *answers(1000, 0, 9), fired(1301, 3, 1), acknowledged(1303, 1, "on"), ended(1601, 3, 1, 5)]
    )
    (pulse,) = found.pulses
    assert (pulse.start_s, pulse.stop_s) == (pytest.approx(0.3), pytest.approx(0.6))
    assert pulse.ways_ms["sending to acknowledgement, on"] == pytest.approx(1.0)
    assert found.latency("frame received to decision") == (1, *[pytest.approx(0.4)] * 3)
    assert found.latency("end decided to acknowledgement, off") is None
    assert found.length_s == pytest.approx(0.9)


def test_a_camera_that_comes_back_counting_from_zero_is_another_one(summed: Summed) -> None:
    closed: Message = ("events", 2001, {"type": "closed", "stream": "top", "counters": {"frames": 10, "gaps": 2}})
    late = acknowledged(2002, 1, "off")
    first = [hello(0), *answers(1000, 0, 9), fired(1301, 3, 1), ended(1601, 3, 1, 5), closed, late]
    found = summed([*first, hello(5000), *answers(5000, 0, 9), fired(5301, 3, 2), ended(5601, 3, 2, 5)])
    assert list(found.cameras) == ["top", "top#2"]
    assert [(p.event.stream, p.event.seq) for p in found.pulses] == [("top", 3), ("top#2", 3)]
    assert [p.start_s for p in found.pulses] == [pytest.approx(0.3), pytest.approx(4.3)]
    assert found.cameras["top"].counters == {"frames": 10, "gaps": 2}
    assert "t_sink_off_ns" not in found.pulses[1].ways_ms


def test_a_stream_that_was_resumed_goes_on(summed: Summed) -> None:
    found = summed([hello(0), *answers(1000, 0, 4), hello(3000, resumed=True), *answers(3000, 5, 9)])
    assert list(found.cameras) == ["top"]
    assert found.cameras["top"].answers == 10


def test_flags_counts_and_damage_are_told(summed: Summed) -> None:
    found = summed([hello(0), *answers(0, 0, 2, int(Quality.WARMING_UP | Quality.UNSURE))], cut=20)
    assert found.cameras["top"].flags == {"warming_up": 3, "unsure": 3}
    assert len(found.damage) == 1
    broken: Message = ("triggers", 5, {"type": "trigger", "stream": "top", "decision": 7})
    assert summed([hello(0), broken]).damage == ("f.mcap: a damaged message in triggers",)


def test_an_event_whose_end_is_missing_did_not_last_until_the_end(summed: Summed) -> None:
    """As `rtseg export` has it; nothing can be yoked to it."""
    lost: Message = ("events", 1501, {"type": "lost", "records": 40})
    found = summed([hello(0), *answers(1000, 0, 4), fired(1301, 3, 1), lost, *answers(6000, 50, 59)])
    (pulse,) = found.pulses
    assert (pulse.event.last_seq, pulse.event.ended) == (4, "records lost")
    assert pulse.stop_s == pytest.approx(0.5)
    assert found.damage == ("f.mcap: 40 records are lost, maybe with ends of events",)


def test_nothing_recorded_is_an_empty_summary(summed: Summed) -> None:
    found = summed([])
    assert (dict(found.cameras), list(found.pulses), found.length_s) == ({}, [], 0.0)
