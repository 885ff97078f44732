"""The daemon's end of a recording: puts records into the ring and supervises the process that writes them.

Putting a record costs the hot loop two copies in memory and no system call. It never waits: where the ring is full,
because the disk is full or the writer hangs, records are left out, counted, and their place in the recording is marked.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from rtseg.compiled import libzmq
from rtseg.compiled.array_tables import TableRows
from rtseg.config import ServeSettings
from rtseg.errors import ServeError
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.compiled_append import COUNT, CURSOR_WORDS, HEAD, ring_table
from rtseg.recorder.ring import CUT_SHORT, Ring
from rtseg.system.capabilities import why_no_recording
from rtseg.system.child_process import module_command, module_environment
from rtseg.system.files import replace_atomically
from rtseg.system.machine import boot_id

LOG = logging.getLogger("rtseg.serve")
MARK_EVERY_NS = int(layout.MARK_EVERY_S * 1e9)
RESTART_AFTER_S = 1.0
"""A writer that ends as soon as it starts is started again after this long."""
STALLED_NS = 2_000_000_000
"""A writer that has not looked at the ring for this long hangs."""
CLOSE_S = 10.0
CLOSED = "closed"
"""The state of a recording whose file is whole."""
_MASK = 0xFFFF_FFFF


class Recorder:
    """Records one run of a daemon into a new file under `folder`.

    about: what the file says of the run (model, engine, settings ...), as texts. settings: the daemon's. name:
    distinguishes several recorders of one daemon. The file exists and its writer runs when this returns. Raises
    ServeError where that cannot be.
    """

    def __init__(self, folder: Path, about: Mapping[str, str], settings: ServeSettings, name: str = "") -> None:
        if reason := why_no_recording():
            raise ServeError(f"--record {folder}: {reason}")
        self.session = secrets.token_hex(8)
        # Messages are logged in ns since 1970. The offset is taken once: were the system's clock set while the daemon
        # runs, two readings of it could put messages out of order; the monotonic clock cannot.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        when = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self.file = folder / f"rtseg-{when}-{self.session[:6]}{name}.mcap"
        ring_name = f"rtseg-{self.session}.ring"
        session = {**about, "session": self.session, "clock_offset_ns": str(self._epoch_ns), "ring": ring_name}
        session["boot_id"] = boot_id()
        beginning = layout.beginning(layout.LIBRARY, session)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replace_atomically(self.file, sync=True) as part:
                part.write_bytes(beginning)
            self._ring = Ring.create(ring_name, settings.record_buffer_mb << 20, self.file, len(beginning))
        except OSError as error:
            raise ServeError(f"--record {folder}: a recording cannot be begun here: {error}") from None
        self._beginning = len(beginning)
        self._snapshot_ns, self._sync_s = int(settings.record_snapshot_s * 1e9), settings.record_sync_s
        self._cpus = ",".join(map(str, sorted(os.sched_getaffinity(0)))) if hasattr(os, "sched_getaffinity") else ""
        self._counts = dict.fromkeys(layout.CHANNELS, 0)
        functions = libzmq.addresses()
        self._cursor, self._table = np.zeros(CURSOR_WORDS, np.int64).data, None
        if functions is not None:
            self._cursor, self._table = ring_table(functions, self._ring, layout.PREDICTIONS, self._epoch_ns)
        self._packer = msgpack.Packer()
        self._snapshots: dict[str, tuple[int, int]] = {}  # open stream -> where and when its state was last recorded
        self._marked_ns = 0
        self._is_full, self._lost, self.lost = False, 0, 0  # records that no mark has told of yet, and all
        self.restarts, self._ending = 0, threading.Event()
        self._reported = "recording"
        self.writer = self._start()
        self._supervisor = threading.Thread(target=self._supervise, name="rtseg-recorder", daemon=True)
        self._supervisor.start()

    def record_frame(self, data: bytes, t_recv_ns: int) -> None:
        """Record a frame that was accepted, as it came."""
        self._append(layout.FRAMES, data, t_recv_ns)

    def record_prediction(self, data: bytes, t_pub_ns: int) -> None:
        """Record a prediction, as it was published."""
        self._append(layout.PREDICTIONS, data, t_pub_ns)

    def lend_ring(self, n_messages: int, n_bytes: int) -> TableRows | None:
        """For a compiled call that records so many predictions at most, of so many bytes together (`compiled_append`).

        `take_ring_back` follows before anything else is recorded. None where compiled code can't do it, or where they
        may find no room: then each is recorded by `record_prediction`.
        """
        ring = self._ring
        if self._table is None or self._is_full:
            return None
        if ring.room < n_bytes + n_messages * mcap_records.MESSAGE_HEAD.size + _RESERVE:
            return None
        self._cursor[HEAD], self._cursor[COUNT] = ring.head, self._counts[layout.PREDICTIONS]
        return self._table.rows

    def take_ring_back(self) -> None:
        """The compiled call is over: what it has recorded counts."""
        self._ring.head, self._counts[layout.PREDICTIONS] = self._cursor[HEAD], self._cursor[COUNT]

    def record_event(self, data: bytes, now_ns: int) -> None:
        """Record a stream event, as it was published."""
        self._append(layout.EVENTS, data, now_ns)

    def record_trigger(self, data: bytes, now_ns: int) -> bool:
        """Record what a trigger decided, or was told between two frames: a msgpack map. False where it has no room."""
        return self._append(layout.TRIGGERS, data, now_ns)

    def record_trigger_end(self, data: bytes, now_ns: int) -> bool:
        """The same of what has happened to an animal, for which some room is left free where all else finds none."""
        return self._append(layout.TRIGGERS, data, now_ns, reserve=_MARK_RESERVE)

    def record_opening(self, hello: Mapping[str, Any], now_ns: int, *, resumed: bool = False) -> None:
        """Record that a stream begins, with the hello that was accepted. resumed: its snapshot follows."""
        self._snapshots[hello["stream"]] = self._ring.head, now_ns
        self._append(layout.EVENTS, self._packer.pack({**hello, "resumed": resumed}), now_ns)

    def forget_stream(self, stream: str) -> None:
        """No more snapshots of a stream that has closed."""
        self._snapshots.pop(stream, None)

    def record_snapshot(
        self,
        hello: Mapping[str, Any],
        state: bytes,
        now_ns: int,
        opened_ns: int = 0,
        answers: int = 0,
        triggers: bytes = b"",
    ) -> None:
        """Record a stream's state between two frames (`Session.snapshot`).

        opened_ns, answers: when it was opened, and the number of its last answer (`Stream`). triggers: what its
        triggers remember, b"" where it has none.
        """
        stream, at = hello["stream"], self._ring.head
        before, _ = self._snapshots.pop(stream, (at, 0))
        data = self._packer.pack(snapshot_map(hello, state, opened_ns, answers, triggers))
        recorded = self._append(layout.SNAPSHOTS, data, now_ns)
        # Popped and put back, so that the dictionary is in the order of the last snapshots. Where this one found no
        # room, reading still has to begin at the one before it.
        self._snapshots[stream] = at if recorded else before, now_ns

    def stream_due_for_snapshot(self, now_ns: int) -> str | None:
        """The stream whose snapshot is due and oldest; None = none. Marks the file as well, once a second."""
        if now_ns - self._marked_ns > MARK_EVERY_NS:
            self._mark(now_ns)
        # The first is the oldest: a stream that is recorded goes to the end (`record_snapshot`).
        stream, (_, then_ns) = next(iter(self._snapshots.items()), ("", (0, now_ns)))
        return stream if now_ns - then_ns >= self._snapshot_ns else None

    def state_change(self, now_ns: int) -> dict[str, Any] | None:
        """The fields of an event for subscribers where the recording's state has changed; None = it has not."""
        state, reason = self._state(now_ns)
        if state == self._reported:
            return None
        (LOG.info if state == "recording" else LOG.error)("recording %s: %s%s", self.file, state, reason)
        self._reported = state
        return {"type": "recorder", "state": state, "reason": reason.removeprefix(": "), "lost": self.lost}

    def status(self) -> dict[str, Any]:
        """File, state, bytes in it and waiting, records lost, restarts of the writer, messages per channel."""
        state, reason = self._state(time.monotonic_ns())
        written = self._ring.written
        return {
            "file": str(self.file),
            "state": state,
            "reason": reason.removeprefix(": "),
            "bytes": self._beginning + written,
            "waiting_bytes": self._ring.head - written,
            "lost": self.lost,
            "restarts": self.restarts,
            "writer": self.writer.pid,
            **{topic: self._counts[number] for number, (topic, _) in layout.CHANNELS.items()},
        }

    def close(self) -> None:
        """Wait until the writer has written the rest and closed the file; closing twice is no error."""
        if self._ending.is_set():
            return
        self._mark_lost(time.monotonic_ns())
        self._ending.set()
        self._ring.closing = True
        self._supervisor.join(CLOSE_S)
        if not self._is_finished:
            LOG.error(
                "recording %s could not be finished%s; free some room, then: rtseg recover %s",
                self.file,
                self._trouble(),
                self.file,
            )
        elif self._ring.trouble:
            LOG.error("recording %s is closed%s", self.file, self._trouble())
        elif self.lost:
            LOG.error("recording %s is closed; %d records found no room and are not in it", self.file, self.lost)

    def _append(self, channel: int, data: bytes, now_ns: int, *, reserve: int = 0) -> bool:
        """reserve: bytes that it must leave free; 0 = as many as all records do."""
        ring = self._ring
        room = ring.room - mcap_records.MESSAGE_HEAD.size - len(data)
        # Once full, the ring is used again when half of it is free: else single records would get in, between many that
        # do not, and each loss would need a mark of its own.
        if self._is_full and ring.room >= ring.size // 2:
            self._end_loss(now_ns)
        elif self._is_full or room < _RESERVE:
            self._is_full = True
            if not reserve or room < reserve:
                self._lost += 1
                self.lost += 1
                return False
            self._mark_lost(now_ns)
        count = self._counts[channel]
        self._counts[channel] = count + 1
        log_ns = self._epoch_ns + now_ns
        inside = mcap_records.IN_MESSAGE + len(data)
        head = mcap_records.MESSAGE_HEAD.pack(mcap_records.MESSAGE, inside, channel, count & _MASK, log_ns, log_ns)
        ring.append(head + data)
        return True

    def _end_loss(self, now_ns: int) -> None:
        """There is room again. Every stream's snapshot is due: one whose frames are missing cannot be stepped again
        beyond that place, but from its next state on it can.
        """
        self._is_full = False
        self._mark_lost(now_ns)
        head = self._ring.head
        self._snapshots = dict.fromkeys(self._snapshots, (head, now_ns - self._snapshot_ns))

    def _mark_lost(self, now_ns: int) -> None:
        """Mark the place where records are missing."""
        lost, self._lost = self._lost, 0
        if lost:
            # Half of what it may use: a record that is let in besides stands behind its mark.
            marker = self._packer.pack({"v": 1, "type": "lost", "records": lost})
            self._append(layout.EVENTS, marker, now_ns, reserve=_MARK_RESERVE // 2)

    def _mark(self, now_ns: int) -> None:
        """Write where reading has to begin for every open stream: a search from the file's end finds the last mark."""
        self._marked_ns = now_ns
        start = min((at for at, _ in self._snapshots.values()), default=self._ring.head)
        data = layout.mark(self.session, self._beginning + start)
        if not self._is_full and self._ring.room >= len(data) + _RESERVE:
            self._ring.append(data)

    def _state(self, now_ns: int) -> tuple[str, str]:
        """(state, reason): recording, failing (the disk), stalled (the writer hangs), behind or, its file being whole,
        closed; the reason begins with `: `.
        """
        if self._is_finished and self._ring.trouble != CUT_SHORT:
            return CLOSED, ""
        if self._ring.trouble:
            return "failing", self._trouble()
        if now_ns - max(self._ring.alive_ns, self._started_ns) > STALLED_NS:
            return "stalled", f": its writer (pid {self.writer.pid}) has done nothing for two seconds"
        if self._is_full:
            return "behind", ": the disk is slower than what comes"
        return "recording", ""

    @property
    def _is_finished(self) -> bool:
        """Whether the writer has written all and closed the file."""
        return self._ending.is_set() and self.writer.poll() == 0

    def _trouble(self) -> str:
        number = self._ring.trouble
        if number == CUT_SHORT:
            return ": another program has cut the file short, and bytes of it are lost"
        return f": {os.strerror(number)}" if number else ""

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_ns = time.monotonic_ns()
        arguments = [str(self._ring.path), str(os.getpid()), str(self._sync_s), self._cpus]
        command = module_command("rtseg.recorder.writer", *arguments)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=module_environment())

    def _supervise(self) -> None:
        """A thread: wait for the writer's end, and start another one unless the recording has ended as well."""
        while True:
            code = self.writer.wait()
            # 0: the file is closed. 1 at the end: a disk that stays full, or a ring that somebody has removed.
            if code == 0 or (self._ending.is_set() and code == 1):
                return
            self.restarts += 1
            LOG.error("recording %s: its writer ended with status %s and is started again", self.file, code)
            lived_ns = time.monotonic_ns() - self._started_ns
            if lived_ns < RESTART_AFTER_S * 1e9:
                self._ending.wait(RESTART_AFTER_S)
            with contextlib.suppress(OSError):  # no memory, no process: the next turn tries again
                self.writer = self._start()


_RESERVE, _MARK_RESERVE = 1 << 16, 4096
"""Bytes of the ring that records leave free: so that ends of triggers' events can be recorded, some hundreds, and that
those leave free in turn, so that a loss can always be marked."""


def snapshot_map(
    hello: Mapping[str, Any], state: bytes, opened_ns: int, answers: int, triggers: bytes = b""
) -> dict[str, Any]:
    """A snapshot as it is in a recording."""
    plain = {"v": 1, "stream": hello["stream"], "hello": dict(hello), "state": state}
    plain |= {"opened_ns": opened_ns, "answers": answers}
    return plain | ({"triggers": triggers} if triggers else {})
