"""What every sink must do, at its real far end: lines go on and off in order, are acknowledged, and let go of.

One more sink: a `Peer` in peers.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from rtseg.sinks import ACK_OFF, ERROR, EXPIRED, LOST, OFF, ON, READY, RENEW
from tests.sinks.daemon import Daemon
from tests.sinks.peers import LONG_S, PEERS, Peer


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    far_end = PEERS[request.param]()
    yield far_end
    far_end.close()


@pytest.fixture(scope="module")
def daemon(peer: Peer) -> Iterator[Daemon]:
    """One for all tests of a kind: a process takes longer to start than a test."""
    held = Daemon(peer.settings(), peer.line)
    held.wait_for(READY)
    peer.connect()
    peer.ignore_states()
    yield held
    held.link.close()


def test_a_line_goes_on_and_off_and_both_are_acknowledged(daemon: Daemon, peer: Peer) -> None:
    for _ in range(3):
        event = daemon.turn_on()
        assert peer.next_state()
        assert daemon.command(OFF, event)
        assert daemon.wait_for(ACK_OFF, event=event).line == 0
        assert not peer.next_state()
    assert daemon.link.acknowledges == peer.can_be_lost


def test_a_lease_that_is_not_renewed_ends_and_is_not_begun_again(daemon: Daemon, peer: Peer) -> None:
    event = daemon.turn_on(0.2)
    assert peer.next_state()
    daemon.wait_for(EXPIRED, event=event)
    assert not peer.next_state()
    daemon.command(RENEW, event, LONG_S)
    daemon.command(ON, event, LONG_S)
    assert "is not after" in daemon.wait_for(ERROR, event=event).text
    after = daemon.turn_on()
    assert peer.next_state()
    daemon.command(OFF, after)
    assert not peer.next_state()


def test_a_lease_is_renewed_and_max_on_is_not(daemon: Daemon, peer: Peer) -> None:
    brief = daemon.turn_on(line=1)
    daemon.command(RENEW, brief, LONG_S, line=1)
    assert peer.next_state()
    assert "max_on" in daemon.wait_for(EXPIRED, event=brief).text
    assert not peer.next_state()


def test_what_comes_late_or_was_never_on_turns_nothing_on(daemon: Daemon, peer: Peer) -> None:
    late, never_on = daemon.next_event(), daemon.next_event()
    daemon.command(ON, late, 0.2, ago_s=0.2)
    daemon.command(RENEW, never_on, LONG_S)
    daemon.command(OFF, never_on)
    assert "lease was over" in daemon.wait_for(EXPIRED, event=late).text
    event = daemon.turn_on()
    daemon.command(OFF, event)
    daemon.wait_for(ACK_OFF, event=event)
    assert [peer.next_state(), peer.next_state()] == [True, False]


def test_a_stopped_process_fills_its_queue_and_holds_nobody_up(daemon: Daemon, peer: Peer) -> None:
    event = daemon.turn_on(0.5)
    assert peer.next_state()
    os.kill(daemon.link.pid, signal.SIGSTOP)
    try:
        # Bounded by what the kernel holds, and never waited for: this would hang otherwise.
        assert not all(daemon.command(RENEW, event) for _ in range(2000))
        if peer.has_lease:
            assert not peer.next_state()
    finally:
        os.kill(daemon.link.pid, signal.SIGCONT)
    daemon.wait_for(EXPIRED, event=event)
    if not peer.has_lease:
        assert not peer.next_state()


def test_a_killed_process_is_started_again_with_everything_off(daemon: Daemon, peer: Peer) -> None:
    event = daemon.turn_on(0.5)
    assert peer.next_state()
    restarts = daemon.link.restarts
    os.kill(daemon.link.pid, signal.SIGKILL)
    assert "ended" in daemon.wait_for(LOST).text
    assert not daemon.command(RENEW, event, LONG_S)
    daemon.wait_for(READY)
    assert daemon.link.restarts == restarts + 1
    if peer.has_lease or peer.comes_back_off:
        assert not peer.next_state()


def test_closing_turns_off(daemon: Daemon, peer: Peer) -> None:
    """The last test of a kind."""
    peer.ignore_states()
    peer.follow_restart()
    daemon.turn_on()
    assert peer.next_state()
    daemon.link.close()
    assert not peer.next_state()
    assert daemon.link.state == "closed"
    assert not daemon.command(ON, daemon.next_event(), LONG_S)
