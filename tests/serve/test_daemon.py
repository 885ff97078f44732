"""The daemon's life as its user sees it: ready, drain, stop, and reasons not to start."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from rtseg.client import Subscriber
from rtseg.config import ServeSettings
from rtseg.errors import RtsegError
from rtseg.inference.classifier import load
from rtseg.recorder.recorder import CLOSED
from rtseg.recorder.recover import recover_recording
from rtseg.serve.daemon import Daemon, ended_in_order, serve
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, TIMEOUT_S, Child, Raw, daemon, frame_of, random_walk


@pytest.fixture
def hangup_is_heard() -> Iterator[None]:
    """A child inherits it where this process ignores SIGHUP, as under nohup, and a daemon then ignores it as well."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_is_heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_cleanly_and_removes_its_files(tiny_bundle: Path, tmp_path: Path, number: int) -> None:
    frames, predictions = f"ipc://{tmp_path}/f", f"ipc://{tmp_path}/p"
    with daemon(tiny_bundle, frames=frames, predictions=predictions) as child:
        assert (child.frames, child.predictions) == (frames, predictions)
        assert (tmp_path / "f").is_socket()
        child.signal(number)
        out, _, code = child.rest()
    assert code == 0
    assert out.startswith("stopped ")
    assert json.loads(out.removeprefix("stopped "))["latency"]["total"]["count"] == 0
    assert list(tmp_path.iterdir()) == []


