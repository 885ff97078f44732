"""The robustness study: what is scored is what Session answers, and all its files hold what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtseg.evaluation.evaluate import evaluate
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.recording import Recording
from rtseg.simulate.tasks import simulate_sequence
from rtseg.study import missing
from rtseg.study.missing import FAULTS, predict_with_gaps, study_missing
from tests.study.scenes import read_json, write_dataset


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


@pytest.fixture(scope="module")
def recording() -> Recording:
    return simulate_sequence(1, 400, name="r", aggressive=True)[0]


def test_with_every_frame_there_the_answers_are_those_of_run(classifier: Classifier, recording: Recording) -> None:
    live = predict_with_gaps(classifier, recording, np.ones(400, bool))
    np.testing.assert_array_equal(live, classifier.run(recording).probs)


def test_a_short_gap_is_answered_and_after_a_long_one_the_last_answer_stands(
    classifier: Classifier, recording: Recording
) -> None:
    clean = classifier.run(recording).probs
    came = np.ones(400, bool)
    came[100:110] = False  # filled
    came[200:300] = False  # beyond fill_frames: the stream begins anew
    probs = predict_with_gaps(classifier, recording, came)
    assert not np.isnan(probs).any()
    np.testing.assert_array_equal(probs[:100], clean[:100])
    assert (probs[100:110] != probs[99]).any()
    np.testing.assert_array_equal(probs[200:300], np.repeat(probs[199:200], 100, axis=0))
    fresh = classifier.run(simulate_part(recording, 300)).probs
    np.testing.assert_array_equal(probs[300:], fresh)


def simulate_part(recording: Recording, start: int) -> Recording:
    """The recording from one frame on."""
    parts = recording.keypoints[start:], recording.confidence[start:]
    return Recording(recording.name, recording.skeleton, *parts, recording.fps, simulated=True)


def test_the_whole_study(tiny_bundle: Path, classifier: Classifier, tmp_path: Path) -> None:
    write_dataset(tmp_path, n_train=1, n_validation=2)
    dataset = tmp_path / "dataset.toml"
    kinds = [missing.Fault(f.name, f.unit, f.levels[-1:], f.predict) for f in FAULTS]
    settings = {"kinds": kinds, "resamples": 20}
    result = study_missing(tiny_bundle, dataset, tmp_path / "out", command="rtseg study missing", **settings)
    assert result == read_json(tmp_path / "out" / "missing.json")
    assert result["simulated"] is True
    assert result["model"] == classifier.bundle.hash
    head = result["heads"]["task1"]
    plain = evaluate(classifier, load_dataset(dataset))["heads"]["task1"]
    assert head["clean"]["f1"]["value"] == plain["macro_f1"]
    assert head["clean"]["map"]["value"] == plain["mean_average_precision"]
    assert list(head["faults"]) == [f.name for f in FAULTS]
    for levels in head["faults"].values():
        (scores,) = levels
        assert scores["against_clean"]["f1"]["difference"] == pytest.approx(
            scores["f1"]["value"] - head["clean"]["f1"]["value"], abs=2e-6
        )
    for groups in head["as_it_is"].values():
        assert sum(group["frames"] for group in groups) == plain["frames"]
    page = (tmp_path / "out" / "missing.md").read_text()
    assert all(f"| {fault.name} |" in page for fault in FAULTS)
    assert "simulated: the numbers say nothing about real animals" in page
    assert (tmp_path / "out" / "missing.png").read_bytes()[1:4] == b"PNG"
    # The same seed gives the same faults.
    again = study_missing(tiny_bundle, dataset, tmp_path / "again", **settings)
    assert again["heads"] == result["heads"]
