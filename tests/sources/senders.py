"""Real senders of each kind of source, for the tests: what a laboratory's program would use to send a recording.

Each gives the source and a function that sends frame t of the recording to it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from rtseg.recordings.recording import Recording
from rtseg.sources.bridge import Source
from rtseg.sources.growing_csv import GrowingCsv
from rtseg.sources.osc import OscSource
from rtseg.sources.points import DeclaredPoints
from rtseg.sources.zeromq import ZmqSource

Send = Callable[[int], None]
FPS = 30.0


def pose_of(recording: Recording, t: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(A, K, 3)."""
    return np.concatenate([recording.keypoints[t], recording.confidence[t][..., None]], axis=-1)


def declared(recording: Recording) -> DeclaredPoints:
    return DeclaredPoints(recording.skeleton.animals, recording.skeleton.keypoints)


@contextmanager
def zmq_float32(recording: Recording, _: Path) -> Iterator[tuple[Source, Send]]:
    with zmq.Context() as context, closing(ZmqSource("tcp://127.0.0.1:*", declared(recording))) as source:
        push = context.socket(zmq.PUSH)
        push.connect(source.address)
        with closing(push):
            yield source, lambda t: push.send_multipart([t.to_bytes(8, "little"), pose_of(recording, t).tobytes()])


@contextmanager
def zmq_json(recording: Recording, _: Path) -> Iterator[tuple[Source, Send]]:
    """From a PUB that binds, by names and with null for what is missing."""
    with zmq.Context() as context:
        pub = context.socket(zmq.XPUB)
        pub.bind("tcp://127.0.0.1:*")
        address = pub.getsockopt_string(zmq.LAST_ENDPOINT)
        source = ZmqSource(address, declared(recording), form="json", socket="sub", bind=False, topic="pose")
        with closing(source), closing(pub):
            assert pub.poll(10_000), "it does not subscribe"
            pub.recv()

            def send(t: int) -> None:
                points = [
                    {name: None if np.isnan(v[0]) else v.tolist() for name, v in zip(keypoints, animal, strict=True)}
                    for animal in pose_of(recording, t)
                ]
                pose = dict(zip(recording.skeleton.animals, points, strict=True))
                pub.send_multipart([b"pose", json.dumps({"frame": t, "time": t / FPS, "pose": pose}).encode()])

            keypoints = recording.skeleton.keypoints
            yield source, send


def osc_client(port: int) -> Any:
    """python-osc's own client, a context manager."""
    clients = pytest.importorskip("pythonosc.udp_client", reason="needs python-osc: pip install 'rtseg[osc]'")
    return clients.SimpleUDPClient("127.0.0.1", port)


@contextmanager
def osc(recording: Recording, _: Path) -> Iterator[tuple[Source, Send]]:
    with closing(OscSource("127.0.0.1", 0, declared(recording))) as source, osc_client(source.port) as client:
        yield source, lambda t: client.send_message("/pose", [t, *pose_of(recording, t).ravel().tolist()])


@contextmanager
def osc_blob(recording: Recording, _: Path) -> Iterator[tuple[Source, Send]]:
    """As Bonsai's SendMessage packs an array of floats."""
    with closing(OscSource("127.0.0.1", 0, declared(recording))) as source, osc_client(source.port) as client:
        yield source, lambda t: client.send_message("/pose", [t, pose_of(recording, t).tobytes()])


def lsl_module() -> Any:
    try:
        return pytest.importorskip("pylsl", reason="pylsl is not installed: pip install 'rtseg[lsl]'")
    except RuntimeError as error:  # the package is there, and liblsl is not
        pytest.skip(f"pylsl finds no liblsl: {error}")


def lsl_labels(recording: Recording) -> list[str]:
    skeleton, coords = recording.skeleton, ("x", "y", "likelihood")
    return [f"{animal}.{point}_{c}" for animal in skeleton.animals for point in skeleton.keypoints for c in coords]


