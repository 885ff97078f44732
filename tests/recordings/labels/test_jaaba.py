"""JAABA's scores and labels, in MATLAB's files of version 5 and of 7.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from rtseg.errors import RecordingError
from rtseg.recordings.bouts import bouts_of
from rtseg.recordings.labels.jaaba import ARE_ANSWERS
from rtseg.recordings.labels.label_file import Tracks
from rtseg.recordings.open import find_label_reader, read_labels

N_FRAMES = 100
Bouts = list[tuple[int, int, str]]


def cell(values: list[Any]) -> np.ndarray:
    """A cell of MATLAB's, one row."""
    found = np.empty((1, len(values)), object)
    for i, value in enumerate(values):
        found[0, i] = value
    return found


def write_v5(path: Path, values: dict[str, Any]) -> Path:
    scipy.io.savemat(path, values, do_compression=True)
    return path


def write_v73(path: Path, values: dict[str, Any]) -> Path:
    """The same as MATLAB writes it with -v7.3: cells are references, dimensions from the other end."""
    with h5py.File(path, "w", userblock_size=512) as file:
        n_cells = 0

        def put(group: h5py.Group, name: str, value: Any) -> h5py.Dataset:
            nonlocal n_cells
            if isinstance(value, str):
                node = group.create_dataset(name, data=np.array([[ord(c)] for c in value], np.uint16))
                node.attrs["MATLAB_class"] = np.bytes_(b"char")
                return node
            if value.dtype == object:
                references = []
                for one in value.ravel(order="F"):
                    n_cells += 1
                    references.append(put(file.require_group("#refs#"), f"c{n_cells}", one).ref)
                node = group.create_dataset(name, (value.shape[1], 1), h5py.ref_dtype)
                node[:, 0] = references
                node.attrs["MATLAB_class"] = np.bytes_(b"cell")
                return node
            if not value.size:
                node = group.create_dataset(name, data=np.zeros(2, np.uint64))
                node.attrs["MATLAB_empty"] = 1
            else:
                node = group.create_dataset(name, data=value.T)
            node.attrs["MATLAB_class"] = np.bytes_(b"double")
            return node

        for name, value in values.items():
            if isinstance(value, dict):
                group = file.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_(b"struct")
                for field, one in value.items():
                    put(group, field, one)
            else:
                put(file, name, value)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as raw:
        raw.write(header)
    return path


def scores(*animals: tuple[int, int, list[tuple[int, int]]]) -> dict[str, Any]:
    """allScores of animals (first frame, last frame, bouts), counted from 1, a bout's end not included."""
    smoothed, raw = [], []
    for first, last, bouts in animals:
        answers = np.full((1, last), np.nan)
        answers[0, first - 1 :] = 0
        for start, stop in bouts:
            answers[0, start - 1 : stop - 1] = 1
        smoothed.append(answers)
        raw.append(np.where(answers > 0, 2.5, -1.5))
    edges = [np.array([[a[i] for a in animals]], float) for i in (0, 1)]
    return {"scores": cell(raw), "postprocessed": cell(smoothed), "tStart": edges[0], "tEnd": edges[1]}


def bouts(tracks: Tracks, name: str) -> Bouts:
    track = tracks[name]
    return [(b.start, b.stop, track.classes[b.label]) for b in bouts_of(track.frames) if b.label >= 0]


