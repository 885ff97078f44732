"""Every real file finds its one reader, and every other file is refused with what is accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.open import LABEL_READERS, POSE_READERS, read_labels, read_recording, read_recordings

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
    picture = tmp_path / "frame.png"
    picture.write_bytes(b"picture")
    with pytest.raises(RecordingError, match=r"of a kind that is not read \(\.png\); accepted: DeepLabCut"):
        read_recording(picture)
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    with pytest.raises(RecordingError, match="its header 'a,b' is none that is read; accepted: DeepLabCut"):
        read_recording(table)
    notes = Path(shutil.copy(data_root / "mice7/LICENSE", tmp_path / "notes.txt"))
    with pytest.raises(
        RecordingError, match=r"none that is read; accepted: Excel's workbooks \.xlsx with such a table, JAABA's scores"
    ):
        read_labels(notes, 100, 30)
    with pytest.raises(RecordingError, match="No such file"):
        read_recording(tmp_path / "absent.csv")
    with pytest.raises(RecordingError, match="cut or damaged"):
        read_recording(Path(shutil.copy(table, tmp_path / "table.h5")))


def test_at_most_one_reader_recognizes_a_file(data_root: Path) -> None:
    """The order of the readers means nothing: a new one cannot take away another's files."""
    poses = [*(data_root / "formats").iterdir(), *(data_root / "mice7").glob("e3*.csv")]
    for path in poses:
        probe = FileProbe(path)
        assert len([r for r in POSE_READERS if probe.suffix in r.suffixes and r.recognizes(probe)]) == 1, path
    labels = [*(data_root / "mice7").glob("boris*.csv"), *(data_root / "rats58/labels").glob("0*_annot.txt")]
    for path in labels:
        assert len([r for r in LABEL_READERS if r.recognizes(FileProbe(path))]) == 1, path


@pytest.mark.parametrize(
    ("text", "format_"),
    [
        ("frame,S1\n0,a\n", "plain .csv"),
        ("start,stop,behaviour\n0,1,a\n", "plain .csv"),
        ("Subject;Behavior;Behavior type;Time\n", "BORIS events"),
        ("Caltech Behavior Annotator - Annotation File\n", "Caltech"),
        ("Bento annotation file\n", "MARS and BENTO"),
        ('{"behaviors_conf": {}, "observations": {}}\n', "BORIS projects"),
        ("anything at all\n", "plain .csv"),  # which then says what it expects
    ],
)
def test_a_file_of_labels_has_one_reader(tmp_path: Path, text: str, format_: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    (reader,) = [r for r in LABEL_READERS if r.recognizes(FileProbe(path))]
    assert reader.format.startswith(format_)


def test_poses_in_the_place_of_labels_and_labels_in_that_of_poses_are_told(tmp_path: Path, data_root: Path) -> None:
    poses = next((data_root / "rats58").rglob("*.csv"))
    with pytest.raises(RecordingError, match=r"it holds poses \(DeepLabCut \.csv\), and labels are expected"):
        read_labels(poses, 100, 30)
    with pytest.raises(RecordingError, match=r"it holds poses \(SLEAP \.slp\), and labels are expected"):
        read_labels(next((data_root / "formats").glob("*.slp")), 100, 30)
    events = tmp_path / "v.tsv"
    events.write_text("Behavior\tBehavior type\tTime\nsniff\tSTART\t1\nsniff\tSTOP\t2\n", encoding="utf-8")
    with pytest.raises(RecordingError, match="holds labels \\(BORIS"):
        read_recording(events)
    # Where a table holds both, what is wrong with its labels comes first.
    both = tmp_path / "both.csv"
    both.write_text("frame,nose.x,nose.y,attack\n1,2,3,0\n2,2,3,1\n", encoding="utf-8")
    with pytest.raises(RecordingError, match=r"line 2: expected frame 0, got '1'; .*; it holds poses"):
        read_labels(both, 2, 30)


def test_an_assumed_rate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    path.write_text("frame,nose.x,nose.y\n0,2,3\n")
    assert read_recording(path).warnings == (
        "the frame rate is not known and taken as 30; say another with --fps (1 file)",
    )
    assert read_recording(path, fps=30).warnings == ()


def test_warnings_name_their_file(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    path.write_text("frame,nose.x,nose.y\n1,2,3\n")
    assert {warning.file for warning in read_recording(path).warnings} == {str(path)}
    path.write_text("frame,S1\n0,a\n")
    assert {warning.file for warning in read_labels(path, 2, 30)["S1"].warnings} == {str(path)}


def test_the_page_of_formats_names_all_of_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    formats = page.split("## What is done with trouble")[0]
    assert all(reader.format.split()[0] in formats for reader in (*POSE_READERS, *LABEL_READERS))
    assert all(f"`{suffix}`" in formats for reader in POSE_READERS for suffix in reader.suffixes[:1])
    assert all(word in formats for word in ("Caltech", "BORIS project", "BORIS tabular", "MARS and BENTO", "bouts:"))
