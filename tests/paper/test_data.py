"""What --data means: official files and their counts, simulated ones, dataset files; and what is kept of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtseg.config import PaperSettings
from rtseg.errors import RecordingError, SettingError
from rtseg.frames.skeleton import MICE7
from rtseg.paper.data import PARTS, PaperData, hold_out, load_data, open_data, save_data
from rtseg.recordings.calms21 import read_calms21, write_calms21
from rtseg.recordings.recording import IGNORE
from rtseg.simulate.files import simulate_dataset
from rtseg.training.task import Example
from tests.paper.scenes import ANNOTATORS, BEHAVIOURS, paper_data, write_official

SETTINGS = PaperSettings()


def opened(path: Path, out: Path, *, allow: bool = False, root: Path | None = None) -> PaperData:
    return open_data(path, out, SETTINGS, allow_other_counts=allow, root=root)


def test_files_that_are_not_the_official_ones_are_refused_and_the_differences_named(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "calms21")
    with pytest.raises(RecordingError, match="--allow-other-counts") as caught:
        opened(folder, tmp_path / "out")
    said = str(caught.value)
    assert "Task 1 train: 3 sequences, the official file has 70" in said
    assert "Task 1 train: 120 frames, the official file has 507,738" in said
    assert "Task 1 test: 3 sequences, the official file has 19" in said
    assert "frames of attack, the official file has 14,039" in said
    assert "Task 2 train: 6 sequences, the official file has 30" in said


def test_official_files_become_tasks_with_a_head_per_annotator_and_behaviour(tmp_path: Path) -> None:
    data = opened(write_official(tmp_path / "calms21"), tmp_path / "out", allow=True)
    assert data.kind == "CalMS21's official files"
    assert not data.simulated
    assert data.tasks == {1: "task1", 2: "task2", 3: "task3"}
    assert [h.name for h in data.heads] == ["task1", *ANNOTATORS, *BEHAVIOURS]
    assert data.heads[0].classes == ("attack", "investigation", "mount", "other")
    assert data.heads[0].scored == ("attack", "investigation", "mount")
    assert data.heads[-1].scored == ("grooming",)
    assert any("not what CalMS21 published: Task 1 train: 3 sequences" in note for note in data.notes)
    assert (tmp_path / "out" / "calms21.dataset.toml").is_file()


def test_validation_is_held_out_of_training_and_never_of_the_test(tmp_path: Path) -> None:
    data = opened(write_official(tmp_path / "calms21"), tmp_path / "out", allow=True)
    names = {part: {e.name for e in getattr(data, part)} for part in PARTS}
    assert names["training"] | names["validation"] == {
        e for e in names["training"] | names["validation"] if "/train/" in e
    }
    assert not names["training"] & names["validation"]
    assert all("/test/" in name for name in names["test"])
    assert len(names["test"]) == 15
    # One of three sequences of each of the five groups.
    assert len(names["validation"]) == 5
    assert any("held out (seed 0)" in note for note in data.notes)


def test_a_task_without_its_files_is_absent_and_says_which(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "calms21", tasks=(1, 3))
    (folder / "calms21_task3_test.json").unlink()
    data = opened(folder, tmp_path / "out", allow=True)
    assert data.tasks == {1: "task1"}
    assert data.absent == {
        2: "no calms21_task2_train.json and no calms21_task2_test.json in the folder",
        3: "no calms21_task3_test.json in the folder",
    }


def test_files_are_found_in_folders_below_as_the_archives_unpack(tmp_path: Path) -> None:
    write_official(tmp_path / "calms21" / "task1_classic_classification", tasks=(1,))
    assert opened(tmp_path / "calms21", tmp_path / "out", allow=True).tasks == {1: "task1"}
    write_official(tmp_path / "calms21" / "copy", tasks=(1,))
    with pytest.raises(RecordingError, match="more than once"):
        opened(tmp_path / "calms21", tmp_path / "out", allow=True)


def test_simulated_files_of_the_layout_are_not_counted_and_say_so(tmp_path: Path) -> None:
    data = opened(write_official(tmp_path / "files", tasks=(1,), simulated=True), tmp_path / "out")
    assert data.simulated
    assert data.kind == "simulated recordings"
    assert any("not compared" in note for note in data.notes)


def test_the_challenges_files_without_labels_are_refused(tmp_path: Path) -> None:
    folder = write_official(tmp_path / "calms21", tasks=(1,))
    path = folder / "calms21_task1_test.json"
    bare = [(s.recording, None) for s in read_calms21(path)]
    write_calms21(path, {"annotator-id_0": bare})
    with pytest.raises(RecordingError, match="no annotations"):
        opened(folder, tmp_path / "out", allow=True)


def test_a_folder_that_simulate_wrote_is_used_with_its_own_splits(tmp_path: Path) -> None:
    simulate_dataset(tmp_path / "sim", sequences=(2, 5, 7), minutes=0.2)
    data = opened(tmp_path / "sim", tmp_path / "out")
    assert data.simulated
    assert data.tasks == {1: "task1", 2: "task2", 3: "task3"}
    assert {e.name.split("/")[2] for e in data.validation} == {"validation"}
    assert {e.name.split("/")[2] for e in data.test} == {"test"}
    assert data.arena == (0.0, 0.0, 1024.0, 570.0)


def test_a_dataset_file_of_other_heads_gives_its_groups_in_order(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        rows = ["frame,a.nose.x,a.nose.y,a.tail.x,a.tail.y"]
        rows += [f"{t}," + ",".join(f"{v:.2f}" for v in rng.uniform(10, 90, 4)) for t in range(30)]
        (tmp_path / "poses" / f"{i}.csv").write_text("\n".join(rows) + "\n")
        labels = ["frame,state,detail"] + [f"{t},{'ab'[t % 2]},{'xy'[t % 3 == 0]}" for t in range(30)]
        (tmp_path / "poses" / f"{i}.labels.csv").write_text("\n".join(labels) + "\n")
    (tmp_path / "own.toml").write_text(
        'name = "own"\nfps = 30\n[skeleton]\nanimals = ["a"]\nkeypoints = ["nose", "tail"]\naxis = ["tail", "nose"]\n'
        '[[recordings]]\nposes = "poses/{id}.csv"\nlabels = "poses/{id}.labels.csv"\n'
        'ids = ["0", "1", "2", "3", "4", "5"]\n'
        '[heads.state]\nclasses = ["a", "b"]\n[heads.detail]\nclasses = ["x", "y"]\n'
        '[split]\ntrain = "rest"\nvalidation = ["4", "5"]\n'
    )
    data = opened(tmp_path / "own.toml", tmp_path / "out")
    assert data.tasks == {1: "state", 2: "detail"}
    assert data.absent == {3: "dataset 'own' has the head groups state, detail"}
    assert [e.name for e in data.test] == ["4", "5"]
    assert len(data.training) == 3
    assert len(data.validation) == 1
    x0, y0, x1, y1 = data.arena
    assert 0 < x0 < 20 < 80 < x1 < 100
    assert 0 < y0 < 20 < 80 < y1 < 100
    assert not any("are parts of" in note for note in data.notes)
    parts = "".join(
        f'[[parts]]\nid = "5/{i}"\nrecording = "5"\nfrom_frame = {15 * i}\nto_frame = {15 * i + 15}\n' for i in (0, 1)
    )
    text = (tmp_path / "own.toml").read_text().replace('["4", "5"]\n', '["5/0", "5/1"]\n')
    (tmp_path / "own.toml").write_text(text.replace("[split]", f"{parts}[split]"))
    assert any("2 of the recordings are parts of one video" in n for n in opened(tmp_path / "own.toml", tmp_path).notes)


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_a_path_with_nothing_to_read_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "nothing")
    with pytest.raises((RecordingError, SettingError), match="dataset file"):
        opened(tmp_path / "nothing", tmp_path / "out")


def test_stored_data_are_read_back_the_same(tmp_path: Path) -> None:
    data = paper_data()
    save_data(data, tmp_path)
    back = load_data(tmp_path)
    assert back.fingerprint() == data.fingerprint()
    assert back.summary() == data.summary()
    assert (back.heads, back.skeleton, back.notes) == (data.heads, data.skeleton, data.notes)
    written = (tmp_path / "test.npz").stat().st_mtime_ns
    save_data(data, tmp_path)
    assert (tmp_path / "test.npz").stat().st_mtime_ns == written


def test_frames_that_a_recording_lacks_are_stored_and_told_apart(tmp_path: Path) -> None:
    data, other = paper_data(), paper_data()
    absent = np.zeros(len(other.training[0]), np.bool_)
    absent[3:7] = True
    (first, *others) = other.training
    other = dataclasses.replace(other, training=[dataclasses.replace(first, absent=absent), *others])
    assert data.fingerprint() != other.fingerprint()
    save_data(other, tmp_path)
    back = load_data(tmp_path)
    assert back.training[0].absent is not None
    np.testing.assert_array_equal(back.training[0].absent, absent)
    assert back.training[1].absent is None


def test_the_fingerprint_changes_with_a_label() -> None:
    data, other = paper_data(), paper_data()
    other.test[0].labels[5, 0] = 3
    assert data.fingerprint() != other.fingerprint()


@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.floats(0.01, 0.9), st.integers(0, 5))
def test_holding_out_leaves_every_kind_in_training(kinds: list[int], share: float, seed: int) -> None:
    examples = []
    for i, kind in enumerate(kinds):
        labels = np.full((2, 3), IGNORE, np.int16)
        labels[:, kind] = 0
        points = np.zeros((2, *MICE7.shape, 2), np.float32)
        examples.append(Example(str(i), points, points[..., 0], labels))
    held = hold_out(examples, share, seed)
    assert held == hold_out(examples, share, seed) == sorted(set(held))
    for kind in set(kinds):
        there = [i for i, k in enumerate(kinds) if k == kind]
        out = [i for i in held if kinds[i] == kind]
        assert len(out) < len(there)
        assert len(out) >= 1 or len(there) == 1
