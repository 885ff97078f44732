"""benchmarks/engines.py on a tiny bundle: a complete result, its ratios, a reason for every one left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO


def test_a_short_run_has_a_complete_result(tiny_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "engines"
    left_out = ("openvino", "torch, compiled", "torch, eager", "torch, window", "pytorch-tcn")
    without = [word for name in left_out for word in ("--without", name)]
    options = ["--seconds", "1", "--batches", "1,3", "--out", str(out), *without]
    done = subprocess.run(
        [sys.executable, "benchmarks/engines.py", str(tiny_bundle), *options],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.with_suffix(".json").read_text())
    (batches,) = result["bundles"].values()
    assert [one["batch"] for one in batches] == [1, 3]
    for one in batches:
        roof, numba = one["roofline"], one["rows"]["numba"]
        assert set(one["rows"]) | set(one["left_out"]) >= {"numba", "onnx, in place", "onnx, shifted", *left_out}
        assert all(one["left_out"][name].endswith("left out by --without") for name in left_out)
        assert roof["limit_us"] == max(roof["floors"][name]["p50_us"] for name in ("read", "multiply"))
        assert roof["numba_reaches"] == roof["limit_us"] / numba["p50_us"]
        assert roof["weight_bytes"] > 0
        for name, row in one["rows"].items():
            assert 0 < row["p50_us"] <= row["p99_us"], name
            assert row["apart"] < 1e-5, name
            assert row["numba_is"] == numba["p50_us"] / row["p50_us"]
    assert "| numba |" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").stat().st_size > 10_000
