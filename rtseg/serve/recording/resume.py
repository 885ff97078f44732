"""Where streams stood when a daemon was killed, read from its recording, and how one is brought back there.

A stream goes on bit for bit: its last snapshot, then the frames that came after it, stepped again. Frames whose
predictions had not been published yet are returned, to be answered now.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.errors import RtsegError, SnapshotError
from rtseg.inference.predictions import Prediction
from rtseg.recorder import mcap_records
from rtseg.recorder.reading import LOST, MALFORMED, RecordedMessage, RecordingFile, unpacked
from rtseg.recorder.recover import check_ring, remove_unfinished_ring, ring_path
from rtseg.recorder.ring import Ring
from rtseg.recorder.writer import finish_recording, lock_recording, unlock_recording
from rtseg.serve.streams.stream import Stream
from rtseg.system.files import open_regular
from rtseg.system.machine import boot_id
from rtseg.wire.messages import Hello, parse_frame, unpack

LOG = logging.getLogger("rtseg.serve")
UNPUBLISHED_S = 5.0
"""Predictions of a worker's last seconds are read as well, in case that they never reached its front."""
WAIT_S = 5.0
"""How long the writer of a daemon that was killed may take to finish its file."""


@dataclass(eq=False)
class ResumableStream:
    """One stream that was open when its daemon ended.

    state: its last snapshot, None for one that began with `frames`. opened_ns: when it was opened. number: of its last
    prediction before `frames` (`OutletRecord.answers`). frames: what came after the snapshot: when, on the daemon's
    monotonic clock, and the message. answers: the predictions after the snapshot, as they were published; earlier: some
    of those before. triggers: what its triggers remembered at the snapshot, b"" for a fresh start; trigger_records:
    what was recorded of them since, each with the number of answers before it. received_ns: when the frames came that
    were recorded lately, and last_ns: when the last one came, on the monotonic clock of the process that reads.
    """

    hello: Hello
    state: bytes | None
    opened_ns: int = 0
    number: int = 0
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    triggers: bytes = b""
    trigger_records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    earlier: list[bytes] = field(default_factory=list)
    received_ns: set[int] = field(default_factory=set)
    last_ns: int = 0

    def answers_after(self, number: int) -> list[tuple[int, bytes]]:
        """The predictions with higher numbers, as far back as they were read, each with its number."""
        first = self.number - len(self.earlier) + 1
        return [(n, data) for n, data in enumerate(self.earlier + self.answers, first) if n > number]


def read_resumable_streams(
    folder: Path,
    silent_ns: int = 0,
    wanted: Callable[[Mapping[str, str]], bool] = lambda session: True,
    *,
    with_closed: bool = False,
) -> dict[str, ResumableStream]:
    """The streams that were open at the end of the folder's recordings and had a frame within the last `silent_ns`
    (0 = whenever it was).

    wanted: which files are read, by their sessions' metadata. with_closed: also those that were closed. A file that its
    writer could not finish is finished first. What cannot be read is left out, with a warning: nothing in a folder
    keeps a daemon from starting.
    """
    streams: dict[str, ResumableStream] = {}
    for path in _files_by_age(folder, silent_ns, wanted):
        try:
            with RecordingFile(path) as file:
                session = file.session
            _finish(path, session)
            with RecordingFile(path) as file:
                _collect_file(streams, file, with_closed=with_closed)
        # Broad here and below: a damaged file can raise anything, and a daemon that does not start loses a session.
        except Exception as error:
            LOG.warning("streams of an earlier recording cannot be resumed: %s", _told(path, error))
    now_ns = time.monotonic_ns()
    return {n: found for n, found in streams.items() if not silent_ns or now_ns - found.last_ns <= silent_ns}


def finish_recordings(folder: Path, silent_ns: int = 0) -> None:
    """Finish the files that their writers could not, so that several processes may read them at once."""
    finish_files(_files_by_age(folder, silent_ns))


def finish_files(paths: Iterable[Path]) -> list[Path]:
    """Finish those of these files that their writers could not; returns those that cannot be, each with a warning."""
    unfinished = []
    for path in paths:
        try:
            with RecordingFile(path) as file:
                session = file.session
            _finish(path, session)
        except Exception as error:
            LOG.warning("a recording cannot be finished: %s", _told(path, error))
            unfinished.append(path)
    return unfinished


