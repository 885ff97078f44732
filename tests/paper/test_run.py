"""Real trainings through the command: tables at the end, a kill in the middle, and a second run that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rtseg import config
from rtseg.config import PaperSettings
from rtseg.paper import runs as paper_runs
from rtseg.paper import search as paper_search
from rtseg.paper.data import save_data
from rtseg.paper.plan import Options, plan
from rtseg.paper.run import compare_systems
from rtseg.paper.run_one import JOB
from rtseg.paper.runs import _DEFAULTS, TO_COME, Run, find_runs, train_all
from rtseg.recordings.recording import IGNORE
from rtseg.simulate.files import simulate_dataset
from tests.paper.scenes import paper_data

TINY = (
    "model.channels=8",
    "model.layers=2",
    "model.head_channels=4",
    "model.head_layers=1",
    "train.crop_frames=160",
    "train.warmup_frames=32",
    "train.threads=1",
    "train.bfloat16=false",
    "paper.resamples=20",
    "paper.timing_frames=100",
    "paper.timing_s=0.1",
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "170"}


def command(data: Path, out: Path, *only: str) -> list[str]:
    settings = [text for setting in TINY for text in ("--set", setting)]
    chosen = [text for row in only for text in ("--only", row)]
    options = ["--seeds", "1", "--epochs", "1", "--quick"]
    return [
        sys.executable,
        "-m",
        "rtseg",
        "paper",
        "--data",
        str(data),
        "--out",
        str(out),
        *options,
        *settings,
        *chosen,
    ]


@pytest.mark.slow
def test_a_killed_comparison_goes_on_and_ends_with_the_tables(tmp_path: Path) -> None:
    data, out = tmp_path / "sim", tmp_path / "out"
    simulate_dataset(data, sequences=(4, 5, 7), minutes=0.2)
    rows = ("II/boosting-causal", "V/ours")
    with subprocess.Popen(
        command(data, out, *rows), env=ENVIRONMENT, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any("[2/2] V/ours seed 0: training" in line for line in lines)
        process.send_signal(signal.SIGKILL)
    first = out / "runs" / "II-boosting-causal" / "seed0" / "result.json"
    made = first.stat().st_mtime_ns
    assert not (out / "paper.json").exists()

    done = subprocess.run(command(data, out, *rows), env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[1/2] II/boosting-causal seed 0: there already" in done.stderr
    assert first.stat().st_mtime_ns == made
    assert "Table V: the tasks trained together (simulated)" in done.stdout
    report = json.loads((out / "paper.json").read_text())
    assert report["kind"] == "rtseg paper"
    assert report["data"]["simulated"] is True
    assert report["failed"] == {}
    assert {"commit", "machine", "versions", "date"} <= set(report)
    by_key = {row["training"]: row for row in report["rows"] if row["training"]}
    assert set(by_key) == set(rows)
    for row in by_key.values():
        assert row["training_seconds"] > 0
        assert row["offline_us"] > 0
        assert row["future_frames"] == 0
        assert 0 <= row["map"]["mean"] <= 1
    boosting = by_key["II/boosting-causal"]["map"]
    assert 0 <= boosting["low"] <= boosting["high"] <= 1
    # Every annotator and behaviour has one test recording: no interval.
    assert by_key["V/ours"]["map"]["low"] is None
    assert by_key["V/ours"]["step_us"] > 0
    assert "| rtseg's own, causal multitask, Task 3 |" in (out / "paper.md").read_text()


def test_a_training_ends_when_its_parent_does(tmp_path: Path) -> None:
    data = paper_data((1,), n_frames=400)
    save_data(data, tmp_path / "data")
    options = Options(only=("I/lstm-causal",), quick=True, overrides=(*_of_recipes(TINY), "train.patience=100000"))
    _, trainings = plan(data, options)
    [run] = find_runs(trainings, [0], tmp_path, "data", PaperSettings())
    recipe = config.to_plain(run.training.recipe)
    recipe["train"] |= {"epochs": 100_000}
    run.folder.mkdir(parents=True)
    job = {
        "fingerprint": "",
        "data": str(tmp_path / "data"),
        "tasks": [1],
        "resamples": 5,
        "timing_frames": 50,
        "scored": True,
    }
    (run.folder / JOB).write_text(json.dumps({**job, "recipe": recipe}))
    with subprocess.Popen(
        [sys.executable, "-m", "rtseg.paper.run_one", str(run.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert "epoch" in json.loads(process.stdout.readline())
        process.stdin.close()
        process.stdout.read()
        assert process.wait(timeout=60) == 1


def test_a_training_that_fails_says_why_and_the_next_one_is_made(tmp_path: Path) -> None:
    data = paper_data((1,), n_frames=200)
    for example in data.validation:
        example.labels[:] = IGNORE
    save_data(data, tmp_path / "data")
    _, trainings = plan(data, Options(only=("I/fully-connected-causal",), quick=True, overrides=_of_recipes(TINY)))
    runs = find_runs(trainings, [0], tmp_path, "data", PaperSettings())
    told: list[str] = []
    [run] = train_all(runs, tmp_path / "data", PaperSettings(), lambda name, happened: told.extend(happened))
    assert run.result is None
    assert "at least one training and one validation recording" in run.why
    assert "log.txt" in run.why
    assert {"started", "ended"} <= set(told)


def test_a_training_that_diverges_is_made_at_a_lower_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_runs, "LOWER_RATE", 1e-33)
    data = paper_data((1,), n_frames=200)
    save_data(data, tmp_path / "data")
    options = Options(only=("I/fully-connected-causal",), quick=True, epochs=1)
    overrides = ("train.learning_rate=1e30", "train.warmup_steps=0")
    _, trainings = plan(data, replace(options, overrides=(*_of_recipes(TINY), *overrides)))
    settings = PaperSettings(resamples=5, timing_frames=30)

    def find() -> list[Run]:
        return find_runs(trainings, [0], tmp_path, "data", settings)

    [run] = train_all(find(), tmp_path / "data", settings, lambda name, happened: None)
    assert run.result is not None, run.why
    assert run.given_up == (1e30,)
    assert run.training.recipe.train.learning_rate == pytest.approx(1e-3)
    assert find()[0].result == run.result  # what is given up is not tried again
    searched = replace(trainings[0], scored=False)
    assert find_runs([searched], [1], tmp_path, "data", settings)[0].fallback is None


def test_a_place_of_the_search_that_diverges_is_found_out_once_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_search, "NETWORKS", {"learning_rate": [1e30, 1e-3], "weight_decay": [0.0]})
    data = paper_data((1,), n_frames=200)
    options = Options(only=("I/fully-connected-causal",), overrides=_of_recipes((*TINY, "train.warmup_steps=0")))
    settings = PaperSettings(resamples=5, timing_frames=30, timing_s=0.1, search_epochs=1)
    for run in range(2):
        told: list[dict[str, Any]] = []
        report = compare_systems(
            data,
            tmp_path,
            options,
            seeds=1,
            settings=settings,
            event=lambda name, e: told.append(e),  # noqa: B023
        )
        assert report["failed"] == {}
        search = report["search"]["fully-connected"]
        assert [tried["score"] is None for tried in search["tried"]] == [True, False]
        assert "failed" in search["tried"][0]["why"]
        assert search["chosen"]["learning_rate"] == 1e-3
        assert any("started" in event for event in told) == (run == 0)


def test_after_the_deadline_nothing_is_trained_and_all_is_still_to_come(tmp_path: Path) -> None:
    data = paper_data((1,), n_frames=60)
    options = Options(only=("I/lstm",), overrides=_of_recipes(TINY))
    settings = PaperSettings(resamples=5, timing_frames=30, timing_s=0.1)
    happened: list[str] = []
    report = compare_systems(
        data, tmp_path, options, seeds=2, settings=settings, deadline=-1.0, event=lambda name, e: happened.extend(e)
    )
    assert "started" not in happened
    # Six places of the grid, then two forms with two seeds.
    assert len(report["to_come"]) == 6 + 2 * 2
    assert report["failed"] == {}
    assert {row["absent"] for row in report["rows"] if row["training"]} == {TO_COME}
    assert "10 trainings are still to come" in (tmp_path / "paper.md").read_text()


def test_a_result_stays_valid_when_a_setting_comes_that_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainings = plan(paper_data((1,)), Options(only=("I/lstm", "II/tcn")))[1]

    def fingerprints(settings: PaperSettings) -> list[str]:
        return [run.fingerprint for run in find_runs(trainings, range(3), tmp_path, "data", settings)]

    before = fingerprints(PaperSettings())
    usual = config.to_plain
    monkeypatch.setattr("rtseg.paper.runs._DEFAULTS", {**_DEFAULTS, "train": {**_DEFAULTS["train"], "new": 0}})
    monkeypatch.setattr("rtseg.paper.runs.config.to_plain", lambda r: _with_new(usual(r), 0))
    assert fingerprints(PaperSettings()) == before
    monkeypatch.setattr("rtseg.paper.runs.config.to_plain", lambda r: _with_new(usual(r), 1))
    assert not set(fingerprints(PaperSettings())) & set(before)


def test_the_baselines_may_have_fewer_seeds(tmp_path: Path) -> None:
    trainings = plan(paper_data((1,)), Options(only=("I/lstm-causal", "II/tcn-causal")))[1]
    runs = find_runs(trainings, range(3), tmp_path, "data", PaperSettings(baseline_seeds=2))
    # The first seed of all comes before the second of any.
    assert [run.name for run in runs] == [
        "I/lstm-causal seed 0", "II/tcn-causal seed 0", "I/lstm-causal seed 1", "II/tcn-causal seed 1",
        "II/tcn-causal seed 2",
    ]  # fmt: skip


def _with_new(plain: dict[str, Any], value: int) -> dict[str, Any]:
    return {**plain, "train": {**plain["train"], "new": value}}


def _of_recipes(settings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(s for s in settings if not s.startswith("paper."))
