"""The board: what the daemon says of itself, in shared memory, for a process beside it that nobody has to wait for.

The hot loop writes it a piece at a time while no frame waits; whoever reads it costs the loop nothing. Two places take
turns and a counter says which one holds: a reader that was overtaken notices and reads again.
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

if TYPE_CHECKING:  # the process that reads a board needs no model
    from rtseg.inference.gap_rule import Counters

SIZE_BYTES = 1 << 20
"""Of one place; a daemon with thousands of streams fits."""
EVERY_NS = 20_000_000
"""One piece in this time, and a sign of life."""
STREAM_COUNTS = ("refused", "frames", "duplicates", "late", "gaps", "filled", "restarts", "out_of_range")
"""A stream's counters on the board; in front of them stands when its last frame came."""
_HEAD = struct.Struct("<8sQQQQ")
"""A mark, how often the board was written (its parity is the place), the last sign of life in ns, two lengths."""
_MARK = b"rtsegbrd"


def stream_counts(counters: Counters, refused: int) -> list[int]:
    """In the order of STREAM_COUNTS. (`dataclasses.asdict` takes ten times as long.)"""
    c = counters
    return [refused, c.frames, c.duplicates, c.late, c.gaps, c.filled, c.restarts, c.out_of_range]


class Board:
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
        self._pieces: Iterator[None] = iter(())
        self._head(0)

    def follow(self, pieces: Callable[[], Iterator[dict[str, Any]]]) -> None:
        """From now on `turn` writes what a fresh run of `pieces` gives, merged: short steps, a map each."""
        self._pieces = self._written(pieces)

    def turn(self, now_ns: int) -> None:
        """One piece; to be called when nothing waits, each EVERY_NS."""
        next(self._pieces, None)
        self._head(now_ns)

    def write_all(self, pieces: Callable[[], Iterator[dict[str, Any]]], now_ns: int) -> None:
        """Everything at once, before the loop begins and after it has ended."""
        for _ in self._once(pieces):
            pass
        self._head(now_ns)

    def close(self) -> None:
        """Forget it."""
        self._memory.close()
        with contextlib.suppress(OSError):
            self.path.unlink()

    def _written(self, pieces: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[None]:
        while True:
            yield from self._once(pieces)

    def _once(self, pieces: Callable[[], Iterator[dict[str, Any]]]) -> Iterator[None]:
        packed = []
        for piece in pieces():
            packed.append(self._packer.pack(piece))
            yield
        data = b"".join(packed)
        if len(data) > SIZE_BYTES:
            data = packed[0] + self._packer.pack({"cut": True})
        place = (self._version + 1) % 2
        start = _HEAD.size + place * SIZE_BYTES
        self._memory[start : start + len(data)] = data
        self._lengths[place] = len(data)
        self._version += 1
        yield

    def _head(self, now_ns: int) -> None:
        self._memory[: _HEAD.size] = _HEAD.pack(_MARK, self._version, now_ns, *self._lengths)


class BoardReader:
    """The other end. Raises ServeError where there is no board."""

    def __init__(self, path: Path | str) -> None:
        try:
            with Path(path).open("rb") as file:
                self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ServeError(f"{path}: no board of a daemon: {error}") from None
        if self._memory[: len(_MARK)] != _MARK:
            raise ServeError(f"{path}: no board of a daemon")

    def read(self) -> tuple[int, dict[str, Any]]:
        """(when the daemon last gave a sign of life, ns of the monotonic clock; what it says, {} at first)."""
        for _ in range(100):
            _, version, alive_ns, *lengths = _HEAD.unpack(self._memory[: _HEAD.size])
            place = version % 2
            start = _HEAD.size + place * SIZE_BYTES
            data = self._memory[start : start + lengths[place]]
            _, again, *_ = _HEAD.unpack(self._memory[: _HEAD.size])
            if again == version:  # the daemon writes the other place only
                with contextlib.suppress(ValueError):  # the head itself was being written
                    return alive_ns, _merged(data)
        raise ServeError("the daemon's board changes faster than it can be read")


def _merged(data: bytes) -> dict[str, Any]:
    about: dict[str, Any] = {}
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    for piece in unpacker:
        for key, value in piece.items():
            if isinstance(value, dict) and isinstance(about.get(key), dict):
                about[key].update(value)
            else:
                about[key] = value
    return about
