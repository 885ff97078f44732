"""Results of several seeds to the figures of a row, the paper's claims, and what the tables show of them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rtseg.config import PaperSettings
from rtseg.evaluation.evaluate import without_nan
from rtseg.paper.data import PaperData
from rtseg.paper.plan import Options, plan
from rtseg.paper.report import METHOD, compare_claims, rows_with_figures
from rtseg.paper.run_one import RESAMPLED, RESULT
from rtseg.paper.runs import Run, find_runs
from rtseg.paper.tables import HEADINGS, absences, cells, claims, markdown, parts, print_report
from tests.paper.scenes import paper_data

SETTINGS = PaperSettings()
TASKS = (1, 2)


def write_result(run: Run, f1: float, *, seconds: float, memory: float) -> None:
    run.folder.mkdir(parents=True)
    groups = [f"task{task}" for task in run.training.tasks]
    result = {
        "fingerprint": run.fingerprint,
        "groups": {g: {"f1": f1, "map": None} for g in groups},
        "training_seconds": seconds,
        "training_memory_mb": memory,
        "parameters": 5000,
    }
    (run.folder / RESULT).write_text(json.dumps(result))
    draws = np.linspace(-0.1, 0.1, 201)
    arrays = {f"{g}.{s}": f1 + draws if s == "f1" else np.full(201, np.nan) for g in groups for s in ("f1", "map")}
    np.savez(run.folder / RESAMPLED, **arrays)  # type: ignore[arg-type]


@pytest.fixture
def data() -> PaperData:
    return paper_data(TASKS, n_frames=30)


@pytest.fixture
def report(tmp_path: Path, data: PaperData) -> dict[str, Any]:
    """TCN and Transformer of Table II and both multitask networks, two seeds; one seed of the causal one failed."""
    options = Options(only=("II/tcn", "II/transformer", "V/multitask"))
    rows, trainings = plan(data, options)
    for run in find_runs(trainings, range(2), tmp_path, "data", SETTINGS):
        slow = 12.0 if "transformer" in run.training.key else 1.0
        f1 = 0.5 + 0.1 * run.seed + (0.2 if run.training.key == "V/multitask" else 0.0)
        if (run.training.key, run.seed) != ("V/multitask-causal", 1):
            write_result(run, f1, seconds=10 * slow, memory=100 * slow)
    runs = find_runs(trainings, range(2), tmp_path, "data", SETTINGS)
    timing = {"II/tcn": {"offline_us": 20.0}, "II/transformer": {"offline_us": 500.0}}
    lines = rows_with_figures(rows, runs, data, timing)
    machine = {"cpu": "a processor", "cores_usable": 2, "os": "an os"}
    machine |= {"load_average_before": 1.0, "load_average_after": 2.0}
    plain: dict[str, Any] = without_nan(
        {
            "machine": machine,
            "versions": {"python": "3", "torch": None},
            "commit": "abc",
            "date": "today",
            "settings": {"seeds": [0, 1], "quick": True},
            "data": {**data.summary(), "fingerprint": "0123456789abcdef"},
            "method": METHOD,
            "rows": lines,
            "claims": compare_claims(lines, runs, data),
        }
    )
    return plain


def line(report: dict[str, Any], training: str, task: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in report["rows"] if r["training"] == training and r["task"] == task)
    return found


def test_mean_and_spread_are_over_seeds_and_the_interval_is_of_their_mean(report: dict[str, Any]) -> None:
    f1 = line(report, "II/tcn")["f1"]
    assert f1["mean"] == pytest.approx(0.55)
    assert f1["spread"] == pytest.approx(0.1 / np.sqrt(2), abs=1e-6)
    assert (f1["low"], f1["high"]) == (pytest.approx(0.55 - 0.095), pytest.approx(0.55 + 0.095))
    assert line(report, "II/tcn")["map"]["mean"] is None


def test_a_failed_seed_is_named_and_the_others_count(report: dict[str, Any]) -> None:
    causal = line(report, "V/multitask-causal")
    assert causal["seeds"] == [0]
    assert causal["problems"] == ["V/multitask-causal seed 1: not trained yet"]
    assert causal["f1"]["mean"] == pytest.approx(0.5)
    assert causal["f1"]["spread"] is None


def test_the_papers_claims_stand_beside_what_was_measured(report: dict[str, Any]) -> None:
    said = {c["claim"]: c for c in report["claims"]}
    ratios = [c for c in report["claims"] if c["unit"] == "x"]
    assert [(c["paper"], c["measured"]) for c in ratios] == [(10, 12), (8, 12), (20, 25)]
    ahead = said["multitask TCN ahead of the TCN alone, Task 1, F1"]
    assert ahead["paper"] == pytest.approx(0.858 - 0.844)
    assert (ahead["measured"], ahead["low"], ahead["high"]) == pytest.approx((0.2, 0.2, 0.2))
    assert claims(report)[0] == "Transformer to TCN, training time (Table II): paper 10x, here 12.0x"


def test_tables_show_what_there_is_and_say_why_the_rest_is_not(report: dict[str, Any]) -> None:
    shown = dict(parts(report))
    assert list(shown) == [
        "Table II: Task 1 (simulated)",
        "Table IV: Task 3 (simulated)",
        "Table V: the tasks trained together (simulated)",
    ]
    table = shown["Table V: the tasks trained together (simulated)"]
    assert absences(table) == [
        "Multitask TCN, Task 3, rtseg's own, causal multitask, Task 3: no Task 3: left out here",
        "Multitask TCN, Task 1, Multitask TCN, Task 2: V/multitask-causal seed 1: not trained yet",
    ]
    texts = cells(line(report, "II/transformer"), 30.0)
    assert len(texts) == len(HEADINGS)
    # Four stages of nine layers, each 2^i frames of convolution and 2^i, at most 256, of attention.
    assert texts[:4] == ["Transformer (ASFormer)", "as the paper", "4088 frames, 136 s", "0.850 ± 0.015"]
    assert texts[HEADINGS.index("F1")] == "0.550 ± 0.071"
    assert texts[HEADINGS.index("µs/frame")] == "500.0"
    assert texts[HEADINGS.index("step µs")] == "-"


def test_the_page_and_the_screen_hold_every_row_and_say_simulated(report: dict[str, Any]) -> None:
    page = markdown(report)
    rows = [text for text in page.splitlines() if text.startswith("| ")]
    assert {text.count("|") for text in rows} == {len(HEADINGS) + 1}
    assert len(rows) == sum(1 + len(lines) for _, lines in parts(report))
    console = Console(width=170, record=True, file=io.StringIO())
    print_report(report, console)
    screen = console.export_text()
    for text in (page, screen):
        assert "says nothing about real animals" in text
        assert "Top-1 entry of the challenge" in text
        assert "commit abc" in text
        assert "made for a test" in text
        assert "--quick" in text
        assert "0.858 ± 0.010" in text


def test_tasks_of_other_names_stand_in_the_headings(report: dict[str, Any]) -> None:
    report["data"]["tasks"] = {"1": "S1", "2": "task2"}
    assert parts(report)[0][0] == "Table II: Task 1 (Task 1 = S1) (simulated)"
