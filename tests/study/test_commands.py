"""The commands around the studies: options reach them, the page is printed, and no folder of this machine is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.simulate.tasks import simulate_sequence
from tests.commands import Done, here
from tests.conftest import REPO
from tests.live import write_gapped_poses
from tests.study.scenes import DATASET, N_FRAMES, RECIPE, read_json, write_dataset

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


def test_intervals_are_over_the_videos_that_label_the_head(tmp_path: Path) -> None:
    """A head that two of five videos label: its intervals are over two, and a fold without any of them says so."""
    names = ["a", "b", "c", "d", "e"]
    for number, name in enumerate(names):
        recording, labels = simulate_sequence(number, N_FRAMES, name=name, aggressive=True)
        write_gapped_poses(recording, tmp_path / f"{name}.poses.csv")
        some = name in ("a", "d")
        groom = ["yes" if t % 40 < 20 else "no" for t in range(N_FRAMES)]
        rows = [f"{t},{labels.classes[c]}" + f",{groom[t]}" * some for t, c in enumerate(labels.frames)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["frame,task1" + ",groom" * some, *rows]) + "\n")
    source = f'[[recordings]]\nposes = "{{id}}.poses.csv"\nlabels = "{{id}}.csv"\nids = {json.dumps(names)}\n'
    head = '[heads.groom]\nclasses = ["no", "yes"]\nmissing = "mask"\n'
    split = '[split]\ntrain = "rest"\nvalidation = ["e"]\n'
    (tmp_path / "dataset.toml").write_text(DATASET.split("[[calms21]]")[0] + source + head + split)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    words = ["crossvalidate", "tiny.toml", "--out", "cv", "--folds", 3, "--fixed-epochs", 1]
    done = here(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    notes = read_json(tmp_path / "cv" / "crossvalidate.json")["notes"]
    # a and d are dealt into one fold.
    assert notes[0] == "Intervals of groom are over 2 videos: of fewer than 5 they say little about new animals."
    (told,) = [note for note in notes if "groom: no, groom: yes" in note]
    assert told.startswith("Fold 0 trains without a frame of ")
