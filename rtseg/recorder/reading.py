"""A recording, read: its messages in the order in which they were written, from a whole file or a torn one."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from rtseg.errors import RecordingError, needs_extra
from rtseg.recorder import layout, mcap_records

LOST = "lost"
"""The event in the place of missing messages."""


class RecordedMessage(NamedTuple):
    """One message. topic: its channel. log_ns: nanoseconds since 1970. data: a msgpack map."""

    topic: str
    log_ns: int
    data: bytes


@dataclass(eq=False)
class RecordingFile:
    """An open recording of `rtseg serve --record`.

    session: the metadata of its beginning (texts). problem: why the file ends where it does, "" where it was closed;
    known after `messages`. Raises RecordingError where the file is none.
    """

    path: Path

    def __post_init__(self) -> None:
        self.problem = ""
        try:
            with self.path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise RecordingError(self.path, "no such file") from None
        except (OSError, ValueError) as error:
            raise RecordingError(self.path, f"cannot be read: {error}") from None
        self._topics: dict[int, str] = {}
        self.session = self._read_beginning()

    def messages(self, start: int | None = None) -> Iterator[RecordedMessage]:
        """All messages from a record's offset on, or from the beginning.

        Where bytes are missing comes an event `lost`, as where the daemon found no room. Raises RecordingError for a
        record with impossible content.
        """
        scan = mcap_records.Scan(self._data, start)
        for record in scan:
            try:
                if record.opcode == mcap_records.MESSAGE:
                    message = mcap_records.parse_message(record.content)
                    yield RecordedMessage(self._topics[message.channel], message.log_ns, bytes(message.data))
                elif record.opcode == mcap_records.CHANNEL:
                    self._add_topic(record)
                elif record.opcode == mcap_records.HOLE:
                    yield RecordedMessage(
                        "events", 0, msgpack.packb({"v": 1, "type": LOST, "bytes": len(record.content)})
                    )
                elif record.opcode == mcap_records.CHUNK:
                    yield from self._chunked()
                    return
            except (ValueError, KeyError) as error:
                raise RecordingError(self.path, f"offset {record.start}: a damaged record: {error!r}") from None
        self.problem = scan.problem

    def recent(self, before_s: float = 0.0) -> Iterator[RecordedMessage]:
        """The messages of the file's end, beginning where the last state of every open stream is known.

        before_s: as if the recording had ended that much earlier.
        """
        return self.messages(self._last_start(before_s))

    def close(self) -> None:
        """Close the file; an iteration that still runs keeps it open."""
        with contextlib.suppress(BufferError):
            self._data.close()

    def __enter__(self) -> RecordingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_beginning(self) -> dict[str, str]:
        scan = mcap_records.Scan(self._data)
        try:
            for record in scan:
                if record.opcode == mcap_records.CHANNEL:
                    self._add_topic(record)
                elif record.opcode == mcap_records.METADATA:
                    name, values = mcap_records.parse_metadata(record.content)
                    if name == layout.SESSION:
                        return values
                elif record.opcode in (mcap_records.MESSAGE, mcap_records.CHUNK):
                    break
        except ValueError as error:
            raise RecordingError(self.path, f"a damaged beginning: {error}") from None
        raise RecordingError(self.path, f"expected a recording of `rtseg serve --record`; {scan.problem or _FOREIGN}")

    def _add_topic(self, record: mcap_records.Record) -> None:
        number, topic, encoding = mcap_records.parse_channel(record.content)
        if encoding != "msgpack":
            raise ValueError(f"channel {topic!r} is {encoding}, not msgpack")
        self._topics[number] = topic

    def _last_start(self, before_s: float) -> int | None:
        """The offset that the last mark names, or one from before_s earlier; None without a mark."""
        pattern, stop = layout.mark_pattern(self.session["session"]), len(self._data)
        passed = math.ceil(before_s / layout.MARK_EVERY_S)
        while (at := self._data.rfind(pattern, 0, stop)) >= 0:
            record = next(iter(mcap_records.Scan(self._data, at - mcap_records.PREFIX.size)), None)
            if record is not None and record.opcode == mcap_records.METADATA:
                if not passed:
                    return int(mcap_records.parse_metadata(record.content)[1]["start"])
                passed -= 1
            stop = at  # a torn mark, or a later one than wanted: look for the one before it
        return None

    def _chunked(self) -> Iterator[RecordedMessage]:
        """The messages of a file with chunks, which another tool has written: read by the `mcap` library."""
        try:
            from mcap.reader import NonSeekingReader
        except ModuleNotFoundError:
            raise needs_extra("mcap", "record", f"{self.path}: reading a recording with chunks") from None
        with self.path.open("rb") as file:
            for _, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                yield RecordedMessage(channel.topic, message.log_time, message.data)


_FOREIGN = "this one says nothing of its session"


def unpacked(path: Path, data: bytes) -> dict[str, Any]:
    """The map in a message's data. Raises RecordingError where there is none."""
    try:
        message = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RecordingError(path, f"a message of {len(data)} bytes is no msgpack map: {error!r}") from None
    if type(message) is not dict:
        raise RecordingError(path, f"expected a msgpack map, got {type(message).__name__}")
    return message
