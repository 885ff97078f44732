"""From a decision to its acknowledgement, for `triggers.py`: in a real daemon behind cameras, beside a bare echo of the
same sink and beside two bare processes at the same kind of wire, block after block in turns.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import struct
import sys
import tempfile
import time
import tty
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from failoff_parts import PIN, BoardLine, Camera, TopicLine, end
from forked import fork
from random_walk import random_walk

from rtseg.client import Subscriber, ask_arm, ask_status
from rtseg.config import ServeSettings, SinkSettings, ZmqSinkSettings
from rtseg.config.sinks import SerialSinkSettings
from rtseg.errors import ServeError
from rtseg.inference.classifier import Classifier, load
from rtseg.recordings.recording import Recording
from rtseg.serve.daemon import serve
from rtseg.sinks.base import ACK_ON, OFF, ON, LineCommand, LineSpec
from rtseg.sinks.link import IS_READY, SinkLink
from rtseg.wire.messages import StreamEvent

SINKS = ("board", "topic")
CAMERAS = 2
EVERY = 6
"""Frames from one event to the next."""
BLOCKS = 3
WARM_UP = 10
"""Events of a block that are not counted."""
HOLD_NS = 10**9
ANSWER_S, SETTLE_S = 2.0, 2.0
"""A pause of the machine's loses no sink here; receivers of a topic come some time after it."""
_ROW = struct.Struct("<q")
_FRAME = b"0123456789abcd"
"""As long as the serial sink's frames."""
Write = Callable[[int], None]
"""Writes down how many ns something took."""
TRIGGERS = """
[triggers.{sink}]
pulse_s = 0.05
refractory_s = 0.0
never_on = []
grace_s = 1.0
sinks = ["{sink}"]
line = {pin}
arms = {{ yoked = "times.csv", yoked_stream = "{sink}", yoked_trigger = "{sink}" }}

[sinks.{sink}]
answer_s = {answer_s}
busy_poll = {busy_poll}
"""


