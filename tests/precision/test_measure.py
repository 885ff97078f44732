"""Precisions are measured through Session, accepted within bounds only, and noted where engines read it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.bundle.bundle import PRECISIONS, load_bundle, save_bundle
from rtseg.bundle.provenance import content_hash, label_table, poses_hash
from rtseg.config import PrecisionSettings
from rtseg.engine.onnx.precisions import accepted_scales, read_accepted
from rtseg.engine.onnx.step_file import write_step
from rtseg.engine.select import make_engine
from rtseg.errors import BundleError, EngineError, RtsegError, SettingError
from rtseg.evaluation.evaluate import predict_split
from rtseg.inference.classifier import Classifier
from rtseg.precision.compare import compare_precisions
from rtseg.precision.measure import measure_precisions, require_accepted
from rtseg.recordings.calms21 import write_calms21
from rtseg.recordings.dataset import Dataset, load_dataset
from rtseg.simulate.tasks import simulate_sequence
from tests.commands import Done, here
from tests.conftest import REPO
from tests.evaluation.test_evaluate import DATASET

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'rtseg[dev]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'rtseg[dev]'")

LOOSE = PrecisionSettings(1.0, 1.0, 1.0, 1.0, 1.0, range_frames=150)
"""Random weights feel rounding more than trained ones: what is tested is not how good this network is."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "dataset.toml").write_text(DATASET)
    for split, seeds in (("train", (5, 6)), ("validation", (1, 2))):
        pairs = [simulate_sequence(s, 300, name=f"{split}/{s}", aggressive=s == 2) for s in seeds]
        write_calms21(folder / f"{split}.json", {"annotator-id_0": pairs})
    return load_dataset(folder / "dataset.toml")