@pytest.fixture(params=[write_v5, write_v73], ids=["v5", "v7.3"])
def write(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_scores_are_frames_from_1_of_each_animal(tmp_path: Path, write: Any) -> None:
    two = scores((1, N_FRAMES, [(11, 21), (51, 61)]), (31, 80, [(41, 51)]))
    path = write(tmp_path / "scores_x.mat", {"allScores": two, "behaviorName": "Chase"})
    tracks = read_labels(path, N_FRAMES, 30)
    assert bouts(tracks, "target 1") == [
        *((0, 10, "other"), (10, 20, "Chase"), (20, 50, "other"), (50, 60, "Chase"), (60, N_FRAMES, "other")),
    ]
    # Before it came and after it left nobody knows what it did.
    assert bouts(tracks, "target 2") == [(30, 40, "other"), (40, 50, "Chase"), (50, 80, "other")]
    assert not tracks["target 2"].covered[:30].any()
    assert ARE_ANSWERS in [w.kind for w in tracks["target 1"].warnings]


def test_scores_of_one_animal_without_smoothing_or_name(tmp_path: Path, write: Any) -> None:
    one = scores((1, N_FRAMES, [(1, 2)]))
    del one["postprocessed"]
    tracks = read_labels(write(tmp_path / "scores_Lunge.mat", {"allScores": one}), N_FRAMES, 30)
    assert bouts(tracks, "target 1") == [(0, 1, "Lunge"), (1, N_FRAMES, "other")]


def labels(flies: list[int], off: float = 0.0) -> dict[str, Any]:
    """Of the first animal two bouts, of the others none."""
    nothing = np.zeros((0, 0))
    more = len(flies) - 1
    return {
        "t0s": cell([np.array([[11.0, 41.0]]), *[nothing] * more]),
        "t1s": cell([np.array([[21.0, 51.0]]), *[nothing] * more]),
        "names": cell([cell(["Chase", "None"]), *[np.zeros((1, 0), object)] * more]),
        "flies": np.array([[fly] for fly in flies], float),
        "off": np.full((1, len(flies)), off),
    }


def test_labels_are_what_a_person_named(tmp_path: Path) -> None:
    tracks = read_labels(write_v5(tmp_path / "labeled.mat", labels([2, 5])), N_FRAMES, 30)
    assert bouts(tracks, "target 2") == [(10, 20, "Chase"), (40, 50, "None")]
    assert bouts(tracks, "target 5") == []
    one = read_labels(write_v73(tmp_path / "v73.mat", labels([2])), N_FRAMES, 30)
    assert bouts(one, "target 2") == bouts(tracks, "target 2")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"trx": np.zeros((1, 3))}, "neither JAABA's scores .allScores. nor its labels .*; write labels as a table"),
        ({"allScores": scores((1, 400, []))}, "a bout ends at frame 400 and the video has 100"),
        ({"allScores": scores((1, 100, []), (1, 20, [])) | {"tEnd": np.array([[101.0, 20.0]])}}, "not as JAABA writes"),
        ({"allScores": scores((1, 100, [])), "behaviorName": cell(["a", "b"])}, "scores of several classifiers"),
        (labels([2], off=-4.0), "not there from the movie's first frame on"),
        (labels([2]) | {"flies": np.array([[1.0, 2.0]])}, "not as JAABA writes labels of single animals"),
        (labels([2]) | {"t1s": cell([np.array([[11.0, 51.0]])])}, "a bout of 'Chase' from 11 to 11"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        read_labels(write_v5(tmp_path / "a.mat", values), 100, 30)


def test_scores_of_another_video(tmp_path: Path) -> None:
    path = write_v5(tmp_path / "a.mat", {"allScores": scores((1, 300, []), (1, 20, []))})
    with pytest.raises(RecordingError, match="labels end after 300 frames and the video has 900"):
        read_labels(path, 900, 30)


def test_no_cut_is_a_traceback(tmp_path: Path, write: Any) -> None:
    whole = write(tmp_path / "a.mat", {"allScores": scores((1, N_FRAMES, [(11, 21)])), "behaviorName": "Chase"})
    raw = whole.read_bytes()
    for n_bytes in range(1, len(raw), max(1, len(raw) // 40)):
        path = tmp_path / "cut.mat"
        path.write_bytes(raw[:n_bytes])
        try:
            tracks = read_labels(path, N_FRAMES, 30)
        except RecordingError:
            continue
        assert bouts(tracks, "target 1") == bouts(read_labels(whole, N_FRAMES, 30), "target 1")


def test_its_project_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jab"
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(9))
    with pytest.raises(RecordingError, match=r"is JAABA's project, .*save its classifier's scores"):
        find_label_reader(path)
