"""What compiled code appends to a ring are the bytes that `Ring.append` would, wherever the ring begins again."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtseg.compiled import libzmq
from rtseg.compiled.array_tables import address_of
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.compiled_append import COUNT, HEAD, append_message, ring_table
from rtseg.recorder.recorder import Recorder
from rtseg.recorder.ring import Ring
from tests.recorder.scenes import numbers_in, put

EPOCH_NS = 1_700_000_000_000_000_000
FUNCTIONS = libzmq.addresses()
pytestmark = pytest.mark.skipif(FUNCTIONS is None, reason="compiled code can't call libzmq here")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(0, 2**40)), max_size=12), st.integers(0, 500))
def test_bytes_are_those_of_a_plain_append(
    tmp_path_factory: pytest.TempPathFactory, messages: list[tuple[bytes, int]], start: int
) -> None:
    folder = tmp_path_factory.mktemp("ring")
    name = f"rtseg-test-{folder.name}"
    ring, plain = (Ring.create(f"{name}-{n}.ring", 512, folder / "file", 0) for n in range(2))
    try:
        for each in (ring, plain):
            each.append(bytes(start))
        assert FUNCTIONS is not None
        cursor, table = ring_table(FUNCTIONS, ring, 2, EPOCH_NS)
        for count, (data, time_ns) in enumerate(messages):
            append_message(table.rows, address_of(data) if data else 0, len(data), time_ns)
            plain.append(mcap_records.message(2, count, EPOCH_NS + time_ns, data))
            assert ring.update_head() == plain.head == cursor[HEAD]
            assert [bytes(part) for part in ring.between(max(0, ring.head - 512), ring.head)] == [
                bytes(part) for part in plain.between(max(0, plain.head - 512), plain.head)
            ]
        assert cursor[COUNT] == len(messages)
    finally:
        for each in (ring, plain):
            each.path.unlink()


def test_a_lent_ring_goes_on_where_it_was(recorder: Recorder) -> None:
    told = [msgpack.packb({"stream": "s", "n": n}) for n in range(4)]
    put(recorder, range(5))
    recorder.record_prediction(told[0], 1)
    rows = recorder.lend_ring(2, 40)
    assert rows is not None
    for n in (1, 2):
        append_message(rows, address_of(told[n]), len(told[n]), n)
    recorder.take_ring_back()
    recorder.record_prediction(told[3], 4)
    put(recorder, range(5, 10))
    recorder.close()
    assert numbers_in(recorder.file) == list(range(10))
    messages = [
        mcap_records.parse_message(record.content)
        for record in mcap_records.Scan(recorder.file.read_bytes())
        if record.opcode == mcap_records.MESSAGE
    ]
    found = [(each.sequence, bytes(each.data)) for each in messages if each.channel == layout.PREDICTIONS]
    assert found == list(enumerate(told))


def test_a_ring_without_room_is_not_lent(recorder: Recorder) -> None:
    assert recorder.lend_ring(16, (1 << 20) - 66_500) is not None
    recorder.take_ring_back()
    assert recorder.lend_ring(16, (1 << 20) - 66_000) is None  # heads and reserve have no room besides
    put(recorder, range(10_000), 1000)
    assert recorder.lost
    assert recorder.lend_ring(1, 1) is None  # what follows a loss waits for its marker
