"""The daemon's end and the writer's, as real processes on real files: nothing lost, nothing twice, never a wait."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import time
from pathlib import Path

import msgpack
import pytest
from mcap.reader import make_reader

from rtseg.errors import ServeError
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recorder import Recorder
from rtseg.recorder.recover import recover_recording
from tests.live import wait_until
from tests.recorder.scenes import SMALL, numbers_in, put


def test_a_recording_is_whole_once_it_is_closed(recorder: Recorder) -> None:
    recorder.record_opening({"v": 1, "type": "hello", "stream": "s"}, 5)
    put(recorder, range(100))
    recorder.record_prediction(msgpack.packb({"stream": "s"}), 7)
    recorder.record_trigger(msgpack.packb({"v": 1}), 8)
    recorder.record_snapshot({"stream": "s"}, b"state", 9)
    assert recorder.status()["state"] == "recording"
    recorder.close()
    assert recorder.status()["state"] == "closed"
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
    change = recorder.state_change(time.monotonic_ns() + 3 * 10**9)
    assert change is not None
    assert (change["state"], change["lost"]) == ("stalled", lost)
    recorder.writer.send_signal(signal.SIGCONT)
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    put(recorder, range(3000, 3010))
    assert recorder.stream_due_for_snapshot(time.monotonic_ns()) == "s"  # now it is needed
    change = recorder.state_change(time.monotonic_ns())
    assert change is not None
    assert change["state"] == "recording"
    assert recorder.state_change(time.monotonic_ns()) is None
    recorder.close()
    numbers = numbers_in(recorder.file)
    assert numbers == [*range(3000 - lost), *range(3000, 3010)]
    with RecordingFile(recorder.file) as file:
        events = [unpacked(file.path, message.data) for message in file.messages() if message.topic == "events"]
    assert events[1:] == [{"v": 1, "type": "lost", "records": lost}]


def test_a_full_disk_is_reported_and_nothing_is_lost_where_it_is_freed_in_time(recorder: Recorder) -> None:
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


def test_ends_of_events_are_recorded_where_nothing_else_finds_room(recorder: Recorder) -> None:
    recorder.writer.send_signal(signal.SIGSTOP)
    n = 0
    while recorder.lost == 0:
        put(recorder, range(n, n + 1), 1000)
        n += 1
    assert not recorder.record_trigger(msgpack.packb({"what": "begins"}), n)
    assert recorder.record_trigger_end(msgpack.packb({"what": "ends"}), n)
    put(recorder, range(n, n + 5), 1000)
    many = 0
    while recorder.record_trigger_end(msgpack.packb({"what": many}), n):
        many += 1
    assert many > 100
    recorder.writer.send_signal(signal.SIGCONT)
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    put(recorder, range(n + 5, n + 6))
    recorder.close()
    with RecordingFile(recorder.file) as file:
        read = [(m.topic, unpacked(recorder.file, m.data)) for m in file.messages()]
    # What is missing is marked before what was recorded in spite of it.
    behind = [record.get("records", record.get("what")) for topic, record in read if topic in ("events", "triggers")]
    assert behind == [2, "ends", 5, *range(many), 1]
    assert (recorder.lost, numbers_in(recorder.file)) == (8, [*range(n - 1), n + 5])


def test_one_whose_memory_was_removed_is_not_closed_where_its_writer_was_killed(tmp_path: Path) -> None:
    """As systemd does with RemoveIPC when the daemon's user logs out."""
    recorder = Recorder(tmp_path / "recordings", {"model": "m"}, SMALL)
    put(recorder, range(10))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    shutil.move(recorder._ring.path, tmp_path / "ring")
    recorder.writer.kill()
    wait_until(lambda: recorder.restarts > 0)
    put(recorder, range(10, 20))
    recorder.close()
    assert recorder.status()["state"] != "closed"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServeError, match=r"--record .*: a recording cannot be begun here"):
        Recorder(tmp_path / "file", {}, SMALL)


def test_a_file_that_is_removed_while_it_is_written_is_there_again_with_everything(recorder: Recorder) -> None:
    put(recorder, range(10))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    shutil.rmtree(recorder.file.parent)
    wait_until(recorder.file.exists)
    put(recorder, range(10, 20))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    recorder.file.unlink()
    recorder.file.parent.rmdir()
    recorder.file.parent.write_text("in its folder's place")
    wait_until(lambda: recorder.status()["state"] == "failing")
    put(recorder, range(20, 30))  # what is open goes on taking them in
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    recorder.file.parent.unlink()
    wait_until(lambda: recorder.status()["state"] == "recording")
    recorder.close()
    assert (recorder.status()["state"], numbers_in(recorder.file)) == ("closed", list(range(30)))
    assert recover_recording(recorder.file).copy is None
    assert list(recorder.file.parent.iterdir()) == [recorder.file]


def test_a_file_that_was_moved_is_written_where_it_is(recorder: Recorder) -> None:
    put(recorder, range(10))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    moved = recorder.file.rename(recorder.file.with_name("moved.mcap"))
    put(recorder, range(10, 20))
    recorder.close()
    assert (recorder.file.exists(), numbers_in(moved)) == (False, list(range(20)))


def test_a_file_that_is_cut_short_is_written_again_as_far_as_memory_has_it(recorder: Recorder) -> None:
    put(recorder, range(10))
    wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    whole = recorder.file.read_bytes()
    os.truncate(recorder.file, 0)
    wait_until(lambda: recorder.file.read_bytes() == whole)
    assert recorder.status()["state"] == "recording"
    # More than memory has: the rest is lost, and nothing says anything else.
    for start in range(10, 3010, 600):
        put(recorder, range(start, start + 600), 1000)
        wait_until(lambda: recorder.status()["waiting_bytes"] == 0)
    os.truncate(recorder.file, 2000)
    wait_until(lambda: recorder.status()["state"] == "failing")
    assert "cut the file short" in recorder.status()["reason"]
    put(recorder, range(3010, 3020))
    recorder.close()
    assert recorder.status()["state"] == "failing"
    with RecordingFile(recorder.file) as file:
        numbers = [unpacked(file.path, m.data)["n"] for m in file.messages() if m.topic == "frames"]
        assert "damaged" in file.problem
    assert numbers[-10:] == list(range(3010, 3020))
    assert 500 < len(numbers) < 1000
