"""Yoked triggers: the log of one animal's session, read for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from rtseg.config import ArmSettings, TriggerFile, from_plain, to_plain
from rtseg.errors import SettingError
from rtseg.triggers.events import TriggerEvent, write_events
from rtseg.triggers.trial import load_triggers
from rtseg.triggers.yoked import yoked_table
from tests.triggers.test_rule import trigger

FILE = '[triggers.laser]\narms = {{ yoked = "log.csv"{more} }}\n'
HEADER = "stream,trigger,seq,decision,arm,last_seq,ended\n"


def written(folder: Path, *events: TriggerEvent, more: str = "") -> Path:
    write_events(events, folder / "log.csv")
    (folder / "t.toml").write_text(FILE.format(more=more), encoding="utf-8")
    return folder / "t.toml"


def event(seq: int, last_seq: int, *, stream: str = "cage", name: str = "laser", arm: str = "real") -> TriggerEvent:
    return TriggerEvent(stream, name, seq, "fired", arm, last_seq, "pulse over")


def test_what_reached_the_animal_is_read_from_the_log(tmp_path: Path) -> None:
    withheld = TriggerEvent("cage", "laser", 30, "refractory", "real")
    file = written(tmp_path, event(40, 40), event(10, 14), event(20, 24, arm="sham"), withheld)
    loaded = load_triggers(file)
    assert loaded["laser"].arms.yoked_events == ((10, 5), (40, 1))
    assert yoked_table(loaded).tolist() == [[10, 5], [40, 1]]


def test_settings_that_were_kept_need_no_log(tmp_path: Path) -> None:
    kept = to_plain(TriggerFile(load_triggers(written(tmp_path, event(10, 14)))))
    again = from_plain(kept, TriggerFile).triggers
    assert again["laser"].arms.yoked_events == ((10, 5),)


def test_of_several_streams_and_triggers_one_is_chosen(tmp_path: Path) -> None:
    events = event(10, 14), event(20, 24, stream="b"), event(30, 34, name="led")
    with pytest.raises(SettingError, match=r"choose one by arms\.yoked_stream: b, cage"):
        load_triggers(written(tmp_path, *events))
    with pytest.raises(SettingError, match=r"choose one by arms\.yoked_trigger: laser, led"):
        load_triggers(written(tmp_path, *events, more=', yoked_stream = "cage"'))
    more = ', yoked_stream = "cage", yoked_trigger = "led"'
    assert load_triggers(written(tmp_path, *events, more=more))["laser"].arms.yoked_events == ((30, 5),)
    with pytest.raises(SettingError, match="has no stream 'c'; it has: b, cage"):
        load_triggers(written(tmp_path, *events, more=', yoked_stream = "c"'))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "no event of it reached an animal"),
        ("cage,laser,5,fired,sham,9,closed\n", "no event of it reached an animal"),
        ("cage,laser,5,fired,real,5,not recorded\n", "no event of it reached an animal"),
        ("cage,laser,5,fired,real,9,records lost\n", "how long the event from frame 5 on was is not recorded"),
        ("cage,laser,5,fired\n", "line 2: no arm, last_seq"),
        ("cage,laser,five,fired,real,9,closed\n", "'five' and last_seq '9' must be frames"),
        ("cage,laser,9,fired,real,5,closed\n", "cannot be an event's first and last frame"),
        ("cage,laser,5,fired,real,9,x\ncage,laser,9,fired,real,12,x\n", "two events of one trigger at once"),
    ],
)
def test_what_is_no_log_of_a_session_is_one_line(tmp_path: Path, rows: str, words: str) -> None:
    file = written(tmp_path)
    (tmp_path / "log.csv").write_text(HEADER + rows, encoding="utf-8")
    with pytest.raises(SettingError, match=words) as found:
        load_triggers(file)
    assert str(tmp_path) in str(found.value)
    assert "triggers.laser" in str(found.value)


def test_a_log_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text(FILE.format(more=""), encoding="utf-8")
    with pytest.raises(SettingError, match=r"log.csv cannot be read"):
        load_triggers(tmp_path / "t.toml")


def test_a_rule_refuses_a_log_that_was_not_read() -> None:
    with pytest.raises(SettingError, match="use load_triggers"):
        yoked_table({"laser": trigger(conditions=(), arms=ArmSettings(yoked="log.csv"))})


def test_arms_of_a_yoked_trigger_are_not_drawn_besides() -> None:
    with pytest.raises(SettingError, match="stands without shares"):
        ArmSettings({"real": 0.5, "sham": 0.5}, yoked="log.csv")
