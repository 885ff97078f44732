"""The daemon's end and the writer's, as real processes on real files: nothing lost, nothing twice, never a wait."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import make_reader

from rtseg.config import ServeSettings
from rtseg.errors import RecordingError, RtsegError, ServeError
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recorder import Recorder
from rtseg.recorder.recover import recover_recording
from rtseg.recorder.ring import HEAD_BYTES, Ring
from rtseg.recorder.writer import finish_recording
from tests.live import REPO, TIMEOUT_S

SMALL = ServeSettings(record_buffer_mb=1, record_snapshot_s=1000.0)
PADDING = bytes(1000)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, {"model": "m"}, SMALL)
    yield recorder
    recorder.close()
    assert not list(Path("/dev/shm").glob(f"rtseg-{recorder.session}*"))


def put(recorder: Recorder, numbers: range, size: int = 0) -> None:
    for n in numbers:
        recorder.record_frame(msgpack.packb({"n": n, "padding": bytes(size)}), n)


def numbers_in(path: Path) -> list[int]:
    with RecordingFile(path) as file:
        read = [unpacked(path, told.data)["n"] for told in file.messages() if told.topic == "frames"]
        assert not file.problem
    return read


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=60), st.data())
def test_bytes_leave_a_ring_as_they_came(pieces: list[bytes], data: st.DataObject) -> None:
    name, out, written = f"rtseg-test-{os.getpid()}.ring", b"", 0
    ring = Ring.create(name, 512, Path("somewhere.mcap"), 77)
    try:
        other = Ring.open(ring.path)
        assert (other.file, other.beginning, other.size) == (Path("somewhere.mcap").absolute(), 77, 512)
        for piece in pieces:
            while ring.room < len(piece) + 1:
                stop = data.draw(st.integers(written + 1, other.update_head()))
                out += b"".join(other.between(written, stop))
                written = other.written = stop
            ring.append(b"<" + piece)
        out += b"".join(other.between(written, other.update_head()))
        other.close()
    finally:
        ring.close(remove=True)
    assert out == b"".join(b"<" + piece for piece in pieces)


def test_a_file_that_is_no_ring(tmp_path: Path) -> None:
    (tmp_path / "a.ring").write_bytes(bytes(HEAD_BYTES + 100))
    with pytest.raises(RtsegError, match="expected the ring of a recording"):
        Ring.open(tmp_path / "a.ring")


def test_a_recording_is_whole_once_it_is_closed(recorder: Recorder) -> None:
    recorder.record_opening({"v": 1, "type": "hello", "stream": "s"}, 5)
    put(recorder, range(100))
    recorder.record_prediction(msgpack.packb({"stream": "s"}), 7)
    recorder.record_trigger(msgpack.packb({"v": 1}), 8)
    recorder.record_snapshot({"stream": "s"}, b"state", 9)
    recorder.close()
    assert numbers_in(recorder.file) == list(range(100))
    with recorder.file.open("rb") as file:
        read = [(c.topic, s.name if s else "", m.log_time) for s, c, m in make_reader(file).iter_messages()]
    topics = [topic for topic, _, _ in read]
    assert topics == ["frames"] * 5 + ["events"] + ["frames"] * 2 + topics[8:]  # by log time: 0, 1, ..
    assert sorted(set(topics)) == ["events", "frames", "predictions", "snapshots", "triggers"]
    assert {name for _, name, _ in read} >= {"rtseg.Frame", "rtseg.Prediction", "rtseg.Snapshot"}
    with RecordingFile(recorder.file) as opened:
        assert opened.session["model"] == "m"
        offset = int(opened.session["clock_offset_ns"])
        assert next(opened.messages()).log_ns - offset == 5
    assert recover_recording(recorder.file).copy is None


def test_a_killed_writer_is_replaced_and_nothing_is_missing_or_twice(recorder: Recorder) -> None:
    for turn in range(3):
        put(recorder, range(1000 * turn, 1000 * turn + 1000), 50)
        victim = recorder.writer
        victim.kill()
        wait_until(lambda: recorder.writer is not victim)  # noqa: B023
    assert recorder.restarts == 3
    recorder.close()
    assert numbers_in(recorder.file) == list(range(3000))


def test_a_writer_that_hangs_costs_records_and_the_place_is_marked(recorder: Recorder) -> None:
    put(recorder, range(10))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    recorder.record_opening({"v": 1, "type": "hello", "stream": "s"}, time.monotonic_ns())
    recorder.writer.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    put(recorder, range(10, 3000), 1000)  # three times what fits
    assert time.monotonic() - started < 5  # it did not wait for the writer
    lost = recorder.lost
    assert 1900 < lost < 2100
    assert recorder.stream_due_for_snapshot(time.monotonic_ns()) is None  # the stream's snapshot is far away
    news = recorder.state_change(time.monotonic_ns() + 3 * 10**9)
    assert news is not None
    assert (news["state"], news["lost"]) == ("stalled", lost)
    recorder.writer.send_signal(signal.SIGCONT)
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    put(recorder, range(3000, 3010))
    assert recorder.stream_due_for_snapshot(time.monotonic_ns()) == "s"  # now it is needed
    news = recorder.state_change(time.monotonic_ns())
    assert news is not None
    assert news["state"] == "recording"
    assert recorder.state_change(time.monotonic_ns()) is None
    recorder.close()
    kept = numbers_in(recorder.file)
    assert kept == [*range(3000 - lost), *range(3000, 3010)]
    with RecordingFile(recorder.file) as file:
        said = [unpacked(file.path, told.data) for told in file.messages() if told.topic == "events"]
    assert said[1:] == [{"v": 1, "type": "lost", "records": lost}]


def test_a_full_disk_is_said_and_nothing_is_lost_where_it_is_freed_in_time(recorder: Recorder) -> None:
    put(recorder, range(10))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    pid, size = recorder.writer.pid, recorder.file.stat().st_size
    unlimited = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 5000, resource.RLIM_INFINITY))
    put(recorder, range(10, 210), 100)
    wait_until(lambda: recorder.status()["state"] == "failing")
    assert recorder.status()["reason"] == os.strerror(27)  # EFBIG; a full disk is ENOSPC
    assert recorder.file.stat().st_size == size + 5000
    resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
    wait_until(lambda: recorder.status()["state"] == "recording")
    recorder.close()
    assert (recorder.lost, numbers_in(recorder.file)) == (0, list(range(210)))


def test_a_disk_that_stays_full_leaves_the_rest_to_recover(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(tmp_path, {}, SMALL)
    size = recorder.file.stat().st_size
    resource.prlimit(recorder.writer.pid, resource.RLIMIT_FSIZE, (size + 5000, size + 5000))
    put(recorder, range(200), 100)
    recorder.close()
    assert "could not be finished: File too large; free some room, then: rtseg recover" in caplog.text
    before = recorder.file.read_bytes()
    done = recover_recording(recorder.file)
    assert done.copy is not None
    assert done.copy.name == f"{recorder.file.stem}.recovered.mcap"
    assert (done.from_memory > 10_000, done.lost) == (True, 0)
    assert numbers_in(done.copy) == list(range(200))
    assert recorder.file.read_bytes() == before
    with pytest.raises(RecordingError, match="exists already"):
        recover_recording(recorder.file)
    ring = next(Path("/dev/shm").glob(f"rtseg-{recorder.session}*"))
    assert finish_recording(ring) == recorder.file  # what `serve --resume` does
    assert numbers_in(recorder.file) == list(range(200))
    assert not ring.exists()


DAEMON = """
import sys
from pathlib import Path
from rtseg.config import ServeSettings
from rtseg.recorder.recorder import Recorder
recorder = Recorder(Path(sys.argv[1]), {}, ServeSettings(record_buffer_mb=1))
for n in range(int(sys.argv[2])):
    recorder.record_frame(b"\\x81\\xa1n\\xcd" + n.to_bytes(2, "big"), n)
