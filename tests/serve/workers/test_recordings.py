"""What workers record: together everything that was published, once, also where they are killed; and the way back."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import msgpack
import pytest
import zmq
from typer.testing import CliRunner

from rtseg.cli import app
from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.errors import ServeError
from rtseg.frames.frame import own_frame
from rtseg.frames.skeleton import MICE7
from rtseg.inference.annotate import annotate
from rtseg.inference.classifier import Classifier, load
from rtseg.playback.replay import replay
from rtseg.playback.verify import verify_recording
from rtseg.recorder.reading import RecordingFile, unpacked
from rtseg.recorder.recover import recover_recording
from rtseg.recordings.recording import Recording
from rtseg.serve.streams.served_model import ServedModel
from rtseg.serve.streams.stream import Streams
from rtseg.serve.workers.front_link import WorkerOutlet
from rtseg.serve.workers.worker_protocol import FRONT_ID, worker_of
from rtseg.wire.messages import Hello, PredictionMessage, StreamEvent, parse_published
from tests.live import TIMEOUT_S, Child, children_of, daemon, random_walk, wait_until

NAMES = ["cage2", "cage3", "cage4", "cage5"]
assert {worker_of(name, 2) for name in NAMES} == {0, 1}
Key = tuple[str, int]


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return load(tiny_bundle)


def files_of(folder: Path) -> list[Path]:
    # A worker that is killed as soon as it has begun leaves an empty file.
    written = [path for path in folder.glob("*.mcap") if path.stat().st_size]
    return sorted(written, key=lambda path: path.stat().st_mtime_ns)


def recorded(folder: Path) -> tuple[Counter[Key], dict[Key, bytes]]:
    """How often each prediction stands in the folder's files, and the bits of its probabilities."""
    counts: Counter[Key] = Counter()
    bits: dict[Key, bytes] = {}
    for answer in recorded_answers(folder):
        counts[answer.stream, answer.seq] += 1
        bits[answer.stream, answer.seq] = b"".join(p.tobytes() for p in answer.probs.values())
    return counts, bits


def recorded_answers(folder: Path) -> Iterator[PredictionMessage]:
    """The predictions in the folder's files, oldest file first."""
    for path in files_of(folder):
        with RecordingFile(path) as file:
            for told in file.messages():
                if told.topic == "predictions":
                    answer = parse_published(unpacked(path, told.data))
                    assert isinstance(answer, PredictionMessage)
                    yield answer


def check_files(folder: Path, bundle: Path, *, unanswered: int = 0) -> None:
    """All of them are whole, and come out again bit for bit; frames that nobody answered stand at an end only."""
    for path in files_of(folder):
        found = verify_recording(path, bundle)
        assert (found.differences, found.uncompared, found.problem) == (0, 0, ""), (path, found)
        assert found.unanswered <= unanswered, path
        assert recover_recording(path).copy is None


def pids_after(child: Child, before: list[int]) -> list[int]:
    """Of the workers, once none of `before` is among them; some may not serve yet."""
    pids = before
    while set(pids) & set(before):
        with contextlib.suppress(ServeError):  # all are starting: ask again
            pids = [worker["pid"] for worker in ask_status(child.frames)["workers"]]
    return pids


class Cameras:
    """Some streams at once, and all that a subscriber heard of them."""

    def __init__(self, child: Child, walks: dict[str, Recording]) -> None:
        self.walks = walks
        self.publishers = {n: Publisher(child.frames, n, MICE7, 30.0, reconnect_s=TIMEOUT_S) for n in walks}
        self.heard: dict[str, list[PredictionMessage]] = {name: [] for name in walks}

    def send(self, t: int) -> None:
        for name, walk in self.walks.items():
            self.publishers[name].send(walk.keypoints[t], walk.confidence[t])

    def hear(self, subscriber: Subscriber, upto: int) -> None:
        """Until the answer to frame `upto` - 1 of each."""
        while any(not answers or answers[-1].seq < upto - 1 for answers in self.heard.values()):
            message = subscriber.receive(TIMEOUT_S)
            assert message is not None
            if isinstance(message, PredictionMessage):
                self.heard[message.stream].append(message)


