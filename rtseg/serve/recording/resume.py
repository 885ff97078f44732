"""Where streams stood when a daemon was killed, read from its recording, and how one is brought back there.

A stream goes on bit for bit: its last snapshot, then the frames that came after it, stepped again. Frames whose
predictions had not been published yet are returned, to be answered now.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtseg.errors import RtsegError
from rtseg.recorder import mcap_records
from rtseg.recorder.reading import LOST, RecordedMessage, RecordingFile, unpacked
from rtseg.recorder.recover import ring_path
from rtseg.recorder.writer import finish_recording, lock_recording
from rtseg.serve.streams.stream import Stream
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
    of those before. received_ns: when the frames came that were recorded lately, on the monotonic clock. last_ns: when
    the last one came, ns since 1970.
    """

    hello: Hello
    state: bytes | None
    opened_ns: int = 0
    number: int = 0
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    earlier: list[bytes] = field(default_factory=list)
    received_ns: set[int] = field(default_factory=set)
    last_ns: int = 0

    def answers_after(self, number: int) -> list[tuple[int, bytes]]:
        """The predictions with higher numbers, as far back as they were read, each with its number."""
        first = self.number - len(self.earlier) + 1
        return [(n, data) for n, data in enumerate(self.earlier + self.answers, first) if n > number]


def read_resumable_streams(
    folder: Path, since_ns: int, wanted: Callable[[Mapping[str, str]], bool] = lambda session: True
) -> dict[str, ResumableStream]:
    """The streams that were open at the end of the folder's recordings and had a frame since `since_ns` (since 1970).

    wanted: which files are read, by their sessions' metadata. A file that its writer could not finish is finished
    first. One that cannot be read is left out, with a warning.
    """
    streams: dict[str, ResumableStream] = {}
    for path in _files(folder, since_ns):
        try:
            with RecordingFile(path) as file:
                session = file.session
            if not wanted(session):
                continue
            _finish(path, session)
            with RecordingFile(path) as file:
                offset_ns = int(session["clock_offset_ns"])
                for message in file.recent(UNPUBLISHED_S):
                    _collect_message(streams, path, message, offset_ns)
        except (RtsegError, OSError) as error:
            LOG.warning("streams of an earlier recording cannot be resumed: %s", error)
    return {name: resumable for name, resumable in streams.items() if resumable.last_ns >= since_ns}


def finish_recordings(folder: Path, since_ns: int) -> None:
    """Finish the files that their writers could not, so that several processes may read them at once."""
    for path in _files(folder, since_ns):
        try:
            with RecordingFile(path) as file:
                session = file.session
            _finish(path, session)
        except (RtsegError, OSError) as error:
            LOG.warning("an earlier recording cannot be finished: %s", error)


def _files(folder: Path, since_ns: int) -> list[Path]:
    files = sorted(folder.glob("rtseg-*.mcap"), key=lambda path: path.stat().st_mtime_ns)
    return [p for p in files if not p.name.endswith(".recovered.mcap") and p.stat().st_mtime_ns >= since_ns]


def same_source(one: Hello, other: Hello) -> bool:
    """Whether two hellos describe the same stream."""
    return _description(one) == _description(other)


def restore_stream(stream: Stream, resumable: ResumableStream) -> list[bytes]:
    """Bring a fresh stream to where it stood, and return the messages of the frames that are still to be answered.

    Raises RtsegError where its snapshot is of another model or engine.
    """
    done = rewind_stream(stream, resumable)
    for _, data in resumable.frames[:done]:
        stream.session.step(stream.to_frame(parse_frame(unpack(data))))
    return [data for _, data in resumable.frames[done:]]


def rewind_stream(stream: Stream, resumable: ResumableStream) -> int:
    """Bring a fresh stream to where `resumable.frames` begin; how many of them the recording answers completely.

    Raises RtsegError where its snapshot is of another model or engine.
    """
    session = stream.session
    if resumable.state is not None:
        session.restore(resumable.state)
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
    with path.open("rb") as opened:
        # The writer holds it, and outlives its daemon until all is written.
        lock_recording(opened.fileno(), path, wait_s=WAIT_S)
        fcntl.flock(opened.fileno(), fcntl.LOCK_UN)
    ring = ring_path(path, session)
    if ring is not None:
        finish_recording(ring)
        return
    with RecordingFile(path) as file:
        is_empty = next(file.messages(), None) is None
    if is_empty and file.problem:  # its daemon was killed before it had a ring
        with path.open("ab") as empty:
            empty.write(mcap_records.end())


def _collect_message(streams: dict[str, ResumableStream], path: Path, message: RecordedMessage, offset_ns: int) -> None:
    if message.topic == "frames":
        resumable = streams.get(_stream_of(path, message))
        if resumable is not None:
            resumable.frames.append((message.log_ns - offset_ns, message.data))
            resumable.received_ns.add(message.log_ns - offset_ns)
            resumable.last_ns = message.log_ns
    elif message.topic == "predictions":
        resumable = streams.get(_stream_of(path, message))
        if resumable is not None:
            resumable.answers.append(message.data)
    elif message.topic == "snapshots":
        snapshot = unpacked(path, message.data)
        name = snapshot["stream"]
        before = streams.get(name)
        resumable = streams[name] = ResumableStream(
            Hello.from_message(snapshot["hello"]),
            snapshot["state"],
            opened_ns=snapshot.get("opened_ns", 0),
            number=snapshot.get("answers", 0),
            last_ns=message.log_ns if before is None else before.last_ns,
        )
        if before is not None and before.opened_ns == resumable.opened_ns:
            resumable.earlier, resumable.received_ns = before.earlier + before.answers, before.received_ns
    elif message.topic == "events":
        _collect_event(streams, unpacked(path, message.data), message.log_ns, offset_ns)


def _collect_event(streams: dict[str, ResumableStream], event: dict[str, Any], log_ns: int, offset_ns: int) -> None:
    kind, stream = event.get("type"), str(event.get("stream"))
    if kind == "hello":
        plain = {key: value for key, value in event.items() if key != "resumed"}
        if not event.get("resumed"):  # otherwise its snapshot follows
            opened_ns = log_ns - offset_ns  # where its predictions' numbers begin as well
            streams[stream] = ResumableStream(Hello.from_message(plain), None, opened_ns, opened_ns, last_ns=log_ns)
    elif kind == "closed":
        streams.pop(stream, None)
    elif kind == LOST:
        streams.clear()  # their frames may be among what is missing; snapshots follow


def _stream_of(path: Path, message: RecordedMessage) -> str:
    return str(unpacked(path, message.data)["stream"])


def _description(hello: Hello) -> tuple[Any, ...]:
    return hello.skeleton, hello.fps, hello.clock, hello.arena, hello.names


def describe_streams(streams: dict[str, ResumableStream]) -> Iterator[str]:
    """For the log: each stream, and how many of its frames are to be stepped again."""
    for name, resumable in streams.items():
        yield f"{name!r} ({len(resumable.frames)} frames since its last snapshot)"
