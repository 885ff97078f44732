"""The pages of docs/sinks: their programs are Python, their trigger files are accepted, and the example sink works."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rtseg.config import SINK_KINDS, SinkSettings, from_plain
from rtseg.sinks import OFF, ON, LineCommand, LineSpec
from tests.conftest import REPO

PAGES = sorted((REPO / "docs" / "sinks").glob("*.md"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_kind_has_a_page() -> None:
    assert {page.stem for page in PAGES} == {*SINK_KINDS, "own", "README"}
    table = (REPO / "docs" / "sinks" / "README.md").read_text(encoding="utf-8")
    assert all(f"({page.name})" in table for page in PAGES if page.stem != "README")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_programs_compile_and_settings_are_accepted(page: Path) -> None:
    for source in blocks(page, "python"):
        compile(source, page.name, "exec")
    for source in blocks(page, "toml"):
        for name, sink in tomllib.loads(source).get("sinks", {}).items():
            assert from_plain(sink, SinkSettings, where=f"{page.name}: sinks.{name}").kind == sink["kind"]


def test_the_sink_of_ones_own_does_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its card is not here: what it would be told is written down."""
    told: list[tuple[Any, ...]] = []

    class Task:
        do_channels = property(lambda self: self)

        def add_do_chan(self, name: str) -> None:
            self.name = name

        def write(self, level: bool) -> None:
            told.append((self.name, level))

        def close(self) -> None:
            told.append((self.name, "closed"))

    card = ModuleType("nidaqmx")
    card.Task = Task  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nidaqmx", card)
    (source,) = blocks(REPO / "docs" / "sinks" / "own.md", "python")
    assert len(source.strip().splitlines()) <= 40
    names: dict[str, Any] = {}
    exec(source, names)
    settings = SinkSettings(kind="nidaq", options={"device": "Dev1"})
    lines = [LineSpec(trigger, "port0/line3", 0.0, 0.005, 5.0) for trigger in ("attack", "mount")]
    sink = names["DigitalOut"]("card", settings, lines, ())
    assert sink.open() == "lines port0/line3 of Dev1"
    sink.turn_on(LineCommand(ON, 1, 1, 10**9, 0, 0, "cage1"))
    sink.turn_off(LineCommand(OFF, 1, 1, 0, 0, 0, "cage1"), "")
    sink.close()
    name = "Dev1/port0/line3"
    assert told == [(name, False), (name, True), (name, False), (name, "closed")]