def lsl_outlet(name: str, labels: list[str], rate: float = FPS, form: str = "float32", source_id: str = "") -> Any:
    pylsl = lsl_module()
    info = pylsl.StreamInfo(name, "Pose", len(labels), rate, form, source_id or name)
    info.set_channel_labels(labels)
    return pylsl.StreamOutlet(info)


@contextmanager
def lsl(recording: Recording, folder: Path) -> Iterator[tuple[Source, Send]]:
    """Frames that the recording has no row for show in the time stamps alone."""
    lsl_module()
    from rtseg.sources.lsl import LslSource, lsl_predicate

    name = f"poses {folder.name} {time.monotonic_ns()}"  # other tests may run at the same time
    outlet = lsl_outlet(name, lsl_labels(recording))
    with closing(LslSource(lsl_predicate(name, "", ""))) as source:
        yield source, lambda t: outlet.push_sample(pose_of(recording, t).ravel().tolist(), 1000 + t / FPS)


@contextmanager
def csv_dlc(recording: Recording, folder: Path) -> Iterator[tuple[Source, Send]]:
    points = [(animal, point) for animal in recording.skeleton.animals for point in recording.skeleton.keypoints]
    rows = [
        "scorer" + ",s" * 3 * len(points),
        "individuals" + "".join(f",{animal}" * 3 for animal, _ in points),
        "bodyparts" + "".join(f",{point}" * 3 for _, point in points),
        "coords" + ",x,y,likelihood" * len(points),
    ]
    yield from growing_csv(recording, folder / "dlc.csv", rows)


@contextmanager
def csv_plain(recording: Recording, folder: Path) -> Iterator[tuple[Source, Send]]:
    """With semicolons."""
    skeleton = recording.skeleton
    names = [f"{a}.{k}.{c}" for a in skeleton.animals for k in skeleton.keypoints for c in ("x", "y", "score")]
    yield from growing_csv(recording, folder / "plain.csv", [";".join(["frame", *names])], ";")


def growing_csv(
    recording: Recording, path: Path, header: list[str], delimiter: str = ","
) -> Iterator[tuple[Source, Send]]:
    with path.open("w", encoding="utf-8") as file:
        file.write("\n".join(header) + "\n")
        file.flush()
        with closing(GrowingCsv(path, fps=FPS)) as source:

            def send(t: int) -> None:
                cells = ["" if np.isnan(v) else f"{v:.9g}" for v in pose_of(recording, t).ravel().tolist()]
                line = delimiter.join([str(t), *cells]) + "\n"
                file.write(line[:20])  # a writer's buffer ends anywhere
                file.flush()
                file.write(line[20:])
                file.flush()

            yield source, send


@contextmanager
def csv_long(recording: Recording, folder: Path) -> Iterator[tuple[Source, Send]]:
    """As SLEAP has it: a row for each animal that is seen. The last frame waits for the one behind it."""
    skeleton, path = recording.skeleton, folder / "long.csv"
    names = [f"{point}.{c}" for point in skeleton.keypoints for c in ("x", "y", "score")]
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["track", "frame_idx", *names]) + "\n")
        file.flush()
        with closing(GrowingCsv(path, fps=FPS, animals=skeleton.animals)) as source:

            def send(t: int) -> None:
                for animal, points in zip(
                    skeleton.animals, pose_of(recording, min(t, len(recording) - 1)), strict=True
                ):
                    cells = ["" if np.isnan(v) else f"{v:.9g}" for v in points.ravel().tolist()]
                    file.write(",".join([animal, str(t), *cells]) + "\n")
                file.flush()

            yield source, send


SENDERS = {
    "zmq float32": zmq_float32,
    "zmq json": zmq_json,
    "osc": osc,
    "osc blob": osc_blob,
    "lsl": lsl,
    "csv dlc": csv_dlc,
    "csv plain": csv_plain,
    "csv long": csv_long,
}
