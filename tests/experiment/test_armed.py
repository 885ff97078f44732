"""Armed sessions with a real daemon and a real sink: what is said and kept is what reached the sink, and no setting is
passed over.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from rtseg.client import Publisher, TriggerSubscriber
from rtseg.errors import SettingError
from rtseg.experiment.replayed import recording_for
from rtseg.experiment.run import BY_HAND, PLAYED, TIME_OVER, check_experiment, run_session
from rtseg.experiment.session_folder import SessionFolder, load_experiment
from tests.commands import here
from tests.experiment.examples import TRIGGERS, write_experiment
from tests.experiment.test_run import said_until, started
from tests.live import children_of, wait_until
from tests.sinks.peers import free_address

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sinks need Linux")
ALWAYS_REAL = TRIGGERS.partition("arms = ")[0]
SERVE = 'frames = "tcp://127.0.0.1:*"\npredictions = "tcp://127.0.0.1:*"\n'


def write_armed(folder: Path, more: str = "", address: str = "") -> Path:
    """Two triggers that decide the same, of which `near` alone has a sink."""
    without = ALWAYS_REAL.replace("triggers.near", "triggers.noted")
    sink = f'[sinks.quiet]\nkind = "zmq"\naddress = "{address or free_address()}"\n'
    return write_experiment(folder, more, f'{ALWAYS_REAL}sinks = ["quiet"]\n{without}{sink}')


def test_a_trigger_without_a_sink_is_never_said_to_be_on(tmp_path: Path) -> None:
    experiment, said = load_experiment(write_armed(tmp_path)), list[str]()
    played = recording_for("simulated", "arena", None)().between(40, 100)
    folder, summary, is_well = run_session(experiment, armed=True, played=lambda: played, say=said.append)
    assert is_well, said
    assert folder.about["reason"] == PLAYED
    assert {pulse.event.trigger: pulse.is_sent for pulse in summary.pulses if pulse.event.fired} == {
        "near": True,
        "noted": False,
    }
    assert any("near ON, frame" in line for line in said)
    assert not any("noted ON" in line for line in said)
    assert any("noted would go on, and has no sink, frame" in line for line in said)
    page = (folder.path / "summary.html").read_text(encoding="utf-8")
    assert "sent to no sink" in page
    assert "quiet: acknowledges nothing" in page
    assert folder.about["settings"]["wait_s"] == 120.0


def test_a_played_session_ends_when_its_time_is_over_and_tells_another_rate(tmp_path: Path) -> None:
    more = ("minutes=0.02", "cameras.arena.fps=25")
    experiment, played = load_experiment(write_experiment(tmp_path), more), recording_for("simulated", "arena", None)()
    folder, summary, is_well = run_session(experiment, armed=False, played=lambda: played, say=lambda _: None)
    assert is_well
    assert folder.about["reason"] == TIME_OVER
    assert folder.about["problems"] == ["camera arena: declares 30 frames per second, where 25 are expected"]
    assert folder.about["settings"]["minutes"] == 0.02
    assert 0 < summary.cameras["arena"].answers < len(played)


def test_a_session_goes_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    """As with `| head`, or a terminal that is closed."""
    with started(write_armed(tmp_path), "--armed", "--replay", "simulated") as session:
        said_until(session, "near ON")
        assert session.stderr is not None
        assert session.stdout is not None
        session.stderr.close()
        session.stdout.close()
        assert session.wait(60) == 0
    (folder,) = (tmp_path / "sessions").iterdir()
    assert json.loads((folder / "session.json").read_text(encoding="utf-8"))["reason"] == PLAYED
    assert (folder / "summary.html").exists()


def test_a_session_that_hangs_is_armed_no_longer_than_it_was_to_last(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(SERVE, encoding="utf-8")
    address = free_address()
    path = write_armed(tmp_path, 'serve = "serve.toml"\nminutes = 0.001', address)
    recording = recording_for("simulated", "arena", None)()
    with started(path, "--armed") as session, TriggerSubscriber(address) as lines:
        frames = said_until(session, "cameras publish to").split()[3].rstrip(";")
        with Publisher(frames, "arena", recording.skeleton, recording.fps) as publisher:
            publisher.send(recording.keypoints[0])
            said_until(session, "ARMED")
            session.send_signal(signal.SIGSTOP)
            daemon = children_of(session.pid)[0]
            log = next((tmp_path / "sessions").iterdir()) / "daemon.log"
            wait_until(lambda: "is disarmed: its time is over" in log.read_text(encoding="utf-8"))
        assert daemon in children_of(session.pid)
        session.send_signal(signal.SIGCONT)
        session.communicate(timeout=60)
        assert lines.receive(0) is None


def test_a_sink_that_is_lost_while_the_camera_is_away_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "serve.toml").write_text(SERVE, encoding="utf-8")
    experiment = load_experiment(write_armed(tmp_path, 'serve = "serve.toml"'))
    recording, cameras, said = recording_for("simulated", "arena", None)(), list[threading.Thread](), list[str]()

    def film_until(words: str, frames: str) -> None:
        with Publisher(frames, "arena", recording.skeleton, recording.fps) as publisher:
            publisher.send(recording.keypoints[0])
            wait_until(lambda: any(line.startswith(words) for line in said))

    def film(frames: str) -> None:
        film_until("ARMED", frames)
        wait_until(lambda: "camera arena: closed (bye)" in said)
        (daemon,) = children_of(os.getpid())
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(daemon)}
        (sink,) = [pid for pid, command in commands.items() if b"rtseg.sinks.process" in command]
        os.kill(sink, signal.SIGKILL)
        log = next((tmp_path / "sessions").iterdir()) / "daemon.log"
        wait_until(lambda: log.read_text(encoding="utf-8").count("sink 'quiet' is ready") == 2)
        film_until("arena was disarmed", frames)
        os.kill(os.getpid(), signal.SIGINT)

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("cameras publish to"):
            cameras.append(threading.Thread(target=film, args=(line.split()[3].rstrip(";"),)))
            cameras[0].start()

    folder, _, _ = run_session(experiment, armed=True, say=say)
    cameras[0].join()
    assert folder.about["reason"] == BY_HAND
    (problem,) = folder.about["problems"]
    assert problem.startswith("arena was disarmed: sink quiet: lost sink")


def test_an_armed_session_is_not_yoked_to_a_dry_run(tmp_path: Path) -> None:
    (first := tmp_path / "first").mkdir()
    folder = SessionFolder(first)
    log = "stream,trigger,seq,decision,arm,last_seq,ended\narena,near,5,fired,real,9,pulse over\n"
    (first / "triggers.csv").write_text(log, encoding="utf-8")
    yoked = '[triggers.yoke]\narms = { yoked = "first/triggers.csv" }\nsinks = ["quiet"]\n'
    sink = f'[sinks.quiet]\nkind = "zmq"\naddress = "{free_address()}"\n'
    experiment = load_experiment(write_experiment(tmp_path, triggers=yoked + sink))
    check_experiment(experiment, armed=True)  # a log of anybody's own
    about = {"metadata": {}, "versions": {}, "bundle": {"hash": ""}, "problems": []}
    folder.write_about(about | {"mode": "dry run"})
    check_experiment(experiment)
    with pytest.raises(SettingError, match=r"triggers\.yoke: arms\.yoked: .*triggers\.csv is the log of a dry run"):
        check_experiment(experiment, armed=True)
    folder.write_about(about | {"mode": "armed"})
    check_experiment(experiment, armed=True)


def test_the_simulated_scene_is_the_same_whatever_the_camera_is_called() -> None:
    arena, top = (recording_for("simulated", name, None)() for name in ("arena", "top view"))
    assert (arena.name, top.name) == ("arena", "top view")
    assert arena.keypoints.tobytes() == top.keypoints.tobytes()


def test_options_that_would_do_nothing_are_refused(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    done = here("run", tmp_path, "--armed", "--replay", "x.csv", "--set", "minutes=1", "--fps", "25")
    assert (done.returncode, done.stdout) == (1, "")
    assert "--armed, --replay, --fps, --set: of no use here" in done.stderr
    done = here("run", path, "--fps", "25")
    assert done.returncode == 1
    assert "--fps: of no use here" in done.stderr
    done = here("run", path, "--fps", "25", "--replay", "simulated")
    assert done.returncode == 1
    assert "--fps 25: the simulated recording has 30 frames per second" in done.stderr


@pytest.mark.parametrize("names", [("triggers",), ("record",), ("record", "resume")])
def test_settings_of_the_daemon_that_a_session_has_itself_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    lines = {"triggers": 'triggers = "other.toml"', "record": 'record = "elsewhere"', "resume": "resume = true"}
    (tmp_path / "serve.toml").write_text("\n".join(lines[name] for name in names), encoding="utf-8")
    experiment = load_experiment(write_experiment(tmp_path, 'serve = "serve.toml"'))
    words = rf"serve\.toml: {', '.join(names)}: a session's triggers and recording are those of"
    with pytest.raises(SettingError, match=words):
        run_session(experiment, armed=False, say=print)
    assert not (tmp_path / "sessions").exists()
