"""A whole session with a real daemon: played, decided, recorded, ended, kept; and one that is killed."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.client import Publisher, ask_status
from rtseg.config import ServeSettings
from rtseg.errors import RecordingError, ServeError, SettingError
from rtseg.experiment import daemon_process, run
from rtseg.experiment.daemon_process import DaemonProcess
from rtseg.experiment.finish import finish_folder
from rtseg.experiment.replayed import recording_for
from rtseg.experiment.run import FREE_PORT, PLAYED, TIME_OVER, run_session
from rtseg.experiment.session_folder import SessionFolder, load_experiment
from rtseg.inference.classifier import load
from rtseg.playback.replay import replay
from rtseg.playback.verify import verify_recording
from rtseg.recorder.reading import RecordingFile
from rtseg.triggers.events import write_events
from rtseg.triggers.trial import load_triggers, try_triggers
from tests.commands import here
from tests.experiment.examples import write_experiment
from tests.live import wait_until


def test_a_dry_run_decides_what_trying_the_recording_does(tmp_path: Path) -> None:
    experiment, said = load_experiment(write_experiment(tmp_path)), list[str]()
    played = recording_for("simulated", "arena", None)().between(10, 130)
    folder, summary, is_well = run_session(experiment, armed=False, played=lambda: played, say=said.append)
    assert is_well, said
    assert folder.about["reason"] == PLAYED
    classifier = load(experiment.bundle, capacity=1)
    trial = try_triggers(load_triggers(tmp_path / "t.toml"), classifier.run(played), played, classifier.bundle)
    write_events(trial.events, tmp_path / "tried.csv")
    assert (folder.path / "triggers.csv").read_bytes() == (tmp_path / "tried.csv").read_bytes()
    assert sum(event.fired for event in trial.events) > 1
    assert [pulse.event for pulse in summary.pulses] == list(trial.events)
    assert any("near would go on" in line for line in said)
    (recording,) = folder.recordings()
    assert not verify_recording(recording, Path(experiment.bundle)).differences
    page = (folder.path / "summary.html").read_text(encoding="utf-8")
    assert "dry run" in page
    assert "&lt;b&gt;AB&lt;/b&gt;" in page
    # Again, from its folder alone.
    (folder.path / "triggers.csv").unlink()
    done = here("run", folder.path)
    assert done.returncode == 0, done.stderr
    assert (folder.path / "triggers.csv").read_bytes() == (tmp_path / "tried.csv").read_bytes()


def started(path: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "rtseg", "run", str(path), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said_until(session: subprocess.Popen[str], words: str) -> str:
    """The first line of what it says that holds these words."""
    said = list[str]()
    assert session.stderr is not None
    for line in session.stderr:
        said.append(line)
        if words in line:
            return line
    pytest.fail("".join(said))


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C for a child alone")
def test_a_live_camera_is_waited_for_and_ctrl_c_ends_the_session_in_order(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(
        'frames = "tcp://127.0.0.1:*"\npredictions = "tcp://127.0.0.1:*"\n', encoding="utf-8"
    )
    with started(write_experiment(tmp_path, 'serve = "serve.toml"')) as session:
        address = said_until(session, "cameras publish to").split()[3].rstrip(";")
        done = replay(recording_for("simulated", "arena", None)().between(10, 130), address)
        said_until(session, "dry run: triggers decide, nothing is sent")
        said_until(session, "camera arena: closed (bye)")
        session.send_signal(signal.SIGINT)
        out, err = session.communicate(timeout=60)
    assert session.returncode == 0, err
    assert "session ends: stopped by the operator" in err
    (folder,) = (tmp_path / "sessions").iterdir()
    about = json.loads((folder / "session.json").read_text(encoding="utf-8"))
    assert (about["reason"], about["mode"]) == ("stopped by the operator", "dry run")
    assert str(folder / "summary.html") in out
    with RecordingFile(next(folder.glob("*.mcap"))) as recording:
        answers = sum(message.topic == "predictions" for message in recording.messages())
    assert answers == len(done.predictions)


def test_cameras_that_go_on_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """A laboratory's cameras send whether a session runs or not."""
    (tmp_path / "serve.toml").write_text(
        'frames = "tcp://127.0.0.1:*"\npredictions = "tcp://127.0.0.1:*"\n', encoding="utf-8"
    )
    experiment = load_experiment(write_experiment(tmp_path, 'serve = "serve.toml"\nminutes = 0.005'))
    recording = recording_for("simulated", "arena", None)()
    is_over, cameras, played_out = threading.Event(), list[threading.Thread](), list[str]()

    def film(address: str) -> None:
        with Publisher(address, "arena", recording.skeleton, recording.fps) as publisher:
            for points in itertools.chain.from_iterable(itertools.repeat(recording.keypoints, 5)):
                publisher.send(points)
                if is_over.wait(1 / 60):
                    return
        played_out.append(address)

    def say(line: str) -> None:
        if line.startswith("cameras publish to"):
            cameras.append(threading.Thread(target=film, args=(line.split()[3].rstrip(";"),)))
            cameras[0].start()

    folder, _, is_well = run_session(experiment, armed=False, say=say)
    is_over.set()
    cameras[0].join()
    assert is_well
    assert folder.about["reason"] == TIME_OVER
    assert not played_out


