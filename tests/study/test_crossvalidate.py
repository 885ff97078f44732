"""Cross-validation: no video is ever answered by a system that has seen it, and a killed run goes on bit for bit."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.config import CrossValidationSettings
from rtseg.errors import SettingError
from rtseg.evaluation.out_of_fold import check_out_of_fold, identify, read_out_of_fold
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.recording import IGNORE
from rtseg.study.crossvalidate import absent_from_folds, crossvalidate, folds_of, split_fold
from rtseg.study.trials import SavedProbabilities, load_probabilities, read_recipe, read_splits
from tests.study.scenes import pairs, read_json, write_dataset
from tests.training.scenes import HEADS, example

SETTINGS = CrossValidationSettings(folds=2, inside_every=3)
RESAMPLES = 20
NAMES = [*(f"train/{i:02d}" for i in range(5)), *(f"validation/{i:02d}" for i in range(5, 8))]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A whole run against trees: its folder and its result."""
    out = tmp_path_factory.mktemp("done")
    return out, crossvalidate(
        recipe,
        out,
        replace(SETTINGS, against="gradient-boosting"),
        command="rtseg crossvalidate",
        resamples=RESAMPLES,
    )


def saved(out: Path, system: str = "tiny") -> dict[str, SavedProbabilities]:
    found = map(load_probabilities, (out / "crossvalidate.runs" / system).rglob("*.npz"))
    return {p.recording: p for p in found}


@settings(max_examples=50, deadline=None)
@given(names=st.sets(st.text("ab/12", max_size=5), min_size=2, max_size=30), data=st.data())
def test_folds_share_the_names_out(names: set[str], data: st.DataObject) -> None:
    k = data.draw(st.integers(2, len(names)))
    folds = folds_of(data.draw(st.permutations(sorted(names))), k)
    assert folds == folds_of(sorted(names), k)
    assert sorted(n for fold in folds for n in fold) == sorted(names)
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1


