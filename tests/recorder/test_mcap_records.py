"""MCAP's records: what we write is read by the library of that format, and torn bytes are read as far as they go."""

from __future__ import annotations

import contextlib
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader

from rtseg.recorder import mcap_records

BEGINNING = (
    mcap_records.MAGIC
    + mcap_records.header("", "test")
    + mcap_records.schema(1, "Thing", "jsonschema", b"{}")
    + mcap_records.channel(1, 1, "things", "msgpack")
    + mcap_records.metadata("about", {"who": "we", "what": "ü"})
)
MESSAGES = b"".join(mcap_records.message(1, n, 1000 + n, bytes([n]) * n) for n in range(6))
WHOLE = BEGINNING + MESSAGES + mcap_records.end()


def test_the_formats_own_library_reads_it() -> None:
    reader = make_reader(io.BytesIO(WHOLE))
    read = [
        (schema.name if schema else "", channel.topic, message.sequence, message.log_time, message.data)
        for schema, channel, message in reader.iter_messages()
    ]
    assert read == [("Thing", "things", n, 1000 + n, bytes([n]) * n) for n in range(6)]
    assert [(m.name, m.metadata) for m in reader.iter_metadata()] == [("about", {"who": "we", "what": "ü"})]


def test_what_is_written_is_read() -> None:
    scan = mcap_records.Scan(WHOLE)
    found = {record.opcode: record.content for record in scan}
    assert (scan.problem, scan.complete, scan.end) == ("", True, len(BEGINNING + MESSAGES))
    assert mcap_records.parse_channel(found[mcap_records.CHANNEL]) == (1, "things", "msgpack")
    assert mcap_records.parse_metadata(found[mcap_records.METADATA]) == ("about", {"who": "we", "what": "ü"})
    last = mcap_records.parse_message(found[mcap_records.MESSAGE])
    assert (last.channel, last.sequence, last.log_ns, bytes(last.data)) == (1, 5, 1005, b"\5" * 5)


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_torn_file_is_read_up_to_its_last_whole_record(length: int) -> None:
    scan = mcap_records.Scan(WHOLE[:length])
    ends = [len(mcap_records.MAGIC)] + [record.start + 9 + len(record.content) for record in scan]
    assert scan.problem
    assert not scan.complete
    assert scan.end == (ends[-1] if length >= len(mcap_records.MAGIC) else 0)
    assert length < len(BEGINNING + MESSAGES) + 9 or scan.end == len(BEGINNING + MESSAGES)


@given(st.binary(max_size=300), st.integers(0, len(WHOLE)))
def test_rubbish_is_no_record_and_no_crash(rubbish: bytes, at: int) -> None:
    scan = mcap_records.Scan(WHOLE[:at] + rubbish + WHOLE[at:])
    for record in scan:
        for parse in (mcap_records.parse_message, mcap_records.parse_channel, mcap_records.parse_metadata):
            with contextlib.suppress(ValueError):
                parse(record.content)


def test_a_record_that_lies_about_its_length_or_kind_ends_the_reading() -> None:
    for wrong in (struct.pack("<BQ", mcap_records.MESSAGE, 2**63), bytes(20), struct.pack("<BQ", 0x10, 0)):
        scan = mcap_records.Scan(BEGINNING + wrong + MESSAGES)
        assert len(list(scan)) == 4
        assert scan.problem
        assert scan.end == len(BEGINNING)
