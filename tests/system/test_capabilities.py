"""A laboratory's way on other systems: real processes under a Python from which is taken away what those lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rtseg.system import capabilities
from tests.conftest import REPO
from tests.live import random_walk
from tests.recordings.writers import write_plain_poses

PRETENDED = Path(__file__).parent / "pretended"
TIMEOUT_S = 120.0
# What a Python on Windows would do with a file or a pipe whose encoding nobody names: nothing good. Here it fails.
PLAIN_TEXT = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "cp1252"}


def on(system: str, *arguments: object) -> dict[str, Any]:
    """What `way.py` reports of its way on a pretended system."""
    paths = os.pathsep.join(map(str, (PRETENDED / system, PRETENDED, REPO)))
    command = [sys.executable, str(PRETENDED / "way.py"), *map(str, arguments)]
    environment = os.environ | PLAIN_TEXT | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    child = subprocess.run(command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert child.returncode == 0, child.stderr.decode(errors="replace")
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    walk = random_walk(60, 3)
    path = tmp_path_factory.mktemp("poses") / "walk.csv"
    return write_plain_poses(path, walk.keypoints, walk.confidence, walk.skeleton.animals, walk.skeleton.keypoints)


@pytest.fixture(scope="module")
def macos(tiny_bundle: Path, poses: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return on("macos", tiny_bundle, poses, tmp_path_factory.mktemp("macos"), "")


def findings(found: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["verdict"] for row in found["doctor"]["findings"]}


def check_answers(found: dict[str, Any]) -> None:
    """What is the same everywhere: the answers, keys, HTTP, and what is read of a recording."""
    assert found["live as offline"]
    assert (found["healthz"], found["is cut off"], found["status"]["frames"]) == (200, True, 60)
    assert "is whole" in found["recover"]
    assert "60 predictions" in found["verify"]
    assert "all the same, bit for bit" in found["verify"]
    assert found["exported"] == ["walk.bouts.csv", "walk.predictions.csv"]


def test_macos_serves_records_and_annotates(macos: dict[str, Any]) -> None:
    check_answers(macos)
    assert macos["reasons"] == {"record": "", "ipc": "", "workers": ""}
    rows = findings(macos)
    assert rows["recording (--record)"] == rows["ipc addresses"] == rows["workers (--workers)"] == "good"
    assert rows["cores and priority"] == "note"


def test_windows_serves_and_annotates_and_says_what_it_does_not(
    tiny_bundle: Path, poses: Path, macos: dict[str, Any], tmp_path: Path
) -> None:
    found = on("windows", tiny_bundle, poses, tmp_path, macos["recording"])
    check_answers(found)
    for name, expected in (
        ("record", "record on Linux or macOS"),
        ("ipc", "use tcp://127.0.0.1:PORT"),
        ("workers", "serve with one process"),
    ):
        code, error = found[f"serve {name}"]
        (line,) = error.splitlines()
        assert (code, line.startswith("rtseg: ")) == (3, True)
        assert expected in line
        assert found["reasons"][name] in line
    rows = findings(found)
    assert rows["recording (--record)"] == rows["ipc addresses"] == rows["workers (--workers)"] == "note"
    assert rows["cores and priority"] == rows["resolution"] == "note"
    assert "on Windows use Python 3.13 or newer" in " ".join(found["words"].split())


def test_this_system_has_what_the_tests_need() -> None:
    if sys.platform != "linux":
        pytest.skip("Linux has all of it; other systems may lack some")
    assert capabilities.why_no_recording() == capabilities.why_no_ipc() == capabilities.why_no_workers() == ""
