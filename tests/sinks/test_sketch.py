"""The sketch's own logic, in C, with a clock of the test's: what turns a pin on, and all that turns it off."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtseg.sinks import serial_frames as frames
from rtseg.sinks.serial_frames import Frame, FrameReader
from rtseg.sinks.simulated_board import SKETCH, compiler, why_no_simulated_board

PIN = 8
WATCHDOG_MS = 1000


class Sketch:
    """One that runs. now_us: its clock, which begins shortly before its 32 bits end."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.now_us, self._number = 2**32 - 50_000, 0
        self.level = 0

    def take(self, data: bytes = b"", *, after_us: int = 0) -> list[Frame]:
        """Bytes that come after some time; what it answers."""
        self.now_us += after_us
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self.now_us % 2**32} {data.hex(' ')}\n")
        answers = FrameReader()
        found = []
        for line in iter(self._process.stdout.readline, ".\n"):
            name, *values = line.split()
            if name == "pin":
                assert int(values[0]) == PIN
                self.level = int(values[1])
            elif name == "sent":
                found += answers.feed(bytes.fromhex(values[0]))
        return found

    def frame(self, kind: int, line: int = 0, event: int = 0, value: int = 0) -> bytes:
        """The next frame of the computer's."""
        self._number = 0 if kind == frames.HELLO else self._number + 1
        return Frame(kind, line, self._number, event, value).pack()

    def say(self, kind: int, line: int = 0, event: int = 0, value: int = 0, *, after_us: int = 0) -> list[Frame]:
        return self.take(self.frame(kind, line, event, value), after_us=after_us)

    def greet(self, *, period_us: int = 0, width_us: int = 0, max_on_us: int = 5_000_000) -> None:
        """A session with one line, which is low."""
        (ready,) = self.say(frames.HELLO, 0, 77, frames.VERSION | WATCHDOG_MS << 8)
        assert (ready.kind, ready.event) == (frames.READY, 77)
        values = {frames.PIN: PIN, frames.PERIOD_US: period_us, frames.WIDTH_US: width_us, frames.MAX_ON_US: max_on_us}
        for what, value in values.items():
            (answer,) = self.say(frames.SETUP, 0, what, value)
            assert (answer.kind, answer.event, answer.value) == (frames.SET_UP, what, value)
        assert not self.level

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := why_no_simulated_board():
        pytest.skip(reason)
    built = tmp_path_factory.mktemp("sketch") / "steps"
    warnings = ("-Wall", "-Wextra", "-Werror", "-Wconversion")
    source = str(Path(__file__).with_name("sketch_steps.c"))
    include = str(SKETCH / "rtseg_line")
    subprocess.run([str(compiler()), "-std=c99", *warnings, "-I", include, "-o", str(built), source], check=True)
    return built


@pytest.fixture
def sketch(program: Path) -> Iterator[Sketch]:
    running = Sketch(program)
    yield running
    running.close()


def kinds(answers: list[Frame]) -> list[int]:
    return [frame.kind for frame in answers]


def test_a_pin_is_on_as_long_as_its_lease(sketch: Sketch) -> None:
    """Over the moment at which the clock begins again at 0, too."""
    sketch.greet()
    (on,) = sketch.say(frames.TURN_ON, 0, 5, 40_000)
    assert (on.kind, on.event, on.value, sketch.level) == (frames.IS_ON, 5, sketch.now_us, 1)
    assert not sketch.say(frames.KEEP_ON, 0, 5, 40_000, after_us=39_999)
    assert not sketch.take(after_us=39_999)
    assert sketch.level
    (over,) = sketch.take(after_us=1)
    assert (over.kind, over.event, sketch.level) == (frames.OVER, 5, 0)
    # Neither a renewal that is late nor one of nobody turns it on.
    assert not sketch.say(frames.KEEP_ON, 0, 5, 40_000)
    assert not sketch.level
    sketch.say(frames.TURN_ON, 0, 6, 40_000)
    assert sketch.level
    (off,) = sketch.say(frames.TURN_OFF, 0, 6)
    assert (off.kind, off.event, sketch.level) == (frames.IS_OFF, 6, 0)


def test_a_renewal_that_comes_when_the_lease_is_over_is_late(sketch: Sketch) -> None:
    sketch.greet()
    sketch.say(frames.TURN_ON, 0, 5, 10_000)
    assert kinds(sketch.say(frames.KEEP_ON, 0, 5, 10_000, after_us=10_000)) == [frames.OVER]
    assert not sketch.level


def test_a_shorter_lease_takes_nothing_from_a_longer_one(sketch: Sketch) -> None:
    """Two events on one pin."""
    sketch.greet()
    sketch.say(frames.TURN_ON, 0, 5, 50_000)
    assert kinds(sketch.say(frames.TURN_ON, 0, 6, 10_000)) == [frames.IS_ON]
    sketch.take(after_us=49_999)
    assert sketch.level
    assert kinds(sketch.take(after_us=1)) == [frames.OVER]