def test_what_has_arrived_is_answered_before_the_end(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(50, 3)  # few enough for the operating system to hold while the daemon stands still
    with (
        daemon(tiny_bundle, frames=f"ipc://{tmp_path}/f", predictions=f"ipc://{tmp_path}/p") as child,
        Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber,
        Subscriber(child.predictions, "nobody", timeout_s=60) as idle,
        Raw(child.frames) as raw,
        Raw(child.frames) as bystander,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        assert bystander.ask(HELLO | {"stream": "cage2"})["type"] == "accepted"
        child.signal(signal.SIGSTOP)
        for t in range(len(walk)):
            raw.send(frame_of(walk, t))
        raw.close(linger_ms=10_000)  # now all frames lie in the daemon's socket
        child.signal(signal.SIGTERM, signal.SIGCONT)
        heard = []
        while not heard or not (isinstance(heard[-1], StreamEvent) and heard[-1].type == "stopping"):
            message = subscriber.receive(60)
            assert message is not None
            heard.append(message)
        assert [m.seq for m in heard if isinstance(m, PredictionMessage)] == list(range(50))
        events = [(m.type, m.fields.get("reason")) for m in heard if isinstance(m, StreamEvent)]
        # On a busy machine two intervals pass between the last frame and the end: then it is silent, and told so.
        assert [e for e in events if e[0] != "stale"] == [("opened", None), ("closed", "stopping"), ("stopping", None)]
        assert list(idle) == []  # ended by the daemon's last word
        assert bystander.receive()["type"] == "stopping"
        assert child.rest()[2] == 0


@pytest.mark.parametrize("drain_s", [60.0, 0.3])
def test_a_backlog_is_answered_before_the_end_or_counted(tiny_bundle: Path, tmp_path: Path, drain_s: float) -> None:
    n = 12_000  # more than a second's work, one by one
    walk = random_walk(100, 4)
    addresses = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p"}
    with (
        daemon(tiny_bundle, **addresses, max_batch=1, drain_s=drain_s) as child,
        Subscriber(child.predictions, "cage1", timeout_s=60) as subscriber,
        Raw(child.frames, queue_messages=0) as raw,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        child.signal(signal.SIGSTOP)
        for seq in range(n):
            raw.send(frame_of(walk, seq % 100, seq=seq))
        child.signal(signal.SIGTERM, signal.SIGCONT)
        heard: list[PredictionMessage | StreamEvent | None] = [None]
        while (message := heard[-1]) is None or not (isinstance(message, StreamEvent) and message.type == "closed"):
            heard.append(subscriber.receive(60))
        counters = message.fields["counters"]
        out, err, code = child.rest()
        assert code == 0
        answers = [m.seq for m in heard if isinstance(m, PredictionMessage)]
        assert answers == list(range(counters["frames"]))
        if drain_s > 1:
            assert (counters["frames"], counters["dropped"]) == (n, 0)
            return
        assert 0 < counters["dropped"] <= n - counters["frames"]
        assert json.loads(out.removeprefix("stopped "))["counters"]["dropped frames"] == counters["dropped"]
        reason = "the daemon stops, and 0.3 s (drain_s) were not enough for all that had arrived"
        assert f"{reason}: {counters['dropped']} frames are not answered" in err
        assert reason in raw.receive()["reason"]


def test_sources_that_go_on_sending_do_not_hold_up_the_end(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(100, 5)
    with daemon(tiny_bundle, drain_s=1.0) as child, Raw(child.frames) as raw:
        assert raw.ask(HELLO)["type"] == "accepted"
        raw.socket.sndtimeo = 1000
        child.signal(signal.SIGTERM)
        seq = 0
        while child.process.poll() is None:
            with contextlib.suppress(zmq.Again):  # the last ones find nobody
                raw.send(frame_of(walk, seq % 100, seq=seq))
            seq += 1


def test_a_closed_terminal_says_so_twice_and_is_ignored_under_nohup(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle) as child:
        child.signal(signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT)
        out, _, code = child.rest()
        assert (code, out[:8]) == (0, "stopped ")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        child = Child(tiny_bundle)
    finally:
        signal.signal(signal.SIGHUP, before)
    with contextlib.closing(child):
        child.wait_ready().signal(signal.SIGHUP)
        with Raw(child.frames) as raw:
            assert raw.ask(HELLO)["type"] == "accepted"


def test_one_that_is_stopped_while_it_starts_never_says_ready_and_its_addresses_are_free_once_it_says_stopped(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped_meanwhile(daemon: Daemon) -> None:
        assert len(list(tmp_path.iterdir())) == 2
        daemon.stop()

    said: list[tuple[str, list[Path]]] = []
    monkeypatch.setattr(Daemon, "warm_up", stopped_meanwhile)
    settings = ServeSettings(frames=f"ipc://{tmp_path}/f", predictions=f"ipc://{tmp_path}/p", capacity=2)
    classifier = load(tiny_bundle, "numba", settings.slots)
    serve(classifier, settings, lambda line: said.append((line.split()[0], list(tmp_path.iterdir()))))
    assert said == [("stopped", [])]


def test_it_ends_in_order_where_its_recording_is_whole() -> None:
    assert ended_in_order({"uptime_s": 1.0})
    assert ended_in_order({"recording": {"state": CLOSED}})
    assert not ended_in_order({"recording": {"state": "failing"}})


def test_nobody_who_reads_its_lines_keeps_it_from_ending_in_order(tiny_bundle: Path, tmp_path: Path) -> None:
    with contextlib.closing(Child(tiny_bundle, record=str(tmp_path)).wait_ready()) as child:
        assert child.process.stdout is not None
        child.process.stdout.close()
        child.signal(signal.SIGTERM)
        assert child.process.stderr is not None
        err = child.process.stderr.read()
        assert (child.process.wait(TIMEOUT_S), err.count("stdout takes nothing any more (Broken pipe)")) == (0, 1)
        assert "Traceback" not in err
    (file,) = tmp_path.iterdir()
    assert recover_recording(file).copy is None


def test_a_recording_whose_folder_is_removed_while_it_serves_is_whole_and_the_log_says_so(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    with daemon(tiny_bundle, record=str(tmp_path / "recordings")) as child, Raw(child.frames) as raw:
        assert raw.ask(HELLO)["type"] == "accepted"
        (file,) = (tmp_path / "recordings").iterdir()
        shutil.rmtree(file.parent)
        child.signal(signal.SIGTERM)
        out, err, code = child.rest()
    assert (code, json.loads(out.removeprefix("stopped "))["recording"]["state"]) == (0, "closed")
    assert f"{file} was removed while it was written" in err
    assert recover_recording(file).copy is None


def test_a_second_signal_ends_it_at_once(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle) as child:
        child.signal(signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT)
        out, _, code = child.rest()
    assert code == 1
    assert "stopped" not in out


def test_a_daemon_that_was_killed_leaves_nothing_in_the_way(tiny_bundle: Path, tmp_path: Path) -> None:
    addresses = {"frames": f"ipc://{tmp_path}/f", "predictions": f"ipc://{tmp_path}/p"}
    with daemon(tiny_bundle, **addresses) as child:
        child.signal(signal.SIGKILL)
        child.rest()
        assert (tmp_path / "f").is_socket()
        with daemon(tiny_bundle, **addresses) as second, Raw(second.frames) as raw:
            assert raw.ask(HELLO)["type"] == "accepted"


@pytest.mark.parametrize("kind", ["tcp", "ipc"])
def test_an_address_in_use(tiny_bundle: Path, tmp_path: Path, kind: str) -> None:
    frames = "tcp://127.0.0.1:*" if kind == "tcp" else f"ipc://{tmp_path}/f"
    with daemon(tiny_bundle, frames=frames) as first:
        assert refusal(Child(tiny_bundle, frames=first.frames)) == (
            f"rtseg: address {first.frames} is in use: stop the daemon that has it, or choose another address\n"
        )
        with Raw(first.frames) as raw:
            assert raw.ask(HELLO)["type"] == "accepted"


def test_an_address_that_others_can_reach(tiny_bundle: Path) -> None:
    assert "needs keys" in refusal(Child(tiny_bundle, predictions="tcp://0.0.0.0:5758"))


def test_a_missing_or_foreign_bundle(tmp_path: Path) -> None:
    assert "no bundle here" in refusal(Child(tmp_path / "nothing"))
    (tmp_path / "manifest.json").write_text("[]")
    assert "not the manifest of a bundle" in refusal(Child(tmp_path))


def refusal(child: Child) -> str:
    """The one line of a daemon that could not start."""
    out, err, code = child.rest()
    assert (code, out) == (3, "")
    # What the log says before the addresses are tried is none of it.
    said = "".join(line for line in err.splitlines(keepends=True) if line.startswith("rtseg: "))
    assert said.count("\n") == 1
    return said


def test_control_can_be_switched_off(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, control=False) as child, Raw(child.frames) as raw:
        for message in ({"type": "load", "bundle": str(tiny_bundle)}, {"type": "stop"}):
            answer = raw.ask({"v": 1, **message})
            assert "is not taken here: the daemon was started with control = false" in answer["reason"]
        assert raw.ask({"v": 1, "type": "status"})["type"] == "status"


def test_a_missing_package_is_told_before_anything_is_compiled(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first start on a machine compiles for half a minute: not for a daemon that cannot start."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "prometheus_client" else found(name, *rest)
    )
    compiled: list[object] = []
    monkeypatch.setattr("rtseg.serve.daemon.compile_missing", compiled.append)
    settings = ServeSettings(
        frames=f"ipc://{tmp_path}/f", predictions=f"ipc://{tmp_path}/p", http="127.0.0.1:0", capacity=2
    )
    with pytest.raises(RtsegError, match=r"needs the package 'prometheus-client': pip install 'rtseg\[ops\]'"):
        serve(load(tiny_bundle, capacity=settings.slots), settings)
    assert not compiled