@pytest.fixture
def trained(tiny_bundle: Path, dataset: Dataset, tmp_path: Path) -> Path:
    """The tiny bundle with matrices of float16, saying that it was trained on the split `train`."""
    bundle, items = load_bundle(tiny_bundle), list(dataset.items("train"))
    known = {i.recording.name: content_hash(i.recording.keypoints, label_table(i, bundle.heads)) for i in items}
    provenance = {"training": known, "training_poses": [poses_hash(i.recording.keypoints) for i in items]}
    weights = {n: w.astype(np.float16).astype(np.float32) for n, w in bundle.weights.items()}
    save_bundle(replace(bundle, provenance=provenance, weights=weights), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_an_accepted_precision_is_stored_and_served(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    write_step(trained)
    before = load_bundle(trained)
    report = measure_precisions(
        trained, dataset, ["fp16", "int8"], settings=LOOSE, out=tmp_path / "report", command="the command"
    )
    require_accepted(report)
    bundle = load_bundle(trained)
    assert bundle.hash == before.hash == report["model"], "the float32 model is the same"
    assert set(read_accepted(bundle)) == {"fp16", "int8"}
    entry = report["precisions"]["int8"]
    assert accepted_scales(bundle, "int8") == entry["scales"]
    assert accepted_scales(bundle, "fp16") == accepted_scales(bundle, "fp32") == {}
    assert list(report["videos"]) == ["validation/1", "validation/2"]
    assert list(entry["ranges"]["videos"]) == ["train/5", "train/6"]
    assert entry["ranges"]["frames"] == 300
    # What was reported is what the engine that anybody can ask for answers.
    served = predict_split(Classifier(bundle, make_engine(bundle, "onnx:int8")), dataset, "validation")
    plain = predict_split(Classifier(bundle, "numba"), dataset, "validation")
    again = compare_precisions(plain, served)
    assert again["difference"]["largest"] == pytest.approx(entry["difference"]["largest"], abs=1e-6)
    assert again["heads"]["task1"]["f1"] == pytest.approx(entry["heads"]["task1"]["f1"], abs=1e-6)
    assert entry["difference"]["mean"] > report["precisions"]["fp16"]["difference"]["mean"] > 1e-7
    written = tmp_path / "report" / "precision-tiny.json"
    assert json.loads(written.read_text()) == report
    page = written.with_suffix(".md").read_text()
    assert "## int8: accepted" in page
    assert "Simulated animals" in page
    assert "the command" in page


def test_a_precision_that_is_too_far_off_is_removed(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    measure_precisions(trained, dataset, ["fp16", "int8"], settings=LOOSE, out=tmp_path)
    strict = replace(LOOSE, int8_largest=1e-9)
    report = measure_precisions(trained, dataset, ["int8"], settings=strict, out=tmp_path)
    bundle = load_bundle(trained)
    assert set(read_accepted(bundle)) == {"fp16"}, "fp16 was not asked about"
    with pytest.raises(RtsegError, match=r"tiny is not accepted in int8: the largest difference .* allowed is 1e-09"):
        require_accepted(report)
    with pytest.raises(EngineError, match="has not been accepted in int8"):
        make_engine(bundle, "onnx:int8")
    assert "Against it: the largest difference" in (tmp_path / "precision-tiny.md").read_text()


def test_recordings_that_training_or_ranges_used_are_refused(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="other recordings than the scores; both are split 'validation'"):
        measure_precisions(trained, dataset, ["int8"], ranges="validation", settings=LOOSE, out=tmp_path)
    with pytest.raises(SettingError, match="train/5: bundle 'tiny' was trained on this recording"):
        measure_precisions(trained, dataset, ["fp16"], split="train", settings=LOOSE, out=tmp_path)
    shared = Path(shutil.copytree(dataset.root, tmp_path / "shared"))
    shutil.copy(shared / "validation.json", shared / "train.json")
    with pytest.raises(SettingError, match=r"validation/1: split 'train' gives the ranges .* also scored"):
        measure_precisions(trained, load_dataset(shared / "dataset.toml"), ["int8"], settings=LOOSE, out=tmp_path)
    with pytest.raises(BundleError, match=r"found no manifest\.json"):
        measure_precisions(tmp_path, dataset, ["fp16"], settings=LOOSE, out=tmp_path)
    assert read_accepted(load_bundle(trained)) == {}


def test_a_bundle_that_has_learnt_from_all_is_compared_with_itself_on_them(
    trained: Path, dataset: Dataset, tmp_path: Path
) -> None:
    """It has no unseen recordings; what is measured is how far one precision is from another."""
    bundle, items = load_bundle(trained), list(dataset.items("validation"))
    known = {i.recording.name: content_hash(i.recording.keypoints, label_table(i, bundle.heads)) for i in items}
    poses = [poses_hash(i.recording.keypoints) for i in items]
    provenance = {**bundle.provenance, "training": {**bundle.provenance["training"], **known}, "validation": {}}
    provenance["training_poses"] = [*bundle.provenance["training_poses"], *poses]
    save_bundle(replace(bundle, provenance=provenance), trained)
    report = measure_precisions(trained, dataset, ["fp16"], settings=LOOSE, out=tmp_path)
    assert list(report["videos"]) == ["validation/1", "validation/2"]
    page = (tmp_path / "precision-tiny.md").read_text()
    assert "The bundle has learnt from these recordings" in page
    assert "that training never saw" not in page


def test_the_command_says_what_it_found_and_fails_where_it_is_not_accepted(
    trained: Path, dataset: Dataset, tmp_path: Path
) -> None:
    command = ["calibrate", str(trained), str(dataset.root / "dataset.toml"), "--out", str(tmp_path)]

    def run(*more: str) -> Done:
        return here(*command, *more)

    bounds = ["--set", "fp16_mean=1", "--set", "f1_drop=1"]
    refused = run("--fp16", *bounds, "--set", "fp16_largest=1e-9")
    assert refused.returncode == 1, refused.stderr
    assert "rtseg: tiny is not accepted in fp16: the largest difference of a probability is" in refused.stderr
    more = ["--fp16", *bounds, "--set", "fp16_largest=1"]
    child = [sys.executable, "-m", "rtseg", *command, *more]
    accepted = subprocess.run(child, cwd=REPO, capture_output=True, text=True, check=False)
    assert accepted.returncode == 0, accepted.stderr
    assert "tiny in fp16" in accepted.stdout
    assert set(read_accepted(load_bundle(trained))) == {"fp16"}
    assert run("--set", "fp16_largest=1").returncode == 2
    unknown = run("--int8", "--set", "int9_largest=1")
    assert "unknown key int9_largest; accepted: f1_drop, fp16_largest" in unknown.stderr


def test_a_stored_precision_that_was_changed_is_refused(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    measure_precisions(trained, dataset, ["int8"], settings=LOOSE, out=tmp_path)
    text = (trained / PRECISIONS).read_text()
    (trained / PRECISIONS).write_text(text.replace("0.", "1."))
    with pytest.raises(BundleError, match=r"precisions\.json was changed or cut: .*rtseg calibrate --int8"):
        make_engine(load_bundle(trained), "onnx:int8")
