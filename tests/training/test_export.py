"""From a recipe file to a bundle: what it holds, that a finished training is not repeated, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg import config
from rtseg.bundle.bundle import Bundle, load_bundle, save_bundle
from rtseg.bundle.trees import TreesSpec
from rtseg.config import Recipe
from rtseg.errors import BundleError, RtsegError, SettingError
from rtseg.evaluation.evaluate import evaluate
from rtseg.inference.classifier import Classifier
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.dataset import load_dataset
from rtseg.training.boosting.trees import train_trees
from rtseg.training.export import rounded_to_float16, train_bundle
from rtseg.training.task import TrainingTask, read_training
from tests.commands import here
from tests.study.scenes import DATASET, pairs, write_dataset

PARTS = [("train", 1, 37, True), ("train", 1, 100, True), ("validation", 2, 37, False)]
"""Split and number of a recording, the first frame of its part, and whether training has seen it."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), n_train=2, n_validation=1)


@pytest.fixture(scope="module")
def trained(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A bundle's folder, beside the folder `runs` of its checkpoints."""
    out = tmp_path_factory.mktemp("trained") / "bundle"
    return out, train_bundle(recipe, out, runs=out.with_name("runs"))


def test_the_bundle_is_what_its_folder_holds(trained: tuple[Path, Bundle]) -> None:
    out, bundle = trained
    assert load_bundle(out).hash == bundle.hash
    assert sorted(path.name for path in out.iterdir()) == [
        "MODEL_CARD.md",
        "manifest.json",
        "step.onnx",
        "weights.safetensors",
    ]
    assert (bundle.name, bundle.simulated, bundle.warmup_frames) == ("tiny", True, 50)
    assert "task1" in bundle.scores["validation"]["heads"]


@pytest.mark.parametrize(("split", "number", "first", "learnt"), PARTS)
def test_a_part_of_a_training_recording_is_known_again(
    trained: tuple[Path, Bundle], tmp_path: Path, split: str, number: int, first: int, learnt: bool
) -> None:
    """A file that was cut, under another name: scored with a note, refused for calibration."""
    out, _ = trained
    ((recording, labels),) = pairs(split, range(number, number + 1))
    points, confidence = recording.keypoints[first:], recording.confidence[first:]
    cut = replace(recording, name="cut", keypoints=points, confidence=confidence, unique=None)
    write_calms21(tmp_path / "cut.json", {"annotator-id_0": [(cut, replace(labels, frames=labels.frames[first:]))]})
    source = '[[calms21]]\nfile = "cut.json"\nsplit = "test"\nheads = "task1"\n'
    (tmp_path / "cut.toml").write_text(DATASET.split("[[calms21]]")[0] + source)
    scored = here("evaluate", out, "cut.toml", "--split", "test", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert ("bundle was trained on cut: its scores" in " ".join(scored.stdout.split())) == learnt
    failed = here("calibrate", out, "cut.toml", "--split", "test", "--out", tmp_path / "c", cwd=tmp_path)
    assert ("was trained on this recording or on frames of it" in failed.stderr) == learnt


@pytest.mark.parametrize("factor", [1, 3])
def test_animals_of_another_size_are_told_wherever_they_are_scored(
    trained: tuple[Path, Bundle], tmp_path: Path, factor: int
) -> None:
    """Of another camera, resolution or unit: scores there say nothing of recordings like training's."""
    out, _ = trained
    grown = [(replace(one, keypoints=one.keypoints * factor, unique=None), y) for one, y in pairs("x", range(2, 4))]
    write_calms21(tmp_path / "grown.json", {"annotator-id_0": grown})
    source = '[[calms21]]\nfile = "grown.json"\nsplit = "test"\nheads = "task1"\n'
    (tmp_path / "grown.toml").write_text(DATASET.split("[[calms21]]")[0] + source)
    copy = shutil.copytree(out, tmp_path / "copy")
    condition = '[triggers.sniff]\nconditions = [{ head = "task1", behaviours = ["investigation"] }]\n'
    (tmp_path / "sniff.toml").write_text(condition + "on = 0.5\noff = 0.4\npulse_s = 1.0\n")
    for words in (
        ["evaluate", out, "grown.toml"],
        ["compare", out, copy, "grown.toml"],
        ["calibrate", copy, "grown.toml", "--out", "calibrated"],
        ["study", "missing", out, "grown.toml", "--out", "missing"],
        ["study", "decoding", out, "grown.toml", "--out", "decoding"],
        ["trigger", "tune", "sniff.toml", out, "--dataset", "grown.toml", "--false-starts-per-min", "60"],
    ):
        done = here(*words, "--split", "test", cwd=tmp_path)
        # With animals so large no threshold may be found; why is said before.
        assert done.returncode == 0 or words[0] == "trigger", done.stderr
        said = " ".join(f"{done.stdout} {done.stderr}".split())
        told = "2 recordings are unlike those that" in said and "x/02: animals appear" in said
        assert told == (factor != 1), said


def test_a_bundle_that_came_meanwhile_is_not_replaced(
    trained: tuple[Path, Bundle], recipe: Path, tmp_path: Path
) -> None:
    """As by two trainings at once, of different recipes, into one folder."""
    out, bundle = trained
    there = tmp_path / "there"

    def another_one_ends(event: dict[str, Any]) -> None:
        if not there.exists():
            shutil.copytree(out, there)

    with pytest.raises(RtsegError, match="there holds a bundle of another recipe or other recordings; name another"):
        train_bundle(recipe, there, overrides=("train.seed=7",), report=another_one_ends)
    assert load_bundle(there).hash == bundle.hash


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["train.epochs=1", "boosting.trees=3"], {"boosting.trees"}),
        (["train.epochs=1", "boosting.trees=3", 'model.kind="gradient-boosting"', "model.channels=5"],
         {"train.epochs", "model.channels"}),
    ],
)  # fmt: skip
def test_settings_that_change_nothing_are_told(
    recipe: Path, tmp_path: Path, options: list[str], told: set[str]
) -> None:
    sets = [word for option in options for word in ("--set", option)]
    for words in (["train", "--out", tmp_path / "out"], ["check"]):
        done = here(words[0], recipe, *words[1:], *sets, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said = " ".join(f"{done.stdout} {done.stderr}".split())
        named = {key for key in ("boosting.trees", "train.epochs", "model.channels", "model.kind")
                 if f"--set {key} changes nothing" in said}  # fmt: skip
        assert named == told, said


def test_its_provenance_names_recipe_and_recordings(trained: tuple[Path, Bundle]) -> None:
    _, bundle = trained
    assert bundle.provenance["recipe"]["train"]["epochs"] == 2
    assert sorted(bundle.provenance["training"]) == ["train/00", "train/01"]
    assert sorted(bundle.provenance["validation"]) == ["validation/02"]
    assert len(bundle.provenance["training_poses"]) == 2
    assert len(bundle.provenance["history"]) == 2


def test_matrices_are_float16_exactly_and_vectors_stay(trained: tuple[Path, Bundle]) -> None:
    for name, tensor in trained[1].weights.items():
        if name.endswith(".weight"):
            np.testing.assert_array_equal(tensor, tensor.astype(np.float16).astype(np.float32))
    vector = np.array([0.1], np.float32)
    rounded = rounded_to_float16({"a.weight": vector, "a.bias": vector})
    assert rounded["a.weight"][0] != vector[0]
    assert rounded["a.bias"][0] == vector[0]


def test_a_finished_training_is_not_repeated(trained: tuple[Path, Bundle], recipe: Path, tmp_path: Path) -> None:
    out, bundle = trained
    events: list[dict[str, Any]] = []
    again = train_bundle(recipe, tmp_path / "again", runs=out.with_name("runs"), report=events.append)
    assert events == []
    assert {n: t.tobytes() for n, t in again.weights.items()} == {n: t.tobytes() for n, t in bundle.weights.items()}


def test_what_a_training_leaves_there_itself_is_written_again(
    trained: tuple[Path, Bundle], recipe: Path, tmp_path: Path
) -> None:
    """A run that was killed while it wrote its bundle goes on; anything else in its place is not replaced."""
    out, bundle = trained
    copy, runs = tmp_path / "copy", out.with_name("runs")
    shutil.copytree(out, copy)
    assert train_bundle(recipe, copy, runs=runs).hash == bundle.hash
    calibrated = replace(bundle, provenance={**bundle.provenance, "calibration": {"method": "temperature"}})
    other = replace(bundle, provenance={**bundle.provenance, "training": {"train/00": "other labels"}})
    for there, says in ((calibrated, "holds a calibrated bundle"), (other, "another recipe or other recordings")):
        kept = save_bundle(there, copy)
        with pytest.raises(RtsegError, match=f"{says}.*--out, or add --overwrite"):
            train_bundle(recipe, copy, runs=runs)
        assert load_bundle(copy).hash == kept
    with pytest.raises(RtsegError, match="another recipe"):
        train_bundle(recipe, copy, runs=tmp_path / "none", overrides=("train.seed=9",))
    (copy / "weights.safetensors").write_bytes(b"")
    with pytest.raises(RtsegError, match="no whole bundle"):
        train_bundle(recipe, copy, runs=runs)
    assert train_bundle(recipe, copy, runs=runs, overwrite=True).hash == bundle.hash


EVERYTHING = ('train.splits=["train", "validation"]', 'train.select="last"')


def test_a_bundle_of_all_recordings_says_so_and_has_no_scores(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    bundle = train_bundle(recipe, out, overrides=EVERYTHING)
    assert sorted(bundle.provenance["training"]) == ["train/00", "train/01", "validation/02"]
    assert len(bundle.provenance["training_poses"]) == 3
    assert bundle.provenance["validation"] == {}
    assert bundle.scores == {}
    card = (out / "MODEL_CARD.md").read_text()
    assert "3 recordings trained on: train/00, train/01, validation/02." in card
    assert "No recording was held out: the last of 2 epochs was taken" in card
    assert "All recordings were trained on" in card
    assert "chose the epoch" not in card
    # The same training may write it once more.
    assert train_bundle(recipe, out, overrides=EVERYTHING).hash
    scores = evaluate(Classifier(bundle), load_dataset(recipe.parent / "dataset.toml"), "validation")
    assert any("was trained on validation/02" in note for note in scores["notes"])


def test_a_bundle_of_the_last_epoch_does_not_say_that_the_held_out_chose_it(recipe: Path, tmp_path: Path) -> None:
    train_bundle(recipe, tmp_path / "bundle", overrides=('train.select="last"',))
    assert "1 recording held out (the last of 2 epochs was taken)" in (tmp_path / "bundle/MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ('train.splits=["train", "validation"]', 'set train.select = "last" and train.epochs'),
        ('train.splits=["train", "train"]', "names one twice: train, train"),
        ("train.splits=[]", "must name a split"),
        ('train.splits=["train", "test"]', "has the splits train, validation, not 'test'"),
        ("model.kind=gru", "only a causal multitask-tcn or gradient-boosting can become a bundle"),
        ("model.causal=false", "only a causal multitask-tcn or gradient-boosting can become a bundle"),
        ("abstain.task9=0.5", "task9"),
        ("train.distill_weight=0.5", "unknown key distill_weight"),
    ],
)
def test_what_is_refused_before_anything_is_trained(recipe: Path, tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(RtsegError, match=says):
        train_bundle(recipe, tmp_path / "x", overrides=(override,))
    assert not (tmp_path / "x").exists()


@pytest.fixture(scope="module")
def boosted(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A bundle of trees from the same recipe."""
    pytest.importorskip("xgboost")
    out = tmp_path_factory.mktemp("boosted") / "bundle"
    return out, train_bundle(recipe, out, overrides=TREES)


TREES = ("model.kind=gradient-boosting", "boosting.trees=8", "boosting.min_child_weight=1.0", "train.select=last")


def test_trees_become_a_bundle_without_a_step_for_onnx(boosted: tuple[Path, Bundle]) -> None:
    out, bundle = boosted
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "manifest.json", "weights.safetensors"]
    assert isinstance(bundle.architecture, TreesSpec)
    assert bundle.warmup_frames == max(bundle.architecture.windows) == 15
    assert "xgboost" in bundle.provenance
    assert bundle.provenance["best_epoch"] == sum(head["rounds"] for head in bundle.provenance["history"])
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "the number of rounds was chosen on stretches of the training recordings" in card


def test_a_bundle_of_trees_answers_what_xgboost_does(boosted: tuple[Path, Bundle], recipe: Path) -> None:
    """Recording to features, rows and leaves, live code against training's: of a recording that training never saw."""
    settings = config.load_settings(recipe, Recipe, TREES)
    dataset = load_dataset(recipe.parent / settings.dataset)
    training, validation = read_training(dataset)
    task = TrainingTask(settings, dataset.skeleton, dataset.fps, dataset.heads, training, validation)
    expected = train_trees(task).predict(validation[0])
    (item,) = dataset.items("validation")
    answers = Classifier(boosted[1]).run(item.recording)
    assert expected.std(axis=0).max() > 0.05
    np.testing.assert_allclose(answers.probs, expected, rtol=0, atol=1e-6)


def test_held_out_recordings_choose_no_rounds_where_the_last_are_taken(
    boosted: tuple[Path, Bundle], recipe: Path, tmp_path: Path
) -> None:
    """The same trees come where nothing is held out, but for what is then learnt from as well."""
    chosen = train_bundle(recipe, tmp_path / "chosen", overrides=(*TREES, "train.select=score"))
    assert "used to choose the number of rounds" in (tmp_path / "chosen" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert chosen.hash != boosted[1].hash
    every = train_bundle(recipe, tmp_path / "every", overrides=(*TREES, 'train.splits=["train", "validation"]'))
    assert len(every.provenance["training"]) == 3
    assert every.scores == {}


def test_a_network_that_no_daemon_loads_is_refused_before_training(recipe: Path, tmp_path: Path) -> None:
    # Each step is small enough; those of a gap that is filled at once are not.
    change = ("model.channels=512", "gaps.fill_frames=1000")
    with pytest.raises(BundleError, match="would hold up all streams"):
        train_bundle(recipe, tmp_path / "none", overrides=change)
    assert not (tmp_path / "none").exists()


def test_trees_that_no_bundle_may_hold_are_refused_before_training(recipe: Path, tmp_path: Path) -> None:
    for change, error, says in (
        ("model.causal=false", SettingError, "only a causal multitask-tcn or gradient-boosting"),
        ("boosting.windows_s=[600.0]", BundleError, "would hold up all streams"),
        ("boosting.depth=65", SettingError, "64 at most"),
    ):
        with pytest.raises(error, match=says):
            train_bundle(recipe, tmp_path / "none", overrides=(*TREES, change))
    assert not (tmp_path / "none").exists()
