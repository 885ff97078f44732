"""Events and their log."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from rtseg.config import ArmSettings, TriggerSettings
from rtseg.triggers.events import COLUMNS, TriggerEvent, events_of, write_events
from rtseg.triggers.rule import TriggerRule
from tests.triggers.test_rule import FPS, HEADS, POINTS, probabilities, trigger


def decided_events(attack: list[float], first_seq: int = 0, **triggers: TriggerSettings) -> list[TriggerEvent]:
    rule, n = TriggerRule(triggers, HEADS, FPS, 1, POINTS), len(attack)
    rule.open_slot(0, "cage")
    seq = np.arange(first_seq, first_seq + n)
    labels, armed = np.zeros((n, 2), np.int16), np.ones(n, np.bool_)
    zeros = np.zeros(n, np.int32)
    return events_of(rule, "cage", seq, rule.step(zeros, seq, probabilities(attack), labels, zeros, zeros, armed))


def test_an_event_has_its_frames_and_its_ends() -> None:
    sham = ArmSettings({"sham": 1.0})
    events = decided_events(
        [0.9, 0.9, 0.1, 0.9],
        first_seq=100,
        laser=trigger(),
        control=trigger(pulse_s=0.1, refractory_s=1.0, arms=sham),
    )
    assert events == [
        TriggerEvent("cage", "laser", 100, "fired", "real", 101, "behaviour over"),
        TriggerEvent("cage", "control", 100, "fired", "sham", 100, "pulse over"),
        TriggerEvent("cage", "laser", 103, "fired", "real", 103, ""),
        TriggerEvent("cage", "control", 103, "refractory", "sham"),
    ]


def test_an_event_may_end_at_the_frame_at_which_the_next_one_begins() -> None:
    events = decided_events([0.9, 0.1, 0.9, 0.1], laser=trigger(pulse_s=0.2))
    assert [(e.seq, e.last_seq) for e in events] == [(0, 1), (2, 3)]


def test_the_log_is_read_back_as_it_was(tmp_path: Path) -> None:
    events = [
        TriggerEvent('cage "1", left', "laser", 3, "fired", "real", 9, "pulse over"),
        TriggerEvent("cage", "a,b", 12, "quality", "sham"),
    ]
    write_events(events, tmp_path / "log.csv")
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(COLUMNS)
    assert rows[1] == ['cage "1", left', "laser", "3", "fired", "real", "9", "pulse over"]
    assert rows[2] == ["cage", "a,b", "12", "quality", "sham", "", ""]
