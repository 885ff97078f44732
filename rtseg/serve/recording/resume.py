"""Where streams stood when a daemon was killed, read from its recording, and how one is brought back there.

A stream goes on bit for bit: its last snapshot, then the frames that came after it, stepped again. Frames whose answers
had not been published yet are handed back, to be answered now.
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
UNHEARD_S = 5.0
"""Of so long before a worker's end its recorded answers are at hand, in case that they never reached its front."""
WAIT_S = 5.0
"""How long the writer of a daemon that was killed may take to finish its file."""


@dataclass(eq=False)
class Past:
    """One stream that was open when its daemon ended.

    state: its last snapshot, None for one that began with `frames`. opened_ns, number: when it was opened, and the
    number of its last answer before `frames` (`Stream`). frames: what came after that, when it came (the daemon's
    clock), and as it came. answers: the predictions after that, as they were published; earlier: some of those before.
    last_ns: when its last frame came, ns since 1970.
    """

    hello: Hello
    state: bytes | None
    opened_ns: int = 0
    number: int = 0
    frames: list[tuple[int, bytes]] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    earlier: list[bytes] = field(default_factory=list)
    last_ns: int = 0

    def answers_after(self, number: int) -> list[tuple[int, bytes]]:
        """The predictions with greater numbers, as far back as they were read, each with its number."""
        first = self.number - len(self.earlier) + 1
        return [(n, data) for n, data in enumerate(self.earlier + self.answers, first) if n > number]


def read_pasts(
    folder: Path, since_ns: int, wanted: Callable[[Mapping[str, str]], bool] = lambda session: True
) -> dict[str, Past]:
    """The streams that were open at the end of the folder's recordings and had a frame since `since_ns` (since 1970).

    wanted: which files count, by their sessions' metadata. A file that its writer could not finish is finished first.
    One that cannot be read is left out, with a warning.
    """
    pasts: dict[str, Past] = {}
    for path in _files(folder, since_ns):
        try:
            with RecordingFile(path) as file:
                session = file.session
            if not wanted(session):
                continue
            _finish(path, session)
            with RecordingFile(path) as file:
                offset_ns = int(session["clock_offset_ns"])
                for told in file.recent(UNHEARD_S):
                    _note(pasts, path, told, offset_ns)
        except (RtsegError, OSError) as error:
            LOG.warning("streams of an earlier recording cannot be resumed: %s", error)
    return {name: past for name, past in pasts.items() if past.last_ns >= since_ns}


def finish_all(folder: Path, since_ns: int) -> None:
    """Finish what writers could not, so that several processes may read the folder's recordings at once."""
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


def bring_back(stream: Stream, past: Past) -> list[bytes]:
    """Put a fresh stream where it stood, and return the frames that are still to be answered, as they came.

    Raises RtsegError where its snapshot is of another model or engine.
    """
    done = rewind(stream, past)
    for _, data in past.frames[:done]:
        stream.session.step(stream.frame(parse_frame(unpack(data))))
    return [data for _, data in past.frames[done:]]


def rewind(stream: Stream, past: Past) -> int:
    """Put a fresh stream to where `past.frames` begin; how many of these are answered in the recording, wholly.

    Raises RtsegError where its snapshot is of another model or engine.
    """
    session = stream.session
    if past.state is not None:
        session.restore(past.state)
    before, answers, done = session.snapshot(), 0, 0
    for _, data in past.frames:
        answers += len(session.step(stream.frame(parse_frame(unpack(data)))))
        if answers > len(past.answers):
            break
        done += 1
    session.restore(before)
    return done


def _finish(path: Path, session: dict[str, str]) -> None:
    with path.open("rb") as opened:
        # Held by the writer, which outlives its daemon until all is written.
        lock_recording(opened.fileno(), path, wait_s=WAIT_S)
        fcntl.flock(opened.fileno(), fcntl.LOCK_UN)
    ring = ring_path(path, session)
    if ring is not None:
        finish_recording(ring)
        return
    with RecordingFile(path) as file:
        is_empty = next(file.messages(), None) is None
    if is_empty and file.problem:  # killed before it had a ring
        with path.open("ab") as unbegun:
            unbegun.write(mcap_records.end())


def _note(pasts: dict[str, Past], path: Path, told: RecordedMessage, offset_ns: int) -> None:
    if told.topic == "frames":
        past = pasts.get(_stream_of(path, told))
        if past is not None:
            past.frames.append((told.log_ns - offset_ns, told.data))
            past.last_ns = told.log_ns
    elif told.topic == "predictions":
        past = pasts.get(_stream_of(path, told))
        if past is not None:
            past.answers.append(told.data)
    elif told.topic == "snapshots":
        message = unpacked(path, told.data)
        before = pasts.get(message["stream"])
        last_ns = told.log_ns if before is None else before.last_ns
        place = message.get("opened_ns", 0), message.get("answers", 0)
        hello = Hello.from_message(message["hello"])
        past = pasts[message["stream"]] = Past(hello, message["state"], *place, last_ns=last_ns)
        if before is not None and before.opened_ns == past.opened_ns:
            past.earlier = before.earlier + before.answers
    elif told.topic == "events":
        _note_event(pasts, unpacked(path, told.data), told.log_ns, offset_ns)


def _note_event(pasts: dict[str, Past], event: dict[str, Any], log_ns: int, offset_ns: int) -> None:
    kind, stream = event.get("type"), str(event.get("stream"))
    if kind == "hello":
        plain = {key: value for key, value in event.items() if key != "resumed"}
        if not event.get("resumed"):  # otherwise its snapshot follows
            opened_ns = log_ns - offset_ns  # where its answers' numbers begin as well
            pasts[stream] = Past(Hello.from_message(plain), None, opened_ns, opened_ns, last_ns=log_ns)
    elif kind == "closed":
        pasts.pop(stream, None)
    elif kind == LOST:
        pasts.clear()  # their frames may be among what is missing; snapshots follow


def _stream_of(path: Path, told: RecordedMessage) -> str:
    return str(unpacked(path, told.data)["stream"])


def _description(hello: Hello) -> tuple[Any, ...]:
    return hello.skeleton, hello.fps, hello.clock, hello.arena, hello.names


def open_streams(pasts: dict[str, Past]) -> Iterator[str]:
    """For the log: each stream and how much of it there is to step again."""
    for name, past in pasts.items():
        yield f"{name!r} ({len(past.frames)} frames since its last snapshot)"
