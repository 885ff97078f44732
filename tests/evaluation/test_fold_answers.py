"""Answers out of fold in the place of a bundle's own: scored as any, and refused where they are of another recipe.

One small recipe is trained on all recordings and cross-validated on them; everything here is about these two.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.bundle.bundle import Bundle, load_bundle
from rtseg.config import CrossValidationSettings, DecodingSettings
from rtseg.errors import SettingError
from rtseg.evaluation.calibrate import calibrate_bundle
from rtseg.evaluation.fold_answers import FoldAnswers, FoldVideo, decoded, read_fold_answers
from rtseg.evaluation.logit_scaling import Scaling, fit_scaling, log_probabilities
from rtseg.evaluation.out_of_fold import OutOfFold, read_out_of_fold, write_out_of_fold
from rtseg.inference.classifier import Classifier
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.study.crossvalidate import crossvalidate
from rtseg.study.decoding import study_decoding
from rtseg.study.missing import study_missing
from rtseg.training.export import train_bundle
from tests.commands import here
from tests.study.scenes import DATASET, read_json, write_dataset

LAST = 'train.select="last"'
ALL = ('train.splits=["train", "validation"]', LAST)
FOLDS = CrossValidationSettings(folds=2)
NAMES = ["train/00", "train/01", "train/02", "validation/03", "validation/04"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), n_train=3, n_validation=2)


@pytest.fixture(scope="module")
def dataset(recipe: Path) -> Dataset:
    return load_dataset(recipe.with_name("dataset.toml"))


@pytest.fixture(scope="module")
def made(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The folder of a bundle of all recordings, the file of its recipe's answers out of fold, and their scores."""
    out = tmp_path_factory.mktemp("made")
    train_bundle(recipe, out / "bundle", overrides=ALL)
    # As a laboratory that had its recipe before: the epochs from the command, other evaluations, other threads.
    overrides = ("train.evaluate_every=2", "train.cache_mb=100")
    settings = replace(FOLDS, fixed_epochs=2)
    result = crossvalidate(recipe, out, settings, overrides=overrides, resamples=2)
    return out / "bundle", out / "crossvalidate.tiny.safetensors", result


