"""Whole lines of a text file while another program appends to it.

Half a line waits for its end. A file that is truncated, written anew or replaced begins again from its first line, and
that is said; one that a program saves anew with all that it had before goes on behind that. Knows nothing about what a
line means.
"""

from __future__ import annotations

import codecs
import logging
import os
import time
import zlib
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rtseg.errors import RecordingError

LOG = logging.getLogger("rtseg.sources")
CHUNK_BYTES = 1 << 20
SAVED_WITHIN_S = 2.0
"""So long a file that is written anew may take to hold again what it held. One that takes longer is written line by
line, as the first time: a recording that is played again, with the same rows."""
REMEMBERED_BYTES = 256
"""So many of the last bytes read are looked at again: a file that was written anew, as long as before, shows there."""


class NewLines(NamedTuple):
    """lines: without their ends. first: the number of the first one in the file, from 1. begins: why the file begins
    again with them, "" where it goes on."""

    lines: list[str]
    first: int
    begins: str = ""


class GrowingText:
    """A file that may not be there yet. Raises RecordingError where it is a folder, unreadable or UTF-16.

    A file that may not be opened now, as another program's lock has it, counts as one that is not there yet.
    """

    def __init__(self, path: Path, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._now_s = now_s
        self._file: BinaryIO | None = None
        self._begins = ""  # not said yet
        self._begun_s = 0.0  # when it did
        self._told: set[str] = set()
        self._delivered = array("I")  # a checksum of every line
        self._forget()

    def read(self) -> NewLines:
        """What has come since the last call; never waits."""
        try:
            return self._read()
        except OSError as error:
            # A network's file that was replaced there, or a drive that is gone for a moment.
            self._tell(f"cannot be read now ({error.strerror or error}): waiting")
            self._begin_again("could not be read for a while")
            return NewLines([], 1)

    def _read(self) -> NewLines:
        if self._file is not None and (why := self._why_it_begins_again(self._file)):
            self._begin_again(why)
        if self._file is None:
            self._forget()
            self._file = self._open()
            if self._file is None:
                return NewLines([], 1)
        lines, first = self._read_lines(self._file)
        if self._begins:
            return self._without_known(lines, first)
        self._delivered.extend(map(_checksum, lines))
        return NewLines(lines, first)

    def _begin_again(self, why: str) -> None:
        self.close()
        self._begins, self._begun_s = why, self._now_s()

    def _without_known(self, lines: list[str], first: int) -> NewLines:
        """The lines of a file that has begun again: nothing while they are those that it had before."""
        n_known = len(self._delivered)
        known = self._delivered[first - 1 : first - 1 + len(lines)]
        if any(_checksum(line) != own for line, own in zip(lines, known, strict=False)):
            return self._from_first_line()
        if self._n_lines < n_known:
            is_late = self._n_lines > 0 and self._now_s() - self._begun_s > SAVED_WITHIN_S
            return self._from_first_line() if is_late else NewLines([], self._n_lines + 1)
        self._tell("was written anew with the lines that it had: it goes on behind them")
        self._begins = ""
        new = lines[len(known) :]
        self._delivered.extend(map(_checksum, new))
        return NewLines(new, n_known + 1)

    def _tell(self, what: str) -> None:
        """Log what is not lost and may come often: the same only once."""
        if what not in self._told:
            self._told.add(what)
            LOG.warning("%s %s", self.path, what)

    def _from_first_line(self) -> NewLines:
        """All lines of the file that are there, as those of another one."""
        begins, self._begins = self._begins, ""
        self._forget()
        self._delivered = array("I")
        assert self._file is not None
        lines, first = self._read_lines(self._file)
        self._delivered.extend(map(_checksum, lines))
        return NewLines(lines, first, begins)

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # a network's, whose server has forgotten it
                file.close()

    def _forget(self) -> None:
        self._position = self._n_lines = 0
        self._half = self._last = b""

    def _open(self) -> BinaryIO | None:
        try:
            return self.path.open("rb", buffering=0)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            self._tell(f"cannot be opened now ({error.strerror or error}): waiting")
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
            # In the first line only: zeros further down are what a crash has left there, and cost their line.
            if whole.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in whole.partition(b"\n")[0]:
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


def _checksum(line: str) -> int:
    return zlib.crc32(line.encode("utf-8", "surrogateescape"))
