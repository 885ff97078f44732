"""A recording, read: its messages in the order in which they were written, from a whole file or a torn one."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from rtseg.errors import RecordingError, RtsegError, needs_extra
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.whole_records import WholeRecords, is_description_damaged
from rtseg.system.files import open_regular

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
            with open_regular(self.path) as file:
                if not os.fstat(file.fileno()).st_size:
                    raise RecordingError(self.path, "is empty: its daemon ended before anything was written")
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise RecordingError(self.path, "no such file") from None
        except (OSError, ValueError) as error:
            raise RecordingError(self.path, f"cannot be read: {error}") from None
        self._topics: dict[int, str] = {}
        # Of a file of ours nothing but its messages has to be whole: what its channels are is known. Its header tells,
        # or, where that is damaged, what follows it.
        header, after = len(_OUR_HEADER), layout.description()[len(_OUR_HEADER) :]
        self._is_ours = self._data[:header] == _OUR_HEADER or self._data[header : header + len(after)] == after
        if self._is_ours:
            self._topics = {number: topic for number, (topic, _) in layout.CHANNELS.items()}
        self.session = self._read_beginning()

    def messages(self, start: int | None = None) -> Iterator[RecordedMessage]:
        """All messages from a record's offset on, or from the beginning.

        Where bytes are missing or damaged comes an event `lost`, as where the daemon found no room; reading goes on at
        the next whole record (`WholeRecords`). In a file that another tool has written, a record with impossible
        content raises RecordingError.
        """
        scan = self._scan(start)
        for record in scan:
            try:
                if record.opcode == mcap_records.MESSAGE:
                    message = mcap_records.parse_message(record.content)
                    yield RecordedMessage(self._topics[message.channel], message.log_ns, bytes(message.data))
                elif record.opcode == mcap_records.CHANNEL and not self._is_ours:
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
        if self._is_ours and is_description_damaged(self._data):
            self.problem = f"its beginning is damaged{self.problem and '; '}{self.problem}"

    def described(self, key: str) -> str:
        """What the session's metadata say under a key. Raises RecordingError where they do not: they are damaged."""
        try:
            return self.session[key]
        except KeyError:
            raise RecordingError(self.path, f"its beginning is damaged: nothing says the session's {key!r}") from None

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

    def _scan(self, start: int | None = None) -> WholeRecords | mcap_records.Scan:
        return (WholeRecords if self._is_ours else mcap_records.Scan)(self._data, start)

    def _read_beginning(self) -> dict[str, str]:
        scan = self._scan()
        try:
            for record in scan:
                if record.opcode == mcap_records.CHANNEL and not self._is_ours:
                    self._add_topic(record)
                elif record.opcode == mcap_records.METADATA:
                    name, values = mcap_records.parse_metadata(record.content)
                    if name == layout.SESSION:
                        return values
                    if name == layout.MARK:
                        return {}  # the session's own are damaged
                elif record.opcode in (mcap_records.MESSAGE, mcap_records.CHUNK):
                    if self._is_ours:
                        return {}
                    break
        except ValueError as error:
            raise RecordingError(self.path, f"a damaged beginning: {error}") from None
        raise RecordingError(self.path, f"expected a recording of `rtseg serve --record`; {scan.problem or _FOREIGN}")

    def _add_topic(self, record: mcap_records.Record) -> None:
        number, topic, encoding = mcap_records.parse_channel(record.content)
        if encoding != "msgpack":
            raise ValueError(f"channel {topic!r} is {encoding}, not msgpack")
        self._topics[number] = topic

    def last_log_ns(self) -> int:
        """When the last message was logged, ns since 1970; 0 where none is of a stream that is still open.

        Reads what follows the last mark, or, where nothing does, what follows the place that it names.
        """
        last = 0
        for start in next(self._marks(), (None,)):
            last = last or max((message.log_ns for message in self.messages(start)), default=0)
        return last

    def _last_start(self, before_s: float) -> int | None:
        """The offset that the last mark names, or one from before_s earlier; None without a mark."""
        # Marks come at a fixed pace, so that time is counted in them.
        return next(
            (start for _, start in islice(self._marks(), math.ceil(before_s / layout.MARK_EVERY_S), None)), None
        )

    def _marks(self) -> Iterator[tuple[int, int]]:
        """The whole marks, last first: where each is, and the offset that it names, where a record begins."""
        stop = len(self._data)
        if not self.session.get("session"):
            return
        pattern = layout.mark_pattern(self.session["session"])
        while (found := self._data.rfind(pattern, 0, stop)) >= 0:
            stop, at = found, found - mcap_records.PREFIX.size
            record = next(iter(self._scan(at)), None)
            if record is None or record.opcode != mcap_records.METADATA:
                continue  # a torn mark
            start = mcap_records.parse_metadata(record.content)[1].get("start", "")
            # The digits may be damaged as well: they must name a whole record before the mark, or the mark itself.
            if start.isdecimal() and int(start) <= at:
                named = next(iter(self._scan(int(start))), None)
                if named is not None and named.start == int(start) and named.opcode != mcap_records.HOLE:
                    yield at, int(start)

    def _chunked(self) -> Iterator[RecordedMessage]:
        """The messages of a file with chunks, which another tool has written: read by the `mcap` library."""
        try:
            from mcap.reader import NonSeekingReader
        except ModuleNotFoundError:
            raise needs_extra("mcap", "record", f"{self.path}: reading a recording with chunks") from None
        with self.path.open("rb") as file:
            for _, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                yield RecordedMessage(channel.topic, message.log_time, message.data)


_OUR_HEADER = mcap_records.MAGIC + mcap_records.header("", layout.LIBRARY)
_FOREIGN = "this one says nothing of its session"


MALFORMED = (RtsegError, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
"""What reading a message's map may raise where a bit of its content was damaged and it still is a map."""


def unpacked(path: Path, data: bytes) -> dict[str, Any]:
    """The map in a message's data. Raises RecordingError where there is none."""
    try:
        message = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RecordingError(path, f"a message of {len(data)} bytes is no msgpack map: {error!r}") from None
    if type(message) is not dict:
        raise RecordingError(path, f"expected a msgpack map, got {type(message).__name__}")
    return message
