"""Keys at a daemon's sockets: without one, with a wrong or a revoked one, no frame gets in and no answer out."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from rtseg.client import Publisher, Subscriber, ask_arm, ask_disarm, ask_load, ask_status, ask_stop
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7
from rtseg.wire.keys import ClientKey, KeyStore, make_key_file
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, REPO, Child, daemon, frame_of, random_walk

ANYWHERE = "tcp://0.0.0.0:*"


class Lab:
    """A daemon that listens on every interface, its keys, and the addresses at which this machine reaches it."""

    def __init__(self, child: Child, store: KeyStore) -> None:
        self.child, self.store = child, store
        self.frames = child.frames.replace("0.0.0.0", "127.0.0.2")
        self.predictions = child.predictions.replace("0.0.0.0", "127.0.0.2")
        self.control = store.new(f"control-{time.time_ns()}", ["control"])

    def status(self) -> dict[str, Any]:
        return ask_status(self.frames, timeout_s=30, key=self.control)

    def wait_until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which this holds."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status = self.status()
            if holds(status):
                return status
        raise AssertionError(f"not within 30 s; at last: {status}")


@pytest.fixture(scope="module")
def lab(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    store = KeyStore(tmp_path_factory.mktemp("lab") / "keys")
    store.server()
    settings = {"keys": str(store.folder), "max_streams_per_key": 2, "max_frames_per_s": 50.0}
    with daemon(tiny_bundle, frames=ANYWHERE, predictions=ANYWHERE, **settings) as child:
        yield Lab(child, store)


@pytest.fixture
def key(lab: Lab, request: pytest.FixtureRequest) -> Callable[..., ClientKey]:
    def new(*roles: str) -> ClientKey:
        return lab.store.new(f"k{time.time_ns()}", roles)

    return new


class Connection:
    """A raw socket with a key, or without one."""

    def __init__(self, address: str, key: ClientKey | None, kind: int = zmq.DEALER, identity: bytes = b"") -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        if key is not None:
            self.socket.curve_serverkey = key.server.encode()
            self.socket.curve_publickey, self.socket.curve_secretkey = key.public.encode(), key.secret.encode()
        if identity:
            self.socket.routing_id = identity
        self.socket.connect(address)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def send(self, message: dict[str, Any]) -> None:
        """Never waits: once ZeroMQ knows that the connection is refused, there is nowhere to put a message."""
        with contextlib.suppress(zmq.Again):
            self.socket.send(msgpack.packb(message), zmq.NOBLOCK)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.send(message)
        assert self.socket.poll(30_000), "no answer"
        answer = msgpack.unpackb(self.socket.recv())
        assert isinstance(answer, dict)
        return answer


def test_with_keys_everything_works_as_without(lab: Lab, key: Callable[..., ClientKey], tmp_path: Path) -> None:
    walk = random_walk(20, 30)
    make_key_file(lab.store, "camera-file", ["publish", "subscribe"], tmp_path / "c.key")
    with Publisher(lab.frames, "works", MICE7, 30.0, key=tmp_path / "c.key", timeout_s=30) as publisher:
        # The daemon calls itself 0.0.0.0; a client must be told what it can reach.
        assert publisher.served.predictions == lab.predictions
        with Subscriber(publisher.served.predictions, "works", timeout_s=30, key=tmp_path / "c.key") as subscriber:
            answers = iter(subscriber)
            for t in range(20):
                publisher.send(walk.keypoints[t], walk.confidence[t])
                assert next(answers).seq == t
        with pytest.raises(ServeError, match="may not send status: that takes the role control"):
            ask_status(lab.frames, timeout_s=30, key=tmp_path / "c.key")
    assert lab.status()["counters"]["frames"] >= 20


def test_nobody_without_a_key_gets_in(lab: Lab) -> None:
    before = lab.status()["counters"]
    stranger = KeyStore(lab.store.folder.parent / "elsewhere").new("stranger", ["publish", "subscribe", "control"])
    # It knows the daemon's public half, which is no secret; and still its own is not on the list.
    unknown = ClientKey("unknown", stranger.public, stranger.secret, lab.control.server)
    with (
        Connection(lab.frames, None) as nobody,
        Connection(lab.frames, stranger) as foreign,
        Connection(lab.frames, unknown) as forged,
        Connection(lab.predictions, None, zmq.SUB) as ear,
        Connection(lab.predictions, unknown, zmq.SUB) as other_ear,
    ):
        for listener in (ear, other_ear):
            listener.socket.subscribe("")
        for sender in (nobody, foreign, forged):
            sender.send(HELLO | {"stream": "smuggled"})
            sender.send(frame_of(random_walk(1, 0), 0, stream="smuggled"))
            sender.send({"v": 1, "type": "stop"})
        lab.wait_until(lambda s: s["counters"]["refused connections"] >= before["refused connections"] + 5)
        status = lab.status()
        assert status["streams"] == {}
        assert status["counters"].get("frames", 0) == before.get("frames", 0)
        assert status["counters"].get("hellos", 0) == before.get("hellos", 0)
        assert not any(c.socket.poll(0) for c in (nobody, foreign, forged, ear, other_ear))
    with pytest.raises(ServeError, match=r"no daemon at .* started with --keys takes connections with a key"):
        Publisher(lab.frames, "smuggled", MICE7, 30.0, timeout_s=0.3)
    with pytest.raises(ServeError, match=r"or it refused key 'unknown': revoked"):
        Publisher(lab.frames, "smuggled", MICE7, 30.0, timeout_s=0.3, key=unknown)


def test_each_role_opens_its_own_socket_only(lab: Lab, key: Callable[..., ClientKey]) -> None:
    publish, subscribe, control = key("publish"), key("subscribe"), lab.control
    before = lab.status()["counters"]["refused connections"]
    with Connection(lab.frames, subscribe) as wrong, Connection(lab.predictions, publish, zmq.SUB) as deaf:
        wrong.send(HELLO)
        deaf.socket.subscribe("")
        lab.wait_until(lambda s: s["counters"]["refused connections"] >= before + 2)
        assert lab.status()["streams"] == {}
    with Connection(lab.frames, publish) as raw:
        for message, role in (({"type": "status"}, "control"), ({"type": "stop"}, "control")):
            answer = raw.ask({"v": 1, **message})
            assert (answer["type"], answer["kind"]) == ("error", "AccessError")
            assert f"that takes the role {role}" in answer["reason"]
    with Connection(lab.frames, control) as raw:
        assert "may not send hello: that takes the role publish" in raw.ask(HELLO)["reason"]
    arm = key("arm")
    for who in (publish, control):
        with pytest.raises(ServeError, match="may not send arm: that takes the role arm"):
            ask_arm(lab.frames, key=who, timeout_s=30)
    with pytest.raises(ServeError, match=r"disarm is not taken here: .*(without|has no) triggers"):
        ask_disarm(lab.frames, key=arm, timeout_s=30)
    with pytest.raises(ServeError, match="that takes the role control"):
        ask_stop(lab.frames, key=arm, timeout_s=30)
    with pytest.raises(ServeError, match="that takes the role control"):
        ask_stop(lab.frames, key=publish, timeout_s=30)
    with pytest.raises(ServeError, match="that takes the role control"):
        ask_load(lab.frames, "/nowhere", key=publish, timeout_s=30)


def test_a_revoked_key_loses_its_streams_and_subscriptions_at_once(lab: Lab, key: Callable[..., ClientKey]) -> None:
    walk = random_walk(3, 5)
    both, other = key("publish", "subscribe"), key("publish", "subscribe")
    with (
        Connection(lab.frames, both) as camera,
        Subscriber(lab.predictions, timeout_s=30, key=both) as thief,
        Subscriber(lab.predictions, timeout_s=30, key=other) as friend,
        Publisher(lab.frames, "kept", MICE7, 30.0, key=other, timeout_s=30) as publisher,
    ):
        assert camera.ask(HELLO | {"stream": "lost"})["type"] == "accepted"
        camera.send(frame_of(walk, 0, stream="lost"))
        while not isinstance(thief.receive(30), PredictionMessage):
            pass
        lab.store.revoke(both.name)
        closed = first(friend, lambda m: isinstance(m, StreamEvent) and m.type == "closed")
        assert (closed.stream, closed.fields["reason"]) == ("lost", "key revoked")
        frames = lab.status()["counters"]["frames"]
        for t in (1, 2):
            camera.send(frame_of(walk, t, stream="lost"))
        publisher.send(walk.keypoints[0])
        answer = first(friend, lambda m: isinstance(m, PredictionMessage))
        assert answer.stream == "kept"
        status = lab.status()
        assert list(status["streams"]) == ["kept"]
        assert status["counters"]["frames"] == frames + 1
        late = []
        while (message := thief.receive(0.2)) is not None:
            late.append(message)
        assert not [m for m in late if m.stream == "kept" and isinstance(m, PredictionMessage)]
    with pytest.raises(ServeError, match="no daemon at"):
        Subscriber(lab.predictions, connect_timeout_s=0.3, key=both)


def test_a_folder_of_keys_that_can_no_longer_be_read_revokes_none(tiny_bundle: Path, tmp_path: Path) -> None:
    store, walk = KeyStore(tmp_path / "keys"), random_walk(2, 6)
    camera = store.new("camera", ["publish", "subscribe"])
    allowed, aside = store.folder / "allowed", store.folder / "aside"
    allowed.rename(aside)
    allowed.symlink_to(aside)
    with (
        daemon(tiny_bundle, keys=str(store.folder)) as child,
        Connection(child.frames, camera) as raw,
        Subscriber(child.predictions, timeout_s=30, key=camera) as subscriber,
    ):
        assert raw.ask(HELLO | {"stream": "stays"})["type"] == "accepted"
        loop = store.folder / "loop"
        loop.symlink_to(allowed)  # to itself, in a moment: whoever looks at it is refused, also root
        loop.replace(allowed)
        time.sleep(1.2)
        raw.send(frame_of(walk, 0, stream="stays"))
        first(subscriber, lambda m: isinstance(m, PredictionMessage) and m.seq == 0)
        child.signal(signal.SIGTERM)
        assert "until they can be read, the keys that were valid are" in child.rest()[1]


def test_a_daemon_without_file_descriptors_keeps_its_keys_and_sees_one_that_is_revoked(
    lab: Lab, key: Callable[..., ClientKey]
) -> None:
    """Whoever connects often enough, without a key, takes them all."""
    walk = random_walk(5, 6)
    camera, other, reader = key("publish"), key("publish", "subscribe"), key("subscribe")
    pid = lab.child.process.pid
    with (
        Connection(lab.frames, camera) as raw,
        Connection(lab.frames, other) as revoked,
        Subscriber(lab.predictions, timeout_s=30, key=other) as thief,
        Subscriber(lab.predictions, timeout_s=30, key=reader) as subscriber,
    ):
        for connection, name in ((raw, "stays"), (revoked, "goes")):
            assert connection.ask(HELLO | {"stream": name})["type"] == "accepted"
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (8, before[1]))  # it has more; `poll` may take as many
        try:
            key("publish")  # the folder has changed, and cannot be read
            time.sleep(1.2)
            raw.send(frame_of(walk, 0, stream="stays"))
            first(subscriber, lambda m: isinstance(m, PredictionMessage) and m.seq == 0)
            lab.store.revoke(other.name)
            closed = first(subscriber, lambda m: isinstance(m, StreamEvent) and m.type == "closed")
            assert (closed.stream, closed.fields["reason"]) == ("goes", "key revoked")
            raw.send(frame_of(walk, 1, stream="stays"))
            first(subscriber, lambda m: isinstance(m, PredictionMessage) and m.seq == 1)
            overheard = []
            while (message := thief.receive(0.2)) is not None:
                overheard.append(message)
            assert [m.seq for m in overheard if isinstance(m, PredictionMessage)] == [0]
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        with Connection(lab.frames, key("publish")) as late:
            assert late.ask({"v": 1, "type": "bye", "stream": "none"})["kind"] == "StreamError"


def test_a_stream_belongs_to_its_key_whatever_a_connection_calls_itself(
    lab: Lab, key: Callable[..., ClientKey]
) -> None:
    walk = random_walk(2, 5)
    owner, thief = key("publish"), key("publish")
    with Connection(lab.frames, owner, identity=b"camera") as first_one:
        assert first_one.ask(HELLO | {"stream": "mine"})["type"] == "accepted"
        first_one.send(frame_of(walk, 0, stream="mine"))
        lab.wait_until(lambda s: s["streams"].get("mine", {}).get("frames") == 1)
    with Connection(lab.frames, thief, identity=b"camera") as second:
        for message in (frame_of(walk, 1, stream="mine"), HELLO | {"stream": "mine"}):
            answer = second.ask(message)
            assert (answer["type"], answer["kind"]) == ("error", "AccessError")
            assert "'mine' was opened with another key: choose another name" in answer["reason"]
    with Connection(lab.frames, owner) as again:
        assert again.ask(HELLO | {"stream": "mine"})["type"] == "accepted"  # its own it may take over
        assert again.ask({"v": 1, "type": "bye", "stream": "mine"})["type"] == "goodbye"


def test_limits_per_key_and_stream(lab: Lab, key: Callable[..., ClientKey]) -> None:
    walk = random_walk(60, 1)
    with Connection(lab.frames, key("publish")) as raw, Connection(lab.frames, key("publish")) as other:
        for name in ("a", "b", "a"):
            assert raw.ask(HELLO | {"stream": name})["type"] == "accepted"
        answer = raw.ask(HELLO | {"stream": "c"})
        assert (answer["type"], answer["kind"]) == ("error", "LimitError")
        assert "has 2 open streams, the most that a key may have" in answer["reason"]
        assert other.ask(HELLO | {"stream": "c"})["type"] == "accepted"
        for t in range(60):
            raw.send(frame_of(walk, t, stream="a"))
        assert raw.socket.poll(30_000)
        refused = msgpack.unpackb(raw.socket.recv())
        assert "more than 50 frames per second" in refused["reason"]
        counters = raw.ask({"v": 1, "type": "bye", "stream": "a"})["counters"]
        assert counters["refused"] + counters["frames"] == 60
        assert counters["frames"] >= 50
        for name in ("b",):
            assert raw.ask({"v": 1, "type": "bye", "stream": name})["type"] == "goodbye"


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces take root and the command ip"
)
def test_from_another_network_namespace(lab: Lab, key: Callable[..., ClientKey], tmp_path: Path) -> None:
    name = f"rtseg{os.getpid()}"
    commands = [
        f"ip netns add {name}",
        f"ip link add {name[:10]}a type veth peer name {name[:10]}b netns {name}",
        f"ip addr add 10.213.77.1/24 dev {name[:10]}a",
        f"ip link set {name[:10]}a up",
        f"ip -n {name} addr add 10.213.77.2/24 dev {name[:10]}b",
        f"ip -n {name} link set {name[:10]}b up",
    ]
    for role, file in (("camera", "c.key"), ("revoked", "r.key")):
        make_key_file(lab.store, f"{role}-{name}", ["publish", "subscribe"], tmp_path / file)
    lab.store.revoke(f"revoked-{name}")
    frames = lab.child.frames.replace("0.0.0.0", "10.213.77.1")
    code = f"""
