"""What an OSC receiver gets, and one that is not there."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rtseg.config import OscSinkSettings
from rtseg.sinks import ACK_ON, LOST, OFF, ON, READY, RENEW
from tests.sinks.daemon import Daemon
from tests.sinks.peers import LONG_S, PATIENT, TIMEOUT_S

osc_message = pytest.importorskip("pythonosc.osc_message", reason="the OSC sink needs python-osc")


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(TIMEOUT_S)
        yield bound


def next_of(receiver: socket.socket, address: str) -> list[object]:
    """The arguments of the next message with this address."""
    while True:
        message = osc_message.OscMessage(receiver.recv(4096))
        if message.address == address:
            return list(message)


def test_lines_renewals_and_beats_are_sent(receiver: socket.socket) -> None:
    settings = OscSinkSettings(
        kind="osc", address=f"127.0.0.1:{receiver.getsockname()[1]}", prefix="/lab", **{**PATIENT, "heartbeat_s": 0.1}
    )
    with Daemon(settings, 3) as daemon:
        daemon.wait_for(READY)
        # Whatever an earlier one left on.
        assert next_of(receiver, "/lab/line") == ["attack", 0, "", 0, 0, 0.0, "3", "start"]
        assert next_of(receiver, "/lab/line")[0] == "brief"
        event = daemon.next_event()
        daemon.command(ON, event, LONG_S)
        daemon.command(RENEW, event, LONG_S)
        daemon.command(OFF, event)
        trigger, state, stream, number, seq, hold_ms, line, reason = next_of(receiver, "/lab/line")
        assert (trigger, state, stream, number, seq, line, reason) == ("attack", 1, "cage1", event, 17, "3", "")
        assert isinstance(hold_ms, float)
        assert 0 < hold_ms <= LONG_S * 1000
        assert next_of(receiver, "/lab/renew")[:2] == ["attack", event]
        assert next_of(receiver, "/lab/line") == ["attack", 0, "cage1", event, 17, 0.0, "3", ""]
        daemon.wait_for(ACK_ON, event=event)
        assert isinstance(next_of(receiver, "/lab/beat")[0], int)
        assert not daemon.link.acknowledges


def test_a_receiver_that_closes_is_lost(receiver: socket.socket) -> None:
    settings = OscSinkSettings(
        kind="osc", address=f"127.0.0.1:{receiver.getsockname()[1]}", **{**PATIENT, "heartbeat_s": 0.1}
    )
    with Daemon(settings, 3) as daemon:
        daemon.wait_for(READY)
        receiver.close()
        # Its machine says so to the next message, here a heartbeat.
        assert "nobody listens at" in daemon.wait_for(LOST).text
        assert "nobody listens at" in daemon.wait_for(LOST).text, "nor when it is started again"
