"""Where streams go on after a kill: what is read of a recording, and which frames are stepped and answered again."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.config import ServeSettings
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import load
from rtseg.recorder import layout, mcap_records
from rtseg.recorder.reading import RecordingFile
from rtseg.recorder.recorder import Recorder
from rtseg.serve.recording.resume import finish_recordings, read_resumable_streams
from rtseg.serve.recording.stream_recording import StreamRecording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Stream, Streams
from rtseg.wire.messages import Hello, parse_frame, unpack
from tests.live import HELLO as SOURCE
from tests.live import Raw, daemon, frame_of, random_walk

HELLO = Hello("cage1", MICE7, 30.0).to_message()
OPENED_NS = 1000


def put(recorder: Recorder, seqs: range) -> None:
    """Frames and their answers."""
    for seq in seqs:
        recorder.record_frame(msgpack.packb({"stream": "cage1", "seq": seq}), OPENED_NS + seq)
        recorder.record_prediction(answer(seq), OPENED_NS + seq)


def answer(seq: int) -> bytes:
    """As it was published."""
    packed: bytes = msgpack.packb({"stream": "cage1", "seq": seq, "probs": {}})
    return packed


def snapshot(recorder: Recorder, seq: int) -> None:
    """The state after a frame."""
    recorder.record_snapshot(HELLO, b"after %d" % seq, OPENED_NS + seq, OPENED_NS, OPENED_NS + seq + 1)


def test_answers_before_the_last_state_are_at_hand(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, ServeSettings())
    recorder.record_opening(HELLO, OPENED_NS)
    put(recorder, range(10))
    snapshot(recorder, 9)
    recorder.stream_due_for_snapshot(2_000_000_000)  # a mark: reading for another daemon's sake begins at the state
    put(recorder, range(10, 14))
    snapshot(recorder, 13)
    put(recorder, range(14, 16))
    recorder.close()
    with RecordingFile(recorder.file) as file:
        assert next(file.recent()).topic == "snapshots"
    past = read_resumable_streams(tmp_path, 0)["cage1"]
    assert (past.state, past.number, len(past.frames)) == (b"after 13", OPENED_NS + 14, 2)
    unheard = past.answers_after(OPENED_NS + 3)
    assert unheard == [(OPENED_NS + seq + 1, answer(seq)) for seq in range(3, 16)]
    assert past.answers_after(OPENED_NS + 16) == []


def test_a_second_kill_leaves_them_at_hand(tmp_path: Path) -> None:
    first = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    first.record_opening(HELLO, OPENED_NS)
    put(first, range(5))
    first.close()
    second = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    second.record_opening(HELLO, OPENED_NS + 5, resumed=True)
    second.close()  # killed before it had noted the state
    assert len(read_resumable_streams(tmp_path, 0)["cage1"].frames) == 5
    third = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    third.record_opening(HELLO, OPENED_NS + 5, resumed=True)
    snapshot(third, 4)
    third.close()
    past = read_resumable_streams(tmp_path, 0)["cage1"]
    assert (past.state, past.frames) == (b"after 4", [])
    assert [data for _, data in past.answers_after(OPENED_NS + 3)] == [answer(3), answer(4)]


def test_the_end_of_a_stream_that_a_front_has_not_heard_of(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, ServeSettings(), "-w0")
    recorder.record_opening(HELLO, OPENED_NS)
    put(recorder, range(5))
    recorder.record_event(msgpack.packb({"v": 1, "stream": "cage1", "type": "closed", "reason": "bye"}), OPENED_NS + 9)
    recorder.forget_stream("cage1")
    recorder.close()
    assert read_resumable_streams(tmp_path, 0) == {}
    past = read_resumable_streams(tmp_path, 0, with_closed=True)["cage1"]
    assert past.answers_after(OPENED_NS + 3) == [(OPENED_NS + seq + 1, answer(seq)) for seq in (3, 4)]


def test_a_file_that_was_only_begun_is_closed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, ServeSettings())
    recorder.close()
    begun = tmp_path / "rtseg-begun.mcap"
    begun.write_bytes(recorder.file.read_bytes()[: recorder._beginning])
    finish_recordings(tmp_path, 0)
    assert begun.read_bytes() == recorder.file.read_bytes()
    finish_recordings(tmp_path, 0)
    assert begun.read_bytes() == recorder.file.read_bytes()


@pytest.mark.parametrize(
    "step",
    ["recorder.recorder.replace_atomically", "recorder.recorder.Ring.create", "recorder.ring._allocate", "ring.rename"],
)
def test_a_daemon_that_is_killed_while_it_begins_a_file_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*args: Any, **more: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    token = f"{os.getpid():016x}"
    monkeypatch.setattr("rtseg.recorder.recorder.secrets.token_hex", lambda n: token)
    child = os.fork()
    if child == 0:
        place = "pathlib.Path.rename" if step == "ring.rename" else f"rtseg.{step}"
        with monkeypatch.context() as patched:
            patched.setattr(place, killed)
            Recorder(tmp_path, {}, ServeSettings())
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert read_resumable_streams(tmp_path, 0) == {}
    for path in tmp_path.glob("rtseg-*.mcap"):
        with RecordingFile(path) as file:
            assert (list(file.messages()), file.problem) == ([], "")
    assert len(list(tmp_path.glob("rtseg-*.mcap"))) == (step != "recorder.recorder.replace_atomically")
    assert not list(Path("/dev/shm").glob(f"*{token}*"))


class Recorded:
    """A daemon without its sockets and its loop: streams, and their recording."""

    def __init__(self, bundle: Path, folder: Path, **settings: Any) -> None:
        plain = {"record": str(folder), "resume": True, "record_buffer_mb": 1}
        self.streams = Streams(ServedModel(load(bundle), ""))
        self.recording = StreamRecording(self.streams.model, ServeSettings(**plain | settings))

    def open(self, **hello: Any) -> tuple[Stream, int | None, list[bytes]]:
        opened = Hello.from_message(SOURCE | hello)
        stream = self.streams.open_stream(b"me", opened, self.streams.match_hello(opened), 0)
        return stream, *self.recording.begin_stream(stream, time.monotonic_ns())

    def take(self, stream: Stream, data: bytes, *, answer: bool = True) -> bytes:
        """A frame is recorded, stepped, and its answer published or not; its probabilities."""
        self.recording.record_frame(data, time.monotonic_ns())
        (prediction,) = stream.session.step(stream.to_frame(parse_frame(unpack(data))))
        if answer:
            published = {"v": 1, "stream": stream.name, "model": stream.model.served.model}
            self.recording.record_prediction(msgpack.packb(published), time.monotonic_ns())
        return prediction.outputs.tobytes()


@pytest.fixture
def frames() -> list[bytes]:
    walk = random_walk(30, 60)
    return [msgpack.packb(frame_of(walk, t)) for t in range(30)]


@pytest.mark.parametrize("snapshot_at", [None, 5, 13])
def test_frames_that_were_not_answered_are_answered_after_the_restart(
    tiny_bundle: Path, tmp_path: Path, frames: list[bytes], snapshot_at: int | None
) -> None:
    """As where the daemon dies between taking a frame and publishing the answer."""
    offline = load(tiny_bundle).run(random_walk(30, 60)).probs
    before = Recorded(tiny_bundle, tmp_path)
    stream, last, waiting = before.open()
    assert (last, waiting) == (None, [])
    for t in range(20):
        if t == snapshot_at:
            before.recording.record_snapshot(stream, time.monotonic_ns())
        before.take(stream, frames[t], answer=t < 13)
    before.recording.close()  # and no word of the stream's end
    after = Recorded(tiny_bundle, tmp_path)
    stream, last, waiting = after.open()
    assert (last, waiting) == (19, frames[13:20])
    for t in range(13, 30):
        assert after.take(stream, frames[t]) == offline[t].tobytes()
    after.recording.close()


@pytest.mark.parametrize(
    "why",
    [
        *("another arena", "it says so", "it was away for too long", "another model", "it had ended"),
        *("another model, before its first snapshot", "records are missing", "its snapshot is damaged"),
    ],
)
def test_a_stream_begins_afresh(tiny_bundle: Path, tmp_path: Path, frames: list[bytes], why: str) -> None:
    before = Recorded(tiny_bundle, tmp_path)
    stream, _, _ = before.open()
    for t in range(20):
        before.take(stream, frames[t])
    if why == "its snapshot is damaged":
        whole = stream.session.snapshot()
        stream.session.snapshot = lambda: whole[: len(whole) // 2]  # type: ignore[method-assign]
    if "before its first snapshot" not in why:
        before.recording.record_snapshot(stream, time.monotonic_ns())
    bundle, hello, settings = tiny_bundle, {}, {}
    if why == "another arena":
        hello = {"arena": [0.0, 0.0, 100.0, 100.0]}
    elif why == "it says so":
        hello = {"resume": False}
    elif why == "it was away for too long":
        settings = {"idle_timeout_s": 1e-6}
    elif "another model" in why:
        bundle = tmp_path / "other"
        save_bundle(replace(load_bundle(tiny_bundle), warmup_frames=3), bundle)
    elif why == "it had ended":
        before.recording.record_event(msgpack.packb({"v": 1, "type": "closed", "stream": "cage1"}), time.monotonic_ns())
    elif why == "records are missing":
        before.recording.record_event(msgpack.packb({"v": 1, "type": "lost", "records": 1}), time.monotonic_ns())
    before.recording.close()
    after = Recorded(bundle, tmp_path, **settings)
    stream, last, waiting = after.open(**hello)
    assert (last, waiting, stream.session.last_seq) == (None, [], None)
    if why != "another arena":
        first = random_walk(30, 60)
        first = replace(first, keypoints=first.keypoints[:1], confidence=first.confidence[:1])
        assert after.take(stream, frames[0]) == load(bundle).run(first).probs.tobytes()
    after.recording.close()


@pytest.mark.parametrize("step_s", [-1000.0, 1000.0])
@pytest.mark.parametrize("when", ["before the kill", "after the kill"])
def test_a_clock_that_was_set_makes_no_stream_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: float, when: str
) -> None:
    wall_ns = time.time_ns
    if when == "before the kill":
        monkeypatch.setattr(time, "time_ns", lambda: wall_ns() - int(step_s * 1e9))
    recorder = Recorder(tmp_path, {}, ServeSettings())
    now_ns = time.monotonic_ns()
    recorder.record_opening(HELLO, now_ns)
    recorder.record_frame(msgpack.packb({"stream": "cage1", "seq": 0}), now_ns)
    recorder.close()
    clock = wall_ns if when == "before the kill" else lambda: wall_ns() + int(step_s * 1e9)
    monkeypatch.setattr(time, "time_ns", clock)
    assert list(read_resumable_streams(tmp_path, 30 * 10**9)) == ["cage1"]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns + 31 * 10**9)
    assert not read_resumable_streams(tmp_path, 30 * 10**9)


def test_after_another_start_of_the_machine_the_system_clock_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtseg.recorder.recorder.boot_id", lambda: "another start")
    recorder = Recorder(tmp_path, {}, ServeSettings())
    recorder.record_opening(HELLO, time.monotonic_ns())
    recorder.close()
    assert list(read_resumable_streams(tmp_path, 30 * 10**9)) == ["cage1"]
    wall_ns = time.time_ns() + 31 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: wall_ns)
    assert not read_resumable_streams(tmp_path, 30 * 10**9)


def spoil_folder(folder: Path) -> None:
    """Everything that may lie there under a recording's name and is none, or is one that lies."""
    (folder / "rtseg-link.mcap").symlink_to("/nowhere")
    (folder / "rtseg-loop.mcap").symlink_to("rtseg-loop.mcap")
    (folder / "rtseg-device.mcap").symlink_to("/dev/zero")
    (folder / "rtseg-folder.mcap").mkdir()
    os.mkfifo(folder / "rtseg-pipe.mcap")
    (folder / "rtseg-empty.mcap").touch()
    (folder / "rtseg-zeros.mcap").write_bytes(bytes(10_000))
    for name, session in {
        "no-fields": {"a": "b"},
        "no-number": {"session": "b", "clock_offset_ns": "x"},
        "foreign-ring": {"session": "b", "clock_offset_ns": "0", "ring": "rtseg-zeros.mcap"},
    }.items():
        message = mcap_records.message(4, 0, time.time_ns(), msgpack.packb({"stream": "x"}))
        (folder / f"rtseg-{name}.mcap").write_bytes(layout.beginning("rtseg", session) + message)