def test_each_worker_records_its_streams(tiny_bundle: Path, classifier: Classifier, tmp_path: Path) -> None:
    walks = {name: random_walk(90, 300 + i) for i, name in enumerate(NAMES)}
    folder = tmp_path / "recordings"
    with daemon(tiny_bundle, workers=2, record=str(folder), record_snapshot_s=0.05) as child:
        for name, walk in walks.items():
            replay(walk, child.frames, speed=20 if name == NAMES[0] else None, stream=name)
        status = ask_status(child.frames)["recording"]
        assert (status["state"], status["frames"], status["predictions"], status["lost"]) == ("recording", 360, 360, 0)
        assert (status["file"], len(status["files"]), status["triggers"]) == (str(folder), 2, 0)
    first, second = sorted(folder.glob("*.mcap"), key=lambda path: path.stem[-2:])
    assert (first.stem[-3:], second.stem[-3:]) == ("-w0", "-w1")
    check_files(folder, tiny_bundle)
    counts, bits = recorded(folder)
    for name, walk in walks.items():
        offline = classifier.run(walk).probs
        assert all(bits[name, t] == offline[t].tobytes() and counts[name, t] == 1 for t in range(90))
    done = CliRunner().invoke(app, ["replay", str(first), "--verify", "--bundle", str(tiny_bundle)])
    assert (done.exit_code, "180 frames compared: all the same" in done.output) == (0, True), done.output
    for each in annotate(classifier, [first, second], tmp_path / "annotated"):
        assert each.predictions.probs.tobytes() == classifier.run(walks[each.name]).probs.tobytes()


def test_killed_workers_leave_nothing_out_and_nothing_twice(
    tiny_bundle: Path, classifier: Classifier, tmp_path: Path
) -> None:
    walks = {name: random_walk(200, 320 + i) for i, name in enumerate(NAMES)}
    # A state after nearly every frame: what is recorded and has not left the worker yet lies before one of them.
    settings = {"record": str(tmp_path), "record_snapshot_s": 0.002, "worker_snapshot_s": 0.2}
    with (
        daemon(tiny_bundle, workers=2, **settings) as child,
        Subscriber(child.predictions, NAMES) as subscriber,
    ):
        cameras = Cameras(child, walks)
        pids = child.about["workers"]
        for t in range(200):
            cameras.send(t)
            if t == 60:
                cameras.hear(subscriber, t + 1)
                while (event := subscriber.receive(0.4)) is not None:  # states are kept and noted by now
                    assert isinstance(event, StreamEvent)
            if t in (80, 130, 131):  # amid frames; the last ones have hardly begun
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                pids = pids_after(child, pids)
        cameras.hear(subscriber, 200)
        counters = {name: publisher.close() for name, publisher in cameras.publishers.items()}
    assert len(files_of(tmp_path)) >= 6
    check_files(tmp_path, tiny_bundle, unanswered=1000)
    counts, bits = recorded(tmp_path)
    said = {(a.stream, a.seq): (a.t_pub_ns, a.quality) for a in recorded_answers(tmp_path)}
    for name, walk in walks.items():
        assert [p.seq for p in cameras.heard[name]] == list(range(200))
        assert counters[name]["frames"] == 200
        offline = classifier.run(walk).probs
        assert [counts[name, t] for t in range(200)] == [1] * 200
        assert all(bits[name, t] == offline[t].tobytes() for t in range(200))
        # What was recorded is what was said.
        assert [said[name, t] for t in range(200)] == [(p.t_pub_ns, p.quality) for p in cameras.heard[name]]


def file_and_writer(child: Child, stream: str) -> tuple[Path, int]:
    """The file of the worker that serves a stream of this name, of two, and the process that writes it. Workers answer
    in any order.
    """
    recording = ask_status(child.frames)["recording"]
    both = dict(zip(map(Path, recording["files"]), recording["writer"], strict=True))
    (file,) = (path for path in both if path.stem.endswith(f"-w{worker_of(stream, 2)}"))
    return file, both[file]


