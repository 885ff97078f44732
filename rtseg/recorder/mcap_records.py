"""MCAP's records, bytes in and bytes out (https://mcap.dev/spec): what a recording is made of.

Recordings are written without chunks: a message is in the file as the daemon packed it, so whatever has reached the
file can be read, wherever it was cut off. Knows the container only, not what the messages hold.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, METADATA, DATA_END = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x0F
HOLE = 0x80
"""A record of ours that other readers skip: bytes stood here that were no record."""
PREFIX = struct.Struct("<BQ")
"""What every record begins with: its opcode and the length of its content."""
MESSAGE_HEAD = struct.Struct("<BQHIQQ")
"""A message record up to its data: opcode, length, channel, sequence, log time and publish time in ns."""
IN_MESSAGE = MESSAGE_HEAD.size - PREFIX.size
Buffer = bytes | bytearray | memoryview | mmap.mmap


class Record(NamedTuple):
    """One record. start: offset of its first byte. content: without opcode and length."""

    opcode: int
    start: int
    content: memoryview


class Message(NamedTuple):
    """A message record's fields; log_ns in nanoseconds since 1970."""

    channel: int
    sequence: int
    log_ns: int
    data: memoryview


def record(opcode: int, content: bytes) -> bytes:
    """A record as it is in a file."""
    return PREFIX.pack(opcode, len(content)) + content


def message(channel: int, sequence: int, log_ns: int, data: bytes) -> bytes:
    """A message record; it was published when it was logged."""
    return MESSAGE_HEAD.pack(MESSAGE, IN_MESSAGE + len(data), channel, sequence, log_ns, log_ns) + data


def header(profile: str, library: str) -> bytes:
    """What follows the magic at a file's beginning."""
    return record(HEADER, _text(profile) + _text(library))


def schema(number: int, name: str, encoding: str, data: bytes) -> bytes:
    """A schema record; numbers begin at 1."""
    return record(SCHEMA, struct.pack("<H", number) + _text(name) + _text(encoding) + _sized(data))


def channel(number: int, schema_number: int, topic: str, encoding: str) -> bytes:
    """A channel record without metadata."""
    return record(CHANNEL, struct.pack("<HH", number, schema_number) + _text(topic) + _text(encoding) + _sized(b""))


def metadata(name: str, values: Mapping[str, str]) -> bytes:
    """A metadata record."""
    return record(METADATA, _text(name) + _sized(b"".join(_text(k) + _text(v) for k, v in values.items())))


def end() -> bytes:
    """What closes a file: no checksum, no summary (`mcap` readers then read from the beginning), footer, magic."""
    return record(DATA_END, bytes(4)) + record(FOOTER, bytes(20)) + MAGIC


def parse_message(content: memoryview) -> Message:
    """The fields of a message record. Raises ValueError where it is too short."""
    if len(content) < IN_MESSAGE:
        raise ValueError(f"a message of {len(content)} bytes")
    number, sequence, log_ns, _ = struct.unpack_from("<HIQQ", content)
    return Message(number, sequence, log_ns, content[IN_MESSAGE:])


def parse_channel(content: memoryview) -> tuple[int, str, str]:
    """(number, topic, message encoding) of a channel record. Raises ValueError."""
    number, _ = _unpack("<HH", content, 0)
    topic, at = _read_text(content, 4)
    encoding, at = _read_text(content, at)
    _check_last(content, at)
    return number, topic, encoding


def check_header(content: memoryview) -> None:
    """Raise ValueError unless this is the content of a header record."""
    _, at = _read_text(content, 0)
    _, at = _read_text(content, at)
    if at != len(content):
        raise ValueError("a header record whose lengths contradict one another")


def check_schema(content: memoryview) -> None:
    """Raise ValueError unless this is the content of a schema record."""
    _unpack("<H", content, 0)
    _, at = _read_text(content, 2)
    _, at = _read_text(content, at)
    _check_last(content, at)


def parse_metadata(content: memoryview) -> tuple[str, dict[str, str]]:
    """(name, values) of a metadata record. Raises ValueError."""
    name, at = _read_text(content, 0)
    (length,) = _unpack("<I", content, at)
    at, stop, values = at + 4, at + 4 + length, {}
    while at < stop:
        key, at = _read_text(content, at)
        values[key], at = _read_text(content, at)
    if at != len(content):
        raise ValueError("a metadata record whose lengths contradict one another")
    return name, values


class Scan:
    """The records of a file, one after another, as far as they can be read.

    data: the file's bytes. at: offset of a record to begin with; None = the first. After iterating, `end` is the offset
    after the last whole record of the data section, `problem` says why nothing follows ("" where the file is whole)
    and `complete` whether the closing records were there.
    """

    def __init__(self, data: Buffer, at: int | None = None) -> None:
        self._data = memoryview(data)
        self.end = len(MAGIC) if at is None else at
        self.problem, self.complete = "", False
        if at is None and bytes(self._data[: len(MAGIC)]) != MAGIC:
            self.end, self.problem = 0, "it does not begin as an MCAP file does"

    def __iter__(self) -> Iterator[Record]:
        data, size = self._data, len(self._data)
        while not self.problem:
            at = self.end
            if size - at < PREFIX.size:
                self.problem = "it ends without its closing records" if size == at else "it ends inside a record"
                return
            opcode, length = PREFIX.unpack_from(data, at)
            # Zeros are what a power cut leaves; opcodes from 0x80 on are anyone's own, and readers skip them.
            if opcode == 0 or DATA_END < opcode < HOLE:
                self.problem = f"offset {at}: no record begins with {opcode:#04x}"
                return
            # Also a damaged length, which may be any number: nothing beyond the file is ever read.
            if length > size - at - PREFIX.size:
                self.problem = "it ends inside a record"
                return
            if opcode in (DATA_END, FOOTER):
                self.complete = bytes(data[-len(MAGIC) :]) == MAGIC
                self.problem = "" if self.complete else "it ends inside its closing records"
                return
            self.end = at + PREFIX.size + length
            yield Record(opcode, at, data[at + PREFIX.size : self.end])

    def release(self) -> None:
        """Release the view of the bytes, so that a mapped file can be closed."""
        self._data.release()


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _text(text: str) -> bytes:
    return _sized(text.encode())


def _check_last(content: memoryview, at: int) -> None:
    """Raise ValueError unless a record ends with the sized bytes that begin at `at`: a damaged length reaches over the
    records behind it.
    """
    (length,) = _unpack("<I", content, at)
    if at + 4 + length != len(content):
        raise ValueError("a record whose lengths contradict one another")


def _unpack(form: str, content: memoryview, at: int) -> tuple[int, ...]:
    try:
        return struct.unpack_from(form, content, at)
    except struct.error:
        raise ValueError("a record that is too short for its kind") from None


def _read_text(content: memoryview, at: int) -> tuple[str, int]:
    (length,) = _unpack("<I", content, at)
    stop = at + 4 + length
    if stop > len(content):
        raise ValueError("a record that is too short for its kind")
    return bytes(content[at + 4 : stop]).decode(), stop
