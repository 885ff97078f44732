"""What triggers did, read from a recording."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rtseg.config import ServeSettings, to_plain
from rtseg.errors import RecordingError
from rtseg.playback.export import export_recording
from rtseg.playback.trigger_log import TIMES, read_trigger_log, recorded_settings, write_event_times
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.recorder import Recorder
from rtseg.serve.triggers import records
from rtseg.serve.triggers.records import LiveEvent
from tests.live import HELLO
from tests.serve.triggers.test_stage import FILE


def event(number: int, seq: int, arm: str = "real") -> LiveEvent:
    return LiveEvent(number, number - 1, 0, "pulse", arm, seq, seq + 2, 1, 1)


def record(recorder: Recorder, *messages: dict[str, Any]) -> None:
    for message in messages:
        recorder.record_trigger(msgpack.packb({"v": 1, "stream": "cage1", **message}), 1)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    recorder = Recorder(tmp_path, {"triggers": json.dumps(to_plain(FILE))}, ServeSettings(record_buffer_mb=1))
    recorder.record_opening(HELLO, 1)
    record(
        recorder,
        records.arming(-1, "asked to", armed=True, for_s=None),
        records.withheld("bout", 3, "quality", "sham", 5, 6, 7),
        records.began(event(1, 4), 10, 11, 12, 13),
        records.acknowledged(1, "pulse", "laser", "on", 14, ""),
        records.acknowledged(1, "pulse", "other", "on", 15, ""),
        records.ended(event(1, 4), "pulse over", 20, 21),
        {"type": "trigger", "decision": "never heard of", "trigger": "pulse", "seq": 5, "arm": "real"},
    )
    recorder.record_event(msgpack.packb({"v": 1, "stream": "cage1", "type": "closed", "reason": "bye"}), 2)
    record(recorder, records.acknowledged(1, "pulse", "laser", "off", 22, ""))
    recorder.record_opening(HELLO, 3)
    record(recorder, records.began(event(2, 4, "sham"), 30, 31, 32, None))
    recorder.close()
    return recorder.file


def test_events_and_their_times(recording: Path, tmp_path: Path) -> None:
    logs = read_trigger_log(recording)
    assert list(logs) == ["cage1", "cage1#2"]
    told = [(e.trigger, e.seq, e.decision, e.arm, e.last_seq, e.ended) for e in logs["cage1"].events()]
    assert told == [("bout", 3, "quality", "sham", None, ""), ("pulse", 4, "fired", "real", 6, "pulse over")]
    write_event_times([logs["cage1"]], tmp_path / "times.csv")
    with (tmp_path / "times.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Of two sinks the last one counts.
    assert [rows[1][name] for name in TIMES] == ["10", "11", "12", "13", "15", "20", "21", "22", ""]
    assert [rows[0][name] for name in TIMES] == ["5", "6", "7", *[""] * 6]
    (control,) = logs["cage1#2"].events()
    assert (control.arm, control.ended, control.stream) == ("sham", "", "cage1#2")


def test_how_long_an_event_was_whose_end_is_missing_is_in_doubt(tmp_path: Path) -> None:
    """Not until the recording's end: it ended while a full disk let nothing be recorded."""
    model = {"heads": json.dumps({"h": ["a"]}), "fps": "30.0", "model": "m", "triggers": json.dumps(to_plain(FILE))}
    recorder = Recorder(tmp_path, model, ServeSettings(record_buffer_mb=1))
    recorder.record_opening(HELLO, 1)

    def answer(seq: int) -> None:
        numbers = {"seq": seq, "t_source_ns": 0, "t_recv_ns": 0, "t_pub_ns": 0, "quality": 0, "model": "m"}
        about = {"v": 1, "stream": "cage1", **numbers, "probs": {"h": b"\0\0\x80\x3f"}}
        about |= {"label": {"h": "a"}, "event": {}}
        recorder.record_prediction(msgpack.packb(about), 1)

    record(recorder, records.began(event(1, 4), 10, 11, 12, 13), records.began(event(2, 5), 10, 11, 12, 13))
    answer(5)
    recorder.record_event(msgpack.packb({"v": 1, "type": "lost", "records": 100}), 2)
    answer(500)
    record(recorder, records.ended(event(2, 5), "disarmed", 20, 21), records.began(event(3, 501), 10, 11, 12, 13))
    answer(502)
    recorder.close()
    wanted = [(4, 5, "records lost"), (5, 7, "disarmed"), (501, 502, "")]
    log = read_trigger_log(recorder.file)["cage1"]
    assert [(e.seq, e.last_seq, e.ended) for e in log.events()] == wanted
    list(export_recording(recorder.file, tmp_path / "out"))
    with (tmp_path / "out" / "cage1.triggers.csv").open(encoding="utf-8") as file:
        assert [(int(r["seq"]), int(r["last_seq"]), r["ended"]) for r in csv.DictReader(file)] == wanted


def test_the_settings_that_the_daemon_had(recording: Path, tmp_path: Path) -> None:
    with RecordingFile(recording) as file:
        assert recorded_settings(file) == FILE
    damaged = Recorder(tmp_path / "damaged", {"triggers": "{"}, ServeSettings(record_buffer_mb=1))
    damaged.close()
    with RecordingFile(damaged.file) as file, pytest.raises(RecordingError, match="is damaged: its triggers"):
        recorded_settings(file)
