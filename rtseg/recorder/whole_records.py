"""The whole records of a recording, wherever bytes of it were damaged: the one rule of what is read and what is lost.

MCAP has no marks between records: a damaged length leads anywhere. After damage the next record is found by what the
recorder writes: a message whose two times are the same number and whose data are one msgpack map, or metadata of ours.
Knows the files of `Recorder`; those that another tool has written are read by `mcap_records.Scan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgpack

from rtseg.recorder import layout, mcap_records
from rtseg.recorder.mcap_records import PREFIX, Buffer, Record

_CANDIDATE = re.compile(
    rb"(?s:\x05(?=....\x00{4}[\x01-\x05]\x00....(........)\1[\x80-\x8f\xde\xdf])|\x0c(?=....\x00{4}.\x00{3}rtseg\.))"
)
"""What a record may begin with: of a message its length below 4 GB, its channel, equal times and the head of a map."""
_CLOSING = mcap_records.end()


class WholeRecords:
    """The records of a file of ours from an offset on (None = the first), and holes where bytes are no record.

    A hole is a Record with the opcode HOLE, whether the file has one (`rtseg recover`) or bytes are damaged here; fewer
    bytes than a record's prefix are a hole as well. After iterating, `end` is the offset after the last whole record,
    `complete` whether the closing records follow, `problem` says what is wrong ("" where nothing is), and `damaged`
    where the damaged bytes before `end` begin and stop.
    """

    def __init__(self, data: Buffer, at: int | None = None) -> None:
        self._data = memoryview(data)
        self.end = len(mcap_records.MAGIC) if at is None else at
        self.problem, self.complete = "", False
        self.damaged: list[tuple[int, int]] = []

    @property
    def lost(self) -> int:
        """How many bytes before `end` are damaged."""
        return sum(stop - start for start, stop in self.damaged)

    def __iter__(self) -> Iterator[Record]:
        data, size = self._data, len(self._data)
        before: list[Record] = []  # the last whole record, until what follows it is known
        while True:
            at = self.end
            length = _whole_length(data, at)
            if length:
                yield from before
                self.end = at + length
                before = [Record(data[at], at, data[at + PREFIX.size : self.end])]
                continue
            self.complete = data[at:] == _CLOSING
            # Bytes that are missing from a record let it reach into the next one. Where it does not, it is whole: bytes
            # that are too many would have cut its map short.
            following = None if self.complete else _next_record(data, before[0].start if before else at)
            if before and following is not None and following < at:
                at = before[0].start
            else:
                yield from before
            before = []
            if following is None:
                break
            self.damaged.append((at, following))
            self.end = following
            yield Record(mcap_records.HOLE, at, data[at + PREFIX.size : following])
        self.problem = "" if self.complete else _describe_end(data, at)
        if self.damaged:
            ending = f"; {self.problem}" if self.problem else ""
            first, lost = self.damaged[0][0], self.lost
            self.problem = f"offset {first}: a damaged record, in all {lost} bytes of {size} are no records{ending}"

    def release(self) -> None:
        """Release the view of the bytes, so that a mapped file can be closed."""
        self._data.release()


def is_description_damaged(data: Buffer) -> bool:
    """Whether the schemas and channels at a file's beginning are not what every file of this version begins with.

    Nobody here needs them, but other libraries do. Where no record follows them, another version wrote the file.
    """
    whole = layout.description()
    with memoryview(data) as view:
        return view[: len(whole)] != whole and _whole_length(view, len(whole)) > 0


def _whole_length(data: memoryview, at: int) -> int:
    """Bytes of the record that begins at `at`, prefix included; 0 where none does that a recorder can have written."""
    if len(data) - at < PREFIX.size:
        return 0
    opcode, length = PREFIX.unpack_from(data, at)
    stop = at + PREFIX.size + length
    # Also a damaged length, which may be any number: nothing beyond the file is ever read.
    if stop > len(data) or not _is_content(opcode, data[at + PREFIX.size : stop], at):
        return 0
    # A hole holds anything; a byte that merely looks like one is not followed by a record.
    if opcode == mcap_records.HOLE and not (data[stop:] == _CLOSING or _is_followed(data, stop)):
        return 0
    return int(stop - at)


def _is_followed(data: memoryview, at: int) -> bool:
    return len(data) > at and data[at] != mcap_records.HOLE and _whole_length(data, at) > 0


def _is_content(opcode: int, content: memoryview, at: int) -> bool:
    try:
        if opcode == mcap_records.MESSAGE:
            message = mcap_records.parse_message(content)
            return message.channel in layout.CHANNELS and type(msgpack.unpackb(message.data)) is dict
        if opcode == mcap_records.METADATA:
            mcap_records.parse_metadata(content)
        elif opcode == mcap_records.CHANNEL:
            mcap_records.parse_channel(content)
        elif opcode == mcap_records.SCHEMA:
            mcap_records.check_schema(content)
        elif opcode == mcap_records.HEADER:
            mcap_records.check_header(content)
            return at == len(mcap_records.MAGIC)
        else:
            return opcode == mcap_records.HOLE
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return False
    return True


def _next_record(data: memoryview, at: int) -> int | None:
    """Offset of the next whole record behind damage at `at`, or of the closing records; None where nothing follows."""
    # The damaged length is not believed: it may lead to a later record, over whole ones.
    for candidate in _CANDIDATE.finditer(data, at + 1):
        if _whole_length(data, candidate.start()):
            return candidate.start()
    closing = len(data) - len(_CLOSING)
    return closing if closing > at and data[closing:] == _CLOSING else None


def _describe_end(data: memoryview, at: int) -> str:
    if at == len(data):
        return "it ends without its closing records"
    opcode = data[at]
    if opcode in (mcap_records.DATA_END, mcap_records.FOOTER):
        return "it ends inside its closing records"
    # Zeros are what a power cut leaves.
    if opcode == 0 or mcap_records.DATA_END < opcode < mcap_records.HOLE:
        return f"offset {at}: no record begins with {opcode:#04x}"
    return "it ends inside a record"
