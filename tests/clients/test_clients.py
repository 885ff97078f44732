"""The clients in other languages (docs/clients) give a replay's answers, bit for bit, each in its own interpreter."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def play(command: list[str], addresses: list[str], bundle: Path, folder: Path, stream: str, *, pointwise: bool) -> None:
    """Run a player with addresses, the stream, names, poses and where to write the probabilities; hold these to the
    offline answers. pointwise: whether poses are x, y, likelihood of each point, or all x, y and then likelihoods; as
    float32.
    """
    walk = random_walk(40, 61)
    axis = -1 if pointwise else 1
    keypoints, confidence = walk.keypoints, walk.confidence[..., np.newaxis]
    if not pointwise:
        keypoints, confidence = (values.reshape(len(walk), -1) for values in (keypoints, confidence))
    values = np.concatenate([keypoints, confidence], axis=axis)
    (folder / "poses").write_bytes(values.astype("<f4").tobytes())
    names = [",".join(walk.skeleton.animals), ",".join(walk.skeleton.keypoints)]
    done = subprocess.run(
        [*command, *addresses, stream, *names, str(folder / "poses"), str(folder / "probs")],
        capture_output=True, text=True, timeout=3 * TIMEOUT_S, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "probs").read_bytes() == load(bundle).run(walk).probs.tobytes()


@contextmanager
def bridge(child: Child, stream: str) -> Iterator[list[str]]:
    """`rtseg source zmq` with `--answers`, and its two addresses."""
    skeleton = random_walk(1, 0).skeleton
    points = ["--points", ",".join(skeleton.keypoints), "--animals", ",".join(skeleton.animals), "--fps", "30"]
    anywhere = "tcp://127.0.0.1:*"
    where = ["--to", child.frames, "--listen", anywhere, "--answers", anywhere, "--stream", stream]
    command = [sys.executable, "-m", "rtseg", "source", "zmq", *points, *where]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        addresses: list[str] = []
        for line in process.stderr:
            addresses += re.findall(r"tcp://\S+(?= (?:for|as) float32)", line)
            if len(addresses) == 2:
                break
        try:
            yield addresses
        finally:
            process.terminate()
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stdout) == (0, "40 frames sent\n"), stderr


@pytest.fixture(scope="module")
def octave() -> list[str]:
    """Its command, with docs/clients in its path."""
    program = shutil.which("octave-cli")
    if program is None:
        pytest.skip("Octave is not installed (apt-get install octave octave-zeromq)")
    base = [program, "--no-gui", "--norc", "--quiet"]
    if subprocess.run([*base, "--eval", "pkg load zeromq"], capture_output=True, check=False).returncode:
        pytest.skip("Octave has no package zeromq (apt-get install octave-zeromq)")
    return [*base, "--path", str(CLIENTS)]


def compiled(names: list[str], folder: Path) -> list[str]:
    """A command of these C# files, over libzmq under NetMQ's names (NetMQ.cs): NetMQ itself was not run."""
    compiler, mono = shutil.which("mcs"), shutil.which("mono")
    if compiler is None or mono is None:
        pytest.skip("mono is not installed (apt-get install mono-mcs mono-runtime)")
    if ctypes.util.find_library("zmq") is None:
        pytest.skip("the system has no libzmq (apt-get install libzmq5)")
    files = [folder_of / name for name in names for folder_of in (CLIENTS, HERE) if (folder_of / name).exists()]
    program = folder / "play.exe"
    done = subprocess.run(
        [compiler, "-warnaserror", f"-out:{program}", str(HERE / "NetMQ.cs"), *map(str, files)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return [mono, str(program)]


@pytest.mark.parametrize("name", ["rtseg_bridge.m", "RtsegBridge.cs"])
def test_clients_are_one_short_file(name: str) -> None:
    assert len((CLIENTS / name).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_octave_over_the_bridge(octave: list[str], child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    with bridge(child, "octave bridge") as addresses:
        command = [*octave, str(HERE / "play_bridge.m")]
        play(command, addresses, tiny_bundle, tmp_path, "octave bridge", pointwise=True)


def test_c_sharp_over_the_bridge(child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    command = compiled(["RtsegBridge.cs", "PlayBridge.cs"], tmp_path)
    with bridge(child, "csharp bridge") as addresses:
        play(command, addresses, tiny_bundle, tmp_path, "csharp bridge", pointwise=True)


def test_octave_as_a_client_of_its_own(octave: list[str], child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    play([*octave, str(HERE / "play.m")], [child.frames], tiny_bundle, tmp_path, "octave", pointwise=False)


def test_c_sharp_as_a_client_of_its_own(child: Child, tiny_bundle: Path, tmp_path: Path) -> None:
    command = compiled(["RtsegClient.cs", "Msgpack.cs", "Play.cs"], tmp_path)
    play(command, [child.frames], tiny_bundle, tmp_path, "csharp", pointwise=False)
