"""What a daemon records: the same bits again, read back as poses and as tables, and the way back after a kill."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.cli import app
from rtseg.client import Publisher, Subscriber, ask_load, ask_status
from rtseg.config import ServeSettings
from rtseg.errors import RtsegError, ServeError, SettingError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.annotate import annotate
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Predictions, Quality
from rtseg.playback.export import export_recording
from rtseg.playback.replay import predictions_from_messages, replay
from rtseg.playback.verify import verify_recording
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recordings.open import read_recordings
from rtseg.recordings.recording import Recording
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.bundles import delayed_bundle
from tests.live import HELLO, REPO, TIMEOUT_S, Child, Raw, daemon, frame_of, random_walk


@pytest.fixture(scope="module", params=[0, 5], ids=["at once", "lookahead 5"])
def bundle(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return delayed_bundle(tiny_bundle, tmp_path_factory.mktemp("bundles") / "lookahead", request.param)


class Home:
    """Where a daemon lives that is killed and comes back."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        self.bundle, self.folder = bundle, folder
        self.children: list[Child] = []
        self.addresses = {"frames": f"ipc://{folder}/f", "predictions": f"ipc://{folder}/p"}

    def start(self, **settings: Any) -> Child:
        record = {"record": str(self.folder), "record_snapshot_s": 0.2}
        self.children.append(Child(self.bundle, **self.addresses, **record | settings))
        return self.children[-1].wait_ready()


@pytest.fixture
def home(tiny_bundle: Path, tmp_path: Path) -> Iterator[Home]:
    home = Home(tiny_bundle, tmp_path)
    yield home
    for child in home.children:
        child.process.kill()
        child.process.communicate()


def the_file(folder: Path) -> Path:
    (path,) = folder.glob("*.mcap")
    return path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_what_was_recorded_is_what_comes_out_again(bundle: Path, tmp_path: Path) -> None:
    walk, shuffled = random_walk(200, 50), Skeleton(("intruder", "resident"), ("tip", *reversed(MICE7.keypoints)))
    other = random_walk(120, 51, shuffled)
    classifier, fill = load(bundle), load_bundle(bundle).gaps.fill_frames
    seqs = [0, 1, 2, 2, 5, 4, 6, 6 + fill + 2, 6 + fill + 3]  # two missing, a duplicate, a late one, a restart
    with daemon(bundle, record=str(tmp_path), record_snapshot_s=0.05) as child:
        live = replay(walk, child.frames, speed=20, stream="cage 1")  # long enough for snapshots
        replay(other, child.frames, speed=None, stream="cage/2")
        replay(random_walk(30, 52), child.frames, speed=None, stream="cage 1")
        with Raw(child.frames) as raw:
            raw.ask(HELLO)
            for t, seq in enumerate(seqs):
                raw.send(frame_of(walk, t, seq=seq))
            raw.ask({"v": 1, "type": "bye", "stream": "cage1"})
        status = ask_status(child.frames)["recording"]
    assert (status["frames"], status["predictions"], status["state"], status["lost"]) == (359, 359, "recording", 0)
    path = the_file(tmp_path)
    found = verify_recording(path, bundle)
    assert (found.frames, found.predictions, found.differences, found.problem) == (359, 359, 0, "")
    assert (found.unanswered, found.uncompared) == (0, 0)
    assert found.snapshots > 0

    recordings = {recording.name: recording for recording in read_recordings(path)}
    assert list(recordings) == ["cage 1", "cage/2", "cage 1#2", "cage1"]
    gappy = recordings["cage1"]
    assert gappy.came.tolist() == sorted({*seqs} - {4})
    assert f"frames that never came are absent ({2 + fill + 1} frames)" in gappy.warnings
    np.testing.assert_array_equal(gappy.keypoints[5], walk.keypoints[4])
    assert recordings["cage 1"].keypoints.tobytes() == walk.keypoints.tobytes()
    assert recordings["cage/2"].skeleton == shuffled
    annotated, *_ = annotate(classifier, [path], tmp_path / "annotated")
    assert annotated.predictions.probs.tobytes() == live.predictions.probs.tobytes()

    (example,) = re.findall(r"```python\n(.*?)```", (REPO / "docs" / "recording.md").read_text(), re.DOTALL)
    heard: dict[str, Any] = {"path": path}
    exec(example, heard)
    assert heard["prediction"]["stream"] == "cage1"

    done = {each.name: each for each in export_recording(path, tmp_path / "exported")}
    assert list(done) == ["cage 1", "cage/2", "cage 1#2", "cage1"]
    assert done["cage 1"].frames_file.read_bytes() == annotated.frames_file.read_bytes()
    assert done["cage 1"].bouts_file.read_bytes() == annotated.bouts_file.read_bytes()
    assert done["cage/2"].predictions.probs.tobytes() == classifier.run(other).probs.tobytes()
    assert done["cage1"].predictions.probs.tobytes() == classifier.run(gappy).probs.tobytes()
    with pytest.raises(RtsegError, match="exists already"):
        list(export_recording(path, tmp_path / "exported"))


