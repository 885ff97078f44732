"""Label tables in Excel's workbooks give the labels of the same table as CSV."""

from __future__ import annotations

import builtins
import datetime
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.errors import RecordingError
from rtseg.recordings.files import workbook
from rtseg.recordings.labels.label_file import Tracks, Video
from rtseg.recordings.open import read_labels, read_video_labels
from rtseg.recordings.recording import IGNORE
from tests.commands import here

openpyxl = pytest.importorskip("openpyxl", reason="openpyxl is not installed: pip install 'rtseg[dev]'")
BOUTS = [["start_s", "stop_s", "behaviour"], [1, 2.5, "sniff"], [4, 4.5, "chase"]]
"""At two frames per second: sniff 2, 3, 4 and chase 8."""
AS_FRAMES = [IGNORE, IGNORE, 0, 0, 0, IGNORE, IGNORE, IGNORE, 1, IGNORE]


def save(path: Path, *sheets: Iterable[Sequence[Any]], names: Sequence[str] = ()) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for i, rows in enumerate(sheets):
        sheet = book.create_sheet(names[i] if names else None)
        for row in rows:
            sheet.append(list(row))
    book.save(path)
    return path


def read(path: Path, n_frames: int = 10, fps: float = 2.0, names: Sequence[str] = ("m1.csv", "m1")) -> Tracks:
    return read_labels(path, n_frames, fps, names=names)


def changed(path: Path, change: Any) -> Path:
    book = openpyxl.load_workbook(path)
    change(book.active)
    book.save(path)
    return path


def test_bouts_on_a_sheet_are_read_as_from_csv(tmp_path: Path) -> None:
    tracks = read(save(tmp_path / "m1.xlsx", BOUTS))
    assert tracks["labels"].classes == ("sniff", "chase")
    assert tracks["labels"].frames.tolist() == AS_FRAMES
    assert not [w for w in tracks["labels"].warnings if w.kind != "frames without a label"]


def test_a_table_below_notes_beside_empty_rows_and_columns(tmp_path: Path) -> None:
    notes = [["Scored by", "AB"], ["Time", "10:30"], [], [None, *BOUTS[0]], [None, *BOUTS[1]], [], [None, *BOUTS[2]]]
    track = read(save(tmp_path / "m1.xlsx", [*notes, [None, None, " "]]))["labels"]
    assert track.frames.tolist() == AS_FRAMES
    assert "lines above the header are taken for notes and left out (3 lines)" in track.warnings
    with pytest.raises(RecordingError, match=r"m1\.xlsx, line 7: expected a bout that ends after it starts"):
        read(changed(tmp_path / "m1.xlsx", lambda sheet: sheet.cell(7, 3, 3)))


@pytest.mark.parametrize(
    ("cell", "form", "seconds"),
    [
        (90.5 / 86400, "mm:ss.0", 90.5),
        (90 / 86400, "h:mm:ss", 90),
        (90 / 86400, "[h]:mm:ss", 90),
        (datetime.timedelta(hours=26), "[h]:mm:ss", 26 * 3600),
        (1.5 / 24, "h:mm", 90),  # typed as 1:30, which Excel takes for hours and minutes
        ("1:30.5", "@", 90.5),
        ("90,5", "@", 90.5),
        ("90", "@", 90),
        (90.5, "General", 90.5),
    ],
)
def test_times_in_every_form_that_a_cell_has(tmp_path: Path, cell: Any, form: str, seconds: float) -> None:
    path = save(tmp_path / "m1.xlsx", [["start", "stop_s", "behaviour"], [0, 1, "a"], [1, 1, "a"]])

    def write(sheet: Any) -> None:
        sheet.cell(1, 1, "start_s")
        sheet.cell(3, 2, cell).number_format = form

    n_frames = round(2 * seconds) + 1
    frames = read(changed(path, write), n_frames=n_frames)["labels"].frames
    assert np.flatnonzero(frames == 0).tolist() == [0, 1, *range(2, round(2 * seconds))]


def test_a_date_is_no_time(tmp_path: Path) -> None:
    path = save(tmp_path / "m1.xlsx", [BOUTS[0], [1, datetime.datetime(2024, 5, 2), "sniff"]])
    with pytest.raises(RecordingError, match=r"m1\.xlsx, line 2: expected a frame number or time .*got '2024-05-02"):
        read(path)


def test_hours_and_minutes_of_a_long_video_are_not_guessed(tmp_path: Path) -> None:
    path = save(tmp_path / "m1.xlsx", [BOUTS[0], [1, 1 / 24, "sniff"]])
    changed(path, lambda sheet: setattr(sheet["B2"], "number_format", "h:mm"))
    with pytest.raises(RecordingError, match="'1:00', which is m:ss or h:mm"):
        read(path, n_frames=20_000)


def test_joined_cells_are_the_value_of_every_row(tmp_path: Path) -> None:
    rows = [["subject", "start_s", "stop_s", "behaviour"], ["a", 0, 1, "x"], [None, 2, 3, "x"], ["b", 1, 2, "x"]]
    path = save(tmp_path / "m1.xlsx", rows)
    with pytest.raises(RecordingError, match="line 3: column 1 is empty here"):
        read(path)
    tracks = read(changed(path, lambda sheet: sheet.merge_cells("A2:A3")))
    assert np.flatnonzero(tracks["a"].frames == 0).tolist() == [0, 1, 4, 5]
    assert np.flatnonzero(tracks["b"].frames == 0).tolist() == [2, 3]
    assert "joined cells: their value is taken for every row that they cover (1 cells)" in tracks["a"].warnings


