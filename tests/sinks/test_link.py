"""The daemon's end: what is refused at once, a process that hangs, one that fails, and a daemon that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtseg.config import LslSinkSettings, OscSinkSettings, SerialSinkSettings, SinkSettings, to_plain
from rtseg.errors import ServeError, SettingError
from rtseg.sinks import LOST, ON, READY, SinkLink, link
from tests.live import no_descriptor_left
from tests.sinks.daemon import Daemon
from tests.sinks.peers import LONG_S, PATIENT, TIMEOUT_S, Board, Own, install_package


def test_a_kind_that_nobody_brings_is_refused_before_anything_starts() -> None:
    with pytest.raises(SettingError, match=r"kind 'lazer' is unknown; there are: zmq, .*told"):
        SinkLink("laser", SinkSettings(kind="lazer"), [])


def test_a_system_without_such_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("socket.SOCK_SEQPACKET")
    with pytest.raises(ServeError, match=r"sinks\.laser: this system has no Unix sockets that keep messages apart"):
        SinkLink("laser", SinkSettings(kind="told"), [])


def test_a_process_that_hangs_is_killed_and_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Own()
    with Daemon(peer.settings(heartbeat_s=0.1), "x") as daemon:
        daemon.wait_for(READY)
        first = daemon.link.pid
        os.kill(first, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(link, "SILENT_S", 0.5)
            assert "said nothing for" in daemon.wait_for(LOST).text
        daemon.wait_for(READY)
        assert daemon.link.pid != first
        daemon.turn_on()
        assert peer.next_state()
    peer.close()


def test_the_number_of_the_descriptor_stays_and_sleeps_while_lost() -> None:
    peer = Own()
    with Daemon(peer.settings(), "x") as daemon:
        number = daemon.link.fileno()
        daemon.wait_for(READY)
        os.kill(daemon.link.pid, signal.SIGKILL)
        daemon.wait_for(LOST)
        assert daemon.link.fileno() == number
        assert not daemon.link.receive()
        daemon.wait_for(READY)
        assert daemon.link.fileno() == number
    peer.close()


def test_a_process_that_ends_while_no_descriptor_is_left_is_lost_and_started_once_there_is_one() -> None:
    peer = Own()
    with Daemon(peer.settings(), "x") as daemon:
        daemon.wait_for(READY)
        with no_descriptor_left():
            os.kill(daemon.link.pid, signal.SIGKILL)
            assert daemon.wait_for(LOST).text == "its process ended"
            deadline = time.monotonic() + TIMEOUT_S
            while daemon.link.restarts < 2:
                assert time.monotonic() < deadline
                daemon.link.look_after()
            assert (daemon.link.state, daemon.link.pid) == ("lost", 0)
            assert not daemon.link.receive(), "nothing to be read, or the loop would never sleep"
        daemon.wait_for(READY)
    peer.close()


FAILING = """
from rtseg.sinks import Sink


class Failing(Sink):
    acknowledges = True

    def open(self):
        if self.settings.options["at"] == "open":
            raise OSError("no such laser")
        return "failing"

    def turn_on(self, command):
        if self.settings.options["at"] == "on":
            raise ValueError("out of light")

    def turn_off(self, command, reason):
        with open(self.settings.options["file"], "a") as file:
            print(command.event, reason, file=file)


not_a_sink = 1
"""


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Entry points of a package that is no good."""
    points = ["[rtseg.sinks]", "failing = failing_sink:Failing", "none = failing_sink:not_a_sink", "gone = gone:Gone"]
    install_package(tmp_path, "failing_sink", FAILING, "\n".join(points) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}")
    return tmp_path / "offs.txt"


def settings_of(at: str, file: Path) -> SinkSettings:
    return SinkSettings(kind="failing", options={"at": at, "file": str(file)}, **{**PATIENT, "answer_s": 0.3})


def test_a_sink_that_cannot_open_or_fails_is_lost_with_its_words(failing: Path) -> None:
    with Daemon(settings_of("open", failing), "x") as daemon:
        assert daemon.wait_for(LOST).text == "no such laser"
        assert daemon.link.state == "lost"
    with Daemon(settings_of("on", failing), "x") as daemon:
        daemon.wait_for(READY)
        daemon.command(ON, daemon.next_event(), LONG_S)
        assert daemon.wait_for(LOST).text == "ValueError: out of light"
    assert failing.read_text().split("\n")[0] == "1 failed"


def test_a_sink_that_never_acknowledges_is_lost_and_turned_off(failing: Path) -> None:
    with Daemon(settings_of("never", failing), "x") as daemon:
        daemon.wait_for(READY)
        daemon.command(ON, daemon.next_event(), LONG_S)
        assert daemon.wait_for(LOST).text == "event 1: turning it on was not acknowledged within 0.3 s"
    assert failing.read_text() == "1 failed\n"


def test_entry_points_that_are_no_sinks(failing: Path) -> None:
    with pytest.raises(SettingError, match=r"derived from rtseg\.sinks\.Sink, got 1"):
        SinkLink("laser", SinkSettings(kind="none"), [])
    with pytest.raises(SettingError, match=r"entry point 'gone:Gone' cannot be loaded"):
        SinkLink("laser", SinkSettings(kind="gone"), [])


DAEMON = """
import json, sys
from rtseg.config import SinkSettings, from_plain
from tests.sinks.daemon import Daemon

daemon = Daemon(from_plain(json.loads(sys.argv[1]), SinkSettings), json.loads(sys.argv[2]))
daemon.wait_for(5)
event = daemon.turn_on()
print(event, flush=True)
sys.stdin.read()
"""


def test_a_daemon_that_is_killed_leaves_nothing_on() -> None:
    """Long before the lease is over: the end of the socket says it."""
    peer = Board()
    arguments = [json.dumps(to_plain(peer.settings())), json.dumps(peer.line)]
    child = subprocess.Popen(
        [sys.executable, "-c", DAEMON, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "1\n"
    peer.ignore_states()
    child.kill()
    assert not peer.next_state()
    child.communicate(timeout=TIMEOUT_S)
    peer.close()


def test_probabilities_that_have_no_room_are_counted_and_left_out() -> None:
    peer = Own()
    with Daemon(peer.settings(), "x") as daemon:
        assert not daemon.link.takes_probabilities
        assert not daemon.link.send_probabilities("cage1", 0, 0, 30.0, bytes(8)), "not ready"
        daemon.wait_for(READY)
        # This sink reads none of them.
        while daemon.link.send_probabilities("cage1", 0, 0, 30.0, bytes(400)):
            pass
        assert daemon.link.dropped_rows == 1
        daemon.turn_on()
    peer.close()


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        ("serial", SerialSinkSettings(kind="serial", port="/dev/null"), "'pyserial': pip install 'rtseg[serial]'"),
        ("pylsl", LslSinkSettings(kind="lsl"), "'pylsl': pip install 'rtseg[lsl]'"),
        ("pythonosc", OscSinkSettings(kind="osc", address="127.0.0.1:9"), "'python-osc': pip install 'rtseg[osc]'"),
    ],
)
def test_a_package_that_is_missing_is_named(
    module: str, settings: SinkSettings, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Daemon(settings, 8) as daemon:
        assert words in daemon.wait_for(LOST).text


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system gives no cores")
def test_its_process_runs_on_the_cores_that_it_is_given() -> None:
    peer, core = Own(), min(os.sched_getaffinity(0))
    with Daemon(peer.settings(), "x", cpus=[core]) as daemon:
        daemon.wait_for(READY)
        assert os.sched_getaffinity(daemon.link.pid) == {core}
    peer.close()