def test_ctrl_c_while_the_daemon_starts_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: DaemonProcess) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DaemonProcess, "wait_ready", interrupted)
    with pytest.raises(ServeError, match="stopped by the operator while its daemon started"):
        run_session(load_experiment(write_experiment(tmp_path)), armed=False, say=lambda _: None)
    (folder,) = (tmp_path / "sessions").iterdir()
    assert "stopped by the operator" in json.loads((folder / "session.json").read_text(encoding="utf-8"))["reason"]


@pytest.mark.skipif(sys.platform != "linux", reason="a child learns of its parent's end on Linux alone")
@pytest.mark.parametrize("_attempt", range(3))  # how often its end is told is a race
def test_a_session_that_is_killed_leaves_no_daemon_and_still_has_its_log(tmp_path: Path, _attempt: int) -> None:
    rate = "cameras.arena.fps=25"
    with started(write_experiment(tmp_path), "--replay", "simulated", "--set", rate) as session:
        said_until(session, "near would go on")
        (folder,) = (tmp_path / "sessions").iterdir()
        kept = folder / "session.json"
        wait_until(lambda: "where 25 are expected" in kept.read_text(encoding="utf-8"))
        children = Path(f"/proc/{session.pid}/task/{session.pid}/children").read_text(encoding="ascii").split()
        handles, watched = [os.pidfd_open(int(child)) for child in children], select.poll()
        for handle in handles:
            watched.register(handle, select.POLLIN)
        session.send_signal(signal.SIGKILL)
        assert len(handles) == 1
        assert watched.poll(60_000), "the daemon outlived its session"
        os.close(handles[0])
    # In order: what ran has its end in the recording.
    assert "stream 'arena' closed: stopping" in (folder / "daemon.log").read_text(encoding="utf-8")
    summary = finish_folder(folder)
    assert summary.pulses
    assert all(pulse.event.ended for pulse in summary.pulses if pulse.event.fired)
    page = (folder / "summary.html").read_text(encoding="utf-8")
    assert "not ended in order" in page
    assert "declares 30 frames per second, where 25 are expected" in page
    assert (folder / "triggers.csv").read_text(encoding="utf-8").count("\n") == len(summary.pulses) + 1


