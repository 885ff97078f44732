"""Sections of sinks: each kind has its own keys, and a trigger names sections that are there."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from rtseg.config import (
    SINK_KINDS,
    SerialSinkSettings,
    SinkSettings,
    TriggerFile,
    ZmqSinkSettings,
    from_plain,
    load_settings,
    to_plain,
)
from rtseg.errors import SettingError

FILE = """
[triggers.attack]
conditions = [{ head = "task1", behaviours = ["attack"] }]
sinks = ["laser", "rig"]
line = 8

[triggers.mount]
conditions = [{ head = "task1", behaviours = ["mount"] }]
sinks = ["card"]
line = "port0/line3"

[sinks.laser]
kind = "serial"
port = "/dev/ttyACM0"

[sinks.rig]
kind = "zmq"
address = "tcp://127.0.0.1:5760"

[sinks.card]
kind = "nidaq"
options = { device = "Dev1", lines = [1, 2] }
"""


def test_a_file_with_three_kinds(tmp_path: Path) -> None:
    path = tmp_path / "attack.toml"
    path.write_text(FILE, encoding="utf-8")
    read = load_settings(path, TriggerFile)
    laser, rig, card = (read.sinks[name] for name in ("laser", "rig", "card"))
    assert isinstance(laser, SerialSinkSettings)
    assert (laser.port, laser.baud) == ("/dev/ttyACM0", 500_000)
    assert isinstance(rig, ZmqSinkSettings)
    assert type(card) is SinkSettings
    assert card.options == {"device": "Dev1", "lines": [1, 2]}
    assert (read.triggers["attack"].line, read.triggers["mount"].line) == (8, "port0/line3")
    # As a sink's process gets them.
    for sink in (laser, rig, card):
        assert from_plain(to_plain(sink), SinkSettings) == sink


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        ({}, "missing key kind"),
        ({"kind": 3}, "kind: expected str, got 3"),
        ({"kind": "serial"}, "missing key port"),
        ({"kind": "serial", "port": ""}, "port must name a serial device"),
        ({"kind": "serial", "port": "x", "baud": 3}, "baud must be from 1200"),
        ({"kind": "serial", "port": "x", "address": "y"}, "unknown key address"),
        ({"kind": "serial", "port": "x", "options": {"a": 1}}, "options are for sinks of your own"),
        ({"kind": "own", "port": "x"}, "unknown key port"),
        ({"kind": "own", "heartbeat_s": 0}, "heartbeat_s must be from 0.01"),
        # Four of them are a board's watchdog, which counts microseconds.
        ({"kind": "own", "heartbeat_s": 61}, "heartbeat_s must be from 0.01 to 60"),
        ({"kind": "own", "options": {"since": date(2024, 1, 1)}}, "options must be texts, numbers, truths, lists"),
        ({"kind": "zmq", "address": "x", "format": "xml"}, "format must be one of msgpack, json"),
        ({"kind": "lsl", "scope": "world"}, "scope must be one of machine, link, site"),
        ({"kind": "lsl", "name": ""}, "name must not be empty"),
        ({"kind": "osc", "address": "9000"}, "address must be HOST:PORT"),
        ({"kind": "osc", "address": "a:0"}, "address must be HOST:PORT"),
        ({"kind": "osc", "address": "a:9000", "prefix": "rtseg"}, "prefix must begin with a slash"),
    ],
)
def test_a_wrong_sink_is_refused_with_the_reason(section: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        from_plain(section, SinkSettings, where="sinks.laser")


def test_a_trigger_names_sinks_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "attack.toml"
    path.write_text(FILE.replace("[sinks.rig]", "[sinks.wig]"), encoding="utf-8")
    with pytest.raises(SettingError, match=r"triggers\.attack: no section \[sinks\.NAME\] for rig; there are: laser"):
        load_settings(path, TriggerFile)
    path.write_text(FILE.replace('sinks = ["laser", "rig"]', 'sinks = ["laser", "laser"]'), encoding="utf-8")
    with pytest.raises(SettingError, match="sinks must be different names"):
        load_settings(path, TriggerFile)
    path.write_text(FILE.replace("line = 8", "line = 8.5"), encoding="utf-8")
    with pytest.raises(SettingError, match=r"expected int or str, got 8\.5"):
        load_settings(path, TriggerFile)


def test_every_kind_is_its_own_dataclass() -> None:
    assert len(set(SINK_KINDS.values())) == len(SINK_KINDS)
    assert all(issubclass(kind, SinkSettings) for kind in SINK_KINDS.values())
