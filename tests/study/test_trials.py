"""What a trial leaves on disk: probabilities that come back exactly, and other files that are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RtsegError, SettingError
from rtseg.study.trials import (
    DONE,
    SavedProbabilities,
    load_probabilities,
    output_columns,
    read_recipe,
    run_trial,
    save_probabilities,
)
from rtseg.training.task import TrainingTask, read_training
from tests.study.scenes import write_dataset
from tests.training.scenes import HEADS

COLUMNS = output_columns(HEADS)
TREES = ['model.kind="gradient-boosting"', "model.dropout=0"]


def test_probabilities_come_back_from_their_file_exactly(tmp_path: Path) -> None:
    probs = np.random.default_rng(3).random((60, len(COLUMNS))).astype(np.float32)
    probs[-2:] = np.nan
    saved = SavedProbabilities("a/1", COLUMNS, probs, ("b",))
    path = save_probabilities(saved, tmp_path / "new")
    assert path.name == "a_1.npz"
    back = load_probabilities(path)
    np.testing.assert_array_equal(back.probs, saved.probs)
    assert (back.recording, back.columns, back.seen) == (saved.recording, saved.columns, saved.seen)
    assert COLUMNS == ("near.far", "near.near", "speed.still", "speed.slow", "speed.fast", "fast.no", "fast.fast")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"text"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(RtsegError, match=r"x\.npz: not the probabilities of a trained system"):
        load_probabilities(path)


def test_columns_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    saved = SavedProbabilities("a", COLUMNS, np.zeros((5, 2), np.float32), ())
    with pytest.raises(RtsegError, match=r"7 columns are named, the probabilities are \(5, 2\)"):
        load_probabilities(save_probabilities(saved, tmp_path))


def test_a_finished_trial_is_not_taken_for_other_poses_of_what_it_predicted(tmp_path: Path) -> None:
    recipe, dataset = read_recipe(write_dataset(tmp_path / "data", n_train=2, n_validation=1), None, TREES)
    training, selection = read_training(dataset)
    task = TrainingTask(recipe, dataset.skeleton, dataset.fps, dataset.heads, training, selection)
    seen = selection[0]
    held_out = replace(seen, name="held out", keypoints=seen.keypoints[::-1].copy())
    done = run_trial(tmp_path / "trial", task, [held_out])
    # Labels change no answer, poses do.
    again = run_trial(tmp_path / "trial", task, [replace(held_out, labels=held_out.labels[::-1])])
    np.testing.assert_array_equal(again.probabilities["held out"], done.probabilities["held out"])
    refused = "predicted other poses of held out than the recordings have now"
    for changed in (replace(held_out, keypoints=seen.keypoints), replace(held_out, confidence=seen.confidence / 2)):
        with pytest.raises(SettingError, match=refused):
            run_trial(tmp_path / "trial", task, [changed])
    # An older version's trial, which has no hashes, goes on.
    facts = json.loads((tmp_path / "trial" / DONE).read_text())
    del facts["asked_poses"]
    (tmp_path / "trial" / DONE).write_text(json.dumps(facts))
    run_trial(tmp_path / "trial", task, [held_out])
    short = replace(held_out, keypoints=seen.keypoints[:-1], confidence=seen.confidence[:-1], labels=seen.labels[:-1])
    with pytest.raises(SettingError, match=refused):
        run_trial(tmp_path / "trial", task, [short])
