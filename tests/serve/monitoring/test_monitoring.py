"""What keeps a daemon running: health over HTTP, signs of life to systemd, logs, status, another bundle meanwhile."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket as plain_socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import fields, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.client import Publisher, Subscriber, ask_load, ask_status
from rtseg.config import ServeSettings, from_plain, load_settings
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7, Skeleton
from rtseg.inference.classifier import load
from rtseg.inference.predictions import Quality
from rtseg.recordings.recording import Recording
from rtseg.serve.monitoring.http_process import HealthProcess
from rtseg.serve.monitoring.prometheus import Metrics, health, readiness
from rtseg.serve.monitoring.shared_status import Board, BoardReader
from rtseg.serve.monitoring.systemd import Notifier
from rtseg.system.log_setup import background
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.commands import here
from tests.live import HELLO, REPO, Child, Raw, daemon, frame_of, random_walk

S = 1_000_000_000


def changed(bundle: Path, folder: Path, **changes: Any) -> Path:
    """The bundle with other weights, and whatever else is to differ."""
    made = load_bundle(bundle)
    weights = {name: w + np.float32(0.5 * name.endswith("bias")) for name, w in made.weights.items()}
    save_bundle(replace(made, weights=weights, **changes), folder)
    return folder


@pytest.fixture(scope="module")
def other_bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed(tiny_bundle, tmp_path_factory.mktemp("other") / "other")


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle, http="127.0.0.1:0", fresh_s=0.5) as child:
        yield child


def get(child: Child, path: str, **headers: str) -> tuple[int, str]:
    try:
        asked = urllib.request.Request(child.about["http"] + path, headers=headers)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def ask_for_ever(child: Child) -> None:
    while True:
        get(child, "/healthz")


def hear_for_ever(manager: plain_socket.socket) -> None:
    while True:
        assert manager.recv(4096) == b"WATCHDOG=1"


def until(child: Child, path: str, wanted: str) -> tuple[int, str]:
    """What the path says once it says this: the board follows the loop by a fraction of a second."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        status, text = get(child, path)
        if wanted in text:
            return status, text
    raise AssertionError(f"{path} never said {wanted!r}, but {text}")


def test_metrics_count_what_was_served(child: Child) -> None:
    walk = random_walk(30, 1)
    with (
        Publisher(child.frames, "counted", MICE7, 30.0) as publisher,
        Subscriber(child.predictions, "counted", timeout_s=30) as subscriber,
    ):
        before = ask_status(child.frames)["counters"].get("frames", 0)
        for t in range(30):
            publisher.send(walk.keypoints[t])
            next(iter(subscriber))
        until(child, "/metrics", f"rtseg_frames_total {before + 30:.1f}")  # the board's pieces are not of one moment
        until(child, "/metrics", f'le="+Inf",stage="total"}} {before + 30:.1f}')
        status, text = until(child, "/metrics", 'rtseg_stream_frames_total{stream="counted"} 30.0')
        assert status == 200
        lines = text.splitlines()
        model = child.about["model"]
        assert any(line.startswith("rtseg_info{") and f'model="{model}"' in line for line in lines)
        assert f"rtseg_frames_total {before + 30:.1f}" in lines
        assert "rtseg_streams_open 1.0" in lines
        assert f'rtseg_latency_seconds_bucket{{le="+Inf",stage="total"}} {before + 30:.1f}' in lines
        buckets = [
            float(s.split()[-1]) for s in lines if s.startswith("rtseg_latency_seconds_bucket") and '"step"' in s
        ]
        assert buckets == sorted(buckets)
        assert len(buckets) == 25
    status, openmetrics = get(child, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert openmetrics.endswith("# EOF\n")


def test_ready_says_which_input_is_stale(child: Child) -> None:
    assert until(child, "/readyz", '"ready": true')[0] == 200
    assert get(child, "/healthz")[0] == 200
    with Raw(child.frames) as raw:
        assert raw.ask(HELLO | {"stream": "silent"})["type"] == "accepted"
        status, text = until(child, "/readyz", "silent")
        assert status == 503
        assert json.loads(text)["stale"] == ["silent"]
        assert "no frame for more than 0.5 s from 1 of 1 streams" in text
        assert raw.ask({"v": 1, "type": "bye", "stream": "silent"})["type"] == "goodbye"
    assert until(child, "/readyz", '"ready": true')[0] == 200


def test_other_paths_other_names_and_other_methods(child: Child) -> None:
    assert get(child, "/")[0] == 404
    assert get(child, "/healthz", Host="evil.example")[0] == 403
    assert get(child, "/healthz", Host="localhost:9464")[0] == 200
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(child.about["http"] + "/metrics", data=b"x", timeout=30)
    with refused.value:
        assert refused.value.code == 501


def test_a_loop_that_hangs_is_seen_and_the_server_goes_with_the_daemon(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, http="127.0.0.1:0") as child:
        assert until(child, "/readyz", '"ready": true')[0] == 200
        child.signal(signal.SIGSTOP)
        status, _ = until(child, "/healthz", "no sign of life from the daemon's loop for")
        assert status == 503
        child.signal(signal.SIGCONT)
        assert until(child, "/healthz", '"alive": true')[0] == 200
        child.signal(signal.SIGKILL)
        child.process.wait(30)
        with pytest.raises((OSError, HTTPException)):
            ask_for_ever(child)


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "9464", "127.0.0.1:port", "example.org:1", "127.0.0.1:99999"])
def test_http_is_for_loopback_only(tmp_path: Path, address: str) -> None:
    with pytest.raises(ServeError, match=f"http = {address!r}: expected HOST:PORT on loopback"):
        HealthProcess(tmp_path / "board", address)


