"""A real daemon, a real sink, a pin that is watched: it goes off whatever ends, and nothing happens twice."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from rtseg.client import Publisher, ask_arm, ask_disarm, ask_status
from rtseg.errors import ServeError
from rtseg.playback.trigger_log import read_trigger_log
from rtseg.playback.verify import verify_recording
from rtseg.sinks.simulated_board import SimulatedBoard, why_no_simulated_board
from tests.commands import here
from tests.live import TIMEOUT_S, Child, random_walk

TRIGGERS = """
[triggers.laser]
conditions = [{{ head = "task1", behaviours = ["other"] }}]
on = 0.0
off = 0.0
pulse_s = 0.0
max_on_s = 1000.0
grace_s = 3.0
never_on = ["reset"]
sinks = ["board"]
line = 13

[sinks.board]
kind = "serial"
port = "{port}"
answer_s = 30.0
heartbeat_s = 1.0
"""


@pytest.fixture
def board() -> Iterator[SimulatedBoard]:
    if reason := why_no_simulated_board():
        pytest.skip(reason)
    pytest.importorskip("serial")
    with SimulatedBoard() as board:
        yield board


class Camera:
    """Sends frames as the test asks for them."""

    def __init__(self, child: Child, stream: str, opened: contextlib.ExitStack) -> None:
        self.walk, self.t = random_walk(300, 5), 0
        self.publisher = Publisher(child.frames, stream, self.walk.skeleton, 30.0, reconnect_s=TIMEOUT_S)
        opened.callback(self.publisher.close)

    def send(self) -> None:
        at = self.t % 300
        self.publisher.send(self.walk.keypoints[at], self.walk.confidence[at], seq=self.t, t_source_ns=self.t * 10**7)
        self.t += 1


def wait_for_pin(board: SimulatedBoard, level: int, camera: Camera | None = None) -> None:
    """Until the pin has this level; frames are sent meanwhile."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if camera is not None:
            camera.send()
        if any(change.level == level for change in board.changes(0.03)):
            return
    raise AssertionError(f"the pin never was at {level}")


def start(bundle: Path, triggers: Path, folder: Path, board: SimulatedBoard) -> Child:
    address = f"ipc://{folder}/frames"
    recorded = {"record": str(folder / "r"), "resume": True, "idle_timeout_s": 600.0}
    child = Child(bundle, frames=address, triggers=str(triggers), **recorded).wait_ready()
    deadline = time.monotonic() + TIMEOUT_S
    while ask_status(address)["triggers"]["sinks"]["board"]["state"] != "ready" and time.monotonic() < deadline:
        board.changes(0.05)
    return child


def test_a_pin_goes_off_whatever_ends(tiny_bundle: Path, tmp_path: Path, board: SimulatedBoard) -> None:
    opened = contextlib.ExitStack()
    triggers = tmp_path / "triggers.toml"
    triggers.write_text(TRIGGERS.format(port=board.port), encoding="utf-8")
    child = start(tiny_bundle, triggers, tmp_path, board)
    try:
        with pytest.raises(ServeError, match="stream 'cage9' is not open"):
            ask_arm(child.frames, "cage9")
        assert "ARMED: every new stream" in here("arm", "--connect", child.frames).stdout
        silent = Camera(child, "silent", opened)
        wait_for_pin(board, 1, silent)
        assert ask_status(child.frames)["triggers"]["running"] == {"silent": ["laser"]}
        wait_for_pin(board, 0)  # no frames come
        camera = Camera(child, "cage1", opened)
        wait_for_pin(board, 1, camera)
        child.process.kill()
        wait_for_pin(board, 0)
        child.close()
        child = start(tiny_bundle, triggers, tmp_path, board)
        assert here("status", child.frames).stdout.count("disarmed") == 1
        before = camera.t
        while camera.t < before + 10:
            camera.send()
        assert camera.publisher.flush(TIMEOUT_S)
        ask_arm(child.frames)
        while camera.t < before + 20:
            camera.send()
        assert camera.publisher.flush(TIMEOUT_S)
        # The bout of before goes on, and is not stimulated a second time.
        assert ask_status(child.frames)["triggers"]["running"] == {}
        assert not any(change.level for change in board.changes(0.1))
        wait_for_pin(board, 1, Camera(child, "cage2", opened))
        assert ask_disarm(child.frames) == {"v": 1, "type": "arming", "armed": [], "all": False, "left_s": {}}
        wait_for_pin(board, 0)
        opened.close()
    finally:
        child.signal(15)
        child.rest()
        child.close()
    happened: Counter[tuple[str, int]] = Counter()
    ends: dict[str, str] = {}
    for path in sorted((tmp_path / "r").glob("*.mcap")):
        found = verify_recording(path, tiny_bundle)
        assert (found.differences, found.first) == (0, "")
        for stream, log in read_trigger_log(path).items():
            happened.update((stream, event.seq) for event in log.events() if event.ended not in ("", "restart"))
            ends.update((stream, event.ended) for event in log.events() if event.fired)
    assert ends == {"silent": "stale", "cage1": "restart", "cage2": "disarmed"}
    assert max(happened.values()) == 1
