"""Scores on the screen: within 80 columns, and every column explained on a page."""

from __future__ import annotations

import pytest

from rtseg.terminal import tables
from tests.conftest import REPO

EMPTY = {"decoded": {}, "heads": {}, "intervals": {}}


def test_every_column_of_the_scores_is_explained() -> None:
    page = (REPO / "docs/checks.md").read_text(encoding="utf-8").partition("## What is said of scores")[2]
    drawn = [make(EMPTY) for make in (tables._decoded_table, tables._argmax_table, tables._trust_table)]
    columns = {str(column.header).replace("\n", " ") for table in drawn for column in table.columns}
    assert {"F1", "ECE", "seg F1 @10/25/50", "kept if sure"} <= columns
    for column in columns - {"head", "head, class", "frames"}:
        assert column.removesuffix(", s").removesuffix(" [95 %]") in page, column


def test_calibration_says_which_number_is_which(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    before = dict.fromkeys(("ece", "ece_classwise", "nll", "f1"), 0.25)
    head = {"before": before, "after": dict.fromkeys(before, 0.125)}
    about = {"bundle": "b", "dataset": "d", "split": "validation", "method": "temperature", "simulated": False}
    tables.print_calibration({**about, "heads": {"a_head_with_a_rather_long_name": head}})
    said = capsys.readouterr().out
    assert said.count("0.250 0.125") == 4
    assert "Of each pair: before, after." in said
    assert max(map(len, said.splitlines())) <= 80