def test_every_video_is_answered_by_a_system_that_has_not_seen_it(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    for system in ("tiny", "gradient-boosting"):
        found = saved(out, system)
        assert sorted(found) == NAMES
        for name, answer in found.items():
            (mine,) = [fold for fold in result["folds"] if name in fold]
            assert not set(answer.seen) & set(mine)
            assert set(answer.seen) == set(NAMES) - set(mine)
            assert answer.probs.shape == (300, 4)
            np.testing.assert_allclose(answer.probs.sum(axis=1), 1, atol=1e-5)
        for trial in result["systems"][system]["trials"]:
            assert not set(trial["training"]) & set(trial["selection"])
            assert sorted(trial["training"] + trial["selection"] + trial["asked"]) == NAMES


def test_the_answers_of_each_system_are_one_file_that_holds_to_the_data(
    done: tuple[Path, dict[str, Any]], recipe: Path
) -> None:
    out, result = done
    _, dataset = read_recipe(recipe)
    examples = read_splits(dataset, ("train", "validation"))
    data = identify(dataset.name, dataset.skeleton, dataset.fps, dataset.heads, examples)
    for system, file in result["answers"].items():
        answers = read_out_of_fold(out / file)
        check_out_of_fold(answers, data, out / file)
        assert answers.system == system
        assert answers.held == dict.fromkeys(NAMES, 0)
        found = saved(out, system)
        for name in NAMES:
            assert answers.probabilities[0][name].tobytes() == found[name].probs.tobytes()
            assert name in result["folds"][answers.fold_of[name]]
        trials = result["systems"][system]["trials"]
        assert [c.seconds for c in answers.costs] == [t["seconds"] for t in trials]
        assert [c.multiply_adds for c in answers.costs] == [t["multiply_adds"] for t in trials]


def test_the_end_of_a_delayed_answer_is_held(recipe: Path, tmp_path: Path) -> None:
    overrides = ["model.lookahead_frames=4", "train.epochs=1"]
    result = crossvalidate(recipe, tmp_path, SETTINGS, overrides=overrides, resamples=2)
    answers = read_out_of_fold(tmp_path / result["answers"]["tiny"])
    assert answers.lookahead_frames == 4
    assert answers.held == dict.fromkeys(NAMES, 4)
    for name, kept in saved(tmp_path).items():
        whole = answers.probabilities[0][name]
        assert whole[:-4].tobytes() == kept.probs[:-4].tobytes()
        assert (whole[-4:] == whole[-5]).all()
        assert np.isnan(kept.probs[-4:]).all()


def test_a_poisoned_video_changes_nothing_in_its_own_fold(
    done: tuple[Path, dict[str, Any]], recipe: Path, tmp_path: Path
) -> None:
    out, result = done
    poisoned = shutil.copytree(recipe.parent, tmp_path / "data")
    train = pairs("train", range(5))
    bad, labels = train[4]  # trains in the other fold, where train/02 chooses the checkpoint
    noise = np.random.default_rng(0).normal(0, 100, bad.keypoints.shape).astype(np.float32)
    bad = replace(bad, keypoints=bad.keypoints + noise)
    train[4] = (bad, replace(labels, frames=((labels.frames + 1) % 4).astype(np.int16)))
    write_calms21(poisoned / "train.json", {"annotator-id_0": train})
    crossvalidate(poisoned / "tiny.toml", tmp_path, SETTINGS, resamples=RESAMPLES)
    clean, other = saved(out), saved(tmp_path)
    (mine,) = [fold for fold in result["folds"] if bad.name in fold]
    assert len(mine) > 1
    for name in NAMES:
        same = np.array_equal(clean[name].probs, other[name].probs)
        assert same == (name in mine and name != bad.name), name


def test_all_files_hold_what_was_asked_for(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    assert result == read_json(out / "crossvalidate.json")
    assert result["command"] == "rtseg crossvalidate"
    assert result["machine"]["cpu"]
    for name, system in result["systems"].items():
        head = system["heads"]["task1"]
        assert head["f1"]["mean"] == pytest.approx(head["interval"]["f1"]["value"], abs=2e-6)
        assert sorted(system["videos"]) == NAMES
        assert len(system["trials"]) == 2
        assert (out / "crossvalidate.md").read_text().count(f"| {name} |") == 1
    f1 = [s["heads"]["task1"]["f1"]["mean"] for s in result["systems"].values()]
    assert result["paired"]["task1"]["f1"]["difference"] == pytest.approx(f1[0] - f1[1], abs=3e-6)
    assert (out / "crossvalidate.png").read_bytes()[1:4] == b"PNG"


def test_what_is_done_is_not_done_again_and_a_killed_run_goes_on(
    done: tuple[Path, dict[str, Any]], recipe: Path, tmp_path: Path
) -> None:
    out, result = done

    class KilledError(Exception):
        pass

    def kill_in_the_second_fold(event: dict[str, Any]) -> None:
        first = tmp_path / "crossvalidate.runs" / "tiny" / "seed-0" / "fold-0" / "trial.json"
        if first.is_file() and event["epoch"] == 1 and "step" in event:
            raise KilledError

    with pytest.raises(KilledError):
        crossvalidate(recipe, tmp_path, SETTINGS, report=kill_in_the_second_fold)
    assert len(saved(tmp_path)) == 4
    heard: list[dict[str, Any]] = []
    crossvalidate(recipe, tmp_path, SETTINGS, resamples=RESAMPLES, report=heard.append)
    assert {event["epoch"] for event in heard if "step" in event} == {1}  # the second epoch of the second fold
    for name, answer in saved(out).items():
        np.testing.assert_array_equal(saved(tmp_path)[name].probs, answer.probs)
    heard.clear()
    again = crossvalidate(recipe, tmp_path, SETTINGS, resamples=RESAMPLES, report=heard.append)
    assert heard == []
    assert again["systems"]["tiny"]["heads"] == result["systems"]["tiny"]["heads"]
    assert not list(tmp_path.rglob("checkpoint"))
    with pytest.raises(SettingError, match="fold-0 holds a trial of another recipe"):
        crossvalidate(recipe, tmp_path, SETTINGS, overrides=["model.channels=5"])


def test_seeds_and_fixed_epochs(recipe: Path, tmp_path: Path) -> None:
    result = crossvalidate(
        recipe, tmp_path, replace(SETTINGS, seeds=2, fixed_epochs=1, splits=("train",)), resamples=RESAMPLES
    )
    trained = read_out_of_fold(tmp_path / result["answers"]["tiny"]).settings
    assert trained is not None
    assert result["systems"]["tiny"]["recipe"]["train"]["epochs"] != trained["train"]["epochs"] == 1
    trials = result["systems"]["tiny"]["trials"]
    assert [(t["seed"], t["epoch"]) for t in trials] == [(0, 1), (0, 1), (1, 1), (1, 1)]
    for trial in trials:
        assert sorted(trial["training"] + trial["asked"]) == NAMES[:5]
    head = result["systems"]["tiny"]["heads"]["task1"]
    assert head["f1"]["sd"] > 0
    assert head["f1"]["mean"] == pytest.approx(np.mean([s["f1"] for s in head["seeds"]]), abs=2e-6)


def test_a_recipe_of_the_last_epoch_learns_from_all_other_videos(recipe: Path, tmp_path: Path) -> None:
    settings, overrides = replace(SETTINGS, splits=("train",)), ["train.epochs=1"]
    fixed = crossvalidate(recipe, tmp_path / "a", replace(settings, fixed_epochs=1), resamples=2)
    last = crossvalidate(recipe, tmp_path / "b", settings, resamples=2, overrides=[*overrides, 'train.select="last"'])
    assert fixed["checkpoint"] == last["checkpoint"] == "last epoch"
    one, two = (read_out_of_fold(tmp_path / folder / fixed["answers"]["tiny"]) for folder in "ab")
    assert all(one.probabilities[0][name].tobytes() == two.probabilities[0][name].tobytes() for name in one.fold_of)
    assert one.settings == two.settings
    assert [sorted((*fold.trained_on, *fold.chosen_by)) for fold in one.folds] == [NAMES[1:5:2], NAMES[0:5:2]]
    assert {fold.chosen_by for fold in one.folds} == {()}


def test_nothing_of_a_fold_is_in_its_training(recipe: Path) -> None:
    setting, dataset = read_recipe(recipe)
    examples = read_splits(dataset, ("train", "validation"))
    for fold, names in enumerate(folds_of(NAMES, 4)):
        _, training, selection = split_fold(
            setting, dataset.heads, examples, names, fold, CrossValidationSettings(inside_every=2)
        )
        assert {e.name for e in training} | {e.name for e in selection} == set(NAMES) - set(names)
        assert len(selection) == 3


def test_a_recording_without_a_label_is_of_no_use_to_a_fold(recipe: Path) -> None:
    setting, dataset = read_recipe(recipe)
    examples = read_splits(dataset, ("train", "validation"))
    bare = [replace(e, labels=np.full_like(e.labels, IGNORE)) if e.name == NAMES[1] else e for e in examples]
    trees = replace(setting, model=replace(setting.model, kind="gradient-boosting"))
    for base, ways in itertools.product(
        (setting, trees), (CrossValidationSettings(inside_every=2), CrossValidationSettings(fixed_epochs=1))
    ):
        for fold, held_out in enumerate(folds_of(NAMES, 4)):
            _, training, selection = split_fold(base, dataset.heads, bare, held_out, fold, ways)
            used = {e.name for e in (*training, *selection)}
            assert used == set(NAMES) - {*held_out, NAMES[1]}
            # Its place is taken by the next one; a fixed number of epochs is chosen by none.
            assert bool(selection) == (base is trees or ways.fixed_epochs is None)


def test_what_chooses_shows_a_scored_class(recipe: Path) -> None:
    setting, dataset = read_recipe(recipe)
    (head,) = dataset.heads
    other = np.int16(head.classes.index("other"))
    examples = [
        e if e.name in NAMES[4:6] else replace(e, labels=np.full_like(e.labels, other))
        for e in read_splits(dataset, ("train", "validation"))
    ]
    for fold in range(4):
        ways = CrossValidationSettings(inside_every=3)
        _, training, selection = split_fold(setting, dataset.heads, examples, NAMES[:2], fold, ways)
        assert {e.name for e in selection} & set(NAMES[4:6]), "blocks that show the background alone can choose nothing"
        assert {e.name for e in training} == set(NAMES[2:]) - {e.name for e in selection}


def test_what_is_refused(recipe: Path, tmp_path: Path) -> None:
    for changed, reason in (
        ({"folds": 9}, "expected 2 to 8 for 8 recordings, got 9"),
        ({"folds": 1}, "folds must be 2 or more, got 1"),
        ({"against": "magic"}, "against: expected a recipe .* or one of multitask-tcn, .*, got 'magic'"),
        ({"against": str(recipe)}, "two systems are called 'tiny'"),
        ({"splits": ("train", "public")}, "has the splits train, validation, not 'public'"),
    ):
        with pytest.raises(SettingError, match=reason):
            crossvalidate(recipe, tmp_path, CrossValidationSettings(**changed))  # type: ignore[arg-type]
    setting, dataset = read_recipe(recipe)
    with pytest.raises(SettingError, match=r"fold 7 leaves 1 recordings with labels; .* those are 0"):
        split_fold(
            setting, dataset.heads, read_splits(dataset, ("train",))[:2], ["train/00"], 7, CrossValidationSettings()
        )


def test_folds_that_train_without_a_class_are_told() -> None:
    examples = [replace(example(name, i), labels=np.full((400, 3), i % 2, np.int16)) for i, name in enumerate("abcd")]
    # Folds of a class each: what the held-out videos show, the others do not.
    told = absent_from_folds(HEADS, examples, [["a", "c"], ["b", "d"]])
    assert told == [
        "fold 0 trains without a frame of near: far, speed: still, speed: fast, fast: no",
        "fold 1 trains without a frame of near: near, speed: slow, speed: fast, fast: fast",
    ]
    assert absent_from_folds(HEADS[:1], examples, [["a"], ["b"]]) == []
