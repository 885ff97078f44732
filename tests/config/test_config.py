"""Settings: unknown keys, wrong types, overrides, and what a recipe file gives."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg import config
from rtseg.config import (
    AugmentSettings,
    BoostingSettings,
    DecodingSettings,
    FeatureSettings,
    GapSettings,
    ModelSettings,
    Recipe,
    ScalerSettings,
    ServeSettings,
    TrainSettings,
)
from rtseg.errors import SettingError

SECTIONS = (
    AugmentSettings,
    BoostingSettings,
    DecodingSettings,
    FeatureSettings,
    GapSettings,
    ModelSettings,
    ScalerSettings,
    ServeSettings,
    TrainSettings,
)
LEAST: dict[str, Any] = {"name": "n", "dataset": "d.toml", "arena": [0, 0, 10, 20]}
TOML = """
name = "mice"
dataset = "mice.dataset.toml"
arena = [0, 0, 1024, 570]

[features]
groups = ["position", "speed"]
lags = [1, 5]

[augment]
rotate = true
shift_px = 3

[train]
epochs = 3
task_weights = {task1 = 2, task2 = 0.5}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_file_fills_its_sections_and_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    recipe = config.load_settings(write(tmp_path, TOML), Recipe)
    assert recipe.arena == (0.0, 0.0, 1024.0, 570.0)
    assert all(isinstance(v, float) for v in recipe.arena)
    assert recipe.features == FeatureSettings(groups=("position", "speed"), lags=(1, 5))
    assert recipe.augment == AugmentSettings(rotate=True, shift_px=3.0)
    assert recipe.train.task_weights == {"task1": 2.0, "task2": 0.5}
    assert recipe.train.epochs == 3
    assert recipe.model == ModelSettings()


@pytest.mark.parametrize("kind", SECTIONS)
def test_nothing_given_means_the_defaults(kind: type[Any]) -> None:
    assert config.from_plain({}, kind) == kind()


@pytest.mark.parametrize("kind", SECTIONS)
def test_settings_survive_a_manifest(kind: type[Any]) -> None:
    assert config.from_plain(json.loads(json.dumps(config.to_plain(kind()))), kind) == kind()


def test_a_recipe_survives_a_manifest(tmp_path: Path) -> None:
    recipe = config.load_settings(write(tmp_path, TOML), Recipe)
    assert config.from_plain(json.loads(json.dumps(config.to_plain(recipe))), Recipe) == recipe