def test_an_http_port_in_use(tiny_bundle: Path) -> None:
    with plain_socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        out, err, code = Child(tiny_bundle, http=f"127.0.0.1:{taken.getsockname()[1]}").rest()
    assert (code, out) == (3, "")
    assert "Address already in use" in err


def test_what_is_healthy_and_what_is_ready() -> None:
    about = {"ready": True, "started_ns": 0, "fresh_s": 2.0, "streams": {"a": [9 * S, 0]}}
    assert health(10 * S, about, 11 * S) == (True, {"alive": True, "reason": "", "uptime_s": 11.0})
    assert not health(10 * S, about, 16 * S)[0]
    assert health(0, {}, 100 * S)[0]  # it still compiles
    assert not readiness(0, {}, 100 * S)[0]
    assert readiness(10 * S, about, 10 * S)[0]
    assert readiness(12 * S, about, 12 * S)[1]["stale"] == ["a"]
    assert readiness(10 * S, about | {"stopping": True}, 10 * S)[1]["reasons"] == ["the daemon is stopping"]
    assert [f.name for f in Metrics(0, {}, 0).collect()] == ["rtseg_ready"]


def test_a_board_is_read_whole_or_not_at_all() -> None:
    board = Board()
    try:
        reader = BoardReader(board.path)
        assert reader.read() == (0, {})

        def pieces() -> Iterator[dict[str, Any]]:
            yield {"n": 1, "streams": {}}
            yield {"streams": {"a": 1}}
            yield {"streams": {"b": 2}}

        board.follow(pieces)
        for turn in range(1, 4):
            board.turn(turn)
            assert reader.read() == (turn, {})  # alive, and nothing half said
        board.turn(4)
        assert reader.read() == (4, {"n": 1, "streams": {"a": 1, "b": 2}})
        many = {"streams": {str(i): "x" * 2000 for i in range(1000)}}
        board.write_all(lambda: iter([{"n": 2, "streams": {}}, many]), 5)
        assert reader.read() == (5, {"n": 2, "streams": {}, "cut": True})
    finally:
        board.close()
    assert not board.path.exists()
    with pytest.raises(ServeError, match="no board of a daemon"):
        BoardReader(board.path)


