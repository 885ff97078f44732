"""Delimited text as labs have it: commas, semicolons or tabs, quotes, decimal commas, and what spreadsheets add.

Beneath every reader of tables; it knows nothing about what a column means.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rtseg.errors import RecordingError
from rtseg.recordings.files.reading_warnings import ReadingWarning
from rtseg.recordings.files.text import read_lines

DELIMITERS = (",", ";", "\t")
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "none", "null"})
"""Cells without a number, in lower case."""
CLOCK = re.compile(r"^(\d+):([0-5]\d):([0-5]\d(?:[.,]\d+)?)$")
"""A time as h:mm:ss."""
_SHORT_CLOCK = re.compile(r"^(\d+):([0-5]\d)([.,]\d+)?$")
"""m:ss, with a fraction or without; without one it may as well be h:mm."""
_EMPTY_ROWS = "rows without anything at the end of the file are left out"
_SEPARATOR_LINE = re.compile(r'^"?sep=(.)"?$')
_DECIMAL_COMMA = re.compile(r"^[+-]?\d*,\d+([eE][+-]?\d+)?$")
_THOUSANDS = re.compile(r"^[1-9]\d{0,2}\.\d{3}$")
_MAYBE_THOUSANDS = re.compile(r"^-?[1-9]\d{0,2}[.,]\d{3}$")
_MARKED = re.compile(r"^[+-]?\d*[.,]\d+([eE][+-]?\d+)?$")
_HUNDREDS = re.compile(r"^-?[1-9]\d{2}$")
_DECIMAL_POINT = re.compile(r"^[+-]?\d*\.\d+([eE][+-]?\d+)?$")


class Row(NamedTuple):
    """One row of a table: the line of the file in which it begins, and its cells without surrounding blanks."""

    line: int
    cells: list[str]


@dataclass(frozen=True)
class DelimitedText:
    """All rows of a file, the header's among them; one row at least. warnings: what was tolerated."""

    delimiter: str
    rows: list[Row]
    warnings: list[ReadingWarning]


def delimiter_of(lines: Sequence[str]) -> str:
    """The character that separates columns: that of the first line, or of several there the one with the most columns.

    Decimal commas are why the first line counts: numbers come later, and a header has none.
    """
    first = _without_quotes(next((line for line in lines if line.strip()), ""))
    candidates = [d for d in DELIMITERS if d in first] or list(DELIMITERS)
    # The total over some lines, because titles above a table may hold any of the characters.
    some = [_without_quotes(line) for line in lines[:50]]
    return max(candidates, key=lambda d: sum(line.count(d) for line in some))


def read_delimited(path: Path) -> DelimitedText:
    """The rows of a delimited text file.

    Quoted cells may hold delimiters and line breaks. Rows without anything at the end of the file, and columns without
    anything at the end of every row, are left out: spreadsheets write them. Raises RecordingError for a quote that
    never closes and where nothing is left.
    """
    return delimited_rows(path, *read_lines(path))


def delimited_rows(path: Path, lines: Sequence[str], tolerated: Sequence[ReadingWarning] = ()) -> DelimitedText:
    """The same of lines that were read already, of a file or of its beginning and some later ones."""
    warnings = list(tolerated)
    declared = _SEPARATOR_LINE.match(lines[0].strip())  # Excel's own first line
    skipped = 1 if declared else 0
    delimiter = declared[1] if declared else delimiter_of(lines)
    return table_of_rows(path, list(_rows(path, lines[skipped:], delimiter, skipped + 1)), delimiter, warnings)


def table_of_rows(path: Path, rows: list[Row], delimiter: str, warnings: Sequence[ReadingWarning]) -> DelimitedText:
    """Rows of any source as a table, without what is empty at their end; see `read_delimited`."""
    warnings = list(warnings)
    n_rows = len(rows)
    while rows and not any(rows[-1].cells):
        rows.pop()
    if not rows:
        raise RecordingError(path, "holds nothing but empty cells; export it again")
    if n_rows > len(rows):
        warnings.append(ReadingWarning(_EMPTY_ROWS, n_rows - len(rows), "rows"))
    rows = [row for row in rows if row.cells]  # blank lines
    n_empty = min(_n_empty_at_end(row.cells) for row in rows)
    # Only where every row has them: in ragged rows an empty cell at the end may be a value that is missing.
    if n_empty and len({len(row.cells) for row in rows}) == 1:
        rows = [Row(row.line, row.cells[:-n_empty]) for row in rows]
    return DelimitedText(delimiter, rows, warnings)


