"""Importing pulls in nothing that is not needed: each case in a fresh Python, which lists what it has loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import rtseg

HEAVY = {
    "h5py",
    "matplotlib",
    "numba",
    "numpy",
    "pandas",
    "safetensors",
    "sklearn",
    "sleap_io",
    "torch",
    "typer",
    "zmq",
}
SERVING = {"h5py", "matplotlib", "onnx", "onnxruntime", "pandas", "sklearn", "sleap_io", "tensorrt", "torch"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a child that ran the statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    return set(json.loads(child.stdout.splitlines()[-1]))


@pytest.mark.parametrize("statement", ["import rtseg", "import rtseg; dir(rtseg); rtseg.__version__"])
def test_importing_rtseg_imports_nothing_heavy(statement: str) -> None:
    assert not loaded_by(statement) & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "inference.session",
        "inference.classifier",
        "serve.daemon",
        "client",
        "playback.replay",
        "evaluation.metrics",
        "evaluation.evaluate",
    ],
)
def test_serving_imports_no_torch(module: str) -> None:
    assert not loaded_by(f"import rtseg.{module}") & SERVING


@pytest.mark.parametrize("module", ["client.publisher", "sources.dlclive", "sources.bridge"])
def test_a_client_needs_no_compiler(module: str) -> None:
    assert not loaded_by(f"import rtseg.{module}") & {"numba", "llvmlite", "safetensors"}


def test_loading_a_bundle_and_stepping_imports_no_torch(tiny_bundle: object) -> None:
    statement = (
        f"import rtseg, numpy\nc = rtseg.load({str(tiny_bundle)!r}, capacity=1)\n"
        "c.open('s').step(c.frame(numpy.zeros((2, 7, 2)), seq=0))"
    )
    assert not loaded_by(statement) & SERVING


def test_every_public_name_is_there_and_no_other() -> None:
    for name in rtseg.__all__:
        assert getattr(rtseg, name).__module__.startswith("rtseg."), name
    assert sorted(rtseg.__all__) == list(rtseg.__all__)
    assert set(dir(rtseg)) == {*rtseg.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rtseg.nothing
