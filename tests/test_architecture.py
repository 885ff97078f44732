"""ARCHITECTURE.md is true: its map is the import table; a real frame and recording pass the functions that it lists."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import msgpack
import pytest
import zmq

import rtseg
from rtseg.compiled.libzmq import addresses
from rtseg.config import ServeSettings
from rtseg.inference.annotate import annotate
from rtseg.inference.classifier import load
from rtseg.serve.daemon import Daemon
from tests.live import FREE_PORT, HELLO, TIMEOUT_S, frame_of, random_walk
from tests.test_imports import INNER, ROOMS

REPO = Path(__file__).parent.parent
HOME = Path(rtseg.__file__).parent
PAGE = (REPO / "ARCHITECTURE.md").read_text(encoding="utf-8")
OPENING = ("SessionPool.open", "Session.reset", "Session.close")
"""What these call makes a slot ready for a stream; it is not on a recording's way."""


ATTEMPTS = 40
"""Frames of which one must be plain in every way."""
JOIN = "inference/model_slots.py ModelSlots.compute_rows"
"""Where a recording's way joins a frame's; what follows is listed once."""


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def listed(title: str) -> list[str]:
    """The functions in the list below a title: file and name at each line's start, then what it does."""
    block = re.findall(r"^```\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)[0]
    return [" ".join(line.split()[:2]) for line in block.splitlines()]


@contextmanager
def walked() -> Iterator[list[str]]:
    """The functions that are entered meanwhile, each once, in the order of their first calls.

    Public ones of rtseg and its compiled ones, where another file calls them: what a file does within itself stands
    there.
    """
    entered: dict[str, None] = {}
    opening: list[FrameType] = []

    def look(frame: FrameType, event: str, _: object) -> None:
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname.replace("_compiled.<locals>.", "")
        if event == "return" and opening and frame is opening[-1]:
            opening.pop()
        if event != "call" or not Path(file).is_relative_to(HOME):
            return
        private = "<" in name or name.split(".")[-1].startswith("_")
        # What a compiled function calls, and it itself, has no caller that Python knows.
        crossed = frame.f_back is None or frame.f_back.f_code.co_filename != file
        if crossed and not private and not opening:
            entered[f"{Path(file).relative_to(HOME).as_posix()} {name}"] = None
        if name in OPENING:
            opening.append(frame)

    names: list[str] = []
    sys.setprofile(look)
    try:
        yield names
    finally:
        sys.setprofile(None)
        names += entered


def test_the_map_is_the_import_table() -> None:
    rooms = re.findall(r"^\| `(\w+)` \|", section("The map"), re.MULTILINE)
    assert rooms == list(ROOMS)
    inner = dict(re.findall(r"^Within `(\w+)`: (.*)\.$", section("The map"), re.MULTILINE))
    assert {room: tuple(re.findall(r"`(\w+)`", order)) for room, order in inner.items()} == INNER


def test_a_frame_passes_the_functions_that_are_listed(tiny_bundle: Path, tmp_path: Path) -> None:
    if addresses() is None:
        pytest.skip("without libzmq's addresses messages come one by one, which is not the way that is listed")
    settings = ServeSettings(frames=FREE_PORT, predictions=FREE_PORT, capacity=1, record=str(tmp_path / "recordings"))
    classifier = load(tiny_bundle, "numba", 2)
    n_warm = classifier.bundle.warmup_frames + 2
    walk = random_walk(n_warm + ATTEMPTS, 7)
    with zmq.Context() as context, closing(Daemon(classifier, settings)) as daemon:
        daemon.warm_up()
        camera, subscriber = context.socket(zmq.DEALER), context.socket(zmq.SUB)
        with closing(camera), closing(subscriber):
            subscriber.connect(daemon.served.predictions)
            subscriber.subscribe(b"cage1")
            camera.connect(daemon.frames)

            def turn_until(socket: zmq.Socket[bytes], kind: bytes) -> None:
                deadline_s = time.monotonic() + TIMEOUT_S
                while time.monotonic() < deadline_s:
                    daemon._turn(10)
                    while socket.poll(0):
                        if kind in socket.recv_multipart()[-1]:
                            return
                raise AssertionError(f"nothing with {kind!r} came")

            turn_until(subscriber, b"subscribed")
            camera.send(msgpack.packb(HELLO))
            turn_until(camera, b"accepted")
            for t in range(n_warm):
                camera.send(msgpack.packb(frame_of(walk, t)))
                turn_until(subscriber, b"probs")
            for t in range(n_warm, n_warm + ATTEMPTS):
                # Later than the one before by more than its source says: it is not the quickest one.
                assert not camera.poll(5)
                source_ns = n_warm * 33_333_333 + (t - n_warm) * 1_000_000
                camera.send(msgpack.packb(frame_of(walk, t) | {"t_source_ns": source_ns}))
                # It waits at the socket when the turn begins: a turn that finds nothing would stand in the list, too.
                assert daemon._sockets.router.poll(int(TIMEOUT_S * 1000))
                with walked() as names:
                    assert daemon._turn(1000)
                turn_until(subscriber, b"probs")
                # One at which a second ends (`declared_rate`) passes more, and so may some behind it.
                if names == listed("A frame's way"):
                    break
    assert names == listed("A frame's way")


def test_a_recording_passes_the_functions_that_are_listed(tiny_bundle: Path, tmp_path: Path) -> None:
    classifier = load(tiny_bundle, "numba", 1)
    walk = random_walk(300, 7)
    points = [(animal, keypoint) for animal in walk.skeleton.animals for keypoint in walk.skeleton.keypoints]
    rows = [
        "scorer" + ",s" * 3 * len(points),
        "individuals" + "".join(f",{animal}" * 3 for animal, _ in points),
        "bodyparts" + "".join(f",{keypoint}" * 3 for _, keypoint in points),
        "coords" + ",x,y,likelihood" * len(points),
    ]
    for t in range(len(walk)):
        cells = zip(walk.keypoints[t].reshape(-1, 2).tolist(), walk.confidence[t].ravel().tolist(), strict=True)
        rows.append(",".join([str(t), *(f"{x},{y},{score}" for (x, y), score in cells)]))
    path = tmp_path / "walk.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    list(annotate(classifier, [path], tmp_path / "first"))
    with walked() as names:
        list(annotate(classifier, [path], tmp_path / "second"))
    live = set(listed("A frame's way")) - {JOIN}
    assert [name for name in names if name not in live] == listed("A recording's way")
