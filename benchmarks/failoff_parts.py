"""What `failoff` is made of: a camera and lines that are watched, each in processes that may be killed or stopped."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from forked import fork

from rtseg.client import Publisher, TriggerSubscriber
from rtseg.errors import ServeError
from rtseg.recordings.recording import Recording
from rtseg.sinks.simulated_board import SimulatedBoard

PIN = 13
DEVICE_PRIORITY = 50
GAP, JUMP, PAUSE = b"g", b"j", b"p"
"""What a camera is told: to skip frames at the next one, to set its clock, to send no more."""
_CHANGE = struct.Struct("<qq")
_TIMES = struct.Struct("<3q")


class Change(NamedTuple):
    """A line went on or off. t_ns: on the monotonic clock."""

    t_ns: int
    is_on: bool


def end(process: int) -> None:
    """Kill a process, stopped or not, and wait for it."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


class Camera:
    """A process that sends frames at their rate."""

    def __init__(self, address: str, stream: str, walk: Recording) -> None:
        self._shared = mmap.mmap(-1, _TIMES.size)
        self._read_end, self._write_end = os.pipe()
        self.stream = stream
        self.process = fork(lambda: self._send(address, walk))

    @property
    def last_ns(self) -> int:
        """When the last frame was sent."""
        return self._times()[0]

    @property
    def is_sending(self) -> bool:
        """Whether it was about to send another one: where it was killed then, nobody knows which was the last."""
        return self._times()[2] != self._times()[0]

    def tell(self, what: bytes) -> int:
        """Tell it to do something; when the frame was sent that did it."""
        os.write(self._write_end, what)
        deadline = time.monotonic() + 5
        while not (told_ns := self._times()[1]) and time.monotonic() < deadline:
            time.sleep(0.0005)
        return told_ns

    def kill(self) -> None:
        """End it."""
        end(self.process)

    def close(self) -> None:
        """End it, and what leads to it."""
        self.kill()
        for descriptor in (self._read_end, self._write_end):
            os.close(descriptor)
        self._shared.close()

    def _times(self) -> tuple[int, int, int]:
        """When it sent the last frame; when it did what it was told last, 0 = not yet; when it began to send."""
        last_ns, told_ns, begun_ns = _TIMES.unpack(self._shared[:])
        return last_ns, told_ns, begun_ns

    def _send(self, address: str, walk: Recording) -> None:
        publisher = Publisher(address, self.stream, walk.skeleton, walk.fps, resume=True, timeout_s=10.0)
        seq = ahead_ns = told_ns = t = 0
        started = time.monotonic()
        while True:
            wait_s = started + t / walk.fps - time.monotonic()
            time.sleep(max(0.0, wait_s))
            told = os.read(self._read_end, 1) if select.select([self._read_end], [], [], 0)[0] else b""
            now_ns = time.monotonic_ns()
            if told == PAUSE:
                last_ns, _, begun_ns = self._times()
                self._shared[:] = _TIMES.pack(last_ns, now_ns, begun_ns)
                time.sleep(3600)
            seq += 500 if told == GAP else 0
            ahead_ns += 3_600_000_000_000 if told == JUMP else 0
            told_ns = now_ns if told else told_ns
            points, scores = walk.keypoints[t % len(walk)], walk.confidence[t % len(walk)]
            self._shared[:] = _TIMES.pack(*self._times()[:2], now_ns)
            publisher.send(points, scores, seq=seq, t_source_ns=now_ns + ahead_ns)
            self._shared[:] = _TIMES.pack(now_ns, told_ns, now_ns)
            seq, t = seq + 1, t + 1


def run_as_device(process: int) -> None:
    """Let a process go before all others, as far as the system grants it: a real device shares no core with them."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(process, os.SCHED_FIFO, os.sched_param(DEVICE_PRIORITY))


class BoardLine:
    """The pin of a simulated board. link: a path that stays, for the trigger file."""

    def __init__(self, link: Path) -> None:
        self._link = link
        self.plug_in()

    def plug_in(self) -> None:
        """A board at the same name."""
        self.board, self.is_unplugged = SimulatedBoard(), False
        run_as_device(self.board.pid)
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(self.board.port)

    def unplug(self) -> None:
        """Pull it out."""
        self.is_unplugged = True
        self._link.unlink()  # first: its terminal's number may be given to another laboratory's board
        self.board.close()

    def changes(self, timeout_s: float) -> list[Change]:
        """What has changed, as soon as anything does."""
        return [Change(c.t_ns, bool(c.level)) for c in self.board.changes(timeout_s) if c.pin == PIN]

    def close(self) -> None:
        """Remove it."""
        if not self.is_unplugged:
            self.board.close()


class TopicLine:
    """What a process sees that follows a `zmq` sink. busy_poll: it never sleeps."""

    def __init__(self, address: str, *, busy_poll: bool = False) -> None:
        self._out, writes = os.pipe()
        self._process = fork(lambda: self._follow(address, writes, busy_poll=busy_poll))
        if not busy_poll:
            run_as_device(self._process)
        os.close(writes)

    def changes(self, timeout_s: float) -> list[Change]:
        """What has changed, as soon as anything does."""
        found: list[Change] = []
        while select.select([self._out], [], [], timeout_s)[0]:
            t_ns, is_on = _CHANGE.unpack(os.read(self._out, _CHANGE.size))
            found.append(Change(t_ns, bool(is_on)))
            timeout_s = 0.0
        return found

    def close(self) -> None:
        """End it."""
        end(self._process)
        os.close(self._out)

    def _follow(self, address: str, writes: int, *, busy_poll: bool) -> None:
        with TriggerSubscriber(address, connect_timeout_s=60.0, busy_poll=busy_poll) as lines:
            n_on = 0
            for change in lines:
                n_on += 1 if change.is_on else -1
                os.write(writes, _CHANGE.pack(time.monotonic_ns(), n_on > 0))
                with contextlib.suppress(ServeError):
                    lines.acknowledge(change)


def children_of(process: int, word: str) -> list[int]:
    """Processes that another one has started and whose command line holds a word."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == process and word in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
    return found


@contextlib.contextmanager
def stopped(process: int) -> Iterator[int]:
    """SIGSTOP, and SIGCONT at the end; when it was stopped, on the monotonic clock."""
    at_ns = time.monotonic_ns()
    os.kill(process, signal.SIGSTOP)
    try:
        yield at_ns
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