@pytest.fixture
def bundle(made: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the bundle, to be changed."""
    return shutil.copytree(made[0], tmp_path / "bundle")


def changed(made: tuple[Path, Path, dict[str, Any]], folder: Path, change: Callable[[OutOfFold], OutOfFold]) -> Path:
    """The file of answers, changed and sealed anew."""
    write_out_of_fold(change(read_out_of_fold(made[1])), folder / "changed.safetensors")
    return folder / "changed.safetensors"


def test_the_scores_are_those_of_cross_validation(
    made: tuple[Path, Path, dict[str, Any]], bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    folds = read_fold_answers(load_bundle(bundle), dataset, made[1])
    report = folds.evaluate(load_bundle(bundle), dataset)
    head, expected = report["heads"]["task1"], made[2]["systems"]["tiny"]["heads"]["task1"]
    assert head["macro_f1"] == pytest.approx(expected["f1"]["mean"], abs=2e-6)
    assert head["mean_average_precision"] == pytest.approx(expected["map"]["mean"], abs=2e-6)
    assert report["split"] == "train and validation, out of fold"
    assert (report["out_of_fold"]["folds"], report["out_of_fold"]["trained_on"]) == (2, [2, 3])
    assert sorted(report["videos"]) == NAMES
    assert any("trained without it, on 2 to 3 recordings (2 folds)" in note for note in report["notes"])
    assert not any("The bundle was trained on" in note for note in report["notes"])
    command = ["evaluate", bundle, dataset.root / "dataset.toml", "--out-of-fold", made[1]]
    done = here(*map(str, command), "--json", str(tmp_path / "scores.json"))
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "scores.json") == json.loads(json.dumps(report))
    assert here(*map(str, command), "--split", "train").returncode == 2


def test_a_fold_answers_what_its_own_bundle_would(
    made: tuple[Path, Path, dict[str, Any]], recipe: Path, tmp_path: Path
) -> None:
    """But for what rounding a bundle's matrices to float16 costs."""
    answers = read_out_of_fold(made[1])
    seen = sorted(answers.folds[0].trained_on)
    data = shutil.copytree(recipe.parent, tmp_path / "data")
    head, *_ = DATASET.partition("[[calms21]]")
    for split, names in (("train", seen), ("validation", sorted(set(NAMES) - set(seen)))):
        for file in ("train", "validation"):
            if own := [name for name in names if name.startswith(file)]:
                head += (
                    f'[[calms21]]\nfile = "{file}.json"\nsplit = "{split}"\nheads = "task1"\nonly = {json.dumps(own)}\n'
                )
    (data / "dataset.toml").write_text(head)
    fold = train_bundle(data / "tiny.toml", tmp_path / "fold", overrides=(LAST,))
    assert sorted(fold.provenance["training"]) == seen
    for item in load_dataset(data / "dataset.toml").items("validation"):
        own = Classifier(fold).run(item.recording).probs
        away = np.abs(own - answers.probabilities[0][item.recording.name]).max()
        assert 0 < away < 2e-3


@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.5, 8), n=st.integers(2, 6))
def test_a_temperature_of_probabilities_is_that_of_their_logits(seed: int, spread: float, n: int) -> None:
    """A constant that the classes of a frame share falls out of the softmax, at any one scale."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, spread, (400, n)) + rng.normal(0, 5, (400, 1))
    labels = np.array(
        [rng.choice(n, p=p) for p in Scaling(np.full(n, 0.6), np.zeros(n)).probabilities(logits) / 1.0001]
    )
    plain = Scaling(np.ones(n), np.zeros(n)).probabilities(logits)
    ours, theirs = fit_scaling(log_probabilities(plain), labels), fit_scaling(logits, labels)
    np.testing.assert_allclose(ours.scale, theirs.scale, rtol=1e-4)
    np.testing.assert_allclose(
        ours.probabilities(log_probabilities(plain)), ours.probabilities(logits), rtol=0, atol=2e-6
    )


def test_calibration_and_its_card(
    made: tuple[Path, Path, dict[str, Any]], bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    before = load_bundle(bundle)
    report = calibrate_bundle(bundle, dataset, out=tmp_path / "report", out_of_fold=made[1])
    after, head = load_bundle(bundle), report["heads"]["task1"]
    assert (head["videos"], head["folds"], sum(head["positive_frames"].values())) == (5, 5, 1500)
    assert head["after"]["nll"] < head["before"]["nll"]
    assert report["out_of_fold"]["folds"] == 2
    assert sorted(report["videos"]) == NAMES
    if head["applied"]:
        np.testing.assert_allclose(after.weights["head.task1.calibration.scale"], head["scale"], rtol=1e-6)
    changed_tensors = {n for n in before.weights if before.weights[n].tobytes() != after.weights[n].tobytes()}
    assert changed_tensors <= {"head.task1.calibration.scale", "head.task1.calibration.shift"}
    (scores,) = after.scores.values()
    assert scores["calibration"]["task1"]["ece"] == head["after" if head["applied"] else "before"]["ece"]
    assert scores["out_of_fold"]["folds"] == 2
    card = (bundle / "MODEL_CARD.md").read_text() if (bundle / "MODEL_CARD.md").exists() else ""
    done = here("card", str(bundle))
    card = (bundle / "MODEL_CARD.md").read_text()
    assert done.returncode == 0
    assert "split `train and validation, out of fold`" in card
    assert "this bundle has learnt from all of them" in card or not head["applied"]
    assert "The bundle itself has learnt from all 5" in card
    hash_before = after.hash
    calibrate_bundle(bundle, dataset, out=tmp_path / "report", out_of_fold=made[1])
    assert load_bundle(bundle).hash == hash_before
    with pytest.raises(SettingError, match="not the logits that a vector scaling takes"):
        calibrate_bundle(bundle, dataset, method="vector", out=tmp_path / "report", out_of_fold=made[1])


def test_the_bundle_itself_is_not_measured_on_what_it_learnt_without_a_word(
    bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(SettingError, match=r"was trained on this recording .* take answers out of fold"):
        calibrate_bundle(bundle, dataset, out=tmp_path)
    file = dataset.root / "dataset.toml"
    chosen = study_decoding(bundle, file, tmp_path, grid=(DecodingSettings(),), resamples=2)
    faults = study_missing(bundle, file, tmp_path, kinds=(), resamples=2)
    for result in (chosen, faults):
        assert any("was trained on validation/03, validation/04" in note for note in result["notes"])


def test_the_decoding_is_chosen_on_these_answers(
    made: tuple[Path, Path, dict[str, Any]], bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    grid = (DecodingSettings(), DecodingSettings(min_bout_frames=5), DecodingSettings(margin=0.3))
    result = study_decoding(
        bundle, dataset.root / "dataset.toml", tmp_path, out_of_fold=made[1], grid=grid, resamples=2
    )
    assert result["videos"] == NAMES
    assert result["out_of_fold"]["folds"] == 2
    assert "has learnt from all 5" in (tmp_path / "decoding.md").read_text()
    raw = result["heads"]["task1"]["raw"]["macro_f1"]
    assert raw == pytest.approx(made[2]["systems"]["tiny"]["heads"]["task1"]["f1"]["mean"], abs=2e-6)


def test_decoding_begins_anew_behind_a_gap_as_a_streams_does(tiny_bundle: Path, dataset: Dataset) -> None:
    model = replace(load_bundle(tiny_bundle), decoding=DecodingSettings(min_bout_frames=4, settle_margin=0.2))
    item = next(iter(dataset.items("train")))
    absent = np.zeros(len(item.recording), np.bool_)
    absent[100 : 101 + model.gaps.fill_frames] = True
    keypoints, confidence = item.recording.keypoints.copy(), item.recording.confidence.copy()
    keypoints[absent], confidence[absent] = np.nan, 0
    gap = replace(item.recording, absent=absent, keypoints=keypoints, confidence=confidence)
    by_frame = Classifier(model).run(gap).by_frame(gap)
    video = FoldVideo(item, by_frame.probs, list(gap.stretches(model.gaps.fill_frames)))
    assert len(video.stretches) == 2
    np.testing.assert_array_equal(decoded(replace(model, lookahead_frames=0), video, by_frame.probs), by_frame.labels)


def test_a_stream_of_these_answers_is_the_bundles_where_the_answers_are(tiny_bundle: Path, dataset: Dataset) -> None:
    """Its own probabilities in the place of a fold's: all of its own answers comes back, behind a gap as well."""
    model, item = replace(load_bundle(tiny_bundle), lookahead_frames=0), next(iter(dataset.items("train")))
    sure = np.median(Classifier(model).run(item.recording).of("task1").max(axis=1))
    model = replace(model, abstain_below={"task1": float(sure)})
    absent = np.arange(len(item.recording)) // 50 == 2
    keypoints, confidence = item.recording.keypoints.copy(), item.recording.confidence.copy()
    keypoints[absent], confidence[absent] = np.nan, 0
    gap = replace(item, recording=replace(item.recording, absent=absent, keypoints=keypoints, confidence=confidence))
    classifier = Classifier(model)
    own = classifier.run(gap.recording)
    video = FoldVideo(gap, own.by_frame(gap.recording).probs, list(gap.recording.stretches(model.gaps.fill_frames)))
    ((_, found),) = FoldAnswers(model, ("train",), (video,), {}, {}).stream_answers(classifier)
    assert len(video.stretches) == 2
    for part in ("seq", "probs", "labels", "quality", "unsure", "missing"):
        np.testing.assert_array_equal(getattr(found, part), getattr(own, part), part)
    assert 0 < own.unsure[:, 0].mean() < 1


