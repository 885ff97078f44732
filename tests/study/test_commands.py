"""The commands around the studies: options reach them, the page is printed, and no folder of this machine is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import Done, here
from tests.conftest import REPO
from tests.study.scenes import read_json, write_dataset

TIMEOUT_S = 300
"""A command takes seconds; this only ends one that hangs, on a machine that is busy with other things."""


def rtseg(*words: object, cwd: Path) -> Done:
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "rtseg", *map(str, words)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), n_train=2, n_validation=2).parent


def test_cross_validation(folder: Path, tmp_path: Path) -> None:
    options = ["--folds", 2, "--inside-every", 2, "--root", folder, "--set", "train.epochs=1"]
    done = here("crossvalidate", "tiny.toml", "--out", tmp_path / "cv", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    result = read_json(tmp_path / "cv" / "crossvalidate.json")
    assert result["command"] == (
        "rtseg crossvalidate tiny.toml --out FOLDER --folds 2 --inside-every 2 --root FOLDER --set train.epochs=1"
    )
    assert str(tmp_path) not in (tmp_path / "cv" / "crossvalidate.md").read_text()
    assert [t["epoch"] for t in result["systems"]["tiny"]["trials"]] == [1, 1]
    assert "| tiny |" in done.stdout
    assert "tiny, seed 0, fold 1" in done.stderr


def test_decoding_of_a_bundle(folder: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    words = ["study", "decoding", tiny_bundle, "dataset.toml", "--out", tmp_path, "--head", "task1"]
    done = rtseg(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "[decoding]\nmargin = " in done.stdout
    assert read_json(tmp_path / "decoding.json")["command"].startswith("rtseg study decoding tiny dataset.toml --out")


def test_wrong_usage_and_failure(folder: Path, tmp_path: Path) -> None:
    usage = here("study", "lookahead", "tiny.toml", "--out", tmp_path, "--frames", "0,six", cwd=folder)
    assert usage.returncode == 2
    assert "expected whole numbers like 0,3,6" in " ".join(usage.stderr.split())
    failed = here("study", "ablation", "tiny.toml", "--out", tmp_path, "--group", "heading", cwd=folder)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("rtseg: the recipe uses no group heading")
