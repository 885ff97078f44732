"""Tables of poses in Excel's workbooks give what the same table gives as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.open import find_label_reader, find_pose_reader, read_recording
from rtseg.recordings.poses.tables import workbook

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed: pip install 'rtseg[dev]'")
PLAIN = [["frame", "fps", "nose_x", "nose_y", "nose_p"], [0, 25, 1.5, 20, 0.5], [1, 25, 2.25, 21, 0.125]]
DLC = [
    ["scorer", "s", "s", "s"],
    ["bodyparts", "nose", "nose", "nose"],
    ["coords", "x", "y", "likelihood"],
    [0, 1.5, 20, 0.5],
    [1, None, None, None],
    [2, 123.456, 21, 0.125],
]
LONG = [["track", "frame_idx", "nose.x", "nose.y"], ["a", 0, 1, 2], ["b", 0, 3, 4], ["a", 2, 5, 6]]


def save(path: Path, *sheets: Iterable[Sequence[Any]], names: Sequence[str] = (), hidden: Sequence[str] = ()) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(names[i] if names else None)
        sheet.sheet_state = "hidden" if sheet.title in hidden else "visible"
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


@pytest.mark.parametrize("rows", [PLAIN, DLC, LONG], ids=["plain", "DeepLabCut", "a row for each track"])
def test_a_sheet_is_what_it_is_as_csv(tmp_path: Path, rows: list[list[Any]]) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    text = read_recording(tmp_path / "a.csv")
    sheet = read_recording(save(tmp_path / "a.xlsx", [[], []] + [[None, *row] for row in rows], [["notes"]]))
    assert sheet.skeleton == text.skeleton
    assert (sheet.fps, sheet.name, sheet.warnings) == (text.fps, text.name, text.warnings)
    assert sheet.keypoints.tobytes() == text.keypoints.tobytes()
    assert sheet.confidence.tobytes() == text.confidence.tobytes()
    assert (sheet.absent is None) == (text.absent is None)


def test_what_pandas_writes_with_joined_cells_in_the_header(tmp_path: Path) -> None:
    names = {"scorer": ["s"], "individuals": ["a", "b"], "bodyparts": ["nose", "tail"], "coords": ["x", "y"]}
    columns = pd.MultiIndex.from_product(list(names.values()), names=list(names))
    pd.DataFrame(np.arange(16.0).reshape(2, 8) + 1, columns=columns).to_excel(tmp_path / "a.xlsx")
    recording = read_recording(tmp_path / "a.xlsx", fps=30)
    assert (recording.skeleton.animals, recording.skeleton.keypoints) == (("a", "b"), ("nose", "tail"))
    assert recording.keypoints[1].tolist() == [[[9, 10], [11, 12]], [[13, 14], [15, 16]]]


def test_numbers_typed_as_text_have_a_persons_decimals(tmp_path: Path) -> None:
    path = save(tmp_path / "a.xlsx", [["frame", "nose.x", "nose.y"], ["0", "1,5", "20"], ["1", "2,25", "21"]])
    assert read_recording(path, fps=30).keypoints[:, 0, 0].tolist() == [[1.5, 20], [2.25, 21]]


@pytest.mark.parametrize(
    ("rows", "row", "words"),
    [
        ([*PLAIN, [2, 25, "x", 3, 1]], 6, "expected a number in column 'nose_x', got 'x'"),
        ([*PLAIN, [1, 25, 1, 3, 1]], 6, "frame 1 comes twice"),
        ([*DLC, [3, "x", 3, 1]], 9, "expected a number in column 2, got 'x'"),
    ],
)
def test_errors_name_the_sheets_row(tmp_path: Path, rows: list[list[Any]], row: int, words: str) -> None:
    with pytest.raises(RecordingError) as error:
        read_recording(save(tmp_path / "a.xlsx", [[], [], *rows]), fps=30)
    assert error.value.line == row
    assert words in str(error.value)


def test_poses_in_several_sheets_are_refused_unless_hidden(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"has poses in several sheets \(one, two\); save each"):
        read_recording(save(tmp_path / "a.xlsx", DLC, DLC, names=["one", "two"]), fps=30)
    path = save(tmp_path / "b.xlsx", DLC, DLC, names=["one", "two"], hidden=["two"])
    assert read_recording(path, fps=30).skeleton.keypoints == ("nose",)


def test_a_workbook_of_labels_is_no_poses_and_the_reverse(tmp_path: Path) -> None:
    labels = save(tmp_path / "labels.xlsx", [["start_s", "stop_s", "behaviour"], [0, 1, "sniff"]])
    with pytest.raises(RecordingError, match="no sheet begins with a header of poses"):
        find_pose_reader(labels)
    assert "workbooks" in find_label_reader(labels).format
    assert find_pose_reader(save(tmp_path / "poses.xlsx", DLC)) is workbook.READER


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.xlsx", DLC).read_bytes()
    for cut in (whole[:40], whole[: len(whole) // 2]):
        (tmp_path / "b.xlsx").write_bytes(cut)
        with pytest.raises(RecordingError, match="cannot be read as a workbook"):
            read_recording(tmp_path / "b.xlsx")