import numpy as np
from rtseg.client import Publisher, Subscriber
from rtseg.errors import ServeError
from rtseg.frames.skeleton import MICE7
for key in (None, {str(tmp_path / "r.key")!r}, {str(tmp_path / "c.key")!r}):
    try:
        with Publisher({frames!r}, "far", MICE7, 30.0, key=key, timeout_s=20 if key and "c.key" in key else 0.5) as p:
            with Subscriber(p.served.predictions, "far", key=key, timeout_s=20) as s:
                p.send(np.ones((2, 7, 2)))
                print("answered", next(iter(s)).seq)
    except ServeError as error:
        print(str(error)[:9])
    try:
        if not key or "c.key" not in key:
            Subscriber({lab.child.predictions.replace("0.0.0.0", "10.213.77.1")!r}, key=key, connect_timeout_s=0.5)
            print("heard something")
    except ServeError as error:
        print(str(error)[:9])
"""
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no network namespace here: {command}: {done.stderr.strip()}")
        inside = ["ip", "netns", "exec", name, sys.executable, "-c", code]
        done = subprocess.run(inside, cwd=REPO, capture_output=True, text=True, check=False, timeout=60)
        assert done.stderr == ""
        assert done.stdout.split("\n") == ["no daemon"] * 4 + ["answered 0", ""]
    finally:
        subprocess.run(["ip", "link", "del", f"{name[:10]}a"], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def test_what_the_log_says_of_refusals(tiny_bundle: Path, tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    publish, revoked = store.new("camera1", ["publish"]), store.new("gone", ["publish"])
    control = store.new("control", ["control"])
    store.revoke("gone")
    with daemon(tiny_bundle, keys=str(tmp_path)) as child:
        with (
            Connection(child.frames, None) as nobody,
            Connection(child.frames, revoked) as late,
            Connection(child.predictions, publish, zmq.SUB) as ear,
        ):
            nobody.send(HELLO)
            late.send(HELLO)
            ear.socket.subscribe("")
            while ask_status(child.frames, key=control, timeout_s=30)["counters"]["refused connections"] < 3:
                pass
        assert ask_stop(child.frames, key=control, timeout_s=30)["type"] == "stopping"
        _, err, code = child.rest()
    assert code == 0
    knocked = f"connection to the frames socket, {child.frames}, refused: its handshake failed: no key"
    assert knocked in err
    assert f"connection from 127.0.0.1 to the frames socket refused: its key {revoked.public[:8]}... is unknown" in err
    assert "connection from 127.0.0.1 to the predictions socket refused: key 'camera1' has the roles publish" in err
    assert "asked to stop by key 'control'" in err


def first(subscriber: Subscriber, wanted: Callable[[Any], bool]) -> Any:
    """The next message of this kind."""
    while (message := subscriber.receive(30)) is not None:
        if wanted(message):
            return message
    raise AssertionError("nothing came within 30 s")
