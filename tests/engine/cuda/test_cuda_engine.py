"""The cuda engine where there is no GPU: its kernel in Triton's interpreter, its batch sizes, and its errors."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from rtseg.engine.cuda import cuda_engine
from rtseg.engine.cuda.cuda_engine import CudaEngine, batch_sizes, tiles_of
from rtseg.errors import EngineError
from rtseg.system import nvidia
from tests.conftest import REPO
from tests.engine.networks import SPECS, bundle_of


def output_of(*command: str, interpreted: bool) -> Any:
    """What a child process with Triton prints, from JSON."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed: pip install triton (Linux, some 200 MB)")
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpreted))}
    child = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=REPO,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def test_the_kernel_equals_torch_in_double_in_the_interpreter() -> None:
    """A lone stream, and a block of streams that begin, restart, move and come twice in a batch."""
    found = output_of("tests.engine.cuda.run_interpreted", "6", interpreted=True)
    assert found["compared"] == 34
    assert found["one"] < 1e-6
    assert found["block"] < 1e-6


def test_the_kernel_compiles_for_a_gpu_that_is_not_here() -> None:
    """For sm_90, in all its forms. What one thread writes another reads: no load may go around the barriers."""
    forms = output_of("tests.engine.cuda.compile_kernel", "90", interpreted=False)
    assert [form["streams"] for form in forms] == [1, 16, 64]
    for form in forms:
        assert form["machine_code_bytes"] > 1000
        assert form["shared_bytes"] <= 48 * 1024
        assert form["barriers"] >= 1
        assert form["unordered_loads"] == 0
        assert form["tensor_core_products"] == 0, "products are float32, not TF32"


@pytest.mark.parametrize("capacity", [1, 3, 64, 65, 100, 2048, 2049, 16384])
def test_batches_hold_the_capacity_in_whole_blocks(capacity: int) -> None:
    sizes = batch_sizes(capacity)
    assert sizes[0] == 1
    assert sizes == sorted(set(sizes))
    assert capacity <= sizes[-1] < capacity + 64
    assert all(size % tiles_of(size).streams == 0 for size in sizes)


def test_without_a_gpu_the_reason_is_one_line() -> None:
    if not isinstance(nvidia.gpus(), str):
        pytest.skip("this machine has a GPU")
    spec = SPECS["small"]
    with pytest.raises(EngineError, match=r"^the cuda engine cannot run here: .*NVIDIA.*$"):
        CudaEngine(spec, bundle_of(spec).weights, 1)


def test_unsuitable_libraries_are_named_without_loading_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = nvidia.Gpu("pretended", (9, 0), 2**36, 132, (13, 0))
    monkeypatch.setattr(nvidia, "gpus", lambda: (gpu,))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "triton" else object())
    assert str(cuda_engine.why_unavailable()).startswith("the package 'triton' is not installed")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    assert str(cuda_engine.why_unavailable()) == "torch 2.13.0+cpu is built without CUDA: install PyTorch for CUDA"
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.11.0+cu130")
    assert cuda_engine.why_unavailable() is None