def plain_lines(path: Path) -> tuple[list[str], list[ReadingWarning]]:
    """The lines of a table of numbers, all with commas, decimal points and no quotes around numbers, and warnings.

    Line i + 1 of the file is item i. A file that is plain already, as trackers write them, costs no more than reading
    it; others are parsed and written anew. Rows and columns without anything at the end are left out as by
    `read_delimited`. Raises RecordingError where decimal commas and decimal points are mixed.
    """
    lines, warnings = read_lines(path)
    plain = as_plain_lines(path, lines, is_whole=True)
    if len(plain) < len(lines):
        warnings.append(ReadingWarning(_EMPTY_ROWS, len(lines) - len(plain), "rows"))
    return plain, warnings


def as_plain_lines(path: Path, read: Sequence[str], *, is_whole: bool = False) -> list[str]:
    """The same of lines that were read already, of a file or of its header and some rows; empty ones at the end go.

    is_whole: whether these are all lines, so that numbers show whether points or commas part thousands in them.
    """
    lines = list(read)
    # From the end only: an empty row in the middle would shift every frame behind it.
    while lines and not lines[-1].strip(' ,;\t"'):
        lines.pop()
    if not lines:
        raise RecordingError(path, "holds nothing but empty cells; export it again")
    delimiter = delimiter_of(lines)
    if delimiter != "," or any('"' in line for line in lines):
        lines = _rewritten(path, lines, delimiter, is_whole)
    n_empty = min((len(line) - len(line.rstrip(",")) for line in lines), default=0)
    if n_empty and lines[0].endswith(","):
        lines = [line[:-n_empty] for line in lines]
    return lines


def _rewritten(path: Path, lines: Sequence[str], delimiter: str, is_whole: bool) -> list[str]:
    """Rows of another delimiter, or with quotes, as rows with commas; cells that are no numbers keep their text."""
    style = NumberStyle(path, delimiter)
    rewritten = []
    for number, line in enumerate(lines, start=1):
        # Line by line, so that line numbers stay: numbers have no line breaks.
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        plain = [cell.strip() for cell in cells]
        style.look_for_thousands(plain[1:], number)
        for i, cell in enumerate(plain):
            if "," in cell or "." in cell:
                plain[i] = style.with_point(cell, number)
        rewritten.append(",".join(plain))
    if is_whole:
        style.refuse_thousands()
    return rewritten


def _rows(path: Path, lines: Sequence[str], delimiter: str, first_line: int) -> Iterator[Row]:
    reader = csv.reader(io.StringIO("\n".join(lines), newline=""), delimiter=delimiter, skipinitialspace=True)
    begin = line = first_line
    try:
        for cells in reader:
            yield Row(line, [cell.strip() for cell in cells])
            begin, line = line, first_line + reader.line_num
    except csv.Error as error:
        raise RecordingError(path, f"is no table: {error}; export it again", line=line) from error
    # The csv module takes the rest of the file for one cell where a quote never closes.
    if line - begin > 1 and "\n".join(lines[begin - first_line :]).count('"') % 2:
        raise RecordingError(path, "a quote opens here and never closes; the file was cut, copy it again", line=begin)


def _n_empty_at_end(cells: Sequence[str]) -> int:
    return next((n for n, cell in enumerate(reversed(cells)) if cell), len(cells))


def _without_quotes(line: str) -> str:
    """The line without its quoted cells, in which delimiters mean nothing."""
    return re.sub(r'"[^"]*"', "", line)


def is_clock(cell: str) -> bool:
    """Whether a cell is a time with colons."""
    return bool(CLOCK.match(cell) or _SHORT_CLOCK.match(cell))


def has_minutes(cells: Iterable[str], longest_s: float) -> bool:
    """Whether times such as 1:30 in these cells of a file are minutes and seconds, and not hours and minutes.

    They are where one of them has a fraction, and where hours and minutes would lie beyond longest_s.
    """
    short = [found for cell in cells if (found := _SHORT_CLOCK.match(cell))]
    return any(found[3] or 3600 * int(found[1]) + 60 * int(found[2]) > longest_s for found in short)


