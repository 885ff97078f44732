"""docs/settings.md names every setting with its default: none is added unseen, and none stays there when it is gone."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from rtseg import config
from tests.conftest import REPO

PAGE = (REPO / "docs" / "settings.md").read_text(encoding="utf-8")
HEADINGS: dict[str, type[Any]] = {
    "A recipe": config.Recipe,
    "[features]": config.FeatureSettings,
    "[scaler]": config.ScalerSettings,
    "[model]": config.ModelSettings,
    "model.cells": config.CellSettings,
    "[augment]": config.AugmentSettings,
    "[train]": config.TrainSettings,
    "[boosting]": config.BoostingSettings,
    "[decoding]": config.DecodingSettings,
    "[gaps]": config.GapSettings,
    "[ranges]": config.RangeSettings,
    "[body]": config.BodySettings,
    "rtseg serve": config.ServeSettings,
    "rtseg paper": config.PaperSettings,
    "rtseg crossvalidate": config.CrossValidationSettings,
    "rtseg calibrate --int8 --fp16": config.PrecisionSettings,
    "The onnx engine": config.OnnxSettings,
    "An experiment": config.ExperimentSettings,
    "[cameras.NAME]": config.CameraSettings,
    "A trigger file": config.TriggerFile,
    "[triggers.NAME]": config.TriggerSettings,
    "triggers.NAME.conditions": config.ConditionSettings,
    "[triggers.NAME.arms]": config.ArmSettings,
    "[sinks.NAME]": config.SinkSettings,
    '[sinks.NAME] kind = "zmq"': config.ZmqSinkSettings,
    '[sinks.NAME] kind = "serial"': config.SerialSinkSettings,
    '[sinks.NAME] kind = "lsl"': config.LslSinkSettings,
    '[sinks.NAME] kind = "osc"': config.OscSinkSettings,
    '[sinks.NAME] kind = "open_ephys"': config.OpenEphysSinkSettings,
}
NOT_FOR_USERS = {config.WorkerPlace}
"""What a front tells a worker; nobody writes it."""


def defaults_of(kind: type[Any]) -> dict[str, str]:
    """Key -> its default as the page prints it; the sections of a recipe have headings of their own."""
    found = {}
    for field in dataclasses.fields(kind):
        value = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if not dataclasses.is_dataclass(value):
            found[field.name] = "required" if value is dataclasses.MISSING else f"`{json.dumps(value)}`"
    return found


def sections() -> dict[str, str]:
    """Heading -> its text."""
    _, *parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_dataclass_of_settings_has_a_heading() -> None:
    kinds = {k for k in vars(config).values() if isinstance(k, type) and dataclasses.is_dataclass(k)}
    assert kinds == {*HEADINGS.values()} | NOT_FOR_USERS
    assert list(sections()) == list(HEADINGS)


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_page_names_every_setting_and_its_default(heading: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.+) \|$", sections()[heading], re.MULTILINE)
    found = {key: default for key, default, _ in rows}
    assert found == defaults_of(HEADINGS[heading]), f"docs/settings.md, {heading!r}, is not what rtseg.config says"
    assert list(found) == list(defaults_of(HEADINGS[heading]))
