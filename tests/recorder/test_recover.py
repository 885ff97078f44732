"""Repairing recordings that killed processes, a full disk or a power cut left."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mcap.reader import make_reader

from rtseg.errors import RecordingError
from rtseg.recorder import mcap_records
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recorder import Recorder
from rtseg.recorder.recover import recover_recording
from rtseg.recorder.ring import HEAD_BYTES
from rtseg.recorder.writer import finish_recording
from tests.live import REPO, wait_until
from tests.recorder.scenes import SMALL, numbers_in, put


def test_a_disk_that_stays_full_leaves_the_rest_to_recover(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(tmp_path, {}, SMALL)
    size = recorder.file.stat().st_size
    resource.prlimit(recorder.writer.pid, resource.RLIMIT_FSIZE, (size + 5000, size + 5000))
    put(recorder, range(200), 100)
    recorder.close()
    assert recorder.status()["state"] == "failing"
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
        with contextlib.suppress(FileNotFoundError):  # another test's, which has just ended
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


def test_bytes_that_are_no_record_become_one_record(recorder: Recorder, tmp_path: Path) -> None:
    put(recorder, range(100), 200)
    recorder.stream_due_for_snapshot(2 * 10**9)  # a mark
    put(recorder, range(100, 200), 200)
    recorder.close()
    data, path = bytearray(recorder.file.read_bytes()), tmp_path / "damaged.mcap"
    # Longer than a record, as after a power cut: blocks that never reached the disk.
    data[5000 + 9000 : 5000 + 9300] = bytes(300)
    path.write_bytes(data[:-700])
    done = recover_recording(path)
    assert done.copy is not None
    assert done.lost > 0
    numbers = numbers_in(done.copy)
    hole = next(n for n in range(200) if n not in numbers)
    # Two records at most were hit; the one behind them is found without waiting for a mark.
    assert numbers == [*range(hole), *range(numbers[hole], numbers[-1] + 1)]
    assert numbers[hole] <= hole + 2
    assert 190 < numbers[-1] < 199
    with RecordingFile(done.copy) as file:
        events = [unpacked(path, message.data) for message in file.messages() if message.topic == "events"]
    assert [event["type"] for event in events] == ["lost"]
    with done.copy.open("rb") as opened:
        assert len(list(make_reader(opened).iter_messages())) == len(numbers)


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "another mcap", "cut in its beginning"])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mcap"
    other = mcap_records.MAGIC + mcap_records.header("", "other") + mcap_records.end()
    content = {"empty": b"", "text": b"frame,a.nose.x\n", "another mcap": other, "cut in its beginning": other[:20]}
    if kind != "missing":
        path.write_bytes(content[kind])
    with pytest.raises(RecordingError, match=r"a\.mcap: (no such file|is empty|expected a recording of)"):
        recover_recording(path)
