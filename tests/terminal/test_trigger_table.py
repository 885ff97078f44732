"""Triggers on the screen, within 80 columns."""

from __future__ import annotations

from collections import Counter

import pytest

from rtseg.experiment.check import CAMERA_STOPS, WAYS, Checked, SinkCheck
from rtseg.terminal.trigger_table import print_check, print_tuned
from rtseg.triggers.trial import TrialScore
from rtseg.tuning.choose import Goal, tune
from rtseg.tuning.sweep import Candidate


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")


def test_what_was_chosen_and_what_it_is_worth(capsys: pytest.CaptureFixture[str]) -> None:
    # The file's own minimum duration is none of the grid's, and is what is chosen.
    tried = [Candidate(0.2, 0.1, 0.0), Candidate(0.8, 0.4, 0.0), Candidate(0.6, 0.3, 0.3)]
    scores = [TrialScore(10, hits, false, (0.5,) * hits, 90.0, 60.0) for hits, false in ((9, 9), (4, 0), (7, 1))]
    print_tuned(tune("laser", Goal(2.0), ["a", "b"], tried, [scores] * 2))
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines()]
    assert "laser: at most 2 false starts per minute; chosen of 3 settings on 2 videos" in said
    assert ["file", "0.6", "0.3", "0.3", "14", "6", "1.00", "0.50,", "0.50"] in lines
    assert ["left", "out", "0.6", "0.3", "0.3", "14", "6", "1.00", "0.50,", "0.50"] in lines
    assert ["0.60", "*", "14", "6", "1.00", "0.50,", "0.50"] in lines
    assert "of fewer than 5 they say little" in said


@pytest.mark.parametrize(("off_ms", "words"), [(35.0, "everything was as it should be"), (99.0, "off after 99.0 ms")])
def test_what_was_measured_of_sinks(capsys: pytest.CaptureFixture[str], off_ms: float, words: str) -> None:
    sink = SinkCheck("box", "serial", ("a",), {way: [1.0, 2.0] for way in WAYS}, 0, {CAMERA_STOPS: off_ms})
    print_check(Checked((sink,), 30.0, 36.3, Counter({"pulse over": 2}), [0.1]))
    said = capsys.readouterr().out
    assert words in said
    assert ["box", "a", WAYS[0], "2", "1.500", "1.990", "2.000"] == [
        part.strip() for part in said.splitlines()[4].replace(WAYS[0], f"  {WAYS[0]}  ").split("  ") if part.strip()
    ]


def test_no_number_is_cut_where_the_folds_disagree(capsys: pytest.CaptureFixture[str]) -> None:
    tried = [Candidate(0.96, 0.96 * 5 / 7, 0.15), Candidate(0.98, 0.98 * 5 / 7, 0.25), Candidate(0.7, 0.5, 0.0)]
    one, two = (
        [TrialScore(100, h, f, (0.24,) * h, 1e3, 900.0) for h, f in rows]
        for rows in (
            ((80, 2), (10, 0), (70, 900)),
            ((10, 300), (80, 2), (70, 900)),
        )
    )
    tuned = tune("laser", Goal(2.0), ["a", "b"], tried, [one, two])
    assert len(set(tuned.folds)) == 2
    print_tuned(tuned)
    said = capsys.readouterr().out
    assert "…" not in said
    (row,) = (i for i, line in enumerate(said.splitlines()) if line.strip().startswith("left out"))
    left_out = " ".join(said.splitlines()[row : row + 2]).split()
    assert {"0.96", "0.98", "0.686", "0.7", "0.15", "0.25"} <= set(left_out)
    assert max(map(len, said.splitlines())) <= 80
