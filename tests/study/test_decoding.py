"""The decoding study as a whole: its numbers, its files, and what it refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rtseg.config import DecodingSettings
from rtseg.errors import SettingError
from rtseg.evaluation.evaluate import evaluate
from rtseg.inference.classifier import load
from rtseg.recordings.dataset import load_dataset
from rtseg.study.decoding import study_decoding, toml
from tests.study.scenes import read_json, write_dataset

GRID = (DecodingSettings(), DecodingSettings(0.1, 2, 0), DecodingSettings(0.3, 10, 5))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, n_train=2, n_validation=3)
    return folder / "dataset.toml"


def test_the_whole_study(tiny_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    result = study_decoding(tiny_bundle, dataset, tmp_path, grid=GRID, resamples=20)
    assert result == read_json(tmp_path / "decoding.json")
    head = result["heads"]["task1"]
    plain = evaluate(load(tiny_bundle), load_dataset(dataset))["heads"]["task1"]
    assert head["raw"]["macro_f1"] == plain["macro_f1"]
    assert head["raw"]["segmental_f1_50"] == plain["segmental_f1"]["50"]
    assert len(head["grid"]) == len(GRID)
    assert len(head["cross_fitted_choices"]) == len(result["videos"]) == 3
    assert head["raw"]["macro_f1"] - head["in_sample"]["macro_f1"] <= result["max_loss"] + 1e-6
    assert result["shared"]["chosen"] == head["chosen"]  # one head: the shared setting is its own
    page = (tmp_path / "decoding.md").read_text()
    section = page.split("```\n")[-2]
    assert tomllib.loads(section)["decoding"] == result["shared"]["chosen"]
    assert (tmp_path / "decoding.png").read_bytes()[1:4] == b"PNG"


def test_the_section_can_be_put_into_a_recipe() -> None:
    plain = {"margin": 0.25, "min_bout_frames": 3, "merge_gap_frames": 0}
    assert tomllib.loads(toml(plain)) == {"decoding": plain}


def test_what_is_refused(tiny_bundle: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no head S1 to choose by; there are: task1"):
        study_decoding(tiny_bundle, dataset, tmp_path, heads=["S1"])
    one = write_dataset(tmp_path / "one", n_train=1, n_validation=1).with_name("dataset.toml")
    with pytest.raises(SettingError, match="takes two or more, 'validation' has 1"):
        study_decoding(tiny_bundle, one, tmp_path)
