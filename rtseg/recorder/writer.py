"""The process that writes a recording: bytes out of the ring, into the file, to the disk.

It lives as long as there is something to write: it outlives a daemon that was killed, writes what is left and closes
the file. Run as `python -m rtseg.recorder.writer RING DAEMON_PID SYNC_S CPUS`; needs neither numpy nor ZeroMQ.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rtseg.errors import RtsegError
from rtseg.recorder import mcap_records
from rtseg.recorder.ring import CUT_SHORT, Ring
from rtseg.system.files import replace_atomically
from rtseg.system.shutdown import ignore_stop_signals

try:
    import fcntl
except ImportError:  # Windows, where nothing is recorded (`system.capabilities`), and so no file needs a lock
    fcntl = None  # type: ignore[assignment]

_sync_data: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has the latter alone
LOOK_S = 0.02
"""Time between two looks at the ring: the file is behind the daemon by little more."""
MAX_WRITE = 1 << 20
RETRY_S = 0.5
"""Time between two attempts on a full disk."""
GIVE_UP_S = 2.0
"""How long closing may be delayed by a full disk; after that the ring stays, for `rtseg recover`."""


class Writer:
    """Brings a ring's bytes into its file, which it locks; raises RtsegError where another process writes the file.

    A file that somebody removes or cuts short meanwhile is written again, as far as its bytes are still to be had.
    is_cut: whether some were not.
    """

    def __init__(self, ring: Ring, sync_s: float) -> None:
        self._ring, self._sync_s, self.is_cut = ring, sync_s, False
        self._file = os.open(ring.file, os.O_RDWR)
        lock_recording(self._file, ring.file)
        # Closing records that a full disk cut short may follow the ring's last byte: they will be written again.
        self._written = min(os.fstat(self._file).st_size - ring.beginning, ring.update_head())
        if self._written < 0:
            os.close(self._file)
            raise RtsegError(f"{ring.file}: is shorter than when it was begun")
        ring.written = self._written
        self._first_bytes = os.pread(self._file, ring.beginning, 0)
        self._synced, self._synced_s = self._written, time.monotonic()

    def write_pending(self) -> bool:
        """Write what is in the ring, and sync the file once in sync_s; whether nothing is left to write.

        Raises OSError where that fails; what was written until then stays written.
        """
        self._mend_cut()
        ring, head = self._ring, self._ring.update_head()
        while self._written < head:
            for piece in ring.between(self._written, min(head, self._written + MAX_WRITE)):
                self._written += os.pwrite(self._file, piece, ring.beginning + self._written)
                ring.written = self._written  # after every piece: a writer that is killed here loses none
        self._keep_name()  # last: where it cannot be had back, what is open still takes in what comes
        if time.monotonic() - self._synced_s >= self._sync_s:
            self._sync()
        return self._written == ring.update_head()

    def finish(self) -> None:
        """Close the file after the last record. Raises OSError."""
        at, last = self._ring.beginning + self._written, mcap_records.end()
        while last:
            count = os.pwrite(self._file, last, at)
            at, last = at + count, last[count:]
        os.fsync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _keep_name(self) -> None:
        """Where the file was removed, or its folder, copy it there: its bytes are to be had while it is open."""
        about, path, at = os.fstat(self._file), self._ring.file, 0
        if about.st_nlink or _is_there(path, about):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path, sync=True) as part, part.open("wb") as copy:
            if hasattr(os, "posix_fallocate"):  # a disk without room for it says so at once, each time it is tried
                os.posix_fallocate(copy.fileno(), 0, about.st_size)
            while piece := os.pread(self._file, MAX_WRITE, at):
                copy.write(piece)
                at += len(piece)
                self._ring.alive_ns = time.monotonic_ns()
        file = os.open(path, os.O_RDWR)
        lock_recording(file, path)
        os.close(self._file)
        self._file = file
        _say(f"{path} was removed while it was written: its bytes are there again, in a new file of this name")

    def _mend_cut(self) -> None:
        """Where the file was cut short, write what the ring still has once more."""
        ring, size = self._ring, os.fstat(self._file).st_size
        if size >= ring.beginning + self._written:
            return
        whole = max(0, size - ring.beginning)
        # First: what is not written yet is not overwritten. But the daemon may be appending by the number of before.
        ring.written = whole
        oldest = max(0, ring.update_head() - ring.size + min(MAX_WRITE, ring.size // 4))
        resume_at = max(whole, min(self._written, oldest))
        self._written = ring.written = resume_at
        if size < ring.beginning:
            os.pwrite(self._file, self._first_bytes, 0)
        os.truncate(self._file, ring.beginning + resume_at)
        told = "its bytes are written again"
        if lost := resume_at - whole:
            self.is_cut, told = True, f"{lost} bytes are lost, and zeros stand in their place"
        _say(f"{ring.file} was cut short by another program while it was written: {told}")

    def _sync(self) -> None:
        if self._synced != self._written:
            _sync_data(self._file)
            self._synced = self._written
        self._synced_s = time.monotonic()


def _is_there(path: Path, about: os.stat_result) -> bool:
    """Whether this file still has its name: some file systems count no names."""
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), about)
    return False


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a log that cannot be written keeps nothing else from being
        print(f"rtseg: recording {text}", file=sys.stderr, flush=True)


def lock_recording(descriptor: int, path: Path, *, wait_s: float = 0.0) -> None:
    """Lock a recording until its descriptor is closed. Raises RtsegError where another process has locked it."""
    if fcntl is None:
        return
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise RtsegError(f"{path} is being written by another process: stop its daemon first") from None
            time.sleep(LOOK_S)


def unlock_recording(descriptor: int) -> None:
    """Let others lock it, before its descriptor is closed."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def finish_recording(path: Path, *, wait_s: float = 0.0) -> Path:
    """Finish the recording that a ring belongs to, as its writer would have done, and return the file.

    Raises RtsegError where a writer has it and keeps it for wait_s, OSError where the file cannot be written.
    """
    ring = Ring.open(path)
    with ring.file.open("rb") as file:
        lock_recording(file.fileno(), ring.file, wait_s=wait_s)
    if not path.exists():  # the writer that we waited for has done it
        ring.close()
        return ring.file
    writer = Writer(ring, sync_s=0.0)
    try:
        writer.write_pending()
        writer.finish()
    finally:
        writer.close()
    ring.close(remove=True)
    return ring.file