def test_what_cannot_be_compared_is_an_error(tiny_bundle: Path, tmp_path: Path) -> None:
    with daemon(tiny_bundle, record=str(tmp_path / "r")) as child:
        replay(random_walk(5, 54), child.frames, speed=None, stream="cage 1")
    path, bundle = the_file(tmp_path / "r"), ["--bundle", str(tiny_bundle)]
    data = path.read_bytes()  # without its hello nothing is known of a stream
    path.write_bytes(data.replace(b"\xa4type\xa5hello", b"\xa4type\xa5other"))
    done = run("replay", str(path), "--verify", *bundle)
    assert done.exit_code == 1, done.output
    assert "0 predictions and 0 snapshots of 0 frames compared: nothing could be compared" in done.output
    # A prediction that is still a map, and none of the wire's.
    path.write_bytes(data.replace(b"\xa7quality", b"\xa7quantum", 1))
    done = run("replay", str(path), "--verify", *bundle)
    assert done.exit_code == 1, done.output
    assert "1 messages are damaged. The first: predictions: MessageError" in done.output
    (exported,) = export_recording(path, tmp_path / "out")
    assert (len(exported.predictions), exported.damaged) == (4, 1)


def test_a_changed_bit_is_found(tiny_bundle: Path, tmp_path: Path) -> None:
    with daemon(tiny_bundle, record=str(tmp_path / "r")) as child:
        replay(random_walk(30, 54), child.frames, speed=None, stream="cage 1")
    path = the_file(tmp_path / "r")
    done = run("replay", str(path), "--verify", "--bundle", str(tiny_bundle))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("30 predictions and 0 snapshots of 30 frames compared: all the same, bit for bit (")
    assert "not compared: the flag 'late'" in done.output
    data = bytearray(path.read_bytes())
    with RecordingFile(path) as file:
        recorded = list(file.messages())
    published = [message.data for message in recorded if message.topic == "predictions"]
    probs = unpacked(path, published[17])["probs"]["task1"]
    at = data.index(published[17]) + published[17].index(probs)
    data[at] ^= 1  # the last bit of a probability
    path.write_bytes(data)
    done = run("replay", str(path), "--verify", "--bundle", str(tiny_bundle))
    assert done.exit_code == 1
    assert "1 differ. The first: stream 'cage 1', seq 17: probs of task1 was published as [" in done.output
    other = tmp_path / "other"
    save_bundle(replace(load_bundle(tiny_bundle), warmup_frames=3), other)
    with pytest.raises(RtsegError, match=r"was recorded with model .* name the folder of that very bundle"):
        verify_recording(path, other)
    done = run("recover", str(path))
    assert (done.exit_code, done.output) == (0, f"{path} is whole: {len(recorded)} messages, nothing to recover\n")
    path.write_bytes(data[:-1000])
    done = run("recover", str(path))
    assert done.exit_code == 0
    assert "it ends inside a record" in done.output
    done = run("export", str(path.with_suffix(".recovered.mcap")), "--out", str(tmp_path / "csv"))
    assert done.exit_code == 0
    assert (tmp_path / "csv" / "cage 1.predictions.csv").read_text().count("\n") > 25


