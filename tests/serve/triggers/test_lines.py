"""Which lines there are, and what no sink of a trigger can do."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from rtseg.config import (
    ConditionSettings,
    LslSinkSettings,
    SerialSinkSettings,
    ServeSettings,
    TriggerFile,
    TriggerSettings,
    ZmqSinkSettings,
)
from rtseg.errors import SettingError
from rtseg.serve.triggers.lines import check_trains, open_links

TRAIN = TriggerSettings((ConditionSettings("task1", ("attack",)),), train_hz=20.0, line=8)
SINKS = {
    "laser": SerialSinkSettings(kind="serial", port="/dev/none"),
    "log": LslSinkSettings(kind="lsl"),
    "loop": ZmqSinkSettings(kind="zmq", address="tcp://127.0.0.1:*"),
}


def test_a_train_needs_a_sink_that_makes_its_pulses() -> None:
    file = TriggerFile({"attack": replace(TRAIN, sinks=("log", "loop"))}, SINKS)
    with contextlib.ExitStack() as opened, pytest.raises(SettingError, match=r"makes pulse trains: log \(lsl\), loop"):
        open_links(file, [], ServeSettings(), opened)
    check_trains(TriggerFile({"attack": replace(TRAIN, sinks=("log", "laser"))}, SINKS))
    check_trains(TriggerFile({"attack": TRAIN}, SINKS))  # decided and recorded; nothing is sent