def wrong_width(path: Path, row: Row, n_expected: int, *, last: bool) -> RecordingError:
    """The error for a row with another number of cells than its header."""
    cut = "; the file was cut here, copy it again" if last and len(row.cells) < n_expected else "; mend or remove it"
    return RecordingError(path, f"expected {n_expected} columns, got {len(row.cells)}{cut}", line=row.line)


class NumberStyle:
    """Reads the numbers of one file, with decimal points or decimal commas; a file that mixes them is refused.

    Where commas separate columns there are no decimal commas. A mix is refused because a point may then stand for
    thousands: 1.234 beside 1,5 is either of two numbers. has_minutes: whether 1:30 is m:ss (`has_minutes`).
    """

    def __init__(self, path: Path, delimiter: str, *, has_minutes: bool = False) -> None:
        self._path, self._comma_possible = path, delimiter != ","
        self._has_minutes = has_minutes
        self._seen: dict[str, int] = {}
        self._maybe_thousands = self._hundreds = 0  # the first line with such a number
        self._has_decimals = False

    def parse_number(self, cell: str, line: int, what: str = "a number") -> float:
        """The cell as a number, NaN for MISSING. Raises RecordingError with the line for anything else."""
        if cell.lower() in MISSING:
            return float("nan")
        text = self.with_point(cell, line)
        try:
            value = float(text)
        except ValueError:
            raise RecordingError(self._path, f"expected {what}, got {cell[:60]!r}", line=line) from None
        if "_" in text:  # Python's own spelling of thousands
            raise RecordingError(self._path, f"expected {what}, got {cell[:60]!r}", line=line)
        return value

    def parse_time(self, cell: str, line: int, what: str = "a time") -> float:
        """A time in seconds, written as seconds, as h:mm:ss or as m:ss, the last two with or without a fraction.

        m:ss without one is refused unless `has_minutes`, because it may as well be hours and minutes. Raises as
        `parse_number`.
        """
        if found := CLOCK.match(cell):
            return 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3].replace(",", "."))
        found = _SHORT_CLOCK.match(cell)
        if found is None:
            return self.parse_number(cell, line, f"{what}, as seconds or h:mm:ss")
        if found[3] is None and not self._has_minutes:
            problem = f"expected {what}, as seconds or h:mm:ss, got {cell!r}, which is m:ss or h:mm; write h:mm:ss"
            raise RecordingError(self._path, problem, line=line)
        return 60 * int(found[1]) + int(found[2]) + float((found[3] or ".0").replace(",", "."))

    def look_for_thousands(self, cells: Sequence[str], line: int) -> None:
        """Take note of some numbers of a row, for `refuse_thousands`."""
        if not self._comma_possible or self._has_decimals:
            return
        for cell in cells:
            if _MAYBE_THOUSANDS.match(cell):
                self._maybe_thousands = self._maybe_thousands or line
            elif _HUNDREDS.match(cell):
                self._hundreds = self._hundreds or line
            elif _MARKED.match(cell):
                self._has_decimals = True

    def refuse_thousands(self) -> None:
        """Raise where 1.234 stands beside 998 in the rows looked at, and no number has other decimals than three."""
        if self._maybe_thousands and self._hundreds and not self._has_decimals:
            problem = f"points or commas may part thousands (line {self._maybe_thousands}): there are whole hundreds"
            mend = "export the numbers without marks for thousands, or all of them with decimals"
            problem = f"{problem} (line {self._hundreds}) and no decimals"
            raise RecordingError(self._path, f"{problem}; {mend}", line=self._maybe_thousands)

    def may_be_thousands(self, cell: str) -> bool:
        """Whether a cell such as 1.000 may be a thousand: where decimals have commas, points part thousands."""
        return self._comma_possible and bool(_THOUSANDS.match(cell))

    def with_point(self, cell: str, line: int) -> str:
        """The cell with a decimal point where it is a number with a decimal comma; any other cell as it is."""
        if self._comma_possible and _DECIMAL_COMMA.match(cell):
            self._record_mark(",", line)
            return cell.replace(",", ".")
        if _DECIMAL_POINT.match(cell):
            self._record_mark(".", line)
        return cell

    def _record_mark(self, mark: str, line: int) -> None:
        self._seen.setdefault(mark, line)
        if len(self._seen) == 2:
            other = self._seen["," if mark == "." else "."]
            problem = f"mixes decimal commas and decimal points (lines {other} and {line}); export it with one of them"
            raise RecordingError(self._path, problem, line=line)
