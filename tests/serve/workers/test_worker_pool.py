"""A worker that hangs is noticed, killed and replaced; its streams go on with the same bits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, Subscriber, ask_status
from rtseg.config import ServeSettings, WorkerPlace
from rtseg.errors import SettingError
from rtseg.frames.skeleton import MICE7
from rtseg.inference.classifier import load
from rtseg.playback.replay import predictions_from_messages
from rtseg.playback.verify import verify_recording
from rtseg.serve.workers.worker_pool import Worker
from rtseg.serve.workers.worker_protocol import worker_of
from rtseg.wire.messages import PredictionMessage
from tests.bundles import changed_bundle
from tests.live import TIMEOUT_S, daemon, random_walk, wait_until

HEADS = {"task1": ("attack", "investigation", "mount", "other"), "sniff_face": ("other", "sniff_face")}
_SEIZE, _INTERRUPT = 0x4206, 0x4207
_ALL = 0x40000000


def stop_process(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def stop_loop(pid: int) -> None:
    """The main thread only: those of ZeroMQ and the recording's keeper go on, as beside a loop that never ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_SEIZE, pid, None, None) or libc.ptrace(_INTERRUPT, pid, None, None):
        pytest.skip(f"no thread of another process can be stopped here: {os.strerror(ctypes.get_errno())}")
    os.waitpid(pid, _ALL)  # it has stopped


def let_go(pid: int) -> None:
    """A traced process stays a zombie for its parent until its tracer has seen its end."""
    deadline_s = time.monotonic() + TIMEOUT_S
    while os.waitpid(pid, _ALL | os.WNOHANG)[0] == 0:
        assert time.monotonic() < deadline_s, "nobody has killed the worker that hangs"
        time.sleep(0.01)


@pytest.mark.parametrize("stop", [stop_process, stop_loop])
def test_a_worker_that_hangs_is_replaced(tiny_bundle: Path, tmp_path: Path, stop: Callable[[int], None]) -> None:
    names = ["cage3", "cage4"]
    assert [worker_of(name, 2) for name in names] == [1, 0]
    walks = {name: random_walk(120, 360 + i) for i, name in enumerate(names)}
    with (
        daemon(tiny_bundle, workers=2, worker_silence_s=2.0, worker_snapshot_s=0.2, record=str(tmp_path)) as child,
        Subscriber(child.predictions, names) as subscriber,
    ):
        publishers = {name: Publisher(child.frames, name, MICE7, 30.0) for name in names}
        heard: dict[str, list[PredictionMessage]] = {name: [] for name in names}
        hung = child.about["workers"][1]
        for t in range(120):
            for name, walk in walks.items():
                publishers[name].send(walk.keypoints[t], walk.confidence[t])
            if t == 60:
                stop(hung)
        if stop is stop_loop:
            let_go(hung)
        while any(len(answers) < 120 for answers in heard.values()):
            message = subscriber.receive(TIMEOUT_S)
            assert message is not None
            if isinstance(message, PredictionMessage):
                heard[message.stream].append(message)
        assert [worker["starts"] for worker in ask_status(child.frames)["workers"]] == [1, 2]
        for publisher in publishers.values():
            assert publisher.close()["frames"] == 120
        child.signal(signal.SIGTERM)
        _, err, code = child.rest()
        assert code == 0
        assert err.count("has given no sign of life for 2.0 s: it is killed") == 1
        assert "worker 1 has given no sign of life" in err
    found = [verify_recording(path, tiny_bundle) for path in tmp_path.glob("*.mcap")]
    assert (len(found), sum(f.predictions for f in found), sum(f.differences for f in found)) == (3, 240, 0)
    for name, walk in walks.items():
        assert [p.seq for p in heard[name]] == list(range(120))
        live, _ = predictions_from_messages(HEADS, heard[name])
        assert live.probs.tobytes() == load(tiny_bundle).run(walk).probs.tobytes()


def test_a_worker_in_whose_place_another_model_would_serve_waits_for_its_own(
    tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bundle's folder is trained into again while the daemon serves, and then a worker dies."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    served = load_bundle(folder).hash
    changed_bundle(tiny_bundle, folder)
    other = load_bundle(folder).hash
    place = WorkerPlace("tcp://nowhere", 0.2, os.getpid(), 1, "run", is_replacement=False, status_file="")
    worker = Worker(place, folder, ServeSettings(capacity=2), tmp_path)
    with contextlib.ExitStack() as at_end:
        at_end.callback(worker.end)
        worker.set_bundle(str(folder), served)  # what the process before this one has served
        wait_until(lambda: worker.check_ready() or worker.has_ended)
        assert (worker.ready, worker.dealer) == (False, None)
        assert f"worker 1: {folder} holds model {other[:12]} by now, and {served[:12]} is served" in caplog.text
        shutil.copytree(tiny_bundle, folder, dirs_exist_ok=True)
        worker.start()
        wait_until(worker.check_ready)
        assert (worker.ready, worker.announced["model"]) == (True, served)


def test_a_limit_below_the_signs_themselves_is_refused() -> None:
    with pytest.raises(SettingError, match="worker_silence_s must be 1 or more"):
        ServeSettings(worker_silence_s=0.1)