def test_another_model_answers_from_the_middle_on(tiny_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    save_bundle(replace(load_bundle(tiny_bundle), warmup_frames=3), other)
    walk = random_walk(60, 55)
    with (
        daemon(tiny_bundle, record=str(tmp_path / "r")) as child,
        Publisher(child.frames, "cage 1", MICE7, 30.0) as publisher,
    ):
        for t in range(60):
            publisher.send(walk.keypoints[t], walk.confidence[t])
            if t == 39:
                assert publisher.flush()
                ask_load(child.frames, other)
        assert publisher.flush()
    found = verify_recording(the_file(tmp_path / "r"), tiny_bundle)
    assert (found.frames, found.predictions, found.differences, found.uncompared) == (40, 40, 0, 20)
    (done,) = export_recording(the_file(tmp_path / "r"), tmp_path)
    assert (len(done.predictions), done.other) == (40, 20)


def answers_of(subscriber: Subscriber, newest: int) -> list[PredictionMessage | StreamEvent]:
    """What is heard until the answer to a frame."""
    heard: list[PredictionMessage | StreamEvent] = []
    while not heard or getattr(heard[-1], "seq", -1) < newest:
        message = subscriber.receive(TIMEOUT_S)
        assert message is not None
        heard.append(message)
    return heard


def wait_subscribed(*subscribers: Subscriber) -> None:
    """ZeroMQ connects again by itself; what is published before that is not heard."""
    for subscriber in subscribers:
        message = subscriber.receive(TIMEOUT_S)
        while isinstance(message, StreamEvent) and message.type == "stale":  # a busy machine is late to kill it
            message = subscriber.receive(TIMEOUT_S)
        assert isinstance(message, StreamEvent)
        assert message.type == "subscribed"


def table(heard: list[PredictionMessage | StreamEvent], subscriber: Subscriber) -> Predictions:
    return predictions_from_messages(subscriber.served.heads, [m for m in heard if isinstance(m, PredictionMessage)])[0]


def assert_same(live: Predictions, offline: Predictions) -> None:
    shown = slice(len(live))
    np.testing.assert_array_equal(live.seq, offline.seq[shown])
    assert live.probs.tobytes() == offline.probs[shown].tobytes()
    np.testing.assert_array_equal(live.labels, offline.labels[shown])
    np.testing.assert_array_equal(live.quality & ~Quality.LATE, offline.quality[shown])


def kill(child: Child, *others: int) -> None:
    for other in others:
        os.kill(other, signal.SIGKILL)
    child.signal(signal.SIGKILL)
    child.rest()


def send_for_ever(publisher: Publisher, walk: Recording) -> None:
    while True:
        publisher.send(walk.keypoints[0])


def send(publisher: Publisher, walk: Recording, frames: range) -> None:
    for t in frames:
        publisher.send(walk.keypoints[t], walk.confidence[t], seq=t, t_source_ns=t)


def test_a_stream_goes_on_after_a_kill_as_if_nothing_had_happened(bundle: Path, home: Home) -> None:
    walk, second = random_walk(240, 56), random_walk(240, 57)
    home.bundle, owed = bundle, load_bundle(bundle).lookahead_frames
    with_writer = owed > 0
    offline, offline_second = load(bundle).run(walk), load(bundle).run(second)
    child = home.start()
    with (
        Subscriber(child.predictions, "one") as one,
        Subscriber(child.predictions, "two") as two,
        Publisher(child.frames, "one", MICE7, 30.0) as publisher,
        Publisher(child.frames, "two", MICE7, 30.0) as other,
    ):
        send(publisher, walk, range(100))
        send(other, second, range(100))
        heard, heard_two = answers_of(one, 99 - owed), answers_of(two, 99 - owed)
        kill(child, *([ask_status(child.frames)["recording"]["writer"]] if with_writer else []))
        send(publisher, walk, range(100, 130))  # nobody is there
        assert publisher.reconnects == 0
        child = home.start(resume=True)
        wait_subscribed(one, two)
        send(publisher, walk, range(130, 240))
        send(other, second, range(100, 240))
        assert publisher.flush(TIMEOUT_S)
        assert other.flush(TIMEOUT_S)
        heard += answers_of(one, 239 - owed)
        heard_two += answers_of(two, 239 - owed)
        assert (publisher.reconnects, other.reconnects) == (1, 1)
        opened = [m for m in heard if isinstance(m, StreamEvent) and m.type == "opened"]
        assert [m.fields["resumed"] for m in opened] == [None, 99]
        assert publisher.close()["frames"] == 240
    child.signal(signal.SIGTERM)
    assert child.rest()[2] == 0
    assert_same(table(heard, one), offline)
    assert_same(table(heard_two, two), offline_second)
    files = sorted(home.folder.glob("*.mcap"), key=lambda path: path.stat().st_mtime_ns)
    assert len(files) == 2
    for path in files:
        found = verify_recording(path, bundle)
        assert (found.differences, found.first, found.problem, found.uncompared) == (0, "", "", 0)
        assert found.frames >= 200


def test_a_client_that_was_killed_goes_on_where_it_was(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(60, 61)
    with daemon(tiny_bundle) as child, Subscriber(child.predictions, "cage") as subscriber:
        first = Publisher(child.frames, "cage", MICE7, 30.0)
        send(first, walk, range(40))
        assert first.flush()
        first._socket.close(linger=0)  # without a bye, as a killed process
        second = None
        while second is None:  # until the daemon has seen the connection's end
            with contextlib.suppress(ServeError):
                second = Publisher(child.frames, "cage", MICE7, 30.0, resume=True)
        assert (second.resumed, second._next_seq) == (39, 40)
        send(second, walk, range(40, 60))
        heard = answers_of(subscriber, 59)
        assert [m.type for m in heard if isinstance(m, StreamEvent)] == ["opened"]
        assert_same(table(heard, subscriber), load(tiny_bundle).run(walk))
        second.close()


def test_a_daemon_that_does_not_resume_gets_a_fresh_stream(home: Home) -> None:
    walk = random_walk(100, 62)
    child = home.start()
    with Publisher(child.frames, "cage", MICE7, 30.0, reconnect_s=TIMEOUT_S) as publisher:
        send(publisher, walk, range(40))
        assert publisher.flush()
        kill(child)
        child = home.start()
        with Subscriber(child.predictions, "cage") as subscriber:
            send(publisher, walk, range(40, 100))
            assert publisher.flush(TIMEOUT_S)
            heard = answers_of(subscriber, 99)
        assert publisher.reconnects == 1
        assert min(m.seq for m in heard if isinstance(m, PredictionMessage)) >= 40


def test_a_daemon_that_stays_away(tiny_bundle: Path) -> None:
    walk = random_walk(1, 63)
    with daemon(tiny_bundle) as child:
        patient = Publisher(child.frames, "a", MICE7, 30.0, reconnect_s=0.2)
        impatient = Publisher(child.frames, "b", MICE7, 30.0, reconnect_s=0.0)
        kill(child)
        for publisher, message in ((patient, r"has been away for 0\.2 s"), (impatient, "takes no frames")):
            with pytest.raises(ServeError, match=message):
                send_for_ever(publisher, walk)
            assert publisher.close() == {}


def test_a_full_disk_is_loud_and_serving_goes_on(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(600, 64)
    with daemon(tiny_bundle, record=str(tmp_path), record_snapshot_s=0.1) as child:
        with (
            Subscriber(child.predictions, "cage") as subscriber,
            Publisher(child.frames, "cage", MICE7, 30.0) as publisher,
        ):
            status = ask_status(child.frames)["recording"]
            limit = status["bytes"] + 20_000
            unlimited = resource.prlimit(status["writer"], resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            send(publisher, walk, range(300))
            heard: list[PredictionMessage | StreamEvent] = []
            wanted = {"failing"}
            while wanted or not any(getattr(m, "seq", -1) == 299 for m in heard):
                message = subscriber.receive(TIMEOUT_S)
                assert message is not None
                heard.append(message)
                if isinstance(message, StreamEvent) and message.type == "recorder":
                    wanted.discard(message.fields["state"])
            status = ask_status(child.frames)["recording"]
            assert (status["state"], status["reason"]) == ("failing", "File too large")
            assert status["waiting_bytes"] > 0
            resource.prlimit(status["writer"], resource.RLIMIT_FSIZE, unlimited)
            send(publisher, walk, range(300, 600))
            heard += answers_of(subscriber, 599)
            assert_same(table(heard, subscriber), load(tiny_bundle).run(walk))
            publisher.close()
        child.signal(signal.SIGTERM)
        out, err, code = child.rest()
    assert code == 0
    assert "failing: File too large" in err
    assert json.loads(out.removeprefix("stopped "))["recording"]["lost"] == 0
    found = verify_recording(the_file(tmp_path), tiny_bundle)
    assert (found.frames, found.differences, found.problem) == (600, 0, "")  # the ring held what the disk did not take


def test_a_folder_that_cannot_be_written_to(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out, err, code = Child(tiny_bundle, record=str(tmp_path / "file")).rest()
    assert (out, code) == ("", 3)
    assert "a recording cannot be begun here" in err
    with pytest.raises(SettingError, match="resume needs record"):
        ServeSettings(resume=True)


def test_chaos_in_short(tiny_bundle: Path, tmp_path: Path) -> None:
    """Five rounds of benchmarks/chaos.py, one for each victim."""
    result = tmp_path / "chaos.json"
    arguments = ["--bundle", str(tiny_bundle), "--rounds", "5", "--frames", "120", "--json", str(result)]
    done = subprocess.run(
        [sys.executable, "benchmarks/chaos.py", *arguments],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(result.read_text())
    assert (found["bit-identical streams"], found["unreadable files"], found["totals"]["missing"]) == (5, 0, 0)
    assert found["totals"]["kills"] == 5
    assert found["files that differ when verified"] == 0
