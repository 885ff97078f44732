"""The one door: every real file finds its reader, every other file is told what is accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import read_labels, read_recording, read_recordings

SHAPES = {
    "dlc_openfield_missing.csv": (2330, 1, 4),
    "dlc_single_mouse.csv": (97, 1, 14),
    "dlc_single_mouse.h5": (100, 1, 14),
    "dlc_three_mice.h5": (1800, 3, 12),
    "madlc_two_mice.csv": (97, 2, 14),
    "madlc_two_mice.h5": (100, 2, 14),
    "sleap_predictions.analysis.h5": (3000, 2, 13),
    "sleap_single_mouse.analysis.h5": (101, 1, 14),
    "sleap_single_mouse.slp": (101, 1, 14),
}


def test_every_file_of_formats(data_root: Path) -> None:
    assert {p.name for p in (data_root / "formats").iterdir()} == set(SHAPES)
    for name, shape in SHAPES.items():
        recording = read_recording(data_root / "formats" / name)
        assert recording.confidence.shape == shape
        assert recording.fps == 30  # the default of formats that carry no rate
        missing = np.isnan(recording.keypoints).any(axis=-1)
        np.testing.assert_array_equal(missing, recording.confidence == 0)
        assert 0 < (~missing).mean() <= 1
        assert read_recording(data_root / "formats" / name, fps=25, name="x").fps == 25
        assert read_recording(data_root / "formats" / name, name="x").name == "x"


def test_mice7_with_its_labels(data_root: Path) -> None:
    (poses,), (events,) = (data_root / "mice7").glob("e3*.csv"), (data_root / "mice7").glob("boris*.csv")
    recording = read_recording(poses)
    labels = read_labels(events, len(recording), recording.fps)
    assert recording.confidence.shape == (5700, 2, 7)
    assert labels["adult"].frames.shape == (5700,)


def test_calms21_holds_many(tmp_path: Path) -> None:
    sequence = {"keypoints": np.zeros((3, 2, 2, 7)).tolist(), "scores": np.ones((3, 2, 7)).tolist()}
    path = tmp_path / "calms21.json"
    path.write_text(json.dumps({"g": {"a": sequence, "b": sequence}}))
    assert [r.name for r in read_recordings(path)] == ["a", "b"]
    assert read_recording(path, name="b").name == "b"
    with pytest.raises(RecordingError, match="holds several recordings; name a sequence"):
        read_recording(path)
    with pytest.raises(RecordingError, match="holds no recording 'c'"):
        read_recording(path, name="c")


def test_unknown_kinds_are_told_what_is_accepted(tmp_path: Path, data_root: Path) -> None:
    video = tmp_path / "video.mp4"
    video.write_bytes(b"video")
    with pytest.raises(RecordingError, match=r"of a kind that is not read \(\.mp4\); accepted: DeepLabCut"):
        read_recording(video)
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(RecordingError, match="its header 'a,b' is none that is read; accepted: DeepLabCut"):
        read_recording(table)
    notes = Path(shutil.copy(data_root / "mice7/LICENSE", tmp_path / "notes.txt"))
    with pytest.raises(RecordingError, match="is none that is read; accepted: Caltech"):
        read_labels(notes, 100, 30)
    with pytest.raises(RecordingError, match="No such file"):
        read_recording(tmp_path / "absent.csv")
    with pytest.raises(RecordingError, match="cut or damaged"):
        read_recording(Path(shutil.copy(table, tmp_path / "table.h5")))