def test_a_daemon_starts_whatever_lies_in_its_folder(tiny_bundle: Path, tmp_path: Path, frames: list[bytes]) -> None:
    spoil_folder(tmp_path)
    before = Recorded(tiny_bundle, tmp_path)
    stream, _, _ = before.open()
    before.take(stream, frames[0])
    before.recording.close()
    with daemon(tiny_bundle, record=str(tmp_path), resume=True) as child, Raw(child.frames) as raw:
        assert raw.ask(SOURCE)["resumed"] == 0
    _, err, _ = child.rest()
    for path in tmp_path.glob("rtseg-*.mcap"):
        if re.fullmatch(r"rtseg-[a-z-]+\.mcap", path.name):
            assert path.name in err, f"nothing was said of {path.name}"


@pytest.mark.parametrize(
    "message",
    [
        (4, {"stream": "cage1"}),
        (4, {"stream": "cage1", "hello": HELLO, "state": 5}),
        (4, {"stream": "cage1", "hello": HELLO, "state": b"", "opened_ns": "x"}),
        (4, {"stream": "cage1", "hello": HELLO | {"stream": "other"}, "state": b""}),
        (1, {"seq": 1}),
        (1, {"stream": ["cage1"]}),
        (2, {}),
        (3, {"stream": "cage1"}),
        (3, {"type": "hello"}),
    ],
)
def test_a_damaged_message_costs_a_state_and_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, message: tuple[int, dict[str, Any]]
) -> None:
    recorder = Recorder(tmp_path, {}, ServeSettings())
    now_ns = time.monotonic_ns()
    recorder.record_opening(HELLO, now_ns)
    recorder._append(message[0], msgpack.packb(message[1]), now_ns)
    recorder.record_opening({**HELLO, "stream": "later"}, now_ns)
    recorder.close()
    assert list(read_resumable_streams(tmp_path, 30 * 10**9)) == ["later"]
    assert "a recording is damaged; its streams are resumed only where a snapshot follows" in caplog.text
