"""The far end of every kind of sink, real: a sketch's logic at a pseudo-terminal, sockets, an inlet, a package.

Each tells what its line did, and can be taken away.
"""

from __future__ import annotations

import dataclasses
import os
import queue
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import zmq

from rtseg.client import TriggerSubscriber
from rtseg.config import (
    LslSinkSettings,
    OpenEphysSinkSettings,
    OscSinkSettings,
    SerialSinkSettings,
    SinkSettings,
    ZmqSinkSettings,
)
from rtseg.sinks.simulated_board import SimulatedBoard, why_no_simulated_board

TIMEOUT_S = 20.0
LONG_S = 600.0
BRIEF_S = 0.4
PATIENT = {"answer_s": 20.0, "start_s": 30.0, "heartbeat_s": 5.0}
"""For tests in which nothing may be lost because the machine is busy."""


class Peer(ABC):
    """One far end. line: as its trigger names it. has_lease: whether it turns its line off where nothing more comes.
    comes_back_off: whether a start of the sink turns off what an earlier one has left on. can_be_lost: whether the sink
    notices that it is gone.
    """

    line: ClassVar[int | str] = "laser"
    has_lease: ClassVar[bool] = False
    comes_back_off: ClassVar[bool] = True
    can_be_lost: ClassVar[bool] = True

    def __init__(self) -> None:
        self._states: queue.Queue[bool] = queue.Queue()

    @abstractmethod
    def settings(self, **changes: float) -> SinkSettings:
        """Of a sink that reaches it."""

    def next_state(self) -> bool:
        """The next change of its line."""
        return self._states.get(timeout=TIMEOUT_S)

    def ignore_states(self) -> None:
        """Forget what was told so far."""
        while not self._states.empty():
            self._states.get()

    def connect(self) -> None:  # noqa: B027
        """What can only be done when the sink is there."""

    def follow_restart(self) -> None:  # noqa: B027
        """What must be done anew when the sink was started again."""

    def unplug(self) -> None:
        """Take it away."""
        self.close()

    @abstractmethod
    def close(self) -> None:
        """End it."""


class Board(Peer):
    line, has_lease = 8, True

    def __init__(self) -> None:
        super().__init__()
        if reason := why_no_simulated_board():
            pytest.skip(reason)
        pytest.importorskip("serial", reason="the serial sink needs pyserial")
        self.board = SimulatedBoard()

    def settings(self, **changes: float) -> SinkSettings:
        return SerialSinkSettings(kind="serial", port=self.board.port, **{**PATIENT, **changes})

    def next_state(self) -> bool:
        deadline = time.monotonic() + TIMEOUT_S
        while self._states.empty() and time.monotonic() < deadline:
            self._collect(1.0)
        return self._states.get_nowait()

    def ignore_states(self) -> None:
        self._collect(0.0)
        super().ignore_states()

    def _collect(self, timeout_s: float) -> None:
        for change in self.board.changes(timeout_s):
            if change.pin == self.line:
                self._states.put(bool(change.level))

    def unplug(self) -> None:
        self.board.unplug()

    def close(self) -> None:
        self.board.close()


class Threaded(Peer):
    """One that a thread serves until it is closed."""

    def start(self, turn: Callable[[], None]) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(turn,), daemon=True)
        self._thread.start()

    def _run(self, turn: Callable[[], None]) -> None:
        while not self._ended.is_set():
            turn()

    def close(self) -> None:
        self._ended.set()
        self._thread.join(TIMEOUT_S)
        self.release()

    @abstractmethod
    def release(self) -> None:
        """Close what the thread had."""


class Receiver(Threaded):
    """A TriggerSubscriber that acknowledges."""

    has_lease = True

    def __init__(self) -> None:
        super().__init__()
        self.address, self.acknowledgements = free_address(), free_address()

    def settings(self, **changes: float) -> SinkSettings:
        addresses = {"address": self.address, "acknowledgements": self.acknowledgements}
        return ZmqSinkSettings(kind="zmq", **addresses, **{**PATIENT, "heartbeat_s": 0.2, **changes})

    def connect(self) -> None:
        self._lines = TriggerSubscriber(self.address, connect_timeout_s=TIMEOUT_S)
        self.start(self._turn)

    def follow_restart(self) -> None:
        # It would find the sink again by itself, but nobody could tell when.
        self.close()
        self.connect()

    def _turn(self) -> None:
        if change := self._lines.receive(0.05):
            self._states.put(change.is_on)
            self._lines.acknowledge(change)

    def release(self) -> None:
        self._lines.close()


class OscServer(Threaded):
    """A real server of python-osc, which answers."""

    def __init__(self) -> None:
        super().__init__()
        pytest.importorskip("pythonosc", reason="the OSC sink needs python-osc")
        from pythonosc.dispatcher import Dispatcher
        from pythonosc.osc_server import BlockingOSCUDPServer

        self._is_on = False
        dispatcher = Dispatcher()
        dispatcher.map("/rtseg/line", self._take)
        self._server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
        self._server.timeout = 0.05
        self.start(self._server.handle_request)

    def _take(self, address: str, trigger: str, state: int, *rest: object) -> tuple[str, int, int]:
        assert trigger in ("attack", "brief")
        event = rest[1]
        assert isinstance(event, int)
        if bool(state) != self._is_on:
            self._is_on = bool(state)
            self._states.put(self._is_on)
        return "/rtseg/ack", event, state

    def settings(self, **changes: float) -> SinkSettings:
        address = f"127.0.0.1:{self._server.server_address[1]}"
        return OscSinkSettings(kind="osc", address=address, acknowledge=True, **{**PATIENT, **changes})

    def release(self) -> None:
        self._server.server_close()


