"""The ablation and the frontier: real trainings, every variant, resumed, with tables and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.errors import SettingError
from rtseg.features.spec import GROUPS, PAPER_GROUPS
from rtseg.study.ablation import FULL, study_ablation, variants_of
from rtseg.study.lookahead import study_lookahead
from rtseg.study.trials import load_probabilities, read_recipe
from tests.study.scenes import read_json, write_dataset, write_parts


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), n_train=2, n_validation=2)


def test_the_ablation(recipe: Path, tmp_path: Path) -> None:
    result = study_ablation(recipe, tmp_path, seeds=2, groups=["speed"], sets=True, resamples=20)
    assert result == read_json(tmp_path / "ablation.json")
    assert list(result["variants"]) == [FULL, "without speed", "the paper's groups", "every group"]
    for name, found in result["variants"].items():
        assert len(found["trials"]) == 2
        head = found["heads"]["task1"]
        if name == FULL:
            assert found["ahead"]["task1"]["f1"] == {"difference": 0, "low": 0, "high": 0}
        assert head["f1"]["mean"] == pytest.approx(np.mean([s["f1"] for s in head["seeds"]]), abs=2e-6)
    assert result["variants"]["without speed"]["recipe"]["features"]["groups"] == ["between_distance", "approach"]
    page = (tmp_path / "ablation.md").read_text()
    assert all(f"| {name} |" in page for name in result["variants"])
    assert (tmp_path / "ablation.png").read_bytes()[1:4] == b"PNG"


def test_what_is_left_out(recipe: Path) -> None:
    setting, _ = read_recipe(recipe)
    found = variants_of(setting)
    assert {n: v.features.groups for n, v in found.items()} == {
        FULL: ("between_distance", "speed", "approach"),
        "without between_distance": ("speed", "approach"),
        "without speed": ("between_distance", "approach"),
        "without approach": ("between_distance", "speed"),
    }
    assert set(PAPER_GROUPS) <= set(GROUPS)
    with pytest.raises(SettingError, match="uses no group heading; it uses between_distance, speed, approach"):
        variants_of(setting, ["heading"])
    alone, _ = read_recipe(recipe, overrides=['features.groups=["speed"]'])
    with pytest.raises(SettingError, match="nothing to leave out"):
        variants_of(alone)


def test_the_frontier(recipe: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"frames": (0, 6), "resamples": 20}
    result = study_lookahead(recipe, tmp_path, **settings)
    assert result == read_json(tmp_path / "lookahead.json")
    assert [(p["frames"], p["delay_ms"]) for p in result["points"]] == [(0, 0), (6, 200)]
    for point in result["points"]:
        assert point["recipe"]["model"]["lookahead_frames"] == point["frames"]
        for path in (tmp_path / "lookahead.runs" / f"{point['frames']}-frames").rglob("*.npz"):
            unanswered = np.isnan(load_probabilities(path).probs).all(axis=1)
            assert unanswered.sum() == point["frames"]
            assert unanswered[len(unanswered) - point["frames"] :].all()
    page = (tmp_path / "lookahead.md").read_text()
    assert "| 6 frames, 200 ms |" in page
    assert (tmp_path / "lookahead.png").read_bytes()[1:4] == b"PNG"
    heard: list[dict[str, Any]] = []
    again = study_lookahead(recipe, tmp_path, report=heard.append, **settings)
    assert heard == []
    assert again["points"] == result["points"]


@pytest.mark.parametrize("frames", [(), (3, 0), (0, 0), (-1, 2)])
def test_delays_that_are_none(recipe: Path, tmp_path: Path, frames: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match="expected rising numbers from 0 on"):
        study_lookahead(recipe, tmp_path, frames=frames)


def test_parts_of_one_video_are_not_passed_off_as_videos(tmp_path: Path) -> None:
    recipe = write_parts(tmp_path)
    ablation = study_ablation(recipe, tmp_path / "out", seeds=1, groups=["speed"], resamples=20)
    frontier = study_lookahead(recipe, tmp_path / "out", frames=(0,), resamples=20)
    for name, result in (("ablation", ablation), ("lookahead", frontier)):
        (said,) = (note for note in result["notes"] if "are parts of one video" in note)
        assert said in (tmp_path / "out" / f"{name}.md").read_text()