def measure_acknowledgements(bundle: Path, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Times in ms: `decision`, `echo` and `wire` by "sink, how its process waits". seconds: for each of the two."""
    classifier = load(bundle, capacity=16)
    walk = random_walk(classifier.bundle.skeleton, 300, classifier.bundle.fps, 1)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(BLOCKS):
        for sink in SINKS:
            for busy_poll in (False, True):
                with tempfile.TemporaryDirectory(prefix="rtseg-triggers-") as name:
                    block = Block(sink, Path(name), busy_poll=busy_poll)
                    times = found[f"{sink}, {'busy_poll' if busy_poll else 'asleep'}"]
                    times["decision"] += block.decide(classifier, walk, seconds / BLOCKS)
                    times["echo"] += block.echo(seconds / BLOCKS)
                    times["wire"] += block.wire(seconds / BLOCKS / 3)
    return found


class Block:
    """One sink for some seconds. folder: for its sockets. busy_poll: its process and the receiver never sleep."""

    def __init__(self, sink: str, folder: Path, *, busy_poll: bool) -> None:
        self.sink, self.folder, self.busy_poll = sink, folder, busy_poll
        about: dict[str, Any] = {"answer_s": ANSWER_S, "busy_poll": busy_poll}
        self.settings: SinkSettings = (
            SerialSinkSettings(kind="serial", port=f"{folder}/board", **about)
            if sink == "board"
            else ZmqSinkSettings(kind="zmq", address=f"ipc://{folder}/l", acknowledgements=f"ipc://{folder}/a", **about)
        )

    def decide(self, classifier: Classifier, walk: Recording, seconds: float) -> list[float]:
        """From a daemon's decisions to their acknowledgements."""
        triggers = self._write_triggers(int(seconds * walk.fps) + 300)
        addresses = (f"ipc://{self.folder}/frames", f"ipc://{self.folder}/predictions")
        settings = ServeSettings(*addresses, capacity=16, triggers=str(triggers))
        with self._far_end():
            daemon = fork(lambda: self._serve(classifier, settings))
            try:
                return self._listen(settings, walk, seconds)
            finally:
                end(daemon)

    def echo(self, seconds: float) -> list[float]:
        """From commands to their acknowledgements, of a loop that does nothing else, as often as the daemon's."""

        def drive(write: Write, until_s: float) -> None:
            link = SinkLink(self.sink, self.settings, [LineSpec(self.sink, PIN, 0.0, 0.005, 60.0)])
            event, settled_s = 0, math.inf
            while time.monotonic() < until_s:
                link.look_after()
                time.sleep(EVERY / 30 / CAMERAS)
                if link.state != IS_READY:
                    settled_s = time.monotonic() + SETTLE_S
                if time.monotonic() < settled_s:
                    continue
                event += 1
                sent_ns = time.monotonic_ns()
                link.send(LineCommand(ON, event, 0, HOLD_NS, sent_ns, event, self.sink))
                while select.select([link.fileno()], [], [], 1.0)[0]:
                    on = [report for report in link.receive() if (report.kind, report.event) == (ACK_ON, event)]
                    if on:
                        write(on[0].t_ns - sent_ns)
                        break
                link.send(LineCommand(OFF, event, 0, 0, time.monotonic_ns(), event, self.sink))
            link.close()

        with self._far_end():
            return run_for(drive, seconds + 2 * SETTLE_S)

    def wire(self, seconds: float) -> list[float]:
        """From a message to its answer between two processes that do nothing else."""
        return run_for(self._ping_pty if self.sink == "board" else self._ping_zmq, seconds)

    @contextlib.contextmanager
    def _far_end(self) -> Any:
        if isinstance(self.settings, ZmqSinkSettings):
            far_end: BoardLine | TopicLine = TopicLine(self.settings.address, busy_poll=self.busy_poll)
        else:
            far_end = BoardLine(self.folder / "board")
        try:
            yield
        finally:
            far_end.close()

    def _write_triggers(self, frames: int) -> Path:
        """A trigger that fires at stated frames."""
        rows = ["stream,trigger,seq,decision,arm,last_seq,ended"]
        rows += [f"{self.sink},{self.sink},{t},fired,real,{t + 1},pulse over" for t in range(30, frames, EVERY)]
        (self.folder / "times.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        about = {"pin": PIN, "answer_s": ANSWER_S, "busy_poll": str(self.busy_poll).lower()}
        text = TRIGGERS.format(sink=self.sink, **about)
        if isinstance(self.settings, ZmqSinkSettings):
            address, acknowledgements = self.settings.address, self.settings.acknowledgements
            text += f'kind = "zmq"\naddress = "{address}"\nacknowledgements = "{acknowledgements}"\n'
        else:
            text += f'kind = "serial"\nport = "{self.folder}/board"\n'
        path = self.folder / "triggers.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def _serve(self, classifier: Classifier, settings: ServeSettings) -> None:
        sys.stderr = sys.stdout = (self.folder / "daemon.log").open("a")
        serve(classifier, settings)

    def _listen(self, settings: ServeSettings, walk: Recording, seconds: float) -> list[float]:
        """What the daemon tells of its events, in ms from decision to acknowledgement."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(ServeError):
                if ask_status(settings.frames)["triggers"]["sinks"][self.sink]["state"] == "ready":
                    break
            time.sleep(0.05)
        time.sleep(SETTLE_S)
        ask_arm(settings.frames)
        cameras = [Camera(settings.frames, f"{self.sink}{i}", walk) for i in range(CAMERAS)]
        decided: dict[int, int] = {}
        times: list[float] = []
        with Subscriber(settings.predictions) as subscriber:
            end_s = time.monotonic() + seconds
            while (left_s := end_s - time.monotonic()) > 0:
                message = subscriber.receive(left_s)
                if not isinstance(message, StreamEvent):
                    continue
                fields = message.fields
                if message.type == "trigger" and fields["decision"] == "fired":
                    decided[fields["event"]] = fields["t_decided_ns"]
                elif message.type == "trigger_ack" and fields["report"] == "on" and fields["event"] in decided:
                    times.append((fields["t_sink_ns"] - decided.pop(fields["event"])) / 1e6)
        for camera in cameras:
            camera.close()
        return times[WARM_UP:]

    def _ping_pty(self, write: Write, until_s: float) -> None:
        """Bytes to a process at the other end of a pseudo-terminal, which sends them back."""
        here, there = os.openpty()
        for fd in (here, there):
            tty.setraw(fd)
        os.set_blocking(there, not self.busy_poll)

        def answer() -> None:
            while data := os.read(here, 256):
                os.write(here, data)

        other = fork(answer)
        try:
            while time.monotonic() < until_s:
                self._pause(there)
                sent_ns, left = time.monotonic_ns(), len(_FRAME)
                os.write(there, _FRAME)
                while left:
                    with contextlib.suppress(BlockingIOError):
                        left -= len(os.read(there, 256))
                write(time.monotonic_ns() - sent_ns)
        finally:
            end(other)

    def _pause(self, fd: int) -> None:
        """Until the next one, asleep or not."""
        pause_s = EVERY / 30 / CAMERAS
        end_s = time.monotonic() + pause_s
        while self.busy_poll and time.monotonic() < end_s:
            select.select([fd], [], [], 0)
        time.sleep(max(0.0, end_s - time.monotonic()))

    def _ping_zmq(self, write: Write, until_s: float) -> None:
        """A message to a process that subscribes, which pushes it back."""
        out, back = f"ipc://{self.folder}/out", f"ipc://{self.folder}/back"
        flags = zmq.NOBLOCK if self.busy_poll else 0

        def receive(socket: zmq.Socket[bytes]) -> bytes:
            while True:
                with contextlib.suppress(zmq.Again):
                    return socket.recv(flags)

        def answer() -> None:
            context: zmq.Context[Any] = zmq.Context()
            subscriber, push = context.socket(zmq.SUB), context.socket(zmq.PUSH)
            subscriber.connect(out)
            subscriber.subscribe(b"")
            push.connect(back)
            while True:
                push.send(receive(subscriber))

        other = fork(answer)
        try:
            context: zmq.Context[Any] = zmq.Context()
            publisher, pull = context.socket(zmq.PUB), context.socket(zmq.PULL)
            publisher.bind(out)
            pull.bind(back)
            time.sleep(SETTLE_S / 2)
            while time.monotonic() < until_s:
                self._pause(int(pull.fileno()))
                sent_ns = time.monotonic_ns()
                publisher.send(_FRAME)
                receive(pull)
                write(time.monotonic_ns() - sent_ns)
        finally:
            end(other)


def run_for(drive: Callable[[Write, float], None], seconds: float) -> list[float]:
    """What a process that ends after so long has written, in ms."""
    out, into = os.pipe()
    until_s = time.monotonic() + seconds

    def write(ns: int) -> None:
        os.write(into, _ROW.pack(ns))

    os.waitpid(fork(lambda: drive(write, until_s)), 0)
    data = os.read(out, 1 << 16)
    for descriptor in (out, into):
        os.close(descriptor)
    return [ns / 1e6 for (ns,) in _ROW.iter_unpack(data)][WARM_UP:]
