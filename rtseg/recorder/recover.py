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

import msgpack

from rtseg.errors import RecordingError, RtsegError
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.ring import SHARED_MEMORY, Ring
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
        messages = _count_readable(file)
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
                lost = _repair(part, session["session"])
        finally:
            if ring is not None:
                ring.close()
    with RecordingFile(copy) as file:
        messages = sum(1 for _ in file.messages())
    return Recovered(copy, problem, messages, from_memory, lost)


def ring_path(path: Path, session: dict[str, str]) -> Path | None:
    """The ring that may still hold a recording's last bytes; None where there is none."""
    for folder in (SHARED_MEMORY, path.parent):
        if (ring := folder / Path(session.get("ring", "-")).name).is_file():
            return ring
    return None


def _ring_of(path: Path, session: dict[str, str]) -> Ring | None:
    found = ring_path(path, session)
    return None if found is None else Ring.open(found)


def _count_readable(file: RecordingFile) -> int:
    """How many messages come before the first damage, which becomes the file's problem."""
    count = 0
    try:
        for _ in file.messages():
            count += 1
    except RecordingError as error:
        file.problem = str(error)
    return count


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


def _repair(part: Path, session: str) -> int:
    """Cut off the torn end, replace bytes that are no record, and close the file. Returns the bytes that were lost."""
    lost = 0
    with part.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), 0) as data:
            pattern, at = layout.mark_pattern(session), None
            while True:
                end = _end_of_records(data, at)
                # Damage says nothing of where the next record begins; a mark is found by its text, for it holds the
                # session's random name.
                following = data.find(pattern, end + 2 * mcap_records.PREFIX.size)
                at = following - mcap_records.PREFIX.size
                if following < 0 or _complete(data, end):
                    break
                # One record of ours over all of it: offsets in the file, which marks hold, stay as they are.
                data[end : end + mcap_records.PREFIX.size] = mcap_records.PREFIX.pack(
                    mcap_records.HOLE, at - end - mcap_records.PREFIX.size
                )
                lost += at - end
            closed = _complete(data, end)
        if not closed:
            lost += size - end
        file.truncate(end)
        file.seek(end)
        file.write(mcap_records.end())
    return lost


def _end_of_records(data: mmap.mmap, at: int | None) -> int:
    """Offset after the last record from `at` on that is whole and has content."""
    scan = mcap_records.Scan(data, at)
    last = scan.end
    try:
        for record in scan:
            last = record.start
            if record.opcode == mcap_records.MESSAGE:
                _check(mcap_records.parse_message(record.content))
            record.content.release()
        return scan.end
    except (ValueError, msgpack.UnpackException):
        return last
    finally:
        scan.release()


def _check(message: mcap_records.Message) -> None:
    """Raise ValueError for a message without content: a power cut may leave zeros in a record of the right length."""
    if message.channel not in layout.CHANNELS or type(msgpack.unpackb(message.data)) is not dict:
        raise ValueError("a message of no channel, or without a map")
    message.data.release()


def _complete(data: mmap.mmap, end: int) -> bool:
    """Whether the closing records begin at this offset."""
    return data[end : end + mcap_records.PREFIX.size] == mcap_records.end()[: mcap_records.PREFIX.size]
