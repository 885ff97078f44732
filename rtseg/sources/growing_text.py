"""Whole lines of a text file while another program appends to it.

Half a line waits for its end. A file that is truncated, written anew or replaced begins again from its first line, and
that is said. Knows nothing about what a line means.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rtseg.errors import RecordingError

CHUNK_BYTES = 1 << 20
REMEMBERED_BYTES = 256
"""So many of the last bytes read are looked at again: a file that was written anew, as long as before, shows there."""


class NewLines(NamedTuple):
    """lines: without their ends. first: the number of the first one in the file, from 1. begins: why the file begins
    again with them, "" where it goes on."""

    lines: list[str]
    first: int
    begins: str = ""


class GrowingText:
    """A file that may not be there yet. Raises RecordingError where it is a folder, unreadable or UTF-16."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._begins = ""  # not said yet
        self._forget()

    def read(self) -> NewLines:
        """What has come since the last call; never waits."""
        if self._file is not None and (why := self._why_it_begins_again(self._file)):
            self.close()
            self._begins = why
        if self._file is None:
            self._forget()
            self._file = self._open()
            if self._file is None:
                return NewLines([], 1)
        lines, first = self._read_lines(self._file)
        if not lines:
            return NewLines([], first)
        begins, self._begins = self._begins, ""  # said with the first line
        return NewLines(lines, first, begins)

    def skip_to_end(self) -> None:
        """Leave out what is there already."""
        while self.read().lines:
            pass

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _forget(self) -> None:
        self._position = self._n_lines = 0
        self._half = self._last = b""

    def _open(self) -> BinaryIO | None:
        try:
            return self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RecordingError(self.path, f"cannot be read: {error.strerror or error}") from error

    def _why_it_begins_again(self, file: BinaryIO) -> str:
        """Nothing where the file only grows, or was left alone."""
        size = file.seek(0, 2)
        if size < self._position:
            return f"was truncated from {self._position} to {size} bytes"
        if self._last:
            file.seek(self._position - len(self._last))
            if file.read(len(self._last)) != self._last:
                return "was written anew"
        if size == self._position:
            # Only once all of it was read: a file that is moved away may still be written to.
            try:
                there, mine = self.path.stat(), os.fstat(file.fileno())
            except OSError:
                return ""  # away; perhaps another one comes under its name
            if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
                return "was replaced by another file"
        return ""

    def _read_lines(self, file: BinaryIO) -> tuple[list[str], int]:
        file.seek(self._position)
        data = file.read(CHUNK_BYTES)
        if not data:
            return [], self._n_lines + 1
        self._position += len(data)
        self._last = (self._last + data)[-REMEMBERED_BYTES:]
        whole, end, half = (self._half + data).rpartition(b"\n")
        self._half = half
        if not end:
            return [], self._n_lines + 1
        if self._n_lines == 0:
            if whole.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in whole:
                raise RecordingError(self.path, "is no UTF-8 text; let it be written as UTF-8")
            whole = whole.removeprefix(codecs.BOM_UTF8)
        try:
            text = whole.decode("utf-8")
        except UnicodeDecodeError:
            # Names with accents of another encoding: every byte is a letter there, and numbers are the same.
            text = whole.decode("latin-1")
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        first = self._n_lines + 1
        self._n_lines += len(lines)
        return lines, first
