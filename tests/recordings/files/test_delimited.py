"""Delimited text: which character separates columns, what spreadsheets add, and whose number has which comma."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.errors import RecordingError
from rtseg.recordings.files.delimited import NumberStyle, delimiter_of, plain_lines, read_delimited


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a,b,c", "1,2,3"], ","),
        (["a;b;c", "1,5;2,5;3,5"], ";"),
        (["a\tb", "1,5\t2,5"], "\t"),
        (['"x;y;z",b', "1,2"], ","),
        (["", "a;b"], ";"),
        (["a", "b"], ","),
        (["note, of the day\tx\ty", "1\t2\t3", "1\t2\t3"], "\t"),
    ],
)
def test_the_delimiter_is_that_of_the_first_line(lines: list[str], expected: str) -> None:
    assert delimiter_of(lines) == expected


def test_rows_keep_the_line_in_which_they_begin(tmp_path: Path) -> None:
    table = read_delimited(write(tmp_path, 'a,b\n\n"one\ntwo",2\n 3 , "4" \n'))
    assert table.rows == [(1, ["a", "b"]), (3, ["one\ntwo", "2"]), (5, ["3", "4"])]


def test_what_spreadsheets_add_is_left_out_and_counted(tmp_path: Path) -> None:
    table = read_delimited(write(tmp_path, "sep=;\na;b;;\n1;;;\n;;;\n;;;\n"))
    assert table.rows == [(2, ["a", "b"]), (3, ["1", ""])]
    assert table.warnings == ["rows without anything at the end of the file are left out (2 rows)"]
    with pytest.raises(RecordingError, match="nothing but empty cells"):
        read_delimited(write(tmp_path, ";;\n;;\n"))


def test_a_quote_that_never_closes_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="never closes") as error:
        read_delimited(write(tmp_path, 'a,b\n1,2\n"3,4\n5,6\n7,8\n'))
    assert error.value.line == 3


def test_numbers_with_decimal_commas_and_points(tmp_path: Path) -> None:
    commas, points = NumberStyle(tmp_path, ";"), NumberStyle(tmp_path, ",")
    assert [commas.parse_number(cell, 1) for cell in ("1,5", "-0,25", "3", ",5", "1,5e2")] == [1.5, -0.25, 3, 0.5, 150]
    assert [points.parse_number(cell, 1) for cell in ("1.5", "1e3", "-2")] == [1.5, 1000, -2]
    assert np.isnan([points.parse_number(cell, 1) for cell in ("", "NaN", "NA", "null")]).all()
    for style, cell in ((points, "1,5"), (commas, "1.234,5"), (points, "x"), (points, "1_000"), (commas, "1,234,567")):
        with pytest.raises(RecordingError, match="expected a number"):
            style.parse_number(cell, 7)
    with pytest.raises(RecordingError, match=r"mixes decimal commas and decimal points \(lines 1 and 9\)"):
        commas.parse_number("1.234", 9)


@settings(deadline=None)  # files are written, which takes as long as the disk likes
@given(
    st.lists(st.lists(st.integers(-999, 999), min_size=2, max_size=4), min_size=1, max_size=5).filter(
        lambda rows: len({len(row) for row in rows}) == 1
    )
)
def test_plain_lines_are_the_same_whichever_way_they_are_written(rows: list[list[int]]) -> None:
    import tempfile

    header = [f"c{i}" for i in range(len(rows[0]))]
    plain = [",".join(header), *(",".join(f"{value / 8:.3f}" for value in row) for row in rows)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.csv"
        for delimiter, quote, comma in ((",", "", "."), (",", '"', "."), (";", "", ","), ("\t", '"', ",")):
            lines = [header, *([f"{value / 8:.3f}".replace(".", comma) for value in row] for row in rows)]
            path.write_text("\n".join(delimiter.join(f"{quote}{c}{quote}" for c in line) for line in lines) + "\n")
            assert plain_lines(path)[0] == plain
