"""The memory between the daemon and the writer of its recording: a ring of bytes in a file that both have mapped.

The bytes that go through it are the recording itself, so the file's length says how far it is written: a writer that
was killed is followed by one that goes on at that byte, with nothing lost and nothing twice. The ring is in shared
memory under a name, so it outlives both processes; what a file still lacks is found there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from pathlib import Path

from rtseg.errors import RtsegError
from rtseg.system.capabilities import FILES_HAVE_OWNERS
from rtseg.system.files import PART

MAGIC = 0x31474E4952475352  # "RSGRING1"
HEAD_BYTES = 4096
_PATH_AT = 512
# Positions count bytes since the beginning and only grow; the place in the ring is the remainder by its size.
_FIELDS = ("magic", "size", "beginning", "path_bytes", "head", "written", "closing", "trouble", "alive_ns")
_SIZE, _BEGINNING, _PATH_BYTES, _HEAD, _WRITTEN, _CLOSING, _TROUBLE, _ALIVE = range(1, len(_FIELDS))
CUT_SHORT = 1 << 20
"""A trouble beside the system's numbers of errors: bytes of the file that nobody has any more."""
SHARED_MEMORY = Path("/dev/shm")
"""Where there is none (macOS), the ring lies beside the recording."""
# Windows has neither, and makes no rings; one that was copied there is read by `rtseg recover`.
_CAREFULLY = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
_ZEROS = bytes(1 << 20)