def test_never_longer_than_max_on(sketch: Sketch) -> None:
    sketch.greet(max_on_us=100_000)
    sketch.say(frames.TURN_ON, 0, 5, 60_000)
    for _ in range(3):
        sketch.say(frames.KEEP_ON, 0, 5, 60_000, after_us=25_000)
    assert sketch.level
    (over,) = sketch.take(after_us=25_000)
    assert (over.kind, over.value, sketch.level) == (frames.OVER, 2, 0)


def test_a_train_of_pulses(sketch: Sketch) -> None:
    sketch.greet(period_us=50_000, width_us=10_000)
    edges, began_us = [], sketch.now_us
    sketch.say(frames.TURN_ON, 0, 5, 175_000)
    level = sketch.level
    edges.append((0, level))
    for _ in range(400):
        sketch.take(after_us=500)
        if sketch.level != level:
            level = sketch.level
            edges.append((sketch.now_us - began_us, level))
    rising = [0, 50_000, 100_000, 150_000]
    assert edges == [edge for t in rising for edge in ((t, 1), (t + 10_000, 0))]


@pytest.mark.parametrize("at", range(frames.FRAME_BYTES))
def test_a_damaged_on_turns_nothing_on(sketch: Sketch, at: int) -> None:
    for bit in range(8):
        sketch.greet()
        data = bytearray(sketch.frame(frames.TURN_ON, 0, 5, 50_000))
        data[at] ^= 1 << bit
        # A frame that lost its beginning is found out by what follows.
        answers = sketch.take(bytes(data) + bytes(frames.FRAME_BYTES))
        assert kinds(answers) == [frames.FAULT]
        assert not sketch.level
        # Nothing is taken before the computer greets again.
        assert not sketch.say(frames.TURN_ON, 0, 6, 50_000)
        assert not sketch.level


def test_a_damaged_byte_turns_off_what_is_on(sketch: Sketch) -> None:
    sketch.greet()
    sketch.say(frames.TURN_ON, 0, 5, 500_000)
    assert kinds(sketch.take(b"\x00")) == [frames.FAULT]
    assert not sketch.level


def test_a_frame_that_is_missing_turns_all_off(sketch: Sketch) -> None:
    sketch.greet()
    sketch.say(frames.TURN_ON, 0, 5, 500_000)
    sketch.frame(frames.TURN_OFF, 0, 5)
    (fault,) = sketch.say(frames.KEEP_ON, 0, 5, 500_000)
    assert (fault.kind, frames.FAULTS[fault.value], sketch.level) == (frames.FAULT, "a frame out of order", 0)


def test_a_silent_computer_turns_the_line_off(sketch: Sketch) -> None:
    sketch.greet()
    sketch.say(frames.TURN_ON, 0, 5, 4_000_000)
    assert not sketch.take(after_us=WATCHDOG_MS * 1000 - 1)
    assert sketch.level
    (fault,) = sketch.take(after_us=1)
    assert (fault.kind, frames.FAULTS[fault.value], sketch.level) == (frames.FAULT, "the computer was silent", 0)


def test_wrong_messages_are_refused(sketch: Sketch) -> None:
    assert not sketch.say(frames.TURN_ON, 0, 1, 1000), "nobody has greeted"
    sketch.say(frames.HELLO, 0, 77, frames.VERSION + 1 | WATCHDOG_MS << 8)
    assert not sketch.say(frames.PING), "another version"
    sketch.greet()
    refused = [
        (frames.SETUP, 1, frames.PIN, 1),  # the port's own pin
        (frames.SETUP, 1, frames.PIN, 1000),
        (frames.SETUP, 0, 99, 1),
        (frames.SETUP, 0, frames.MAX_ON_US, 2**31),
        (frames.TURN_ON, 1, 5, 1000),  # not set up
        (frames.TURN_ON, 8, 5, 1000),
        (frames.TURN_ON, 0, 5, 0),
        (frames.TURN_ON, 0, 5, frames.LONGEST_LEASE_US + 1),
    ]
    for frame in refused:
        assert kinds(sketch.say(*frame)) == [frames.REFUSED], frame
        assert not sketch.level
    sketch.say(frames.SETUP, 0, frames.PERIOD_US, 1000)
    sketch.say(frames.SETUP, 0, frames.WIDTH_US, 1000)
    assert kinds(sketch.say(frames.TURN_ON, 0, 5, 1000)) == [frames.REFUSED], "a pulse as long as its period"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(range(7))), max_size=12), st.booleans())
def test_no_noise_turns_anything_on(sketch: Sketch, parts: list[bytes | int], is_greeted: bool) -> None:
    """Bytes at random, also between frames that are whole and ask for anything but ON."""
    if is_greeted:
        sketch.greet()
    for part in parts:
        if isinstance(part, bytes):
            sketch.take(part, after_us=100)
        elif part != frames.TURN_ON:
            sketch.say(part, 0, 5, 50_000, after_us=100)
        assert not sketch.level
    # Whatever came, a greeting makes it whole again; the first one may be taken for the end of what came.
    sketch.say(frames.HELLO, 0, 77, frames.VERSION | WATCHDOG_MS << 8)
    sketch.greet()
