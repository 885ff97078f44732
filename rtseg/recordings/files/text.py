"""Text files as labs have them: one place that decodes and splits them into lines.

Beneath every reader of text; it knows encodings and line ends, and nothing about what a line means.
"""

from __future__ import annotations

import codecs
from pathlib import Path

from rtseg.errors import RecordingError
from rtseg.recordings.files.reading_warnings import ReadingWarning

_WORKBOOK, _OLD_WORKBOOK = b"PK\3\4", b"\xd0\xcf\x11\xe0"
"""The first bytes of .xlsx and .ods, and of .xls and of workbooks with a password."""
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_bytes(path: Path, n_bytes: int = -1) -> bytes:
    """The file's first bytes (-1 = all); RecordingError where it is missing, a folder, unreadable or empty."""
    try:
        with path.open("rb") as file:
            raw = file.read(n_bytes)
    except OSError as error:
        raise RecordingError(path, f"cannot be read: {error.strerror or error}") from error
    if not raw.strip():
        raise RecordingError(path, "the file is empty; copy or export it again")
    return raw


def read_text(path: Path) -> tuple[str, list[ReadingWarning]]:
    """The file as text, and warnings about what was tolerated.

    UTF-8 (with or without a mark) is expected. UTF-16 with a byte-order mark, and Windows-1252 or Latin-1 where UTF-8
    does not decode, are read with a warning that counts them: numbers and separators mean the same there. Raises
    RecordingError for bytes that are no text.
    """
    raw = read_bytes(path)
    if raw.startswith(_UTF16):
        try:
            return raw.decode("utf-16"), [ReadingWarning("encoding: read as UTF-16", 1, "file")]
        except UnicodeDecodeError as error:
            raise RecordingError(
                path, f"starts as UTF-16 but is damaged at byte {error.start}; save it as UTF-8"
            ) from error
    if raw.startswith(_OLD_WORKBOOK):
        problem = (
            "is a workbook of a spreadsheet with a password, or of Excel before 2007; save it as .xlsx without one"
        )
        raise RecordingError(path, f"{problem}, or its sheet as CSV")
    if raw.startswith(_WORKBOOK):
        raise RecordingError(path, "is no text but a workbook of a spreadsheet; save its sheet as CSV")
    # UTF-16 without its mark, or no text at all; decoding either as Latin-1 would give nonsense without an error.
    nul = raw.find(b"\0")
    if nul >= 0:
        line = raw.count(b"\n", 0, nul) + 1
        raise RecordingError(path, "holds NUL bytes, so it is no UTF-8 text; save it as UTF-8 text", line=line)
    try:
        return raw.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        high = sum(byte > 0x7F for byte in raw)
        line = raw.count(b"\n", 0, error.start) + 1
        try:
            # What Excel on Windows writes; bytes that it does not know are Latin-1.
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        kind = "encoding: not UTF-8 from here on, read as Latin-1"
        return text, [ReadingWarning(kind, high, "bytes outside ASCII", f"line {line}")]


def read_lines(path: Path) -> tuple[list[str], list[ReadingWarning]]:
    """The file's lines without line ends (LF, CRLF or CR) and trailing blank lines, and warnings.

    Only line ends split: a form feed or a Unicode separator inside a name does not. Warns where the last line has no
    end, as in a file that was cut. Raises RecordingError where no line says anything.
    """
    text, warnings = read_text(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[-1].strip():
        kind = "the last line has no line end: the file may have been cut"
        warnings.append(ReadingWarning(kind, 1, "line", f"line {len(lines)}"))
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise RecordingError(path, "expected text, got blank lines and nothing else; copy or export it again")
    return lines, warnings