class NetworkEvents(Threaded):
    """The plugin of the Open Ephys GUI, as its source has it: one reply for each request. channel: whether it is an
    older one. is_acquiring: as the GUI.
    """

    line = 5

    def __init__(self, *, older: bool = False) -> None:
        super().__init__()
        self.is_acquiring = True
        self._names = ("Channel", "on") if older else ("Line", "State")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.REP)
        self._socket.linger = 0
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.address = f"tcp://127.0.0.1:{port}"
        self._levels = dict.fromkeys(range(1, 257), 0)
        self.start(self._turn)

    def _turn(self) -> None:
        if self._socket.poll(50):
            self._socket.send_string(self._reply(self._socket.recv_string()))

    def _reply(self, text: str) -> str:
        command, *parts = text.split(" ")
        given = dict(part.split("=") for part in parts)
        if command == "IsAcquiring":
            return str(int(self.is_acquiring))
        if command != "TTL":
            return "NotHandled"
        line, state = (int(given.get(name, default)) for name, default in zip(self._names, (1, 0), strict=True))
        if self.is_acquiring and self._levels[line] != state:
            self._levels[line] = state
            if line == self.line:
                self._states.put(bool(state))
        return f"TTLHandled: Channel={line} on={state}"

    def settings(self, **changes: float) -> SinkSettings:
        return OpenEphysSinkSettings(kind="open_ephys", address=self.address, **{**PATIENT, **changes})

    def release(self) -> None:
        self._context.destroy(linger=0)


class Inlet(Threaded):
    """A real inlet of LSL."""

    comes_back_off = can_be_lost = False

    def __init__(self) -> None:
        super().__init__()
        self.pylsl = pytest.importorskip(
            "pylsl", reason="the LSL sink needs pylsl with liblsl", exc_type=(ImportError, RuntimeError)
        )  # type: ignore[arg-type]
        self.name = f"rtseg test {os.getpid()} {os.urandom(3).hex()}"

    def settings(self, **changes: float) -> SinkSettings:
        return LslSinkSettings(kind="lsl", name=self.name, **{**PATIENT, **changes})

    def connect(self) -> None:
        (found,) = self.pylsl.resolve_byprop("name", self.name, 1, TIMEOUT_S)
        self._inlet = self.pylsl.StreamInlet(found, recover=False)
        self._inlet.open_stream(TIMEOUT_S)
        self.start(self._turn)

    def follow_restart(self) -> None:
        self.close()
        self.connect()

    def _turn(self) -> None:
        try:
            sample, _ = self._inlet.pull_sample(0.05)
        except self.pylsl.util.LostError:
            self._ended.set()
            return
        if sample:
            assert sample[0].split("/")[:2] in (["attack", "cage1"], ["brief", "cage1"])
            self._states.put(sample[0].endswith("/on"))

    def release(self) -> None:
        self._inlet.close_stream()


OWN_SINK = '''
import socket

from rtseg.sinks import Sink


class Told(Sink):
    """Says by UDP what it does."""

    def open(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", self.settings.options["port"]))
        return "told"

    def turn_on(self, command):
        self.socket.send(b"1")

    def turn_off(self, command, reason):
        self.socket.send(b"0")
'''


class NeverAsleep(Peer):
    """A far end whose sink's process never sleeps, and rehearses what an event takes."""

    def settings(self, **changes: float) -> SinkSettings:
        return dataclasses.replace(super().settings(**changes), busy_poll=True)  # type: ignore[safe-super]


class BusyBoard(NeverAsleep, Board):
    pass


class BusyReceiver(NeverAsleep, Receiver):
    pass


class Own(Threaded):
    """A sink of one's own, brought by an installed package."""

    comes_back_off = can_be_lost = False

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.start(self._turn)

    def _turn(self) -> None:
        if select.select([self._socket], [], [], 0.05)[0]:
            self._states.put(self._socket.recv(10) == b"1")

    def settings(self, **changes: float) -> SinkSettings:
        options = {"port": self._socket.getsockname()[1]}
        return SinkSettings(kind="told", options=options, **{**PATIENT, **changes})

    def release(self) -> None:
        self._socket.close()


PEERS: dict[str, type[Peer]] = {
    "serial": Board,
    "serial, never asleep": BusyBoard,
    "zmq": Receiver,
    "zmq, never asleep": BusyReceiver,
    "osc": OscServer,
    "open_ephys": NetworkEvents,
    "lsl": Inlet,
    "own": Own,
}


def install_package(folder: Path, name: str, source: str, entry_points: str) -> None:
    """A package as an installer leaves it: a module, and a folder that names its entry points."""
    (folder / f"{name}.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")


def free_address() -> str:
    """A port of the loopback interface that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"
