"""Who may listen to a `zmq` sink, in which words, and what acknowledgements count."""

from __future__ import annotations

from pathlib import Path

import msgpack
import pytest
import zmq

from rtseg.client import TriggerSubscriber
from rtseg.config import ZmqSinkSettings
from rtseg.errors import ServeError
from rtseg.sinks import ACK_ON, EXPIRED, LOST, OFF, ON, READY
from rtseg.wire.keys import KeyStore, make_key_file
from rtseg.wire.line_messages import parse_line
from tests.sinks.daemon import Daemon
from tests.sinks.peers import LONG_S, PATIENT, TIMEOUT_S, free_address

BEATS = {**PATIENT, "heartbeat_s": 0.1}


def test_beyond_loopback_only_with_keys(tmp_path: Path) -> None:
    with Daemon(ZmqSinkSettings(kind="zmq", address="tcp://0.0.0.0:*", **PATIENT), 8) as daemon:
        assert "that needs keys" in daemon.wait_for(LOST).text
    settings = ZmqSinkSettings(kind="zmq", address="tcp://0.0.0.0:*", keys=str(tmp_path), **PATIENT)
    with Daemon(settings, 8) as daemon:
        assert "tcp://0.0.0.0:" in daemon.wait_for(READY).text


def test_a_key_with_the_role_subscribe_is_let_in_and_no_other(tmp_path: Path) -> None:
    store, addresses = KeyStore(tmp_path / "keys"), [free_address(), free_address()]
    make_key_file(store, "rig", ["subscribe"], tmp_path / "rig.toml")
    make_key_file(store, "camera", ["publish"], tmp_path / "camera.toml")
    keys = {"address": addresses[0], "acknowledgements": addresses[1], "keys": str(store.folder)}
    with Daemon(ZmqSinkSettings(kind="zmq", **keys, **BEATS), 8) as daemon:
        daemon.wait_for(READY)
        for key in (None, tmp_path / "camera.toml"):
            with pytest.raises(ServeError, match="no daemon at"):
                TriggerSubscriber(addresses[0], key=key, connect_timeout_s=0.5)
        with TriggerSubscriber(addresses[0], key=tmp_path / "rig.toml", connect_timeout_s=TIMEOUT_S) as lines:
            event = daemon.next_event()
            daemon.command(ON, event, LONG_S)
            change = lines.receive(TIMEOUT_S)
            assert change is not None
            assert change.is_on
            lines.acknowledge(change)
            daemon.wait_for(ACK_ON, event=event)


def test_json_for_receivers_without_msgpack_and_topics_by_trigger() -> None:
    address = free_address()
    with (
        Daemon(ZmqSinkSettings(kind="zmq", address=address, format="json", **BEATS), "laser 2") as daemon,
        zmq.Context() as context,
        context.socket(zmq.SUB) as plain,
    ):
        daemon.wait_for(READY)
        plain.connect(address)
        plain.subscribe(b"line:brief")
        plain.subscribe(b"beat")
        assert plain.poll(TIMEOUT_S * 1000)
        topic, beat = plain.recv_multipart()
        assert (topic, parse_line(beat).heartbeat_s) == (b"beat", 0.1)
        plain.unsubscribe(b"beat")
        with TriggerSubscriber(address, "brief", connect_timeout_s=TIMEOUT_S) as lines:
            daemon.turn_on()
            event = daemon.turn_on(line=1)
            daemon.command(OFF, event)
            while (message := plain.recv_multipart())[0] == b"beat":
                pass
            assert message[0] == b"line:brief"
            assert message[1].startswith(b"{")
            told = parse_line(message[1])
            assert (told.type, told.trigger, told.line, told.stream, told.seq) == (
                *("on", "brief", "laser 2"),
                *("cage1", 17),
            )
            change = lines.receive(TIMEOUT_S)
            assert change is not None
            assert change.trigger == "brief"
            # Nothing is asked to acknowledge here, and doing so is no error.
            lines.acknowledge(change)


def test_what_is_no_acknowledgement_acknowledges_nothing() -> None:
    settings = ZmqSinkSettings(
        kind="zmq", address=free_address(), acknowledgements=free_address(), **{**BEATS, "answer_s": 1.0}
    )
    with Daemon(settings, 8) as daemon, zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
        daemon.wait_for(READY)
        stranger.linger = 0
        stranger.connect(settings.acknowledgements)
        event = daemon.next_event()
        daemon.command(ON, event, LONG_S)
        wrong = {"v": 1, "type": "ack", "run": "another", "event": event, "is_on": True}
        for data in (b"", b"\xc1", b"{", msgpack.packb({"v": 1}), msgpack.packb(wrong), b"x" * 100_000):
            stranger.send(data)
        report = daemon.wait_for(LOST, ACK_ON, EXPIRED)
        assert (report.kind, report.text) == (LOST, f"event {event}: turning it on was not acknowledged within 1.0 s")
