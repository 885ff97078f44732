"""A GUI that does not acquire, an older plugin, one that drops out, and lines that it does not have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rtseg.config import OpenEphysSinkSettings
from rtseg.sinks import ERROR, LOST, OFF, READY
from tests.sinks.daemon import Daemon
from tests.sinks.peers import PATIENT, NetworkEvents, free_address


@pytest.fixture
def gui() -> Iterator[NetworkEvents]:
    plugin = NetworkEvents()
    yield plugin
    plugin.close()


def test_an_older_plugin_gets_the_words_that_it_knows() -> None:
    gui = NetworkEvents(older=True)
    with Daemon(gui.settings(), gui.line) as daemon:
        daemon.wait_for(READY)
        event = daemon.turn_on()
        assert gui.next_state()
        daemon.command(OFF, event)
        assert not gui.next_state()
    gui.close()


def test_a_gui_that_does_not_acquire_is_no_place_for_events(gui: NetworkEvents) -> None:
    gui.is_acquiring = False
    with Daemon(gui.settings(heartbeat_s=0.1), gui.line) as daemon:
        assert "start the acquisition" in daemon.wait_for(LOST).text
        gui.is_acquiring = True
        daemon.wait_for(READY)
        daemon.turn_on()
        assert gui.next_state()
        gui.is_acquiring = False
        assert "start the acquisition" in daemon.wait_for(LOST).text


def test_a_reply_about_another_line(gui: NetworkEvents, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that has not understood which one was meant says that it has handled another."""
    with Daemon(gui.settings(), gui.line) as daemon:
        daemon.wait_for(READY)
        replies = {"on": "TTLHandled: Channel=1 on=0"}
        reply = gui._reply
        monkeypatch.setattr(gui, "_reply", lambda text: replies["on"] if "State=1" in text else reply(text))
        event = daemon.next_event()
        daemon.command(1, event, 60.0)
        assert "'TTLHandled: Channel=1 on=0' to line 5, state 1" in daemon.wait_for(ERROR, event=event).text


@pytest.mark.parametrize("line", ["laser", 0, 257])
def test_lines_that_it_does_not_have(gui: NetworkEvents, line: int | str) -> None:
    with Daemon(gui.settings(), line) as daemon:
        assert "line must be a number from 1 to 256" in daemon.wait_for(LOST).text


def test_without_a_gui_it_is_lost_with_the_address() -> None:
    settings = OpenEphysSinkSettings(kind="open_ephys", address=free_address(), **{**PATIENT, "start_s": 0.3})
    with Daemon(settings, 5) as daemon:
        assert "no Open Ephys GUI with Network Events at" in daemon.wait_for(LOST).text
