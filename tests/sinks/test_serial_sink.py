"""A board that is not there, is another one, is stuck, babbles or is pulled out: the sink is lost, and says why."""

from __future__ import annotations

import os
import pty
import select
import signal
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtseg.config import SerialSinkSettings
from rtseg.errors import SettingError, SinkError
from rtseg.sinks import ACK_OFF, LOST, OFF, ON, READY, RENEW, LineSpec
from rtseg.sinks import serial_frames as frames
from rtseg.sinks.serial_frames import FRAME_BYTES, Frame, FrameReader
from rtseg.sinks.serial_sink import SerialSink, board_lines
from rtseg.sinks.simulated_board import PinChange, SimulatedBoard
from tests.sinks.daemon import Daemon
from tests.sinks.peers import LONG_S, PATIENT, TIMEOUT_S, Board

pytest.importorskip("serial", reason="the serial sink needs pyserial")


@pytest.fixture
def board() -> Iterator[Board]:
    far_end = Board()
    yield far_end
    far_end.close()


def line(trigger: str, pin: int | str, train_hz: float = 0.0, max_on_s: float = 5.0) -> LineSpec:
    return LineSpec(trigger, pin, train_hz, 0.005, max_on_s)


def test_lines_are_pins_and_what_they_need_together() -> None:
    shared = board_lines("laser", [line("a", 8), line("b", 9, 20.0), line("c", 8, max_on_s=7.0)])
    assert {pin: (spec.train_hz, spec.max_on_s) for pin, spec in shared.items()} == {8: (0.0, 7.0), 9: (20.0, 5.0)}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([line("a", "laser")], "number of a pin"),
        ([line("a", 300)], "got 300"),
        ([line("a", 8), line("b", 8, 20.0)], "one train_hz"),
        ([line("a", 8, max_on_s=3000.0)], "2147"),
        ([line(f"t{pin}", pin) for pin in range(2, 11)], "8 lines"),
    ],
)
def test_lines_that_no_board_has(lines: list[LineSpec], reason: str) -> None:
    with pytest.raises(SettingError, match=reason):
        board_lines("laser", lines)


def test_a_pin_that_the_sketch_may_not_drive(board: Board) -> None:
    with Daemon(board.settings(), 1) as daemon:
        assert "may not drive" in daemon.wait_for(LOST).text


def test_a_port_that_is_not_there_and_one_without_a_board(board: Board) -> None:
    with Daemon(SerialSinkSettings(kind="serial", port="/dev/rtseg-none"), 8) as daemon:
        assert "/dev/rtseg-none" in daemon.wait_for(LOST).text
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        settings = SerialSinkSettings(kind="serial", port=os.ttyname(slave), start_s=0.5)
        with Daemon(settings, 8) as daemon:
            assert "upload the sketch" in daemon.wait_for(LOST).text
    finally:
        os.close(master)
        os.close(slave)


def test_a_board_that_is_pulled_out_and_plugged_in_again(board: Board, tmp_path: Path) -> None:
    """Under a name that stays the same, as those of /dev/serial/by-id; by the same process, so that nobody waits."""
    port = tmp_path / "usb-Arduino"
    port.symlink_to(board.board.port)
    with Daemon(SerialSinkSettings(kind="serial", port=str(port), **PATIENT), 8) as daemon:
        daemon.wait_for(READY)
        pid = daemon.link.pid
        event = daemon.turn_on()
        board.unplug()
        assert "unplugged" in daemon.wait_for(LOST).text
        assert not daemon.command(ON, daemon.next_event(), LONG_S)
        with SimulatedBoard() as another:
            port.unlink()
            port.symlink_to(another.port)
            daemon.wait_for(READY)
            assert (daemon.link.pid, daemon.link.restarts) == (pid, 0)
            # What was on is forgotten.
            daemon.command(RENEW, event, LONG_S)
            daemon.command(OFF, event)
            event = daemon.turn_on()
            daemon.command(OFF, event)
            daemon.wait_for(ACK_OFF, event=event)
            assert [change.level for change in another.changes() if change.level] == [1]


def test_a_board_that_is_stuck(board: Board) -> None:
    """It takes what comes, and answers nothing."""
    with Daemon(board.settings(answer_s=0.3), 8) as daemon:
        daemon.wait_for(READY)
        os.kill(board.board.pid, signal.SIGSTOP)
        daemon.command(ON, daemon.next_event(), LONG_S)
        assert "not acknowledged within 0.3 s" in daemon.wait_for(LOST).text
        os.kill(board.board.pid, signal.SIGCONT)
        # What was left at the port is not carried out: a greeting turns all off first.
        daemon.wait_for(READY)
        daemon.turn_on()


def test_a_board_that_does_not_answer_heartbeats(board: Board) -> None:
    with Daemon(board.settings(heartbeat_s=0.3), 8) as daemon:
        daemon.wait_for(READY)
        os.kill(board.board.pid, signal.SIGSTOP)
        assert "did not answer for 0.3 s" in daemon.wait_for(LOST).text
        os.kill(board.board.pid, signal.SIGCONT)


def test_damaged_bytes_from_a_board(board: Board) -> None:
    """Written by another program to the port that is the board's."""
    with Daemon(board.settings(), 8) as daemon:
        daemon.wait_for(READY)
        daemon.turn_on()
        port = os.open(board.board.port, os.O_WRONLY | os.O_NOCTTY)
        try:
            os.write(port, b"\x00\x01")
        finally:
            os.close(port)
        assert "a damaged frame" in daemon.wait_for(LOST).text
        board.ignore_states()


def test_a_board_that_tells_of_a_line_that_it_was_not_given() -> None:
    """Another sketch, which greets as this one does."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    settings = SerialSinkSettings(kind="serial", port=os.ttyname(slave), **PATIENT)
    sink, reader = SerialSink("laser", settings, [line("a", 8)], ()), FrameReader()

    def greet() -> None:
        for _ in range(5):  # HELLO, and what SETUP says of a line
            while not (asked := reader.feed(os.read(master, FRAME_BYTES))):
                pass
            kind = frames.READY if asked[0].kind == frames.HELLO else frames.SET_UP
            os.write(master, asked[0]._replace(kind=kind, value=frames.VERSION).pack())

    sketch = threading.Thread(target=greet)
    sketch.start()
    sink.open()
    sketch.join()
    os.write(master, Frame(frames.OVER, 9, 0, 1, 0).pack())
    assert select.select(sink.filenos(), [], [], TIMEOUT_S)[0]
    with pytest.raises(SinkError, match="tells of line 9, which it has not"):
        list(sink.poll())
    sink.close()
    os.close(master)
    os.close(slave)


def test_a_slow_board_acknowledges_late(board: Board) -> None:
    with SimulatedBoard(slow_s=0.05) as slow:
        settings = SerialSinkSettings(kind="serial", port=slow.port, **PATIENT)
        with Daemon(settings, 8) as daemon:
            daemon.wait_for(READY)
            daemon.turn_on(LONG_S)
            assert any(change.level for change in iter_changes(slow))
            assert daemon.link.acknowledges


def iter_changes(board: SimulatedBoard) -> Iterator[PinChange]:
    while changes := board.changes(TIMEOUT_S):
        yield from changes