def test_formulas_have_the_value_that_excel_saved(tmp_path: Path) -> None:
    path = save(tmp_path / "m1.xlsx", [*BOUTS, ["=B3", 5, "sniff"]])
    with pytest.raises(
        RecordingError, match="line 4: cell A4 of sheet 'Sheet' holds a formula without its value; open"
    ):
        read(path)
    saved = tmp_path / "saved.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(saved, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b"<f>B3</f><v />", b"<f>B3</f><v>4.5</v>"))
    assert read(saved)["labels"].frames.tolist() == [*AS_FRAMES[:9], 0]


def test_a_size_that_the_sheet_does_not_have(tmp_path: Path) -> None:
    path, other = save(tmp_path / "m1.xlsx", BOUTS, [["a", "note"]]), tmp_path / "other.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'<dimension ref="A1:C3"', b'<dimension ref="A1"'))
    assert read(other)["labels"].frames.tolist() == AS_FRAMES


def test_hidden_rows_are_read_and_told(tmp_path: Path) -> None:
    path = changed(save(tmp_path / "m1.xlsx", BOUTS), lambda s: setattr(s.row_dimensions[3], "hidden", True))
    track = read(path)["labels"]
    assert track.frames.tolist() == AS_FRAMES
    assert "rows that the sheet hides (a filter?) are read as well (1 rows)" in track.warnings


def test_the_sheet_with_a_table_is_read(tmp_path: Path) -> None:
    legend = [["sniff", "nose to nose"], ["chase", "follows"]]
    assert read(save(tmp_path / "m1.xlsx", legend, [], BOUTS))["labels"].frames.tolist() == AS_FRAMES


def test_of_several_sheets_the_videos_own_is_read_or_none(tmp_path: Path) -> None:
    other = [BOUTS[0], [0, 5, "rest"]]
    path = save(tmp_path / "all.xlsx", other, BOUTS, names=["m10", "m1"])
    assert read(path)["labels"].frames.tolist() == AS_FRAMES
    assert read_video_labels(path, Video(10, 2.0, (), "M10"))["labels"].classes == ("rest",)
    with pytest.raises(
        RecordingError, match=r"holds 2 sheets and nothing in it is named like 'm2.csv'; there are: 'm10'; 'm1'\. "
    ):
        read(path, names=("m2.csv",))
    with pytest.raises(RecordingError, match="holds no sheet 'm3'; there are: 'm10'; 'm1'"):
        read_video_labels(path, Video(10, 2.0, (), "m3"))
    with pytest.raises(RecordingError, match="sheet 'm10': expected a bout that ends after it starts"):
        read(save(path, [BOUTS[0], [2, 1, "rest"]], BOUTS, names=["m10", "m1"]), names=("m10.csv",))


def test_a_hidden_sheet_is_no_choice(tmp_path: Path) -> None:
    path = save(tmp_path / "m1.xlsx", BOUTS, [BOUTS[0], [0, 5, "rest"]])
    changed(path, lambda sheet: setattr(sheet.parent.worksheets[1], "sheet_state", "hidden"))
    assert read(path)["labels"].frames.tolist() == AS_FRAMES


def test_frames_and_boris_events(tmp_path: Path) -> None:
    frames = [["frame", "sniff", "who"], *([t, int(t == 2), "a" if t else "NA"] for t in range(4))]
    tracks = read(save(tmp_path / "m1.xlsx", frames), n_frames=4)
    assert tracks["sniff"].frames.tolist() == [0, 0, 1, 0]
    assert tracks["who"].frames.tolist() == [IGNORE, 0, 0, 0]
    header = ["Observation id", "Media file", "FPS", "Subject", "Behavior", "Behavior type", "Start (s)", "Stop (s)"]
    events = [header, ["obs", "m1.mp4", 2.0, "a", "sniff", "STATE", 1.0, 2.5]]
    assert read(save(tmp_path / "m1.xlsx", events))["a"].frames.tolist() == [*AS_FRAMES[:8], IGNORE, IGNORE]


def test_what_is_no_workbook_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m1.xlsx"
    path.write_bytes(b"PK\3\4" + bytes(50))
    with pytest.raises(RecordingError, match=r"m1\.xlsx: cannot be read as a workbook .*save it anew in Excel"):
        read(path)
    with pytest.raises(RecordingError, match=r"none of its sheets \(Sheet, Sheet1\) has columns such as"):
        read(save(path, [["mouse", "weight"], ["m1", 20]], [["drug"], ["NaCl"]]))
    path.write_bytes(b"\xd0\xcf\x11\xe0" + bytes(50))
    with pytest.raises(RecordingError, match=r"with a password, or of Excel before 2007; save it as \.xlsx"):
        read(path)
    save(path, BOUTS)
    real = builtins.__import__

    def without_openpyxl(name: str, *rest: Any, **more: Any) -> Any:
        if name == "openpyxl":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_openpyxl)
    with pytest.raises(RecordingError, match=r"needs the package 'openpyxl': pip install 'rtseg\[excel\]'"):
        read(path)


def test_a_fault_of_a_reader_is_no_damaged_workbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "m1.xlsx", BOUTS)
    monkeypatch.setattr(workbook, "_text", lambda cell: cell.no_such_attribute)
    for reading in (lambda: workbook.first_rows(path, 1), lambda: workbook.read_sheets(path)):
        with pytest.raises(AttributeError, match="no_such_attribute"):
            reading()


def test_inspect_takes_a_workbook(tmp_path: Path) -> None:
    done = here("inspect", save(tmp_path / "m1.xlsx", BOUTS), "--fps", 2)
    assert done.returncode == 0, done.stderr
    assert "sniff" in done.stdout
    assert "Excel's workbooks" in done.stdout
