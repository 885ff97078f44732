"""Calibration of a bundle: out of fold, on recordings that training never saw, and the same when done twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.bundle.bundle import Bundle, load_bundle, save_bundle
from rtseg.bundle.model_card import model_card
from rtseg.bundle.provenance import content_hash, label_table, poses_hash
from rtseg.errors import BundleError, SettingError
from rtseg.evaluation import calibrate
from rtseg.evaluation.calibrate import PICTURE, REPORT, Logits, calibrate_bundle, calibrate_head, read_logits
from rtseg.evaluation.logit_scaling import Scaling
from rtseg.inference.classifier import Classifier
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.recordings.heads import Head
from rtseg.simulate.tasks import simulate_sequence
from tests.evaluation.test_evaluate import DATASET


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "dataset.toml").write_text(DATASET)
    for split, seeds in (("train", (5,)), ("validation", (1, 2, 3))):
        pairs = [simulate_sequence(s, 400, name=f"{split}/{s}", aggressive=s == 2) for s in seeds]
        write_calms21(folder / f"{split}.json", {"annotator-id_0": pairs})
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return load_dataset(folder / "dataset.toml")


@pytest.fixture
def trained(tiny_bundle: Path, dataset: Dataset, tmp_path: Path) -> Path:
    """The tiny bundle, saying that it was trained on the split `train`."""
    bundle = load_bundle(tiny_bundle)
    (item,) = dataset.items("train")
    known = {item.recording.name: content_hash(item.recording.keypoints, label_table(item, bundle.heads))}
    provenance = {"dataset": "two mice", "training": known, "training_poses": [poses_hash(item.recording.keypoints)]}
    save_bundle(replace(bundle, provenance=provenance), tmp_path / "bundle")
    return tmp_path / "bundle"


def probabilities(bundle: Bundle, dataset: Dataset) -> np.ndarray:
    classifier = Classifier(bundle)
    return np.concatenate([classifier.run(i.recording).of("task1") for i in dataset.items("validation")])


@pytest.mark.parametrize("method", ["temperature", "vector"])
def test_what_is_served_afterwards_is_calibrated_and_says_so(
    trained: Path, dataset: Dataset, tmp_path: Path, method: str
) -> None:
    before = load_bundle(trained)
    report = calibrate_bundle(trained, dataset, method=method, out=tmp_path / "report", command="rtseg calibrate ...")
    after = load_bundle(trained)
    assert (report["model_before"], report["model"]) == (before.hash, after.hash)
    assert before.hash != after.hash
    head = report["heads"]["task1"]
    assert head["after"]["nll"] < head["before"]["nll"]
    assert head["after"]["ece"] < head["before"]["ece"]
    assert (head["videos"], head["folds"], sum(head["positive_frames"].values())) == (3, 3, 1200)
    np.testing.assert_allclose(after.weights["head.task1.calibration.scale"], head["scale"], rtol=1e-5)
    unlabelled = "head.sniff_face.calibration.scale"
    assert after.weights[unlabelled].tobytes() == before.weights[unlabelled].tobytes()
    changed = {n for n in before.weights if after.weights[n].tobytes() != before.weights[n].tobytes()}
    assert changed <= {"head.task1.calibration.scale", "head.task1.calibration.shift"}
    assert after.provenance["calibration"]["method"] == method
    assert list(after.provenance["calibration"]["videos"]) == [f"validation/{i}" for i in (1, 2, 3)]
    assert after.scores["validation"]["calibration"]["task1"]["ece"] == head["after"]["ece"]
    assert json.loads((tmp_path / "report" / REPORT).read_text()) == report
    assert (tmp_path / "report" / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert report["simulated"] is True
    assert report["left_as_they_are"] == ["sniff_face"]
    if method == "temperature":
        p, q = probabilities(before, dataset), probabilities(after, dataset)
        np.testing.assert_array_equal(p.argmax(1), q.argmax(1))
        assert not np.allclose(p, q, atol=0.05)


def test_calibrating_again_gives_the_same_whatever_came_in_between(
    trained: Path, dataset: Dataset, tmp_path: Path
) -> None:
    once = calibrate_bundle(trained, dataset, out=tmp_path / "a")
    first = probabilities(load_bundle(trained), dataset)
    calibrate_bundle(trained, dataset, method="vector", out=tmp_path / "b")
    again = calibrate_bundle(trained, dataset, out=tmp_path / "c")
    assert again["model"] == once["model"]
    assert again["heads"] == once["heads"]
    assert probabilities(load_bundle(trained), dataset).tobytes() == first.tobytes()


def test_logits_are_read_off_probabilities(trained: Path, dataset: Dataset) -> None:
    bundle = load_bundle(trained)
    ((head, videos),) = read_logits(bundle, dataset, "validation").items()
    scale, shift = np.array([0.5, 0.7, 1.2, 0.9]), np.array([0.3, -0.4, 0.0, 0.2])
    weights = dict(bundle.weights)
    weights["head.task1.calibration.scale"] = scale.astype(np.float32)
    weights["head.task1.calibration.shift"] = shift.astype(np.float32)
    served = probabilities(replace(bundle, weights=weights), dataset)
    told = np.concatenate([Scaling(scale, shift).probabilities(z) for z, _ in videos])
    np.testing.assert_allclose(told, served, atol=1e-4)
    assert head.name == "task1"
    assert [len(y) for _, y in videos] == [400, 400, 400]


@pytest.mark.parametrize("known", ["training", "training_poses"])
def test_a_recording_that_training_saw_is_refused(
    trained: Path, dataset: Dataset, folder: Path, tmp_path: Path, known: str
) -> None:
    bundle = load_bundle(trained)
    provenance: dict[str, Any] = dict(bundle.provenance)
    if known == "training":
        del provenance["training_poses"]
    else:
        provenance["training"] = {"train/5": "another hash, as other labels would give"}
    save_bundle(replace(bundle, provenance=provenance), trained)
    before = load_bundle(trained).hash
    with pytest.raises(SettingError, match=r"train/5: bundle 'tiny' was trained on this recording"):
        calibrate_bundle(trained, dataset, "train", out=tmp_path / "report")
    # Under another name and among others it is still known.
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    pairs = [simulate_sequence(s, 400, name=f"train/{s}") for s in (1, 5)]
    pairs = [
        (replace(recording, name=f"new/{s}"), labels) for s, (recording, labels) in zip((1, 5), pairs, strict=True)
    ]
    write_calms21(mixed / "validation.json", {"annotator-id_0": pairs})
    with pytest.raises(SettingError, match="new/5: bundle 'tiny' was trained on this"):
        calibrate_bundle(trained, load_dataset(mixed / "dataset.toml"), out=tmp_path / "report")
    assert load_bundle(trained).hash == before
    assert not (tmp_path / "report").exists()


def test_a_bundle_of_unknown_origin_is_refused(tiny_bundle: Path, dataset: Dataset, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "copy"))
    with pytest.raises(SettingError, match="does not say what it was trained on"):
        calibrate_bundle(copy, dataset, out=tmp_path / "report")
    with pytest.raises(BundleError, match=r"found no manifest\.json"):
        calibrate_bundle(tmp_path, dataset, out=tmp_path / "report")


@pytest.mark.parametrize("before", ["plain", "calibrated"])
def test_a_scaling_that_makes_the_error_larger_is_not_applied(
    trained: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    plain = probabilities(load_bundle(trained), dataset)
    if before == "calibrated":
        calibrate_bundle(trained, dataset, out=tmp_path / "earlier")
    # Far too sure of itself, whatever it is fitted to.
    monkeypatch.setattr(
        calibrate, "fit_scaling", lambda z, *_: Scaling(np.full(z.shape[1], 20.0), np.zeros(z.shape[1]))
    )
    report = calibrate_bundle(trained, dataset, out=tmp_path / "report")
    head = report["heads"]["task1"]
    assert head["after"]["ece"] > head["before"]["ece"]
    assert head["applied"] is False
    assert report["not_applied"] == {
        "task1": {"ece_before": head["before"]["ece"], "ece_after": head["after"]["ece"]},
    }
    after = load_bundle(trained)
    assert "calibration" not in after.provenance
    assert after.scores["validation"]["calibration"]["task1"]["ece"] == head["before"]["ece"]
    assert probabilities(after, dataset).tobytes() == plain.tobytes()
    assert "Not calibrated" in model_card(after)


def test_one_head_may_have_a_method_of_its_own(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    mixed = calibrate_bundle(trained, dataset, vector=["task1"], out=tmp_path / "a")
    about = load_bundle(trained).provenance["calibration"]
    assert (about["method"], about["vector"]) == ("temperature", ["task1"])
    assert (
        mixed["heads"]["task1"]
        == calibrate_bundle(trained, dataset, "validation", "vector", out=tmp_path / "b")["heads"]["task1"]
    )
    with pytest.raises(SettingError, match="not task9"):
        calibrate_bundle(trained, dataset, vector=["task9"], out=tmp_path / "c")


def test_thresholds_are_stored(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    calibrate_bundle(trained, dataset, out=tmp_path / "report", abstain={"task1": 0.6})
    assert dict(load_bundle(trained).abstain_below) == {"task1": 0.6}
    assert load_bundle(trained).scores["validation"]["abstention"]["task1"]["below"] == 0.6
    for wrong, reason in (({"task9": 0.5}, "not task9"), ({"task1": 2.0}, "probability in")):
        with pytest.raises(SettingError, match=reason):
            calibrate_bundle(trained, dataset, out=tmp_path / "report", abstain=wrong)
    with pytest.raises(SettingError, match="one of temperature, vector; got 'platt'"):
        calibrate_bundle(trained, dataset, method="platt", out=tmp_path / "report")


def test_a_video_is_never_measured_with_its_own_fit() -> None:
    """Two videos, the second with its labels exchanged: each gets the scaling that suits the other."""
    head = Head("h", ("a", "b"), ("a", "b"), "h")
    rng = np.random.default_rng(0)
    z = rng.normal(0, 3, (400, 2))
    p = Scaling(np.ones(2), np.zeros(2)).probabilities(z)
    good = z.argmax(1).astype(np.int16)
    videos: list[Logits] = [(z, good), (z, 1 - good)]
    after = calibrate_head(head, videos, "temperature").after
    assert after[0][0].max(1).mean() < p.max(1).mean() < after[1][0].max(1).mean()


def test_one_video_is_too_few_to_calibrate(trained: Path, folder: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    shutil.copytree(folder, few)
    write_calms21(few / "validation.json", {"annotator-id_0": [simulate_sequence(1, 400, name="only")]})
    with pytest.raises(SettingError, match=r"two or more videos .*; got 1 of task1"):
        calibrate_bundle(trained, load_dataset(few / "dataset.toml"), out=tmp_path / "report")