def test_systemd_hears_ready_life_and_stopping(tiny_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with plain_socket.socket(plain_socket.AF_UNIX, plain_socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "200000")
        with daemon(tiny_bundle) as child:
            ready = manager.recv(4096).decode().splitlines()
            assert ready[:2] == ["READY=1", f"MAINPID={child.process.pid}"]
            assert ready[2].startswith("STATUS=serving ")
            assert [manager.recv(4096) for _ in range(3)] == [b"WATCHDOG=1"] * 3
            child.signal(signal.SIGSTOP)  # a loop that stands still says nothing
            manager.settimeout(1.0)
            with pytest.raises(TimeoutError):
                hear_for_ever(manager)
            child.signal(signal.SIGTERM, signal.SIGCONT)
            assert child.rest()[2] == 0
        manager.settimeout(60)
        said = manager.recv(4096)
        while said == b"WATCHDOG=1":
            said = manager.recv(4096)
        assert said == b"STOPPING=1"


def test_notifying_without_a_manager_and_with_an_abstract_or_dead_one() -> None:
    nobody = Notifier({})
    nobody.ready("x")
    nobody.alive(10**18)
    nobody.stopping()
    assert Notifier({"WATCHDOG_USEC": "1000"}).watchdog_ns == 0  # nobody listens
    with plain_socket.socket(plain_socket.AF_UNIX, plain_socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0rtseg-{os.getpid()}")
        manager.settimeout(10)
        about = {"NOTIFY_SOCKET": f"@rtseg-{os.getpid()}", "WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid())}
        notifier = Notifier(about)
        assert notifier.watchdog_ns == 1_000_000
        notifier.alive(5_000_000)
        notifier.alive(5_500_000)
        notifier.stopping()
        assert [manager.recv(100), manager.recv(100)] == [b"WATCHDOG=1", b"STOPPING=1"]
        other = Notifier(about | {"WATCHDOG_PID": "1"})
        assert other.watchdog_ns == 0  # meant for another process
        other.close()
    notifier.stopping()  # nobody is there any more
    notifier.close()
    with pytest.raises(ServeError, match="WATCHDOG_USEC: expected microseconds"):
        Notifier(about | {"WATCHDOG_USEC": "soon"})


def test_the_log_as_json(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, log_format="json") as child:
        with Raw(child.frames) as raw:
            raw.ask(HELLO)
        child.signal(signal.SIGTERM)
        _, err, code = child.rest()
    assert code == 0
    lines = [json.loads(line) for line in err.splitlines()]
    messages = [line["message"] for line in lines]
    assert messages[-2:] == ["stream 'cage1' opened", "stream 'cage1' closed: stopping"]
    assert {(line["level"], line["logger"]) for line in lines[-2:]} == {("INFO", "rtseg.serve")}
    assert lines[0]["time"].endswith("Z")


def test_a_log_that_nobody_reads_holds_nobody_up() -> None:
    reading, writing = os.pipe()
    written: list[bytes] = []
    go = threading.Event()

    def write(line: bytes) -> None:
        go.wait(30)
        written.append(line)

    logger = logging.getLogger("rtseg.serve")
    level = logging.getLogger("rtseg").level
    logging.getLogger("rtseg").setLevel(logging.INFO)
    try:
        with background("json", write):
            for number in range(20_000):  # twice the room there is
                logger.info("line %d", number, extra={"stream": "cage1"})
            try:
                raise ValueError("broken")
            except ValueError:
                go.set()
                while len(written) < 10_000:
                    pass
                logger.exception("an error")
    finally:
        logging.getLogger("rtseg").setLevel(level)
        os.close(reading)
        os.close(writing)
    first = json.loads(written[0])
    assert (first["message"], first["stream"]) == ("line 0", "cage1")
    assert "ValueError: broken" in json.loads(written[-1])["exception"]
    assert 10_000 <= len(written) <= 10_003


def test_settings_of_a_daemon_that_are_unknown_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="unknown key colour; accepted: frames, predictions"):
        from_plain({"colour": "red"}, ServeSettings)
    with pytest.raises(Exception, match="log_format must be one of text, json; got 'xml'"):
        from_plain({"log_format": "xml"}, ServeSettings)
    example = REPO / "packaging" / "rtseg.toml"
    assert load_settings(example, ServeSettings) == ServeSettings(http="127.0.0.1:9464", log_format="json")
    # What stands there as a comment is every setting with its default.
    shown = [line.removeprefix("# ") for line in example.read_text().splitlines() if " = " in line]
    assert {line.partition(" = ")[0] for line in shown} == {field.name for field in fields(ServeSettings)}
    (tmp_path / "all.toml").write_text("\n".join(shown))
    assert load_settings(tmp_path / "all.toml", ServeSettings) == ServeSettings(
        http="127.0.0.1:9464", log_format="json"
    )


def test_status_as_a_user_asks_for_it(child: Child) -> None:
    with Raw(child.frames) as raw:
        assert raw.ask(HELLO | {"stream": "shown"})["type"] == "accepted"
        for t in range(3):
            raw.send(frame_of(random_walk(3, 1), t, stream="shown"))
        done = here("status", child.frames)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{child.frames}: up 0 min" in done.stdout
        assert "Streams, " in done.stdout
        assert " of 16 " in done.stdout
        assert [w for line in done.stdout.splitlines() if "shown" in line for w in line.split()][2] == "3"
        plain = json.loads(here("status", child.frames, "--json").stdout)
        assert plain["streams"]["shown"]["frames"] == 3
        assert plain["models"]["shown"] == child.about["model"]
        assert raw.ask({"v": 1, "type": "bye", "stream": "shown"})["type"] == "goodbye"
    gone = here("status", "tcp://127.0.0.1:1", "--timeout", "0.2")
    assert gone.returncode == 3
    assert "no daemon at tcp://127.0.0.1:1 within 0.2 s: start `rtseg serve BUNDLE` first" in gone.stderr


def test_keys_as_a_user_makes_them(tmp_path: Path, tiny_bundle: Path) -> None:
    keys = str(tmp_path / "keys")
    made = here("keys", "new", "camera1", "--role", "publish", "--role", "subscribe", "--keys", keys, cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert "camera1.key: key 'camera1' may publish, subscribe" in made.stdout
    assert f"rtseg serve BUNDLE --keys {keys}" in made.stdout
    here("keys", "new", "boss", "--role", "control", "--keys", keys, "--out", "b.key", cwd=tmp_path)
    listed = json.loads(here("keys", "list", "--keys", keys, "--json").stdout)
    assert [(k["name"], k["roles"]) for k in listed] == [("boss", ["control"]), ("camera1", ["publish", "subscribe"])]
    assert "camera1" in here("keys", "list", "--keys", keys).stdout
    with daemon(tiny_bundle, keys=keys) as child:
        assert here("status", child.frames, "--key", str(tmp_path / "b.key")).returncode == 0
        denied = here("status", child.frames, "--key", str(tmp_path / "camera1.key"))
        assert denied.returncode == 3
        assert "refused status: key 'camera1' may not send status: that takes the role control" in denied.stderr
    assert here("keys", "revoke", "boss", "--keys", keys).stdout == "key 'boss' (control) is revoked\n"
    wrong = here("keys", "revoke", "boss", "--keys", keys)
    assert (wrong.returncode, wrong.stderr) == (3, f"rtseg: no key 'boss' in {keys}; there are: camera1\n")


def test_a_bundle_is_swapped_between_two_frames(child: Child, tiny_bundle: Path, other_bundle: Path) -> None:
    walk = random_walk(60, 3)
    part = Recording("rest", MICE7, walk.keypoints[30:], walk.confidence[30:], 30.0)
    was, becomes = load(tiny_bundle).run(walk).probs[:30], load(other_bundle).run(part).probs
    with (
        Publisher(child.frames, "swapped", MICE7, 30.0) as publisher,
        Publisher(child.frames, "kept", MICE7, 30.0) as bystander,
        Subscriber(child.predictions, "swapped", timeout_s=30) as subscriber,
    ):
        heard: list[PredictionMessage | StreamEvent] = []
        for t in range(60):
            if t == 30:
                done = here("load", str(other_bundle), "--to", child.frames, "--stream", "swapped")
                assert (done.returncode, done.stderr) == (0, "")
                assert "answers stream 'swapped'" in done.stdout
            publisher.send(walk.keypoints[t], walk.confidence[t])
            bystander.send(walk.keypoints[t], walk.confidence[t])
            while not (heard and isinstance(heard[-1], PredictionMessage) and heard[-1].seq == t):
                message = subscriber.receive(30)
                assert message is not None
                heard.append(message)
        models = ask_status(child.frames)["models"]
        assert publisher.close()["frames"] == 60  # counters go on
        assert bystander.close()["frames"] == 60
    answers = [m for m in heard if isinstance(m, PredictionMessage)]
    assert [a.seq for a in answers] == list(range(60))  # none lost, none twice
    probs = np.array([np.concatenate(list(a.probs.values())) for a in answers])
    np.testing.assert_array_equal(probs[:30], was)
    np.testing.assert_array_equal(probs[30:], becomes)  # the state is fresh
    fresh = load_bundle(other_bundle)
    assert [a.model for a in answers] == [child.about["model"]] * 30 + [fresh.hash] * 30
    assert answers[30].quality & Quality.WARMING_UP
    events = [m for m in heard if isinstance(m, StreamEvent)]
    assert [(e.type, e.fields["model"]) for e in events if e.type == "model"] == [("model", fresh.hash)]
    assert (models["swapped"], models["kept"]) == (fresh.hash, child.about["model"])


def test_numbers_and_gaps_go_on_over_a_swap(child: Child, other_bundle: Path) -> None:
    walk = random_walk(10, 3)
    with Raw(child.frames) as raw, Subscriber(child.predictions, "gaps", timeout_s=30) as subscriber:
        assert raw.ask(HELLO | {"stream": "gaps"})["type"] == "accepted"
        answers = iter(subscriber)
        for t in range(3):
            raw.send(frame_of(walk, t, stream="gaps"))
            assert next(answers).seq == t
        ask_load(child.frames, other_bundle, stream="gaps")
        raw.send(frame_of(walk, 2, stream="gaps"))  # late, as it would have been
        raw.send(frame_of(walk, 5, stream="gaps"))
        assert [next(answers).seq for _ in range(3)] == [3, 4, 5]
        counters = raw.ask({"v": 1, "type": "bye", "stream": "gaps"})["counters"]
    assert (counters["frames"], counters["duplicates"], counters["gaps"], counters["filled"]) == (5, 1, 1, 2)


def test_a_load_for_all_and_for_those_to_come(tiny_bundle: Path, other_bundle: Path) -> None:
    fresh = load_bundle(other_bundle).hash
    with (
        daemon(tiny_bundle, capacity=2) as child,
        Publisher(child.frames, "one", MICE7, 30.0) as one,
        Subscriber(child.predictions, timeout_s=30) as subscriber,
    ):
        done = ask_load(child.frames, other_bundle)
        assert (done["streams"], done["model"]) == (["one"], fresh)
        with Publisher(child.frames, "two", MICE7, 30.0) as two:
            assert two.served.model == fresh
            one.send(np.ones((2, 7, 2)))
            two.send(np.ones((2, 7, 2)))
            assert {next(iter(subscriber)).model for _ in range(2)} == {fresh}
            ask_load(child.frames, tiny_bundle, stream="one")
            # The place that `one` left in the first model is not one more.
            with pytest.raises(ServeError, match="all 2 slots are taken"):
                Publisher(child.frames, "three", MICE7, 30.0)


def test_what_a_lookahead_owes_is_published_before_the_swap(tiny_bundle: Path, tmp_path: Path) -> None:
    walk = random_walk(20, 3)
    ahead = changed(tiny_bundle, tmp_path / "ahead", lookahead_frames=3)
    offline = load(ahead).run(Recording("first", MICE7, walk.keypoints[:10], walk.confidence[:10], 30.0))
    with (
        daemon(ahead) as child,
        Raw(child.frames) as raw,
        Subscriber(child.predictions, "cage1", timeout_s=30) as subscriber,
    ):
        assert raw.ask(HELLO)["type"] == "accepted"
        for t in range(10):
            raw.send(frame_of(walk, t))
        ask_load(child.frames, tiny_bundle, timeout_s=30)
        for t in range(10, 20):
            raw.send(frame_of(walk, t))
        heard = [answer for _, answer in zip(range(20), subscriber, strict=False)]
    assert [answer.seq for answer in heard] == list(range(20))
    assert [answer.model == load_bundle(ahead).hash for answer in heard] == [True] * 10 + [False] * 10
    probs = np.array([np.concatenate(list(answer.probs.values())) for answer in heard[:10]])
    np.testing.assert_array_equal(probs, offline.probs)


def test_a_load_that_is_refused_changes_nothing(child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    skeleton = Skeleton(MICE7.animals, ("snout", *MICE7.keypoints[1:]))
    foreign = changed(tiny_bundle, tmp_path / "foreign", skeleton=skeleton)
    slower = changed(tiny_bundle, tmp_path / "slower", fps=25.0)
    broken = changed(tiny_bundle, tmp_path / "broken")
    (broken / "weights.safetensors").write_bytes(b"nothing")
    with Publisher(child.frames, "steady", MICE7, 30.0) as publisher:
        for bundle, reason in (
            (foreign, "refused load: .*without a counterpart: snout"),
            (slower, "refused load: stream 'steady': .* the model was trained at 25"),
            (broken, "refused load: .*weights.safetensors"),
            (tmp_path / "nothing", "refused load: .*no bundle here"),
        ):
            with pytest.raises(ServeError, match=reason):
                ask_load(child.frames, bundle)
        with pytest.raises(ServeError, match="stream 'nobody' is not open"):
            ask_load(child.frames, tiny_bundle, stream="nobody")
        with pytest.raises(ServeError, match="'bundle': expected the full path of a folder"):
            ask_load(child.frames, "engines/rats58")
        status = ask_status(child.frames)
        assert status["models"] == {"steady": child.about["model"]}
        assert status["model"] == child.about["model"]
        publisher.send(np.ones((2, 7, 2)))


def test_control_can_be_switched_off(tiny_bundle: Path) -> None:
    with daemon(tiny_bundle, control=False) as child, Raw(child.frames) as raw:
        for message in ({"type": "load", "bundle": str(tiny_bundle)}, {"type": "stop"}):
            answer = raw.ask({"v": 1, **message})
            assert "is not taken here: the daemon was started with control = false" in answer["reason"]
        assert raw.ask({"v": 1, "type": "status"})["type"] == "status"
