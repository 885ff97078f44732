"""A daemon's status in shared memory, for a process beside it: nobody has to wait for whoever reads it.

The hot loop writes it a piece at a time while no frame waits. There are two buffers, and a counter in front of them
says which one holds: the loop fills the other one and then counts on. A reader that was overtaken notices by the
counter and reads again, so no lock is needed.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack

from rtseg.errors import ServeError

if TYPE_CHECKING:  # the process that reads a status needs no model
    from rtseg.inference.gap_rule import Counters

SIZE_BYTES = 1 << 20
"""Of one buffer; a daemon with thousands of streams fits."""
PIECE_EVERY_NS = 20_000_000
"""One piece in this time, and a sign of life."""
STREAM_COUNTS = ("refused", "frames", "duplicates", "late", "gaps", "filled", "restarts", "out_of_range", "frozen")
"""A stream's counters as they are shared; in front of them stands how long ago its last frame came, in ns. As of when
they were written: with a thousand streams that is seconds before the last sign of life, and all would look silent."""
_HEAD = struct.Struct("<8sQQQQ")
"""A mark, how often all was written (its parity is the buffer), the last sign of life in ns, both buffers' lengths."""
_MARK = b"rtsegbrd"
Pieces = Callable[[], Iterator[dict[str, Any]]]
"""A whole status in small maps, which are merged: each takes microseconds to make, for frames may come in between."""


def stream_counts(counters: Counters, refused: int) -> list[int]:
    """In the order of STREAM_COUNTS. (`dataclasses.asdict` takes ten times as long.)"""
    c = counters
    return [refused, c.frames, c.duplicates, c.late, c.gaps, c.filled, c.restarts, c.out_of_range, c.frozen]


class SharedStatus:
    """The daemon's end. Removes its file when closed. path: of a new file; None = a name of its own."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            number, name = tempfile.mkstemp(prefix="rtseg-", suffix=".board")
            self.path = Path(name)
        else:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self.path = path
        try:
            os.ftruncate(number, _HEAD.size + 2 * SIZE_BYTES)
            self._memory = mmap.mmap(number, 0)
        finally:
            os.close(number)
        self._packer = msgpack.Packer()
        self._version, self._lengths = 0, [0, 0]
        self._steps: Iterator[None] = iter(())
        self._write_head(0)

    def follow(self, pieces: Pieces) -> None:
        """From now on `write_piece` works through `pieces`, again and again."""
        self._steps = self._write_for_ever(pieces)

    def write_piece(self, now_ns: int) -> None:
        """One piece, and a sign of life. To be called when no frame waits, every PIECE_EVERY_NS."""
        next(self._steps, None)
        self._write_head(now_ns)

    def write_all(self, pieces: Pieces, now_ns: int) -> None:
        """Everything at once, before the loop begins and after it has ended."""
        for _ in self._write_once(pieces):
            pass
        self._write_head(now_ns)

    def close(self) -> None:
        """Remove it."""
        self._memory.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _write_for_ever(self, pieces: Pieces) -> Iterator[None]:
        while True:
            yield from self._write_once(pieces)

    def _write_once(self, pieces: Pieces) -> Iterator[None]:
        packed = []
        for piece in pieces():
            packed.append(self._packer.pack(piece))
            yield
        data = b"".join(packed)
        if len(data) > SIZE_BYTES:  # too many streams: the first piece has the counters, without any stream
            data = packed[0] + self._packer.pack({"cut": True})
        buffer = (self._version + 1) % 2
        start = _HEAD.size + buffer * SIZE_BYTES
        self._memory[start : start + len(data)] = data
        self._lengths[buffer] = len(data)
        self._version += 1  # after the data, for it is what hands the buffer to readers
        yield

    def _write_head(self, now_ns: int) -> None:
        self._memory[: _HEAD.size] = _HEAD.pack(_MARK, self._version, now_ns, *self._lengths)


class SharedStatusReader:
    """The other end. Raises ServeError where no daemon shares its status."""

    def __init__(self, path: Path | str) -> None:
        try:
            with Path(path).open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ServeError(f"{path}: no status of a daemon: {error}") from None
        if self._memory[: len(_MARK)] != _MARK:
            raise ServeError(f"{path}: no status of a daemon")

    def read(self) -> tuple[int, dict[str, Any]]:
        """(when the daemon last gave a sign of life, ns of the monotonic clock; its status, {} at first)."""
        for _ in range(100):
            _, version, alive_ns, *lengths = _HEAD.unpack(self._memory[: _HEAD.size])
            buffer = version % 2
            start = _HEAD.size + buffer * SIZE_BYTES
            data = self._memory[start : start + lengths[buffer]]
            _, version_after, *_ = _HEAD.unpack(self._memory[: _HEAD.size])
            if version_after == version:  # the daemon writes the other buffer only
                with contextlib.suppress(ValueError):  # the head itself was being written
                    return alive_ns, _merge_pieces(data)
        raise ServeError("the daemon's status changes faster than it can be read")


def _merge_pieces(data: bytes) -> dict[str, Any]:
    status: dict[str, Any] = {}
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    for piece in unpacker:
        for key, value in piece.items():
            if isinstance(value, dict) and isinstance(status.get(key), dict):
                status[key].update(value)
            else:
                status[key] = value
    return status