class Ring:
    """A mapped ring; made by `create` in the daemon and by `open` in a process that reads it.

    Each field is one aligned word, which the other side sees whole, and each has one writer: so there is no lock. head:
    bytes appended since the start, written by the daemon alone. The other fields are described at their properties.
    """

    def __init__(self, path: Path, memory: mmap.mmap) -> None:
        self.path, self._memory = path, memory
        self._view = memoryview(memory)
        self._words = self._view[: 8 * len(_FIELDS)].cast("Q")
        self._size = self._words[_SIZE]
        self._data = self._view[HEAD_BYTES : HEAD_BYTES + self._size]
        length = self._words[_PATH_BYTES]
        self.file = Path(os.fsdecode(bytes(self._view[_PATH_AT : _PATH_AT + length])))
        self.head: int = self._words[_HEAD]

    @classmethod
    def create(cls, name: str, size: int, file: Path, beginning: int) -> Ring:
        """A new ring of `size` bytes for a file whose first `beginning` bytes are written already.

        Raises OSError where there is no room for it.
        """
        folder = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else file.parent
        path, encoded = folder / name, os.fsencode(file.absolute())
        # It gets its name once it can be read: allocating takes a while, in which its daemon may be killed.
        part = unfinished(path)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            # Allocated now: memory that is only promised would be a bus error once the system has none left.
            _allocate(descriptor, HEAD_BYTES + size)
            memory = mmap.mmap(descriptor, HEAD_BYTES + size)
            with memoryview(memory)[: 8 * len(_FIELDS)].cast("Q") as words:
                words[0], words[_SIZE], words[_BEGINNING], words[_PATH_BYTES] = MAGIC, size, beginning, len(encoded)
            memory[_PATH_AT : _PATH_AT + len(encoded)] = encoded
            part.rename(path)
        except BaseException:
            part.unlink()
            raise
        finally:
            os.close(descriptor)
        return cls(path, memory)

    @classmethod
    def open(cls, path: Path) -> Ring:
        """A ring that is there. Raises RtsegError where the file is none, OSError where it cannot be read."""
        # Shared memory is everybody's folder: a ring of another user's making would name a file of ours to be written.
        descriptor = os.open(path, os.O_RDWR | _CAREFULLY)
        try:
            about = os.fstat(descriptor)
            is_ours = not FILES_HAVE_OWNERS or about.st_uid == os.geteuid()
            may_be_ring = is_ours and stat.S_ISREG(about.st_mode) and about.st_size > HEAD_BYTES
            memory = mmap.mmap(descriptor, 0) if may_be_ring else None
        finally:
            os.close(descriptor)
        if memory is None or not _is_consistent(memory):
            raise RtsegError(f"{path}: expected the ring of a recording that was not finished, got another file")
        return cls(path, memory)

    def append(self, record: bytes) -> None:
        """Append a record. There must be `room` for it."""
        at, length = self.head % self._size, len(record)
        stop = at + length
        if stop <= self._size:
            self._data[at:stop] = record
        else:
            cut = self._size - at
            self._data[at:] = record[:cut]
            self._data[: length - cut] = record[cut:]
        self.head += length
        self._words[_HEAD] = self.head  # only now can the reader see it, and it sees it whole

    def shared_views(self) -> tuple[memoryview, memoryview]:
        """Its bytes, and the word that tells its reader `head`: for code that appends in the place of `append`."""
        return self._data, self._words[_HEAD : _HEAD + 1]

    @property
    def room(self) -> int:
        """Bytes free."""
        return self._size - (self.head - self._words[_WRITTEN])

    def between(self, start: int, stop: int) -> list[memoryview]:
        """The bytes from start to stop, counted since the beginning, in one piece or two."""
        at, length, size = start % self._size, stop - start, self._size
        if not 0 <= length <= size:
            raise RtsegError(f"{self.path}: its words are damaged: {length} bytes should wait in a ring of {size}")
        if at + length <= size:
            return [self._data[at : at + length]]
        return [self._data[at:], self._data[: at + length - size]]

    def update_head(self) -> int:
        """Read how many bytes have been appended; `head` is that from then on. For the process that reads."""
        self.head = self._words[_HEAD]
        return self.head

    @property
    def beginning(self) -> int:
        """Bytes of the file before the first one that went through the ring."""
        return self._words[_BEGINNING]

    @property
    def size(self) -> int:
        """Bytes that it holds at most."""
        return self._size

    @property
    def written(self) -> int:
        """Bytes that have left it for the file."""
        return self._words[_WRITTEN]

    @written.setter
    def written(self, count: int) -> None:
        self._words[_WRITTEN] = count

    @property
    def closing(self) -> bool:
        """Whether the daemon has said that nothing more will come."""
        return bool(self._words[_CLOSING])

    @closing.setter
    def closing(self, value: bool) -> None:
        self._words[_CLOSING] = int(value)

    @property
    def trouble(self) -> int:
        """The number of the error that keeps the writer from writing, or CUT_SHORT; 0 = none."""
        return self._words[_TROUBLE]

    @trouble.setter
    def trouble(self, number: int) -> None:
        self._words[_TROUBLE] = number

    @property
    def alive_ns(self) -> int:
        """When the writer last looked, on the monotonic clock."""
        return self._words[_ALIVE]

    @alive_ns.setter
    def alive_ns(self, now_ns: int) -> None:
        self._words[_ALIVE] = now_ns

    def close(self, *, remove: bool = False) -> None:
        """Unmap it; `remove` deletes the file."""
        for view in (self._words, self._data, self._view):
            view.release()
        self._memory.close()
        if remove:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()


def unfinished(path: Path) -> Path:
    """Where a ring is made before it gets its name."""
    return path.with_name(f"{path.name}{PART}")


def _allocate(descriptor: int, size: int) -> None:
    """Give a new file its size, and all its bytes. Raises OSError where there is no room for them."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # macOS has no such call; written bytes are allocated as well.
    left = size
    while left:
        left -= os.write(descriptor, _ZEROS[:left])


def _is_consistent(memory: mmap.mmap) -> bool:
    """Whether the words at a ring's beginning can be a ring's: positions are computed with them, and not checked."""
    words = dict(zip(_FIELDS, memoryview(memory[: 8 * len(_FIELDS)]).cast("Q"), strict=True))
    return (
        words["magic"] == MAGIC
        and words["size"] == len(memory) - HEAD_BYTES
        and words["path_bytes"] <= HEAD_BYTES - _PATH_AT
    )
