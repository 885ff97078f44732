"""Building plans where nothing can be built: options, and what is refused in one line. No TensorRT is needed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rtseg.engine.tensorrt import tensorrt_library
from rtseg.engine.tensorrt.build import build_in_child, build_plans, parse_build_options
from rtseg.errors import EngineError, RtsegError
from rtseg.system import nvidia
from tests.conftest import REPO
from tests.engine.networks import SPECS, bundle_of

BUNDLE = replace(bundle_of(SPECS["small"]), hash="1" * 64)
WITHOUT_GPU = pytest.mark.skipif(not isinstance(nvidia.gpus(), str), reason="this machine has a GPU")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("cuda", "fp32", "1", ""), "plans are built by tensorrt or tensorrt_rtx, got 'cuda'"),
        (("tensorrt_rtx", "fp32,fp8", "1", ""), "unknown precision 'fp8'; there are: fp32, fp16, int8"),
        (("tensorrt_rtx", "fp32", "1,many", ""), "--batch takes whole numbers with commas, got '1,many'"),
    ],
)
def test_invalid_options_are_named(words: tuple[str, str, str, str], reason: str) -> None:
    with pytest.raises(EngineError) as raised:
        parse_build_options(*words)
    assert str(raised.value) == reason


def test_options_are_lists_with_commas() -> None:
    found = parse_build_options("tensorrt_rtx", "fp16, int8", "64,1", "sm_86,sm_89")
    assert found == ("tensorrt_rtx", ["fp16", "int8"], [64, 1], ["sm_86", "sm_89"])


@WITHOUT_GPU
def test_what_cannot_be_built_here_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"for which GPU\? There is none here .*--for, one of sm_75, sm_80"):
        build_plans(BUNDLE, "tensorrt_rtx", folder=tmp_path)
    with pytest.raises(EngineError, match=r"on the GPU that will serve, and there is none here .*tensorrt_rtx builds"):
        build_plans(BUNDLE, "tensorrt", folder=tmp_path)
    with pytest.raises(EngineError, match="unknown GPU 'sm_90'; plans are built ahead of time for sm_75"):
        build_plans(BUNDLE, "tensorrt_rtx", targets=["sm_90"], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@WITHOUT_GPU
def test_the_command_says_in_one_line_what_it_needs() -> None:
    command = [sys.executable, "-m", "rtseg", "build", "engines/mice-sim"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("rtseg: for which GPU? There is none here (no NVIDIA driver here: ")
    assert done.stderr.count("\n") == 1


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if tensorrt_library.installed_version("tensorrt_rtx") is not None:
        pytest.skip("tensorrt-rtx is installed")
    with pytest.raises(RtsegError, match=r"pip install 'rtseg\[tensorrt-rtx\]'"):
        build_plans(BUNDLE, "tensorrt_rtx", targets=["sm_86"], folder=tmp_path)


def test_a_builder_that_cannot_even_start_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", "/bin/sh")  # which knows no -m
    problem = build_in_child({"model": "none"}, tmp_path)["problem"]
    assert problem.startswith("the builder ended with ")
    assert "\n" not in problem