def run(ring: Ring, daemon: int, sync_s: float) -> int:
    """Write until the daemon has closed the ring or has died. Returns the exit status, 1 = bytes stay in the ring."""
    writer = Writer(ring, sync_s)
    ended_s = None
    while True:
        ring.alive_ns = time.monotonic_ns()
        # A child whose parent dies gets another one; that is how the daemon's death is noticed without a message.
        over = ring.closing or os.getppid() != daemon
        try:
            if writer.write_pending() and over:
                writer.finish()
                ring.trouble = CUT_SHORT if writer.is_cut else 0
                ring.close(remove=True)
                return 0
            ring.trouble = CUT_SHORT if writer.is_cut else 0
        except OSError as error:
            ring.trouble = error.errno or 1
        if over:
            ended_s = ended_s or time.monotonic()
            if time.monotonic() - ended_s > GIVE_UP_S:
                return 1
        time.sleep(RETRY_S if ring.trouble and not over else LOOK_S)


def _leave_to_daemon(cpus: str) -> None:
    """Ignore the signals, which the daemon handles, and give back its core and its real-time priority."""
    ignore_stop_signals()
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})


def main(arguments: list[str]) -> int:
    """The process: RING DAEMON_PID SYNC_S CPUS."""
    path, daemon, sync_s, cpus = arguments
    _leave_to_daemon(cpus)
    try:
        return run(Ring.open(Path(path)), int(daemon), float(sync_s))
    except (RtsegError, OSError) as error:
        print(f"rtseg: recording: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
