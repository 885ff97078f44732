"""Keys before several workers: the cases of `test_guard` at a front's addresses, and what only workers can do wrong."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rtseg.client import Subscriber
from rtseg.wire.keys import ClientKey, KeyStore
from rtseg.wire.messages import PredictionMessage, StreamEvent
from tests.live import HELLO, daemon, frame_of, random_walk
from tests.serve.access import test_guard as one_process
from tests.serve.access.test_guard import ANYWHERE, Connection, Lab, first

test_with_keys_everything_works_as_without = one_process.test_with_keys_everything_works_as_without
test_nobody_without_a_key_gets_in = one_process.test_nobody_without_a_key_gets_in
test_each_role_opens_its_own_socket_only = one_process.test_each_role_opens_its_own_socket_only
test_a_revoked_key_loses_its_streams = one_process.test_a_revoked_key_loses_its_streams_and_subscriptions_at_once
test_a_stream_belongs_to_its_key = one_process.test_a_stream_belongs_to_its_key_whatever_a_connection_calls_itself
test_limits_per_key_and_stream = one_process.test_limits_per_key_and_stream


@pytest.fixture(scope="module")
def lab(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    store = KeyStore(tmp_path_factory.mktemp("lab") / "keys")
    store.server()
    settings = {"keys": str(store.folder), "max_streams_per_key": 2, "max_frames_per_s": 50.0, "workers": 2}
    with daemon(tiny_bundle, frames=ANYWHERE, predictions=ANYWHERE, **settings) as child:
        yield Lab(child, store)


@pytest.fixture
def key(lab: Lab) -> Callable[..., ClientKey]:
    def new(*roles: str) -> ClientKey:
        return lab.store.new(f"k{time.time_ns()}", roles)

    return new


def test_a_key_that_is_revoked_while_its_worker_is_away(lab: Lab, key: Callable[..., ClientKey]) -> None:
    walk = random_walk(3, 400)
    camera, friend = key("publish"), key("publish", "subscribe")
    with (
        Connection(lab.frames, camera) as raw,
        Connection(lab.frames, friend) as other,
        Subscriber(lab.predictions, "away", timeout_s=60, key=friend) as subscriber,
    ):
        assert raw.ask(HELLO | {"stream": "away"})["type"] == "accepted"
        raw.send(frame_of(walk, 0, stream="away"))
        first(subscriber, lambda m: isinstance(m, PredictionMessage))
        for worker in lab.status()["workers"]:
            os.kill(worker["pid"], signal.SIGKILL)
        lab.store.revoke(camera.name)
        closed = first(subscriber, lambda m: isinstance(m, StreamEvent) and m.type == "closed")
        assert (closed.stream, closed.fields["reason"]) == ("away", "key revoked")
        while (answer := other.ask(HELLO | {"stream": "away"}))["type"] != "accepted":  # the name is free again
            assert answer["kind"] == "AccessError"
        assert other.ask({"v": 1, "type": "bye", "stream": "away"})["type"] == "goodbye"


def test_a_refused_hello_leaves_no_claim(lab: Lab, key: Callable[..., ClientKey]) -> None:
    with Connection(lab.frames, key("publish")) as raw, Connection(lab.frames, key("publish")) as other:
        for name in ("x", "y", "z"):  # more than a key may have open
            assert raw.ask(HELLO | {"stream": name, "fps": 7.0})["type"] == "refused"
            assert other.ask(HELLO | {"stream": name})["type"] == "accepted"
            assert other.ask({"v": 1, "type": "bye", "stream": name})["type"] == "goodbye"
        assert raw.ask(HELLO | {"stream": "x"})["type"] == "accepted"
        assert "opened with another key" in other.ask(HELLO | {"stream": "x"})["reason"]
        assert raw.ask({"v": 1, "type": "bye", "stream": "x"})["type"] == "goodbye"