@pytest.mark.parametrize("kind", SECTIONS)
def test_settings_are_frozen_and_every_field_has_a_default(kind: type[Any]) -> None:
    for field in dataclasses.fields(kind):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(kind(), field.name, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour = 3", "unknown key colour; accepted: name, dataset"),
        ("[train]\nepoch = 3", "train: unknown key epoch; accepted: seed, epochs"),
        ("[trane]\nepochs = 3", "unknown key trane"),
        ("[train]\nepochs = 3.5", "train: epochs: expected int, got 3.5"),
        ("[train]\nepochs = true", "train: epochs: expected int, got True"),
        ("[train]\nepochs = '3'", "expected int, got '3'"),
        ("[train]\nlearning_rate = 'fast'", "expected float, got 'fast'"),
        ("[train]\nlearning_rate = true", "expected float, got True"),
        ("[train]\nbfloat16 = 1", "expected bool, got 1"),
        ("[train]\ntask_weights = 3", "task_weights: expected a section, got 3"),
        ("[train]\ntask_weights = {a = 'x'}", "task_weights.a: expected float"),
        ("[features]\ngroups = 'position'", "groups: expected a list, got 'position'"),
        ("[features]\nlags = [1, 2.5]", "lags: expected int, got 2.5"),
        ("train = 3", "train: expected a section, got 3"),
        ("[scaler]\nkind = 'robust'", "standard, minmax or range, got 'robust'"),
        ("[train", "not a TOML file"),
    ],
)
def test_refusals_name_the_file_and_the_key(tmp_path: Path, text: str, says: str) -> None:
    head = 'name = "n"\ndataset = "d"\narena = [0, 0, 1, 1]\n'
    path = write(tmp_path, head + text)
    with pytest.raises(SettingError) as refusal:
        config.load_settings(path, Recipe)
    assert says in str(refusal.value)
    if "standard, minmax" not in says:
        assert str(path) in str(refusal.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.task_weighting=mean", "settings, sum, share, uncertainty; got 'mean'"),
        ("train.select=loss", "score, f1, map, last; got 'loss'"),
        ("train.future_pose_weight=-1", "train.future_pose_weight must be 0 or more"),
        ("train.ema=1", r"train.ema must lie in \[0, 1\)"),
        ("model.kind=resnet", "one of multitask-tcn, ms-tcn"),
        ("model.window_stride=0", "model.window_stride must be 1 or more"),
        ("augment.drop_points=2", "augment.drop_points is a share"),
        ("augment.swap_points=-0.1", "augment.swap_points is a share"),
        ("augment.rate=-1", "augment.rate must be 0 or more"),
        ("augment.camera_rate=0.4", "augment.camera_rate must lie in 0.5 .. 1, got 0.4"),
        ("augment.noise_px=-1", "augment.noise_px must be 0 or more"),
        ("boosting.trees=0", "boosting.trees must be 1 or more"),
        ("features.lags=[3, 1]", "features.lags must be rising positive frame counts"),
        ("features.animal_order=random", "features.animal_order must be 'kept' or 'sorted', got 'random'"),
        ("boosting.windows_s=[1, 0]", "boosting.windows_s must be positive"),
        ("augment.scale=inf", "augment: scale: expected a finite number, got inf"),
        ("train.learning_rate=nan", "expected a finite number, got nan"),
        ("train.seed=-1", "train.seed must be 0 or more, got -1"),
    ],
)
def test_values_that_mean_nothing_are_refused(override: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        config.from_plain(LEAST, Recipe, [override])


@pytest.mark.parametrize(
    ("arena", "says"), [([0, 0, 1], "expected 4 values, got 3"), ([0, 0, 1, "x"], "expected float"), (5, "a list")]
)
def test_an_arena_is_four_numbers(arena: Any, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        config.from_plain({**LEAST, "arena": arena}, Recipe)


@pytest.mark.parametrize("missing", LEAST)
def test_what_has_no_default_must_be_given(missing: str) -> None:
    with pytest.raises(SettingError, match=f"missing key {missing}"):
        config.from_plain({k: v for k, v in LEAST.items() if k != missing}, Recipe)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no such file"):
        config.load_settings(tmp_path / "none.toml", Recipe)
    with pytest.raises(SettingError, match="cannot be read"):
        config.load_settings(tmp_path, Recipe)
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match="not a TOML file"):
        config.load_settings(path, Recipe)


@pytest.mark.parametrize(
    ("override", "where", "value"),
    [
        ("train.epochs=7", ("train", "epochs"), 7),
        ("train.learning_rate=1", ("train", "learning_rate"), 1.0),
        ("train.bfloat16=false", ("train", "bfloat16"), False),
        ("features.lags=[2, 4]", ("features", "lags"), (2, 4)),
        ("name=rats of 1958", ("name",), "rats of 1958"),
        ('name="a=b"', ("name",), "a=b"),
        ("name=a=b", ("name",), "a=b"),
        (" train.epochs =7", ("train", "epochs"), 7),
        ("train.task_weights.task3=0.25", ("train", "task_weights"), {"task3": 0.25}),
        ("train.task_weights={x = 1}", ("train", "task_weights"), {"x": 1.0}),
    ],
)
def test_an_override_reaches_its_field(override: str, where: tuple[str, ...], value: object) -> None:
    found: Any = config.from_plain(LEAST, Recipe, [override])
    for name in where:
        found = getattr(found, name)
    assert found == value


def test_the_last_override_wins_and_the_file_comes_first(tmp_path: Path) -> None:
    recipe = config.load_settings(write(tmp_path, TOML), Recipe, ["train.epochs=7", "train.epochs=8", "train.seed=4"])
    assert (recipe.train.epochs, recipe.train.seed) == (8, 4)
    assert recipe.train.task_weights == {"task1": 2.0, "task2": 0.5}


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs", "section.key=value, got 'train.epochs'"),
        ("train.epoch=3", "unknown key epoch"),
        ("trane.epochs=3", "unknown key trane"),
        ("train.distill_weight=0.5", "unknown key distill_weight"),
        ("train.epochs=many", "expected int, got 'many'"),
        ("name.first=3", "'name' is no section"),
        ("train=3", "expected a section"),
        ("=3", "unknown key"),
        ("train..seed=3", "unknown key"),
    ],
)
def test_overrides_that_are_refused(override: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        config.from_plain(LEAST, Recipe, [override])


def test_an_override_leaves_the_callers_mapping_alone() -> None:
    plain = {**LEAST, "train": {"task_weights": {"task1": 1.0}}}
    before = copy.deepcopy(plain)
    config.from_plain(plain, Recipe, ["train.task_weights.task1=2", "train.epochs=3", "name=other"])
    assert plain == before


deep: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    section=st.sampled_from([f.name for f in dataclasses.fields(Recipe)]),
    key=st.sampled_from([f.name for kind in SECTIONS for f in dataclasses.fields(kind)]),
    value=deep,
)
def test_any_value_is_taken_or_a_setting_error(section: str, key: str, value: Any) -> None:
    for plain in ({**LEAST, section: value}, {**LEAST, section: {key: value}}):
        try:
            built = config.from_plain(plain, Recipe)
        except SettingError:
            continue
        assert isinstance(built, Recipe)
