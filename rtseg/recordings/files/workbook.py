"""Sheets of Excel's workbooks (.xlsx, .xlsm) as tables of text, as if each had been saved as CSV.

A cell comes as a person means it: a joined cell's value stands in all of its rows, a time as h:mm:ss whatever its
format shows, a formula as the value that Excel has saved with it. Knows nothing about what a column means.
"""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from rtseg.errors import RecordingError, needs_extra
from rtseg.recordings.files.delimited import DelimitedText, Row, table_of_rows
from rtseg.recordings.files.probe import FileProbe
from rtseg.recordings.files.reading_warnings import ReadingWarning

SUFFIXES = (".xlsx", ".xlsm")
_ZIP = b"PK\3\4"
_DELIMITER = "\t"
"""Cells have none; with tabs, texts such as 1,5 may be decimal commas, as people with such a keyboard type them."""
_MAX_CELLS = 5_000_000
"""Of a sheet: each takes some hundred bytes of memory."""
_TIME_OF_DAY = re.compile(r"am/pm", re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """A sheet that holds something. table: its rows, whose lines are the sheet's own row numbers."""

    name: str
    is_hidden: bool
    table: DelimitedText


def is_workbook(probe: FileProbe) -> bool:
    """Whether a file is a zip archive with a workbook's name."""
    return probe.suffix in SUFFIXES and probe.first_bytes.startswith(_ZIP)


def first_rows(path: Path, n: int) -> dict[str, list[list[str]]]:
    """The first n rows of every sheet by its name, cells as text; fast, whatever the size. Raises as `read_sheets`."""
    with _opened(path, read_only=True) as book:
        cells: dict[str, list[Sequence[Any]]] = {}
        with _reading(path):  # in this mode openpyxl reads as rows are asked for
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # some programs write a size of A1 whatever the sheet holds
                cells[sheet.title] = list(islice(sheet.iter_rows(), n))
        return {title: [[_text(cell) for cell in row] for row in rows] for title, rows in cells.items()}


def read_sheets(path: Path) -> list[Sheet]:
    """All sheets that hold anything, in the workbook's order.

    Rows and columns without anything at all are left out, save rows in the middle, which may be frames. Raises
    RecordingError where openpyxl is missing, for a damaged file, and for a formula without a value.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error
    return list(_read_sheets(path, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=1)
def _read_sheets(path: Path, mtime_ns: int, n_bytes: int) -> tuple[Sheet, ...]:
    """The sheets of a file in this state: one workbook may hold all videos of a dataset, read one after another."""
    with _opened(path) as book:
        found = [_sheet(path, sheet) for sheet in book.worksheets]
    sheets = [sheet for sheet in found if sheet]
    if not sheets:
        raise RecordingError(path, "is a workbook whose sheets are all empty; save it again")
    _check_formulas(path)
    return tuple(sheets)


@contextmanager
def _opened(path: Path, *, data_only: bool = True, read_only: bool = False) -> Iterator[Any]:
    try:
        import openpyxl
    except ImportError:
        raise RecordingError(path, str(needs_extra("openpyxl", "excel", "Reading workbooks"))) from None
    with _reading(path):
        book = openpyxl.load_workbook(path, data_only=data_only, read_only=read_only)
    try:
        yield book
    finally:
        book.close()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Around calls of openpyxl that read the file, and nothing else: whatever they raise is a fault of the file."""
    try:
        # openpyxl warns of what it does not keep when writing, such as lists to choose from.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # zip, XML and openpyxl have a dozen kinds
        problem = f"cannot be read as a workbook ({type(error).__name__}: {error}); save it anew in Excel, or as CSV"
        raise RecordingError(path, problem) from error


def _sheet(path: Path, sheet: Any) -> Sheet | None:
    """A sheet's rows as a table; None where it is empty."""
    if sheet.max_row * sheet.max_column > _MAX_CELLS:
        problem = f"sheet {sheet.title!r} has {sheet.max_row} rows and {sheet.max_column} columns"
        raise RecordingError(path, f"{problem}; save what is used as CSV")
    rows = [Row(number, [_text(cell) for cell in row]) for number, row in enumerate(sheet.iter_rows(), start=1)]
    n_joined = _fill_joined(rows, sheet.merged_cells.ranges)
    used = [i for i in range(sheet.max_column) if any(row.cells[i] for row in rows)]
    rows = [Row(row.line, [row.cells[i] for i in used]) for row in rows]
    first = next((i for i, row in enumerate(rows) if any(row.cells)), None)
    if first is None:
        return None
    table = table_of_rows(path, rows[first:], _DELIMITER, [])
    last = table.rows[-1].line
    n_hidden = sum(1 for number, row in sheet.row_dimensions.items() if row.hidden and number <= last)
    n_hidden_columns = sum(1 for column in sheet.column_dimensions.values() if column.hidden)
    kinds = (
        ("rows that the sheet hides (a filter?) are read as well", n_hidden, "rows"),
        ("columns that the sheet hides are read as well", n_hidden_columns, "columns"),
        ("joined cells: their value is taken for every row that they cover", n_joined, "cells"),
    )
    # Empty rows below a table are a spreadsheet's; with a CSV's they would be worth a word.
    said = [ReadingWarning(kind, n, unit) for kind, n, unit in kinds if n]
    return Sheet(sheet.title, sheet.sheet_state != "visible", DelimitedText(table.delimiter, table.rows, said))


def _fill_joined(rows: list[Row], areas: Iterable[Any]) -> int:
    """Write a joined cell's value into the rows below that it covers; how many joined cells have one."""
    n_filled = 0
    for area in areas:
        value = rows[area.min_row - 1].cells[area.min_col - 1]
        n_filled += bool(value) and area.max_row > area.min_row
        # Not to the right: what goes over several columns is a title.
        for row in rows[area.min_row : area.max_row]:
            row.cells[area.min_col - 1] = value
    return n_filled


def _check_formulas(path: Path) -> None:
    """Raise for a formula whose value the file lacks, as where a program wrote it and Excel never saved it."""
    with zipfile.ZipFile(path) as parts:
        sheets = [name for name in parts.namelist() if name.startswith("xl/worksheets/")]
        if not any(re.search(rb"<f[ >/]", parts.read(name)) for name in sheets):
            return
    with _opened(path) as values, _opened(path, data_only=False) as formulas:
        for sheet in formulas.worksheets:
            for cell in (cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"):
                saved = values[sheet.title][cell.coordinate]
                # Of a formula whose value is an empty text Excel says that it is a text.
                if saved.value is None and saved.data_type == "n":
                    problem = f"cell {cell.coordinate} of sheet {sheet.title!r} holds a formula without its value"
                    raise RecordingError(path, f"{problem}; open the file in Excel and save it", line=cell.row)


def _text(cell: Any) -> str:
    """What a cell says: numbers with as many digits as Excel keeps, times as h:mm:ss, dates as they are written."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.15g}"
    if isinstance(value, datetime.time):
        at = datetime.timedelta(hours=value.hour, minutes=value.minute, seconds=value.second)
        return _clock(at + datetime.timedelta(microseconds=value.microsecond), cell.number_format)
    if isinstance(value, datetime.timedelta):
        return _clock(value, cell.number_format)
    # Line ends inside a cell are blanks: a row is a line.
    return " ".join(str(value).split())


def _clock(length: datetime.timedelta, shown: str) -> str:
    """A time as h:mm:ss with milliseconds where it has any; as h:mm where the sheet shows no seconds.

    Excel takes 1:30 for an hour and a half, whatever was meant: it is left to the rule for such times in text.
    """
    milliseconds = round(length / datetime.timedelta(milliseconds=1))
    if milliseconds < 0:
        return str(length)
    seconds, rest = divmod(milliseconds, 1000)
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    if "s" not in shown.lower() and not _TIME_OF_DAY.search(shown) and not seconds and not rest:
        return f"{hours}:{minutes:02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" + (f".{rest:03d}" if rest else "")