def with_settings(section: str, **values: Any) -> Callable[[OutOfFold], OutOfFold]:
    def change(answers: OutOfFold) -> OutOfFold:
        assert answers.settings is not None
        part = {**answers.settings[section], **values}
        return replace(answers, settings={**answers.settings, section: part})

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_settings("train", learning_rate=0.02), r"train.learning_rate = 0.02, the bundle's 0.01"),
        (with_settings("train", epochs=3), "train.epochs = 3, the bundle's 2"),
        (with_settings("train", select="score"), "train.select = 'score', the bundle's 'last'"),
        (with_settings("model", channels=5), "model.channels = 5, the bundle's 4"),
        (with_settings("features", lags=[1, 2]), r"features.lags = \(1, 2\)|features.lags = \[1, 2\]"),
        (with_settings("augment", mirror=True), "augment.mirror = True"),
        (with_settings("train", nonesuch=1), "unknown key nonesuch"),
        (lambda a: replace(a, settings=None), "does not say by which settings"),
        (lambda a: replace(a, seeds=(7,), costs=tuple(c._replace(seed=7) for c in a.costs)), "seed 0, got those of 7"),
        (lambda a: replace(a, dataset_hash="0" * 64), "expected hash"),
        (lambda a: replace(a, held={**a.held, NAMES[0]: 3}), "3 frames had no answer, .* leave 0"),
    ],
)
def test_answers_of_another_recipe_are_refused(
    made: tuple[Path, Path, dict[str, Any]],
    dataset: Dataset,
    tmp_path: Path,
    change: Callable[[OutOfFold], OutOfFold],
    says: str,
) -> None:
    path = changed(made, tmp_path, change)
    with pytest.raises(SettingError, match=says):
        read_fold_answers(load_bundle(made[0]), dataset, path)


