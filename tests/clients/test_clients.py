"""The clients in other languages (docs/clients) give a replay's answers, bit for bit, each in its own interpreter."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rtseg.inference.classifier import load
from tests.live import REPO, TIMEOUT_S, Child, daemon, random_walk

CLIENTS, HERE = REPO / "docs" / "clients", Path(__file__).parent
MOST_LINES = 60


@pytest.fixture(scope="module")
def child(tiny_bundle: Path) -> Iterator[Child]:
    with daemon(tiny_bundle) as child:
        yield child


def play(command: list[str], child: Child, bundle: Path, folder: Path, stream: str) -> None:
    """Run a player with the address, the stream, names, poses (float32: x, y, ... then likelihoods) and where to write
    the probabilities; hold these to the offline answers."""
    walk = random_walk(40, 61)
    keypoints = walk.keypoints.reshape(len(walk), -1)
    values = np.concatenate([keypoints, walk.confidence.reshape(len(walk), -1)], axis=1)
    (folder / "poses").write_bytes(values.astype("<f4").tobytes())
    names = [",".join(walk.skeleton.animals), ",".join(walk.skeleton.keypoints)]
    done = subprocess.run(
        [*command, child.frames, stream, *names, str(folder / "poses"), str(folder / "probs")],
        capture_output=True, text=True, timeout=3 * TIMEOUT_S, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "probs").read_bytes() == load(bundle).run(walk).probs.tobytes()


@pytest.mark.parametrize("name", ["rtseg_client.m", "rtseg_msgpack.m", "RtsegClient.cs", "Msgpack.cs"])
def test_clients_are_short(name: str) -> None:
    assert len((CLIENTS / name).read_text(encoding="utf-8").splitlines()) <= (
        75 if name == "Msgpack.cs" else MOST_LINES
    )


def test_octave(child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    octave = shutil.which("octave-cli")
    if octave is None:
        pytest.skip("Octave is not installed (apt-get install octave octave-zeromq)")
    base = [octave, "--no-gui", "--norc", "--quiet"]
    if subprocess.run([*base, "--eval", "pkg load zeromq"], capture_output=True, check=False).returncode:
        pytest.skip("Octave has no package zeromq (apt-get install octave-zeromq)")
    play([*base, "--path", str(CLIENTS), str(HERE / "play.m")], child, tiny_bundle, tmp_path, "octave")


def test_c_sharp(child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    """Over libzmq under NetMQ's names (tests/clients/NetMQ.cs): NetMQ itself was not run."""
    compiler, mono = shutil.which("mcs"), shutil.which("mono")
    if compiler is None or mono is None:
        pytest.skip("mono is not installed (apt-get install mono-mcs mono-runtime)")
    if ctypes.util.find_library("zmq") is None:
        pytest.skip("the system has no libzmq (apt-get install libzmq5)")
    files = [CLIENTS / "RtsegClient.cs", CLIENTS / "Msgpack.cs", HERE / "NetMQ.cs", HERE / "Play.cs"]
    program = tmp_path / "play.exe"
    done = subprocess.run(
        [compiler, "-warnaserror", f"-out:{program}", *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    play([mono, str(program)], child, tiny_bundle, tmp_path, "csharp")