def _files_by_age(
    folder: Path, silent_ns: int, wanted: Callable[[Mapping[str, str]], bool] = lambda session: True
) -> list[Path]:
    """The folder's recordings that are wanted and have a message of the last `silent_ns` (0 = any), oldest first."""
    found: list[tuple[int, Path]] = []
    now_ns = time.monotonic_ns()
    for path in sorted(folder.glob("rtseg-*.mcap")):
        if path.name.endswith(".recovered.mcap"):
            continue
        try:
            with RecordingFile(path) as file:
                if not wanted(file.session):
                    continue
                # Its ring may hold what is later than the file's last message.
                has_ring = ring_path(path, file.session) is not None
                last_ns = now_ns if has_ring else recorded_on_our_clock(file.session, file.last_log_ns())
            if has_ring or not silent_ns or now_ns - last_ns <= silent_ns:
                found.append((last_ns, path))
        except Exception as error:
            LOG.warning("an earlier recording cannot be read: %s", _told(path, error))
    return [path for _, path in sorted(found)]


def recorded_on_our_clock(session: Mapping[str, str], log_ns: int) -> int:
    """When a message was logged, on the monotonic clock of now. log_ns: since 1970.

    Within one start of the machine the monotonic clock tells, which nobody can set: the system's clock may have been
    set while the daemon ran or since. After another start, or where the file does not say, there is the system's clock.
    """
    if session.get("boot_id") and session["boot_id"] == boot_id():
        return log_ns - int(session["clock_offset_ns"])
    return time.monotonic_ns() - (time.time_ns() - log_ns)


def _told(path: Path, error: Exception) -> str:
    text = str(error) if isinstance(error, RtsegError) else repr(error)
    return text if str(path) in text else f"{path}: {text}"


def same_source(one: Hello, other: Hello) -> bool:
    """Whether two hellos describe the same stream."""
    return _description(one) == _description(other)


def restore_stream(stream: Stream, resumable: ResumableStream) -> tuple[list[bytes], list[Prediction]]:
    """Bring a fresh stream to where it stood.

    Returns the messages of the frames that are still to be answered, and the answers since the snapshot. Raises
    RtsegError where its snapshot is of another model or engine.
    """
    done = rewind_stream(stream, resumable)
    answers: list[Prediction] = []
    for _, data in resumable.frames[:done]:
        answers += stream.session.step(stream.to_frame(parse_frame(unpack(data))))
    return [data for _, data in resumable.frames[done:]], answers


def rewind_stream(stream: Stream, resumable: ResumableStream) -> int:
    """Bring a fresh stream to where `resumable.frames` begin; how many of them the recording answers completely.

    Raises RtsegError where its snapshot is of another model or engine, or its answers are of another model.
    """
    session = stream.session
    if resumable.state is not None:
        session.restore(resumable.state)
    elif resumable.answers:  # it has no state yet that would say so
        model, own = unpack(resumable.answers[0])["model"], stream.model.served.model
        if model != own:
            raise SnapshotError(f"model {str(model)[:12]} answered it, and this is {own[:12]}")
    # With a lookahead or a filled gap a frame brings several predictions, or none: only stepping tells how many. So the
    # frames are stepped to count them, and the state is put back.
    before, answers, done = session.snapshot(), 0, 0
    for _, data in resumable.frames:
        answers += len(session.step(stream.to_frame(parse_frame(unpack(data)))))
        if answers > len(resumable.answers):
            break
        done += 1
    session.restore(before)
    return done


def _finish(path: Path, session: dict[str, str]) -> None:
    with open_regular(path) as opened:
        # The writer holds it, and outlives its daemon until all is written.
        lock_recording(opened.fileno(), path, wait_s=WAIT_S)
        unlock_recording(opened.fileno())
    ring = ring_path(path, session)
    if ring is not None:
        check_ring(Ring.open(ring), path)
        finish_recording(ring)
        return
    with RecordingFile(path) as file:
        is_empty = next(file.messages(), None) is None
    if is_empty and file.problem:  # its daemon was killed before it had a ring
        remove_unfinished_ring(path, session)
        with path.open("ab") as empty:
            empty.write(mcap_records.end())