def test_what_changes_no_network_may_differ(
    made: tuple[Path, Path, dict[str, Any]], dataset: Dataset, tmp_path: Path
) -> None:
    change = with_settings("decoding", margin=0.2)
    path = changed(made, tmp_path, lambda a: replace(change(a), settings={**change(a).settings, "name": "other"}))  # type: ignore[dict-item]
    assert len(read_fold_answers(load_bundle(made[0]), dataset, path).videos) == 5


def with_provenance(bundle: Bundle, **changes: Any) -> Bundle:
    return replace(bundle, provenance={**bundle.provenance, **changes})


def test_other_recordings_are_refused(
    made: tuple[Path, Path, dict[str, Any]], dataset: Dataset, tmp_path: Path
) -> None:
    bundle, path = load_bundle(made[0]), made[1]
    known = dict(bundle.provenance["training"])
    fewer = {name: digest for name, digest in known.items() if name != NAMES[4]}
    with pytest.raises(SettingError, match="answers 1 recordings that the bundle was not trained on: validation/04"):
        read_fold_answers(with_provenance(bundle, training=fewer), dataset, path)
    with pytest.raises(SettingError, match=r"no answers to 1 recordings .*: another"):
        read_fold_answers(with_provenance(bundle, training={**known, "another": "0"}), dataset, path)
    with pytest.raises(SettingError, match="train/01: bundle 'tiny' was trained on other poses or labels"):
        read_fold_answers(with_provenance(bundle, training={**known, NAMES[1]: "0" * 16}), dataset, path)
    with pytest.raises(SettingError, match="does not say by which recipe"):
        read_fold_answers(with_provenance(bundle, recipe=None), dataset, path)
    (head,) = dataset.heads
    other = replace(dataset, heads=(replace(head, scored=("attack",)),))
    with pytest.raises(SettingError, match="other heads, animals, keypoints or frames per second"):
        read_fold_answers(bundle, other, path)
