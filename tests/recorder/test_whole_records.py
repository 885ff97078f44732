"""After damage a recording is read on at the next whole record, and its repaired copy holds the same."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from mcap.reader import make_reader

from rtseg.errors import RecordingError
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recorder import Recorder
from rtseg.recorder.recover import recover_recording
from rtseg.recorder.whole_records import WholeRecords
from tests.recorder.scenes import SMALL, put

N = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole recording of N frames of one size, with marks between them."""
    recorder = Recorder(tmp_path_factory.mktemp("recorded"), {"model": "m"}, SMALL)
    for n in range(0, N, 10):
        put(recorder, range(n, n + 10), 200)
        recorder.stream_due_for_snapshot(n * 2 * 10**9 + 2 * 10**9)
    recorder.close()
    return recorder.file.read_bytes()


def offsets(data: bytes) -> list[int]:
    return [record.start for record in WholeRecords(data) if record.opcode == mcap_records.MESSAGE]


def numbers(path: Path) -> list[int]:
    """Of the frames that are read."""
    with RecordingFile(path) as file:
        return [unpacked(path, message.data)["n"] for message in file.messages() if message.topic == "frames"]


def copied(path: Path) -> list[int]:
    """Of the frames in its repaired copy, which another library must be able to read."""
    copy = recover_recording(path, path.with_name("copy.mcap")).copy or path  # bytes of a frame may be any
    with RecordingFile(copy) as file:
        list(file.messages())
        assert not file.problem
    with copy.open("rb") as opened:
        messages = make_reader(opened).iter_messages(log_time_order=False)
        read = [unpacked(copy, message.data)["n"] for _, _, message in messages]
    (path.with_name("copy.mcap")).unlink(missing_ok=True)
    return read


@pytest.mark.parametrize("bit", [3, 8, 9, 12, 20, 40, 62, 63])
def test_a_bit_of_a_length_costs_one_message(data: bytes, tmp_path: Path, bit: int) -> None:
    damaged, path = bytearray(data), tmp_path / "a.mcap"
    at = offsets(data)[20]
    damaged[at + 1 + bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    assert numbers(path) == [n for n in range(N) if n != 20]
    assert copied(path) == numbers(path)


def test_a_length_that_leads_to_another_record_hides_none(data: bytes, tmp_path: Path) -> None:
    damaged, path = bytearray(data), tmp_path / "a.mcap"
    starts = offsets(data)
    struct.pack_into("<Q", damaged, starts[20] + 1, starts[24] - starts[20] - 9)
    path.write_bytes(damaged)
    assert numbers(path) == [n for n in range(N) if n != 20]
    assert copied(path) == numbers(path)


@pytest.mark.parametrize("n_bytes", [1, 2, 8, 9, 30])
@pytest.mark.parametrize("fill", [b"\0", b"\x05", b"\x0c", b"\xff"])
def test_bytes_between_two_records_cost_neither(data: bytes, tmp_path: Path, fill: bytes, n_bytes: int) -> None:
    path, at = tmp_path / "a.mcap", offsets(data)[20]
    path.write_bytes(data[:at] + fill * n_bytes + data[at:])
    assert numbers(path) == list(range(N))
    assert copied(path) == list(range(N))
    # Few bytes are taken out again, and with them the file is what it was.
    with RecordingFile(path) as file:
        list(file.messages())
        assert f"in all {n_bytes} bytes" in file.problem


@pytest.mark.parametrize("opcode", [mcap_records.SCHEMA, mcap_records.CHANNEL, mcap_records.METADATA])
def test_no_other_record_hides_messages_by_its_length(data: bytes, tmp_path: Path, opcode: int) -> None:
    damaged, path = bytearray(data), tmp_path / "a.mcap"
    start = next(record.start for record in WholeRecords(data) if record.opcode == opcode)
    struct.pack_into("<Q", damaged, start + 1, offsets(data)[24] - start - 9)
    path.write_bytes(damaged)
    assert numbers(path) == list(range(N))


@pytest.mark.parametrize("seed", range(40))
def test_what_was_not_touched_is_read(data: bytes, tmp_path: Path, seed: int) -> None:
    """`benchmarks/fuzz_recordings.py` in small."""
    draw, damaged, path = random.Random(seed), bytearray(data), tmp_path / "a.mcap"
    starts = [*offsets(data), len(data)]
    touched = set()
    for _ in range(draw.choice([1, 3])):
        length = draw.choice([1, 8, 300])
        at = draw.randrange(9, len(data) - length)
        damaged[at : at + length] = draw.choice([bytes(length), draw.randbytes(length)])
        touched |= {n for n in range(N) if starts[n] < at + length and at < starts[n + 1]}
    path.write_bytes(damaged)
    assert set(numbers(path)) >= set(range(N)) - touched
    assert copied(path) == numbers(path)
    with RecordingFile(path) as file:
        list(file.recent(2.0))


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").touch()
    with pytest.raises(RecordingError, match="is empty: its daemon ended before anything was written"):
        RecordingFile(tmp_path / "a.mcap")


def test_damage_is_said(data: bytes, tmp_path: Path) -> None:
    damaged, path = bytearray(data), tmp_path / "a.mcap"
    at = offsets(data)[20]
    damaged[at] = 0
    path.write_bytes(damaged)
    with RecordingFile(path) as file:
        events = [unpacked(path, message.data) for message in file.messages() if message.topic == "events"]
        assert [event["type"] for event in events] == ["lost"]
        assert f"offset {at}: a damaged record" in file.problem
    done = recover_recording(path)
    assert done.lost == offsets(data)[21] - at


@pytest.mark.parametrize("what", ["magic", "header", "a schema", "a channel", "the session"])
def test_a_damaged_beginning_is_written_anew(data: bytes, tmp_path: Path, what: str) -> None:
    damaged, path = bytearray(data), tmp_path / "a.mcap"
    places = {"magic": 0, "header": 14, "a schema": 200, "the session": len(layout.description()) + 30}
    at = places.get(what, data.index(b"predictions", 30) + 4)
    damaged[at : at + 4] = b"\x00\xff\x00\xff"
    path.write_bytes(damaged)
    assert numbers(path) == list(range(N))
    assert copied(path) == list(range(N))
    with RecordingFile(path) as file:
        if what == "the session":
            with pytest.raises(RecordingError, match=r"its beginning is damaged: nothing says the session's 'model'"):
                file.described("model")
        else:
            assert file.described("model") == "m"


def damage_start(text: bytearray, at: int) -> None:
    text[at] ^= 1


def damage_name(text: bytearray, at: int) -> None:
    text[at - 40] ^= 1


@pytest.mark.parametrize("change", [damage_start, damage_name])
def test_a_damaged_mark_is_passed_over(data: bytes, tmp_path: Path, change: Callable[[bytearray, int], None]) -> None:
    path, damaged = tmp_path / "a.mcap", bytearray(data)
    path.write_bytes(data)
    with RecordingFile(path) as file:
        (last, _), (_, before) = list(file._marks())[:2]
    stop = last + 9 + struct.unpack_from("<Q", data, last + 1)[0]
    change(damaged, stop - 1)
    path.write_bytes(damaged)
    with RecordingFile(path) as file:
        assert file._last_start(0.0) == before


def test_the_last_message_is_found_where_a_mark_follows_it(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, SMALL)
    recorder.record_opening({"stream": "s"}, 0)
    put(recorder, range(3))
    recorder.stream_due_for_snapshot(2 * 10**9)  # a mark, and nothing after it
    recorder.close()
    with RecordingFile(recorder.file) as file:
        assert file.last_log_ns() == max(message.log_ns for message in file.messages())