print(recorder.writer.pid, flush=True)
sys.stdin.read()  # until it is killed
"""


@pytest.mark.parametrize("both", [False, True], ids=["the daemon", "the daemon and the writer"])
def test_what_a_killed_daemon_recorded_is_there(tmp_path: Path, both: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(tmp_path), "5000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPO,
        text=True,
    ) as daemon:
        assert daemon.stdout is not None
        writer = int(daemon.stdout.readline())
        if both:
            os.kill(writer, signal.SIGKILL)  # its daemon would start another one
        daemon.kill()
    (path,) = tmp_path.glob("*.mcap")
    if both:
        done = recover_recording(path)
        assert done.copy is not None
        path = done.copy
    else:
        wait_until(lambda: recover_is_needless(path))
    assert numbers_in(path) == list(range(5000))
    for ring in Path("/dev/shm").glob("rtseg-*.ring"):
        if str(tmp_path).encode() in ring.read_bytes()[:HEAD_BYTES]:
            ring.unlink()


def recover_is_needless(path: Path) -> bool:
    with RecordingFile(path) as file:
        list(file.messages())
        return not file.problem


def test_a_recording_that_is_being_written_is_left_alone(recorder: Recorder) -> None:
    wait_until(lambda: recorder.status()["bytes"] > 0 and recorder.state_change(time.monotonic_ns()) is None)
    put(recorder, range(1))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    with pytest.raises(RecordingError, match="is being written by another process: stop its daemon first"):
        recover_recording(recorder.file)


def test_holes_become_a_record_of_their_own(recorder: Recorder, tmp_path: Path) -> None:
    put(recorder, range(100), 200)
    recorder.stream_due_for_snapshot(2 * 10**9)  # a mark
    put(recorder, range(100, 200), 200)
    recorder.close()
    data, path = bytearray(recorder.file.read_bytes()), tmp_path / "damaged.mcap"
    data[5000 + 9000 : 5000 + 9300] = bytes(
        300
    )  # longer than a record, as after a power cut: blocks that never reached the disk
    path.write_bytes(data[:-700])
    done = recover_recording(path)
    assert done.copy is not None
    assert done.lost > 0
    kept = numbers_in(done.copy)
    hole = next(n for n in range(200) if n not in kept)
    assert kept == [*range(hole), *range(100, kept[-1] + 1)]
    assert 190 < kept[-1] < 199
    with RecordingFile(done.copy) as file:
        said = [unpacked(path, told.data) for told in file.messages() if told.topic == "events"]
    assert [event["type"] for event in said] == ["lost"]
    with done.copy.open("rb") as opened:
        assert len(list(make_reader(opened).iter_messages())) == len(kept)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "another mcap", "cut in its beginning"])
def test_what_is_no_recording(tmp_path: Path, kind: str) -> None:
    from rtseg.recorder import mcap_records

    path = tmp_path / "a.mcap"
    other = mcap_records.MAGIC + mcap_records.header("", "other") + mcap_records.end()
    content = {"empty": b"", "text": b"frame,a.nose.x\n", "another mcap": other, "cut in its beginning": other[:20]}
    if kind != "missing":
        path.write_bytes(content[kind])
    with pytest.raises(RecordingError, match=r"a\.mcap: (no such file|cannot be read|expected a recording of)"):
        recover_recording(path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match=r"--record .*: a recording cannot be begun here"):
        Recorder(tmp_path / "file", {}, SMALL)