PARENT = """
import sys, time
from pathlib import Path
from rtseg.config import ServeSettings
from rtseg.experiment.daemon_process import DaemonProcess
free = "tcp://127.0.0.1:*"
daemon = DaemonProcess(sys.argv[1], ServeSettings(frames=free, predictions=free), Path(sys.argv[2]))
daemon.wait_ready()
print(daemon.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a child learns of its parent's end on Linux alone")
def test_a_daemon_whose_session_is_killed_ends_in_order_under_nohup_too(tiny_bundle: Path, tmp_path: Path) -> None:
    command, log = [sys.executable, "-c", PARENT, str(tiny_bundle)], tmp_path / "daemon.log"
    with subprocess.Popen(
        [*command, str(log)], stdout=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ) as session:
        assert session.stdout is not None
        handle, watched = os.pidfd_open(int(session.stdout.readline())), select.poll()
        watched.register(handle, select.POLLIN)
        session.kill()
        assert watched.poll(60_000), "the daemon outlived its session"
        os.close(handle)
    assert "stopped {" in log.read_text(encoding="utf-8")


def test_a_daemon_that_does_not_start_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text('engine = "none"\n', encoding="utf-8")
    done = here("run", write_experiment(tmp_path, 'serve = "serve.toml"'))
    assert done.returncode == 3
    assert "rtseg: the daemon did not start: " in done.stderr
    (folder,) = (tmp_path / "sessions").iterdir()
    assert "unknown engine 'none'" in json.loads((folder / "session.json").read_text(encoding="utf-8"))["reason"]


def test_a_daemon_that_does_not_end_in_order_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_process, "STOP_S", 0.0)
    played = recording_for("simulated", "arena", None)().between(10, 40)
    experiment = load_experiment(write_experiment(tmp_path))
    folder, summary, is_well = run_session(experiment, armed=False, played=lambda: played, say=lambda _: None)
    assert not is_well
    assert [problem.partition(":")[0] for problem in folder.about["problems"]] == ["the daemon ended with status -9"]
    assert summary.cameras["arena"].answers == len(played)  # its writer is waited for


def test_the_end_that_only_memory_has_is_in_the_log(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path))
    folder = SessionFolder.create(experiment, load_bundle(experiment.bundle), datetime.now(UTC), armed=False)
    settings = ServeSettings(frames=FREE_PORT, predictions=FREE_PORT, record=str(folder.path))
    played = recording_for("simulated", "arena", None)().between(10, 40)
    with DaemonProcess(experiment.bundle, settings, tmp_path / "daemon.log") as daemon:
        daemon.wait_ready()
        writer = ask_status(daemon.frames)["recording"]["writer"]
        os.kill(writer, signal.SIGSTOP)
        replay(played, daemon.frames, speed=None)
        # In this order: the writer outlives its daemon, and the daemon would start another one.
        os.kill(daemon.pid, signal.SIGKILL)
        os.kill(writer, signal.SIGKILL)
    assert finish_folder(folder.path).cameras["arena"].answers == len(played)


def test_a_camera_that_does_not_come_ends_the_session(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(
        'frames = "tcp://127.0.0.1:*"\npredictions = "tcp://127.0.0.1:*"\n', encoding="utf-8"
    )
    experiment = load_experiment(write_experiment(tmp_path, 'serve = "serve.toml"\nwait_s = 0.1'))
    folder, summary, is_well = run_session(experiment, armed=False, say=lambda _: None)
    assert not is_well
    assert folder.about["problems"] == ["no frames of arena within 0.1 s"]
    assert not summary.cameras
    assert "no frames of arena within 0.1 s" in (folder.path / "summary.html").read_text(encoding="utf-8")


def test_several_workers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text("workers = 2\n", encoding="utf-8")
    experiment = load_experiment(write_experiment(tmp_path, 'serve = "serve.toml"'))
    with pytest.raises(SettingError, match="workers = 1, got 2"):
        run_session(experiment, armed=False, say=print)


def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    experiment = load_experiment(write_experiment(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(SessionFolder, "write_about", full)
        with pytest.raises(ServeError, match=r"sessions: a session's folder cannot be written to: No space left"):
            run_session(experiment, armed=False, say=lambda _: None)
    monkeypatch.setattr(run, "_keep_end", full)
    monkeypatch.setattr(DaemonProcess, "wait_ready", lambda _: (_ for _ in ()).throw(ServeError("not now")))
    with pytest.raises(RecordingError, match=r"log and page cannot be written: No space left.*`rtseg run .*sessions/"):
        run_session(experiment, armed=False, say=lambda _: None)
