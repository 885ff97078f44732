"""benchmarks/gpu/run.sh where there is no GPU: it ends well, and reports for every candidate why it cannot run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from rtseg.engine.parity import largest_difference
from rtseg.system import nvidia
from tests.conftest import REPO
from tests.engine.networks import SPECS, bundle_of

GPU = REPO / "benchmarks" / "gpu"


def module(name: str) -> ModuleType:
    """A file of benchmarks/gpu, which is no package."""
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.mark.skipif(not isinstance(nvidia.gpus(), str), reason="this machine has a GPU")
def test_the_run_survives_a_machine_without_a_gpu(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    small = ["--batches", "1,2", "--seconds", "0.05", "--out", str(tmp_path), "--device", "cpu"]
    few = ["--only", "numba,cuda,tensorrt:int8,torch graph,torch eager"]  # one precision stands for all three
    child = subprocess.run(
        [GPU / "run.sh", tiny_bundle, *small, *few],
        env=os.environ | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    result = json.loads((tmp_path / "gpu-tiny-cpu.json").read_text())
    candidates = result["candidates"]
    assert set(candidates) == {"numba", "cuda", "tensorrt:int8", "torch graph", "torch eager"}
    for name in ("cuda", "tensorrt:int8", "torch graph"):
        assert "NVIDIA" in candidates[name]["impossible"]
        assert candidates[name]["rows"] == []
        assert candidates[name]["impossible"] in child.stdout
    for name in ("numba", "torch eager"):
        assert candidates[name]["agrees"]
        assert [row["batch"] for row in candidates[name]["rows"]] == [1, 2]
        assert all(0 < row["p50_us"] <= row["p99_us"] for row in candidates[name]["rows"])
    assert "NVIDIA" in result["floors"]["impossible"]
    assert result["versions"]["torch"]


def test_a_candidate_that_crashes_or_hangs_is_a_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = module("run")
    monkeypatch.setattr(run, "HERE", tmp_path)
    script = tmp_path / "candidate.py"
    script.write_text('import os, signal\nprint(\'{"row": {"batch": 1}}\', flush=True)\nos.kill(os.getpid(), 11)\n')
    found = run.run_candidate({}, 30.0)
    assert found["rows"] == [{"batch": 1}], "what was measured before is kept"
    assert found["impossible"].startswith("killed by SIGSEGV")
    script.write_text("import sys\nprint('not json')\nsys.exit('no library')\n")
    assert run.run_candidate({}, 30.0)["impossible"] == "ended with 1: no library"
    script.write_text("import threading\nprint('{\"parity\": 0.0}', flush=True)\nthreading.Event().wait()\n")
    assert run.run_candidate({}, 1.0) == {"rows": [], "parity": 0.0, "impossible": "did not end within 1 s"}


@pytest.mark.parametrize("name", ["cells beside convolutions", "wide heads", "nothing refined"])
def test_the_torch_step_answers_as_the_engines_do(name: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    bundle = bundle_of(SPECS[name])
    engine = module("torch_step").BatchedTorch(bundle.network, bundle.weights, 6, "cpu")
    assert largest_difference(engine, bundle) <= 2 * bundle.tolerance


def test_the_floor_counts_all_memory_that_must_be_read_or_written() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    spec = SPECS["small"]
    measured = {"bandwidth_bytes_s": 1e12, "multiply_adds_s": 1e13, "launch_us": {"1": 10.0, "1000": 11.0}}
    one, many = (module("floors").least_us(spec, batch, measured) for batch in (1, 1000))
    weights = sum(int(np.prod(shape)) for shape in spec.shapes().values())
    assert one["memory_us"] > 4 * weights / 1e6
    # Per stream: 5 trunk layers of 16 and 3 head layers of 2 x 8, each two older taps and the newest.
    row = 3 * (5 * 16 + 3 * 16) + spec.n_features + spec.n_outputs
    assert many["memory_us"] - one["memory_us"] == pytest.approx(999 * 4 * row / 1e6)
    assert many["arithmetic_us"] == pytest.approx(1000 * spec.multiply_adds / 1e7)
    assert many["floor_us"] == 11.0 + max(many["memory_us"], many["arithmetic_us"])