def _collect_file(streams: dict[str, ResumableStream], file: RecordingFile, *, with_closed: bool) -> None:
    """Add what a file says to what the files before it said."""
    session, damaged = file.session, ""
    offset_ns = int(file.described("clock_offset_ns"))
    for message in file.recent(UNPUBLISHED_S):
        try:
            if with_closed and message.topic == "events" and unpacked(file.path, message.data)["type"] == "closed":
                continue
            _collect_message(streams, file.path, message, offset_ns, recorded_on_our_clock(session, message.log_ns))
        except MALFORMED as error:
            # As where records are missing: of whom it spoke is not known, and snapshots follow.
            streams.clear()
            damaged = damaged or _told(file.path, error)
    damaged = damaged or (file.problem if "damaged" in file.problem else "")
    if damaged:
        LOG.warning("a recording is damaged; its streams are resumed only where a snapshot follows: %s", damaged)


def _collect_message(
    streams: dict[str, ResumableStream], path: Path, message: RecordedMessage, offset_ns: int, now_ns: int
) -> None:
    """Add one message. now_ns: when it was logged, on this process's clock."""
    if message.topic == "frames":
        resumable = streams.get(_stream_of(path, message))
        if resumable is not None:
            resumable.frames.append((message.log_ns - offset_ns, message.data))
            resumable.received_ns.add(message.log_ns - offset_ns)
            resumable.last_ns = now_ns
    elif message.topic == "predictions":
        resumable = streams.get(_stream_of(path, message))
        if resumable is not None:
            resumable.answers.append(message.data)
    elif message.topic == "triggers":
        resumable = streams.get(_stream_of(path, message))
        if resumable is not None:
            resumable.trigger_records.append((len(resumable.answers), unpacked(path, message.data)))
    elif message.topic == "snapshots":
        _collect_snapshot(streams, unpacked(path, message.data), now_ns)
    elif message.topic == "events":
        _collect_event(streams, unpacked(path, message.data), message.log_ns - offset_ns, now_ns)


def _collect_snapshot(streams: dict[str, ResumableStream], snapshot: dict[str, Any], now_ns: int) -> None:
    hello, state = Hello.from_message(snapshot["hello"]), snapshot["state"]
    opened_ns, number = snapshot.get("opened_ns", 0), snapshot.get("answers", 0)
    triggers = snapshot.get("triggers", b"")
    kinds = (type(state), type(opened_ns), type(number), type(triggers), hello.stream)
    if kinds != (bytes, int, int, bytes, snapshot["stream"]):
        raise ValueError("a snapshot whose fields contradict one another")
    before = streams.get(hello.stream)
    resumable = streams[hello.stream] = ResumableStream(
        *(hello, state, opened_ns, number), triggers=triggers, last_ns=now_ns if before is None else before.last_ns
    )
    if before is not None and before.opened_ns == resumable.opened_ns:
        resumable.earlier, resumable.received_ns = before.earlier + before.answers, before.received_ns


def _collect_event(streams: dict[str, ResumableStream], event: dict[str, Any], at_ns: int, now_ns: int) -> None:
    kind, stream = event["type"], str(event.get("stream"))
    if kind == "hello":
        plain = {key: value for key, value in event.items() if key != "resumed"}
        if not event.get("resumed"):  # otherwise its snapshot follows
            # Where it was opened its predictions' numbers begin as well.
            streams[stream] = ResumableStream(Hello.from_message(plain), None, at_ns, at_ns, last_ns=now_ns)
    elif kind == "closed":
        streams.pop(stream, None)
    elif kind == LOST:
        streams.clear()  # their frames may be among what is missing; snapshots follow


def _stream_of(path: Path, message: RecordedMessage) -> str:
    name = unpacked(path, message.data)["stream"]
    if type(name) is not str:
        raise ValueError(f"a stream named {name!r}")
    return name


def _description(hello: Hello) -> tuple[Any, ...]:
    return hello.skeleton, hello.fps, hello.clock, hello.arena, hello.names, hello.px_per_mm


def describe_streams(streams: dict[str, ResumableStream]) -> Iterator[str]:
    """For the log: each stream, and how many of its frames are to be stepped again."""
    for name, resumable in streams.items():
        yield f"{name!r} ({len(resumable.frames)} frames since its last snapshot)"
