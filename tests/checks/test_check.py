"""`rtseg check`: a dataset or a recipe, every file that cannot be read at once, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtseg.checks.check import check_file
from rtseg.errors import SettingError
from tests.checks.scenes import walk
from tests.commands import here

DATASET = """
name = "lab"
fps = 30
[skeleton]
animals = ["a", "b"]
keypoints = ["nose", "tail"]
[[recordings]]
poses = "{id}.poses.csv"
labels = "{id}.labels.csv"
[heads.act]
track = "labels"
unlabelled = "other"
classes = ["other", "groom"]
scored = ["groom"]
[split]
train = "rest"
validation = ["v"]
"""
RECIPE = 'name = "r"\ndataset = "lab.toml"\narena = [0, 0, 600, 600]\n[features]\ngroups = ["speed"]\n'


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """The recordings t, u and v, a dataset file and a recipe."""
    header = ",".join(f"{animal}.{point}.{axis}" for animal in "ab" for point in ("nose", "tail") for axis in "xy")
    for seed, name in enumerate("tuv"):
        rows = [",".join(f"{x:.3f}" for x in frame.ravel()) for frame in walk(seed, 90)]
        lines = [f"frame,{header}", *(f"{t},{row}" for t, row in enumerate(rows))]
        (tmp_path / f"{name}.poses.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / f"{name}.labels.csv").write_text("start,stop,behavior\n10,30,groom\n50,60,groom\n")
    (tmp_path / "lab.toml").write_text(DATASET)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def test_a_recipe_that_learns_from_all_recordings_is_checked_as_one(lab: Path) -> None:
    """What only `validation` shows is learnt as well, and nothing is missed there."""
    for name, labels in (("t", ""), ("u", ""), ("v", "10,30,groom\n")):
        (lab / f"{name}.labels.csv").write_text("start,stop,behavior\n" + labels)
    assert not check_file(lab / "recipe.toml").is_trainable
    everything = ('train.splits=["train", "validation"]', 'train.select="last"')
    report = check_file(lab / "recipe.toml", overrides=everything)
    assert (report.is_trainable, report.findings) == (True, ())
    assert list(report.to_plain()["splits"]) == ["train", "validation"]
    (finding,) = check_file(lab / "recipe.toml", overrides=('train.splits=["nonesuch"]',)).findings[:1]
    assert "has the splits train, validation, not 'nonesuch'" in finding.text


@pytest.mark.parametrize("file", ["lab.toml", "recipe.toml"])
def test_counts_as_a_table_and_as_json(lab: Path, file: str) -> None:
    shown = here("check", file, cwd=lab)
    assert (shown.returncode, shown.stderr) == (0, "")
    words = shown.stdout.split()
    for row in (["groom", "60", "4", "30", "2"], ["other", "120", "6", "60", "3"]):
        assert any(words[i : i + 5] == row for i in range(len(words))), row
    assert shown.stdout.endswith("validation: 1 recording, 90 frames, 0.1 min\nnothing speaks against training on it\n")
    assert max(map(len, shown.stdout.splitlines()[:12])) <= 80
    plain = json.loads(here("check", file, "--json", cwd=lab).stdout)
    assert plain["trainable"] is True
    assert plain["splits"]["train"]["recordings"] == {"t": 90, "u": 90}
    assert plain["splits"]["train"]["heads"]["act"] == {
        "frames": {"other": 120, "groom": 60},
        "bouts": {"other": 6, "groom": 4},
        "masked": {},
        "recordings": 2,
        "recordings_with_labels": 2,
    }
    assert plain["findings"] == []


def test_errors_make_the_exit_code_1_and_training_says_the_same(lab: Path) -> None:
    (lab / "lab.toml").write_text(DATASET.replace('unlabelled = "other"\n', ""))
    done = here("check", "recipe.toml", cwd=lab)
    assert done.returncode == 1
    error = "head 'act', split 'train': all 60 labelled frames are 'groom', none is 'other'"
    assert f"error: {error}" in done.stdout
    assert 'unlabelled = "other"' in done.stdout
    trained = here("train", "recipe.toml", "--out", "x", cwd=lab)
    assert trained.returncode == 1
    assert error in trained.stderr
    # Readers' warnings come before it, once for each kind, with the files.
    warnings = [line for line in trained.stderr.splitlines() if line.startswith("warning: frames without a label")]
    assert warnings == [
        "warning: frames without a label (180 frames in 3 files: t.labels.csv, u.labels.csv, v.labels.csv)"
    ]
    assert not (lab / "x").exists()


def test_every_file_that_cannot_be_read_is_named(lab: Path) -> None:
    (lab / "t.poses.csv").write_text("nonsense\n")
    (lab / "v.labels.csv").unlink()
    report = check_file(lab / "lab.toml")
    assert not report.is_trainable
    texts = [finding.text for finding in report.findings]
    assert len(texts) == 2
    assert str(lab / "t.poses.csv") in texts[0]
    assert "v.labels.csv" in texts[1]
    assert report.to_plain()["splits"]["train"]["recordings"] == {"u": 90}


def test_a_recipe_that_asks_for_what_the_dataset_has_not(lab: Path) -> None:
    (lab / "recipe.toml").write_text(RECIPE + '[abstain]\nfar = 0.5\n[train]\nselect_group = "near"\n')
    texts = [finding.text for finding in check_file(lab / "recipe.toml").findings]
    assert any("abstain: dataset 'lab' has the heads act, not 'far'" in text for text in texts)
    assert any("train.select_group = 'near' is no head group; there are: act" in text for text in texts)
    (finding,) = check_file(
        lab / "recipe.toml", overrides=["abstain={}", "train.select_group=", "model.kind=gru"]
    ).findings
    assert finding.severity == "warning"
    assert "'rtseg train' refuses this recipe" in finding.text


def test_files_that_are_neither(lab: Path) -> None:
    for name, text in (("none.toml", None), ("broken.toml", "[["), ("recipe.toml", RECIPE + "nothing = 1\n")):
        if text is not None:
            (lab / name).write_text(text)
        with pytest.raises(SettingError, match=name):
            check_file(lab / name)
