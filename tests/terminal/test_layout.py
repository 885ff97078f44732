"""What all output has in common: names stand as they are, and no number is cut."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rtseg.checks.check import DatasetReport
from rtseg.recordings.heads import Head
from rtseg.terminal.check_table import print_report
from rtseg.terminal.layout import plain_console, result_table
from tests.checks.scenes import ACT, item, summary
from tests.conftest import REPO


def test_behaviours_with_brackets_stand_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """rich takes [self] for a style and leaves it out, and [/wall] for the end of one that never began."""
    classes = ("other", "groom [self]", "rear [/wall]")
    rule = replace(ACT, head=Head("act [left]", classes, classes[1:], "act"), track="act")
    items = [item(f"v{i}", {"groom [self]": [(10, 40)], "rear [/wall]": [(60, 70)]}, rules=[rule]) for i in range(2)]
    counted = summary(items[:1], items[1:], rules=[rule])
    print_report(DatasetReport(30.0, counted, (), ("bouts of [self]",)))
    said = capsys.readouterr().out
    for words in ("act [left]", "groom [self]", "rear [/wall]", "warning: bouts of [self]"):
        assert words in said


def test_a_long_name_goes_on_and_a_number_is_never_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    table = result_table(("head", "F1", "mAP"))
    table.add_row("a_head_with_a_name_of_fifty_letters_and_then_some", "0.123 0.456", "0.789")
    plain_console().print(table)
    said = capsys.readouterr().out
    assert "0.123 0.456" in said
    assert "0.789" in said
    assert max(map(len, said.splitlines())) <= 40


def test_every_table_is_printed_by_such_a_console() -> None:
    others = [path for path in (REPO / "rtseg" / "terminal").glob("*.py") if path.name != "layout.py"]
    assert [path.name for path in others if "Console(" in path.read_text(encoding="utf-8")] == []
