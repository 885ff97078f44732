"""A daemon's settings, and the file that shows them all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from rtseg.config import ServeSettings, from_plain, load_settings
from tests.live import REPO


def test_settings_of_a_daemon_that_are_unknown_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="unknown key colour; accepted: frames, predictions"):
        from_plain({"colour": "red"}, ServeSettings)
    with pytest.raises(Exception, match="triggers need workers = 1: a sink's line has one owner"):
        from_plain({"triggers": "t.toml", "workers": 2}, ServeSettings)
    with pytest.raises(Exception, match="log_format must be one of text, json; got 'xml'"):
        from_plain({"log_format": "xml"}, ServeSettings)
    example = REPO / "packaging" / "rtseg.toml"
    assert load_settings(example, ServeSettings) == ServeSettings(http="127.0.0.1:9464", log_format="json")
    # What stands there as a comment is every setting with its default.
    shown = [line.removeprefix("# ") for line in example.read_text().splitlines() if " = " in line]
    assert {line.partition(" = ")[0] for line in shown} == {field.name for field in fields(ServeSettings)}
    (tmp_path / "all.toml").write_text("\n".join(shown))
    assert load_settings(tmp_path / "all.toml", ServeSettings) == ServeSettings(
        http="127.0.0.1:9464", log_format="json"
    )
