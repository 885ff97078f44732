"""What the long commands write where nobody watches: milestones and warnings, and nothing of the moment."""

from __future__ import annotations

import pytest

from rtseg.terminal.progress import comparing, training


def test_a_comparison_writes_a_line_for_each_milestone(capsys: pytest.CaptureFixture[str]) -> None:
    with comparing() as (event, say):
        place = {"number": 1, "of": 4}
        event("II/tcn [seed 0]", place | {"started": True})
        event("II/tcn [seed 0]", place | {"epoch": 3})
        event("II/tcn [seed 0]", place | {"ended": "", "seconds": 12.34})
        event("II/gru", place | {"ended": "diverged", "seconds": None})
        event("II/ms", place | {"kept": True})
        event("II/transformer", place | {"waits": True})
        say("scoring")
        say("warning: frames [masked]")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "[1/4] II/tcn [seed 0]: training",
        "[1/4] II/tcn [seed 0]: trained in 12.3 s",
        "[1/4] II/gru: diverged",
        "[1/4] II/ms: there already",
        "[1/4] II/transformer: still to come",
        "warning: frames [masked]",
    ]


def test_a_training_writes_its_evaluations_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with training() as (report, say):
        say("reading")
        say("warning: frames [masked]")
        report({"epoch": 0, "loss": 0.5, "step": 1, "steps": 2})
        report({"epoch": 1, "loss": 0.25, "groups": {"act [left]": {"f1": 0.5, "map": 0.75}}})
        report({"epoch": 2, "loss": 0.125, "groups": {}})
    assert capsys.readouterr().err.splitlines() == [
        "warning: frames [masked]",
        "epoch 1: loss 0.250  validation act [left] F1 0.500 mAP 0.750",
        "epoch 2: loss 0.125  nothing held out",
    ]