def test_a_recording_that_a_worker_could_not_close_is_told_at_the_end(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(60, 330)
    with daemon(tiny_bundle, workers=2, record=str(tmp_path)) as child:
        replay(walk, child.frames, stream="cage3")
        full, pid = file_and_writer(child, "cage3")
        # As a disk without room for a byte more.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (full.stat().st_size, resource.RLIM_INFINITY))
        child.signal(signal.SIGTERM)
        out, err, code = child.rest()
    last = json.loads(out.removeprefix("stopped "))
    assert (code, last["lost"], last["unfinished"]) == (1, [], [str(full)])
    assert f"recording {full} could not be finished" in err
    copy = recover_recording(full).copy
    assert copy is not None
    assert verify_recording(copy, tiny_bundle).predictions == 60


def test_the_front_finishes_what_a_killed_worker_and_its_writer_have_left(tiny_bundle: Path, tmp_path: Path) -> None:
    """At the end, when no other worker begins in its place, which would."""
    walk, number = random_walk(60, 331), worker_of("cage3", 2)
    with daemon(tiny_bundle, workers=2, record=str(tmp_path)) as child:
        left, writer = file_and_writer(child, "cage3")
        workers = child.about["workers"]
        os.kill(writer, signal.SIGSTOP)  # what is recorded from now on lies in memory alone
        replay(walk, child.frames, stream="cage3")
        os.kill(workers[number], signal.SIGSTOP)  # it does not end of itself
        child.signal(signal.SIGTERM)
        wait_until(lambda: workers[1 - number] not in children_of(child.process.pid))  # both have been told to stop
        for pid in (workers[number], writer):
            os.kill(pid, signal.SIGKILL)
        out, err, _ = child.rest()
    last = json.loads(out.removeprefix("stopped "))
    assert (last["starts"], last["unfinished"]) == ([1, 1], []), err
    with RecordingFile(left) as file:
        list(file.messages())
        assert file.problem == ""
    found = verify_recording(left, tiny_bundle)
    assert (found.predictions, found.differences) == (60, 0)


def test_what_a_worker_says_is_recorded_first(tiny_bundle: Path) -> None:
    class KilledError(Exception):
        """The worker has ended here."""

    recording = Mock()
    recording.lend_ring.return_value = None  # it has no room, so each is recorded by itself
    recording.record_prediction.side_effect = KilledError
    streams = Streams(ServedModel(load(tiny_bundle), "tcp://nowhere"))
    hello, walk = Hello("cage1", MICE7, 30.0), random_walk(1, 0)
    stream = streams.open_stream(b"owner", hello, streams.match_hello(hello), 0)
    frame = own_frame(walk.keypoints[0], walk.confidence[0], seq=0, t_source_ns=0, stream="cage1")
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as front:
        router.bind("inproc://worker")
        front.setsockopt(zmq.ROUTING_ID, FRONT_ID)
        front.connect("inproc://worker")
        front.send(b"")
        router.recv_multipart()
        outlet = WorkerOutlet(router, router, recording)
        for prediction in stream.session.step(frame):
            outlet.publish_prediction(stream, prediction, 0)
        with pytest.raises(KilledError):
            outlet.flush()
        assert not front.poll(100)
        recording.record_prediction.side_effect = None
        for prediction in stream.session.step(frame._replace(seq=1)):
            outlet.publish_prediction(stream, prediction, 0)
        first = {stream.output.answers: msgpack.packb({"v": 1, "t_pub_ns": 77})}
        with outlet.repeating(first):  # recorded and said by the worker before
            outlet.flush()
        recording.record_prediction.assert_called_with(first[stream.output.answers], 77)
        assert not front.poll(100)
        for prediction in stream.session.step(frame._replace(seq=2)):
            outlet.publish_prediction(stream, prediction, 0)
        outlet.flush()
        assert front.poll(1000)


def test_streams_go_on_after_all_was_killed(tiny_bundle: Path, classifier: Classifier, tmp_path: Path) -> None:
    walks = {name: random_walk(150, 340 + i) for i, name in enumerate(NAMES)}
    settings = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p", "record": str(tmp_path)}
    settings |= {"workers": 2, "record_snapshot_s": 0.3, "worker_snapshot_s": 60.0}
    front = Child(tiny_bundle, **settings).wait_ready()
    cameras = Cameras(front, walks)
    for t in range(80):
        cameras.send(t)
        if t == 30:
            assert all(publisher.flush(TIMEOUT_S) for publisher in cameras.publishers.values())
    front.process.kill()  # its workers end with it
    front.rest()
    with (
        daemon(tiny_bundle, **settings, resume=True) as again,
        Subscriber(again.predictions, NAMES) as subscriber,
    ):
        for t in range(80, 110):
            cameras.send(t)
        assert all(publisher.flush(TIMEOUT_S) for publisher in cameras.publishers.values())
        cameras.hear(subscriber, 110)
        for pid in again.about["workers"]:  # those that came from a recording go on as well
            os.kill(pid, signal.SIGKILL)
        for t in range(110, 150):
            cameras.send(t)
        cameras.hear(subscriber, 150)
        for publisher in cameras.publishers.values():
            publisher.close()
    check_files(tmp_path, tiny_bundle, unanswered=1000)
    counts, bits = recorded(tmp_path)
    for name, walk in walks.items():
        offline = classifier.run(walk).probs
        assert set(counts) >= {(name, t) for t in range(150)}
        assert all(bits[name, t] == offline[t].tobytes() for t in range(150))
        assert all(counts[name, t] == 1 for t in range(150)), name
