"""`rtseg recover`: a whole copy of a recording whose end, or middle, was torn.

The original is never changed. Bytes that a ring still holds (where the daemon and its writer were both killed) go into
the copy as well. Offsets in the copy are the original's: bytes that are no record become one record that says so.
"""

from __future__ import annotations

import mmap
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from rtseg.errors import RecordingError, RtsegError
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.ring import SHARED_MEMORY, Ring, unfinished
from rtseg.recorder.whole_records import WholeRecords, is_description_damaged
from rtseg.recorder.writer import lock_recording
from rtseg.system.files import replace_atomically


@dataclass(frozen=True)
class Recovered:
    """The result of a repair.

    copy: the repaired file; None where the original is whole. problem: what was wrong. messages: how many the copy has.
    from_memory: bytes that the file lacked and shared memory had. lost: bytes of the original that were no records.
    """

    copy: Path | None
    problem: str
    messages: int
    from_memory: int = 0
    lost: int = 0


def recover_recording(path: Path, out: Path | None = None) -> Recovered:
    """Write a whole copy of a recording, beside it as NAME.recovered.mcap or to `out`.

    Raises RecordingError where the file is no recording, its daemon is still writing it, or the copy exists already.
    """
    with RecordingFile(path) as file:
        session = file.session
        ring = _ring_of(path, session)
        messages = _count_messages(file)
        problem = file.problem
    with path.open("rb") as original:
        try:
            lock_recording(original.fileno(), path)
        except RtsegError as error:
            raise RecordingError(path, str(error)) from None
        if not problem and ring is None:
            return Recovered(None, "", messages)
        copy = path.with_name(f"{path.stem}.recovered.mcap") if out is None else out
        if copy.exists():
            raise RecordingError(
                path, f"its repaired copy {copy} exists already: remove it, or name another with --out"
            )
        try:
            with replace_atomically(copy, sync=True) as part:
                shutil.copyfile(path, part)
                from_memory = _add_from_memory(part, ring)
                lost = _repair(part)
        finally:
            if ring is not None:
                ring.close()
    with RecordingFile(copy) as file:
        messages = _count_messages(file)
    return Recovered(copy, problem, messages, from_memory, lost)


def ring_path(path: Path, session: dict[str, str]) -> Path | None:
    """The ring that may still hold a recording's last bytes; None where there is none."""
    return next((ring for ring in _ring_places(path, session) if ring.is_file()), None)


def remove_unfinished_ring(path: Path, session: dict[str, str]) -> None:
    """Remove what there is of a ring whose daemon was killed while it made it."""
    for ring in _ring_places(path, session):
        unfinished(ring).unlink(missing_ok=True)


def _ring_places(path: Path, session: dict[str, str]) -> list[Path]:
    name = Path(session.get("ring", "-")).name
    return [folder / name for folder in (SHARED_MEMORY, path.parent)]


def _ring_of(path: Path, session: dict[str, str]) -> Ring | None:
    found = ring_path(path, session)
    if found is None:
        return None
    ring = Ring.open(found)
    check_ring(ring, path)
    return ring


def check_ring(ring: Ring, path: Path) -> None:
    """Raise RecordingError unless a ring is that of this recording: a damaged name may lead to another one's."""
    if not (ring.file.is_file() and ring.file.samefile(path)):
        ring.close()
        raise RecordingError(path, f"{ring.path}, which should hold its last bytes, is the ring of {ring.file}")


def _add_from_memory(part: Path, ring: Ring | None) -> int:
    """Append what the ring has and the file has not. Returns how many bytes."""
    if ring is None:
        return 0
    written = min(part.stat().st_size - ring.beginning, ring.head)
    with part.open("r+b") as file:
        file.truncate(ring.beginning + written)
        file.seek(0, os.SEEK_END)
        for piece in ring.between(written, ring.head):
            file.write(piece)
    return ring.head - written


def _count_messages(file: RecordingFile) -> int:
    """How many messages a file has; whether all of it could be read is the file's problem."""
    return sum(1 for message in file.messages() if message.log_ns)


def _repair(part: Path) -> int:
    """Cut off the torn end, replace bytes that are no record, and close the file. Returns the bytes that were lost."""
    with part.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), 0) as data:
            holes, records = [], WholeRecords(data)
            for record in records:
                if record.opcode == mcap_records.HOLE:
                    holes.append((record.start, len(record.content)))
                record.content.release()
            end, lost = records.end, records.lost
            if not records.complete:
                lost += size - end
            few = [(start, stop) for start, stop in records.damaged if stop - start < mcap_records.PREFIX.size]
            records.release()
            for at, length in holes:
                # One record of ours over all of it: offsets in the file, which marks hold, stay as they are.
                if at not in dict(few):
                    _write_hole(data, at, length)
            _restore_description(data, holes)
            for start, stop in reversed(few):
                # Too few for a record are taken out. Whatever put them there has moved what follows them.
                data.move(start, stop, end - stop)
                end -= stop - start
        file.truncate(end)
        file.seek(end)
        file.write(mcap_records.end())
    return lost


def _write_hole(data: mmap.mmap, at: int, length: int) -> None:
    data[at : at + mcap_records.PREFIX.size] = mcap_records.PREFIX.pack(mcap_records.HOLE, length)


def _restore_description(data: mmap.mmap, holes: list[tuple[int, int]]) -> None:
    """Write the schemas and channels anew where they are damaged. holes: (offset, bytes of content) of each."""
    whole = layout.description()
    n = len(whole)
    for at, length in holes:
        left = at + length - n  # of a hole that begins among them, what lies behind them
        if at < n and left >= 0:
            _write_hole(data, n, left)
            data[:n] = whole
    if is_description_damaged(data):
        data[:n] = whole
