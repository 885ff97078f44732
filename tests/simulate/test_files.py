"""The files of a simulated data set, read back through the readers that training uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import SettingError
from rtseg.recordings.calms21 import calms21_file_name, read_calms21
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.recording import IGNORE
from rtseg.simulate.files import SPLITS, n_held_out, simulate_dataset
from rtseg.simulate.tasks import GROUPS, simulate_group

SMALL = {"seed": 3, "sequences": (3, 5, 7), "minutes": 0.25}
FILES = [(task, split) for task in (1, 2, 3) for split in SPLITS]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    calls: list[tuple[int, int]] = []
    folder = tmp_path_factory.mktemp("simulated")
    path = simulate_dataset(folder, **SMALL, progress=lambda done, total: calls.append((done, total)))
    return path, calls


def test_the_folder_holds_the_six_files_and_nothing_half_written(written: tuple) -> None:
    path, _ = written
    names = {p.name for p in path.parent.iterdir()}
    assert names == {path.name} | {f"calms21_task{t}_{s}.json" for t, s in FILES}


@pytest.mark.parametrize(("task", "split"), FILES)
def test_a_file_reads_back_as_it_was_simulated(written: tuple, task: int, split: str) -> None:
    n = SMALL["sequences"][task - 1]
    n = n if split == "train" else n_held_out(task, n)
    found = list(read_calms21(written[0].parent / calms21_file_name(task, split)))
    assert len(found) == n
    assert {sequence.group for sequence in found} == set(GROUPS[task])
    wanted = [
        (group, *pair) for group in GROUPS[task] for pair in simulate_group(task, split, group, n, seed=3, minutes=0.25)
    ]
    for sequence, (group, recording, labels) in zip(found, wanted, strict=True):
        assert (sequence.group, sequence.recording.name) == (group, recording.name)
        assert sequence.recording.simulated
        assert sequence.recording.keypoints.tobytes() == recording.keypoints.tobytes()
        assert sequence.recording.confidence.tobytes() == recording.confidence.tobytes()
        assert sequence.labels.classes == labels.classes
        np.testing.assert_array_equal(sequence.labels.frames, labels.frames)


@pytest.mark.parametrize(("task", "split"), FILES)
def test_a_file_has_the_official_layout_and_says_simulated(written: tuple, task: int, split: str) -> None:
    groups = json.loads((written[0].parent / calms21_file_name(task, split)).read_text())
    for sequences in groups.values():
        for name, sequence in sequences.items():
            assert name.startswith("simulated/")
            assert np.shape(sequence["keypoints"]) == (450, 2, 2, 7)
            assert np.shape(sequence["scores"]) == (450, 2, 7)
            assert np.shape(sequence["annotations"]) == (450,)
            assert sequence["metadata"]["simulated"] is True


def test_the_dataset_file_gives_every_head_its_labels(written: tuple) -> None:
    dataset = load_dataset(written[0])
    assert dataset.simulated
    assert dataset.splits == SPLITS
    assert [head.name for head in dataset.heads] == ["task1", *GROUPS[2], *GROUPS[3]]
    assert {head.group for head in dataset.heads} == {"task1", "task2", "task3"}
    for split in dataset.splits:
        labelled = set()
        for item in dataset.items(split):
            own = [name for name, labels in item.labels.items() if (labels.frames != IGNORE).any()]
            assert len(own) == 1
            labelled.add(own[0])
        assert labelled == {head.name for head in dataset.heads}


def test_the_same_arguments_write_the_same_bytes(written: tuple, tmp_path: Path) -> None:
    path = simulate_dataset(tmp_path / "new" / "folder", **SMALL)
    for one in written[0].parent.iterdir():
        assert (path.parent / one.name).read_bytes() == one.read_bytes()


def test_progress_counts_every_sequence(written: tuple) -> None:
    _, calls = written
    total = (3 + 1 + 1) + 3 * 5 + 3 * 7  # train, validation and test of each task
    assert calls == [(i, total) for i in range(total + 1)]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sequences": (1, 4, 7)}, "at least 1, 5, 7 .* got 1, 4, 7"),
        ({"sequences": (1, 5)}, "got 1, 5"),
        ({"minutes": 0.0}, "minutes: expected at least 0.2, got 0.0"),
        ({"minutes": float("nan")}, "minutes"),
        ({"seed": -1}, "seed: expected a whole number from 0, got -1"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        simulate_dataset(tmp_path / "none", **(SMALL | wrong))
    assert not (tmp_path / "none").exists()
