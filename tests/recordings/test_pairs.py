"""Parts of recordings, names and label formats that differ from file to file, and eight heads in a line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import RecordingError, SettingError, SkeletonError
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.labels.boris_events import OTHER_NAME, OTHER_RECORDING
from rtseg.recordings.pairs import find_recording_files, found_ids
from rtseg.recordings.recording import IGNORE
from tests.recordings.writers import Observation, State, Style, write_boris_tabular, write_caltech

N_FRAMES = 60
HEAD = """
name = "lab"
fps = 30
[skeleton]
animals = ["a"]
keypoints = ["nose", "tail"]
[[recordings]]
poses = "{id}.poses.csv"
labels = "{id}.labels.*"
"""
ACT = '[heads.act]\nclasses = ["rest", "run"]\n'
SPLIT = '[split]\ntrain = "rest"\nvalidation = ["v"]\n'


def write_poses(path: Path, n_frames: int = N_FRAMES, names: str = "nose,tail", animal: str = "") -> None:
    """A frame's number t stands in its points: nose (t, 1), tail (t, 2)."""
    one, two = (f"{animal}{name}" for name in names.split(","))
    rows = [f"{t},{t},1,{t},2" for t in range(n_frames)]
    path.write_text(f"frame,{one}.x,{one}.y,{two}.x,{two}.y\n" + "\n".join(rows) + "\n")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A dataset of the recordings u and v; frame t is 'run' where t % 10 < 5."""
    for name in "uv":
        write_poses(tmp_path / f"{name}.poses.csv")
        rows = ["run" if t % 10 < 5 else "rest" for t in range(N_FRAMES)]
        (tmp_path / f"{name}.labels.csv").write_text("act\n" + "\n".join(rows) + "\n")
    path = tmp_path / "lab.dataset.toml"
    path.write_text(HEAD + ACT + SPLIT)
    return path


def part(name: str, of: str = "v", **keys: int) -> str:
    lines = [f"{key} = {value}" for key, value in keys.items()]
    return "\n".join(["[[parts]]", f'id = "{name}"', f'recording = "{of}"', *lines, ""])


def test_parts_are_recordings_of_their_own(lab: Path) -> None:
    parts = (
        part("v/a", from_frame=0, to_frame=25) + part("v/b", from_frame=30, to_frame=40) + part("v/c", from_frame=45)
    )
    lab.write_text(HEAD + parts + ACT + '[split]\ntrain = "rest"\nvalidation = ["v/b", "v/c"]\n')
    dataset = load_dataset(lab)
    assert (dataset.ids("train"), dataset.ids("validation")) == (("u", "v/a"), ("v/b", "v/c"))
    found = {item.recording.name: item for split in dataset.splits for item in dataset.items(split)}
    assert {name: len(item.recording) for name, item in found.items()} == {"u": 60, "v/a": 25, "v/b": 10, "v/c": 15}
    for name, first in (("v/a", 0), ("v/b", 30), ("v/c", 45)):
        recording, labels = found[name].recording, found[name].labels["act"]
        frames = np.arange(first, first + len(recording))
        assert recording.keypoints[:, 0, 0, 0].tolist() == frames.tolist()
        assert recording.confidence.shape == (len(frames), 1, 2)
        assert [labels.classes[code] for code in labels.frames] == ["run" if t % 10 < 5 else "rest" for t in frames]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, N_FRAMES), min_size=2, max_size=9, unique=True))
def test_parts_together_are_the_whole(tmp_path_factory: pytest.TempPathFactory, edges: list[int]) -> None:
    folder = tmp_path_factory.mktemp("lab")
    write_poses(folder / "v.poses.csv")
    (folder / "v.labels.csv").write_text("act\n" + "\n".join(["rest", "run"] * (N_FRAMES // 2)) + "\n")
    bounds = sorted({0, *edges, N_FRAMES})
    stretches = list(pairwise(bounds))
    parts = "".join(part(f"p{i}", from_frame=a, to_frame=b) for i, (a, b) in enumerate(stretches))
    whole, cut = folder / "whole.toml", folder / "cut.toml"
    whole.write_text(HEAD + ACT + '[split]\ntrain = "rest"\n')
    cut.write_text(HEAD + parts + ACT + '[split]\ntrain = "rest"\n')
    (one,) = load_dataset(whole).items("train")
    items = list(load_dataset(cut).items("train"))
    assert [len(item.recording) for item in items] == [b - a for a, b in stretches]
    for name in ("keypoints", "confidence"):
        together = np.concatenate([getattr(item.recording, name) for item in items])
        np.testing.assert_array_equal(together, getattr(one.recording, name))
    np.testing.assert_array_equal(np.concatenate([i.labels["act"].frames for i in items]), one.labels["act"].frames)


def test_parts_of_one_recording_read_it_once(lab: Path) -> None:
    parts = "".join(part(f"v{i}", from_frame=10 * i, to_frame=10 * i + 10) for i in range(3))
    lab.write_text(HEAD + parts + ACT + '[split]\ntrain = "rest"\nvalidation = ["u"]\n')
    items = load_dataset(lab).items("train")
    assert next(items).recording.name == "v0"
    (lab.parent / "v.poses.csv").write_text("damaged")
    assert [item.recording.name for item in items] == ["v1", "v2"]


@pytest.mark.parametrize(
    ("parts", "split", "words"),
    [
        (part("x", of="w"), "", "parts.recording: no recording has the id 'w'; u, v have"),
        (part("u"), "", "parts.id: 'u' is the id of another part or recording"),
        (part("x", to_frame=9) + part("x", from_frame=9), "", "parts[1].id: 'x' is the id of another part"),
        (part("x", from_frame=9, to_frame=9), "", "parts.to_frame: expected more than from_frame (9), got 9"),
        (part("x", from_frame=-1), "", "parts.from_frame: expected a whole number from 0 on, got -1"),
        (part("x", to_frame=10) + part("y", from_frame=9), "", "parts: 'x' and 'y' share frames of 'v'"),
        (part("x") + part("y", from_frame=9), "", "parts: 'x' and 'y' share frames of 'v'"),
        (part("x", frames=3), "", "unknown key parts.frames; accepted here: id, recording, from_frame, to_frame"),
        (part("x"), '[split]\ntrain = ["v"]\n', "split.train: 'v' is cut into parts; name those: x"),
        (part("x"), '[split]\ntrain = ["x"]\ntest = ["x"]\n', "'x' is in both 'train' and 'test'"),
    ],
)
def test_parts_that_cannot_be(lab: Path, parts: str, split: str, words: str) -> None:
    lab.write_text(HEAD + parts + ACT + (split or '[split]\ntrain = "rest"\n'))
    with pytest.raises(SettingError) as error:
        load_dataset(lab)
    assert words in str(error.value)
    assert str(lab) in str(error.value)


def test_a_part_beyond_the_recording_names_its_file(lab: Path) -> None:
    lab.write_text(HEAD + part("x", from_frame=50, to_frame=61) + ACT + '[split]\ntrain = "rest"\n')
    with pytest.raises(RecordingError, match=r"v\.poses\.csv: part 'x' wants frames 50 to 61, and there are 60"):
        list(load_dataset(lab).items("train"))


def test_names_of_each_files_own(lab: Path) -> None:
    write_poses(lab.parent / "v.poses.csv", names="Snout,tail_tip", animal="mouse1.")
    lab.write_text(HEAD + ACT + SPLIT)
    with pytest.raises(
        SkeletonError, match=r"v\.poses\.csv: keypoints expected: nose, tail; .*counterpart: nose, tail"
    ):
        list(load_dataset(lab).items("validation"))
    keys = 'keypoints = { snout = "nose", "tail_tip" = "tail" }\nanimals = { "mouse1" = "a" }\nids = ["v"]\n'
    own = '[[recordings]]\nposes = "{id}.poses.csv"\nlabels = "{id}.labels.*"\nids = ["u"]\n'
    lab.write_text(HEAD + keys + own + ACT + SPLIT)
    for split in ("train", "validation"):
        (item,) = load_dataset(lab).items(split)
        assert item.recording.keypoints[7].tolist() == [[[7, 1], [7, 2]]]
    lab.write_text(HEAD + keys.replace("snout", "snut") + own + ACT + SPLIT)
    with pytest.raises(SkeletonError, match=r"v\.poses\.csv: keypoints to rename: the source has no 'snut'"):
        list(load_dataset(lab).items("validation"))


BEHAVIOURS = ("sniff", "chase", "groom", "attack", "mount", "rear", "dig", "rest")


def test_eight_behaviours_are_eight_heads_in_one_line(lab: Path) -> None:
    some = tuple(State("A", name, i / 10, (i + 3) / 10) for i, name in enumerate(BEHAVIOURS[:-1]))
    for name in "uv":
        (lab.parent / f"{name}.labels.csv").unlink()
        write_boris_tabular(lab.parent / f"{name}.labels.csv", [Observation("o", f"{name}.mp4", some, duration_s=2)])
    line = f'acts = {{ each = {list(BEHAVIOURS)}, track = "A:{{each}}", unlabelled = "other" }}\n'
    lab.write_text(HEAD + "[heads]\n" + line + SPLIT)
    dataset = load_dataset(lab)
    assert [(h.name, h.classes, h.scored, h.group) for h in dataset.heads] == [
        (name, ("other", name), (name,), "acts") for name in BEHAVIOURS
    ]
    (item,) = dataset.items("validation")
    for i, name in enumerate(BEHAVIOURS):
        frames = np.flatnonzero(item.labels[name].frames == 1).tolist()
        assert frames == ([] if name == "rest" else list(range(3 * i, 3 * i + 9)))
        assert (item.labels[name].frames != IGNORE).all()


def test_one_head_from_files_of_four_formats(lab: Path) -> None:
    folder = lab.parent
    for name in "uvwx":
        write_poses(folder / f"{name}.poses.csv")
        for old in folder.glob(f"{name}.labels.*"):
            old.unlink()
    write_boris_tabular(
        folder / "u.labels.csv", [Observation("o", "u.mp4", (State("A", "running", 1.0, 1.5),), duration_s=2)]
    )
    write_caltech(
        folder / "v.labels.txt", ["rest", "run"], {"S1": [(0, 30, "rest"), (30, 45, "run"), (45, 60, "rest")]}
    )
    Style(delimiter=";").write(folder / "w.labels.csv", [["Start", "Stop", "Behavior"], ["30", "45", "run"]])
    rows = [[str(t), "1" if 30 <= t < 45 else "0"] for t in range(N_FRAMES)]
    Style(delimiter="\t").write(folder / "x.labels.tsv", [["frame", "Run"], *rows])
    tracks = 'tracks = { A = "act", S1 = "act", labels = "act", Run = "act" }\n'
    head = '[heads.act]\nclasses = ["rest", "run"]\nrename = { running = "run", Run = "run", other = "rest" }\n'
    lab.write_text(HEAD + tracks + head + 'unlabelled = "rest"\n[split]\ntrain = "rest"\n')
    items = list(load_dataset(lab).items("train"))
    assert [item.recording.name for item in items] == ["u", "v", "w", "x"]
    for item in items:
        assert np.flatnonzero(item.labels["act"].frames == 1).tolist() == list(range(30, 45))
        assert (item.labels["act"].frames != IGNORE).all()


def test_two_tracks_of_one_name_are_refused(lab: Path) -> None:
    (lab.parent / "v.labels.csv").write_text("frame,act,other\n" + "".join(f"{t},rest,run\n" for t in range(N_FRAMES)))
    lab.write_text(HEAD + 'tracks = { other = "act" }\n' + ACT + SPLIT)
    with pytest.raises(RecordingError, match="two of its tracks would be called 'act'; correct 'tracks'"):
        list(load_dataset(lab).items("validation"))


def test_recordings_of_another_scale_are_brought_to_the_datasets(lab: Path) -> None:
    text = lab.read_text().replace("fps = 30\n", "fps = 30\npx_per_mm = 2.0\n")
    lab.write_text(text.replace('labels = "{id}.labels.*"\n', 'labels = "{id}.labels.*"\npx_per_mm = 4.0\n'))
    dataset = load_dataset(lab)
    (item,) = dataset.items("validation")
    assert (dataset.px_per_mm, item.recording.px_per_mm) == (2.0, 2.0)
    assert item.recording.keypoints[8, 0].tolist() == [[4.0, 0.5], [4.0, 1.0]]
    lab.write_text(text)
    (item,) = load_dataset(lab).items("validation")
    assert item.recording.px_per_mm == 2.0
    assert item.recording.keypoints[8, 0, 0].tolist() == [8.0, 1.0]


def test_a_scale_of_some_recordings_needs_one_for_all(lab: Path) -> None:
    lab.write_text(lab.read_text().replace('labels = "{id}.labels.*"\n', 'labels = "{id}.labels.*"\npx_per_mm = 4.0\n'))
    assert load_dataset(lab).px_per_mm == 4.0
    more = '[[recordings]]\nids = ["w"]\nposes = "{id}.csv"\nlabels = "{id}.txt"\n'
    lab.write_text(lab.read_text().replace(ACT, more + ACT))
    with pytest.raises(SettingError, match=r"px_per_mm says .* at the top of the file"):
        load_dataset(lab)


def test_letters_in_either_form_and_ids_with_folders(tmp_path: Path) -> None:
    """macOS writes ä as two characters, a keyboard one; and the same names may stand in several folders."""
    for name in ("Ka\u0308fig/m1.csv", "K\u00e4fig2/m1.csv"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    find = find_recording_files
    assert find(tmp_path, "K\u00e4fig/{id}.csv", "m1") == [tmp_path / "Ka\u0308fig/m1.csv"]
    assert find(tmp_path, "{id}.csv", "K\u00e4fig/m1") == [tmp_path / "Ka\u0308fig/m1.csv"]
    assert find(tmp_path, "{id}.csv", "Ka\u0308fig2/m1") == [tmp_path / "K\u00e4fig2/m1.csv"]
    assert found_ids(tmp_path, "K\u00e4fig/{id}.csv", "x.csv") == ("m1",)


def test_a_file_that_is_not_there_is_named_with_its_folder(lab: Path) -> None:
    lab.write_text(HEAD + 'ids = ["v", "gone"]\n' + ACT + SPLIT)
    folders = (lab.parent, "nothing there is called so"), (lab.parent / "elsewhere", "there is no such folder")
    for root, words in folders:
        (error,) = load_dataset(lab, root=root).items_or_errors("train")
        assert isinstance(error, RecordingError)
        assert f"expected one file for 'gone.poses.csv', and {words}" in str(error)


def test_labels_of_another_recording_of_the_dataset_are_told(lab: Path) -> None:
    """Two files that were swapped: both fit, and only what they say of their videos tells."""
    lab.write_text(HEAD + '[heads.act]\ntrack = "a"\nclasses = ["rest", "run"]\nunlabelled = "rest"\n' + SPLIT)
    for name in "uv":
        (lab.parent / f"{name}.labels.csv").unlink()
    for labels_of, media in (("uv", "uv"), ("uv", "vu"), ("uv", "xy")):
        for name, video in zip(labels_of, media, strict=True):
            states = (State("a", "run", 0.5, 1.0),)
            observation = Observation(video, f"{video}.mp4", states, duration_s=2.0)
            write_boris_tabular(lab.parent / f"{name}.labels.csv", [observation])
        dataset = load_dataset(lab)
        (item,) = dataset.items_or_errors("validation")
        kinds = [warning.kind for warning in item.warnings]
        assert (OTHER_NAME in kinds, OTHER_RECORDING in kinds) == (media != "uv", media == "vu")


def test_labels_of_the_rows_of_poses_that_lack_frames_are_refused(lab: Path) -> None:
    rows = (lab.parent / "v.poses.csv").read_text().splitlines()
    (lab.parent / "v.poses.csv").write_text("\n".join([*rows[:21], *rows[25:]]) + "\n")
    labels = (lab.parent / "v.labels.csv").read_text().splitlines()
    assert len(next(load_dataset(lab).items("validation")).recording) == N_FRAMES
    (lab.parent / "v.labels.csv").write_text("\n".join(labels[:-4]) + "\n")
    with pytest.raises(RecordingError, match="56 rows, as many as the poses, which lack 4 of the video's 60 frames"):
        next(load_dataset(lab).items("validation"))
