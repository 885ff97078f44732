"""`rtseg doctor`: it runs anywhere, says the engine that `auto` takes, and is the same as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rtseg.bundle.bundle import load_bundle, save_bundle
from rtseg.engine.cuda import cuda_engine
from rtseg.engine.select import ENGINES
from rtseg.engine.tensorrt import plans
from rtseg.errors import BundleError
from rtseg.system import nvidia
from rtseg.terminal import doctor
from tests.conftest import REPO
from tests.trees import with_trees

WITHOUT_GPU = pytest.mark.skipif(not isinstance(nvidia.gpus(), str), reason="this machine has a GPU")


def doctor_says(*arguments: str) -> str:
    command = [sys.executable, "-m", "rtseg", "doctor", *arguments]
    child = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 0, child.stderr
    return child.stdout


@WITHOUT_GPU
def test_the_report_of_a_machine_without_a_gpu() -> None:
    report = json.loads(doctor_says("--json"))
    assert (report["schema"], report["kind"], report["engine"]) == (1, "rtseg doctor", "numba")
    assert set(report["why"]) == {"tensorrt", "cuda"}
    rows = {(row["part"], row["name"]): row for row in report["findings"]}
    assert {name for part, name in rows if part == "engines"} == set(ENGINES)
    assert rows["engines", "numba"]["value"] == "runs here"
    assert rows["GPU", "NVIDIA GPU"]["verdict"] == "note"
    assert rows["choice", "engine auto"]["advice"] == "", "no GPU library helps where there is no GPU"
    assert {row["verdict"] for row in report["findings"]} <= {"good", "note", "bad"}


@WITHOUT_GPU
def test_the_table_names_the_same_findings(tiny_bundle: Path) -> None:
    words = " ".join(doctor_says(str(tiny_bundle)).split())
    for part in ("processor", "compiled kernels", "priority (rtprio)", "engine auto", "numba (no tensorrt or cuda:"):
        assert part in words


def test_engines_that_step_no_trees_are_told(tiny_bundle: Path, tmp_path: Path) -> None:
    save_bundle(with_trees(load_bundle(tiny_bundle)), tmp_path)
    values = {row.name: row.value for row in doctor.examine_machine(tmp_path).findings if row.part == "engines"}
    assert values.pop("numba") == "runs here"
    assert all("holds gradient-boosted trees, which the engine numba alone steps" in value for value in values.values())


def test_plans_are_listed_with_those_that_fit_no_more(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTSEG_PLANS", str(tmp_path))
    (none,) = doctor._plans(None)
    assert (none.name, none.value) == ("TensorRT plans", f"none in {tmp_path}")
    bundle = load_bundle(tiny_bundle)
    for batch, graph in ((1, plans.graph_digest(bundle, 1, "fp32")), (64, "0" * 64)):
        wanted = plans.Wanted("tiny", "tensorrt", "10.14.1", "fp32", "sm_86")
        plan = plans.plan_to_build(wanted, bundle, batch, graph, tmp_path)
        plan.file.write_bytes(b"plan")
        plans.write_sidecar(plan)
    (tmp_path / "alone.plan").write_bytes(b"plan")
    alone, fits, stale = doctor._plans(bundle)
    assert (alone.verdict, alone.name) == ("note", "damaged")
    assert alone.value == "alone.plan has no alone.json beside it: rtseg build makes both"
    assert (fits.verdict, fits.name, fits.advice) == ("good", "tiny fp32, batch 1", "")
    assert fits.value.startswith("sm_86, tensorrt 10.14.1, ")
    assert (stale.verdict, stale.name) == ("note", "tiny fp32, batch 64")
    assert "built by another rtseg" in stale.value
    assert stale.advice.startswith(f"delete {tmp_path}")
    assert len(list(doctor._plans(None))) == 3


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        doctor.examine_machine(tmp_path)


def test_a_machine_with_a_gpu_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = nvidia.Gpu("pretended", (9, 0), 80 * 2**30, 132, (13, 0))
    monkeypatch.setattr(nvidia, "gpus", lambda: (gpu,))
    monkeypatch.setattr(cuda_engine, "why_unavailable", lambda: "the package 'triton' is not installed")
    monkeypatch.setattr(doctor, "_choice", lambda: ("numba", {"cuda": "the package 'triton' is not installed"}))
    monkeypatch.setattr(doctor, "_engines", lambda _: iter(()))
    report = doctor.examine_machine()
    rows = {row.name: row for row in report.findings}
    assert rows["GPU 0"].value == "pretended, sm_90, 80 GiB, 132 processors"
    assert rows["CUDA of the driver"].value == "13.0"
    assert rows["engine auto"].verdict == "note"
    assert "pip install 'rtseg[cuda]'" in rows["engine auto"].advice


def test_limits_and_caches_that_are_too_small_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits are known on Linux only")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (0, 0))
    rows = {row.name: row for row in doctor._real_time()}
    assert rows["priority (rtprio)"].verdict == rows["locked memory (memlock)"].verdict == "note"
    assert "rtprio" in rows["priority (rtprio)"].advice
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (row,) = doctor._numba_cache()
    assert "nothing compiled yet" in row.value
    # As numba lays them out beside the code: a folder for every folder of source files.
    for n, room in enumerate(("features", "inference"), 1):
        (tmp_path / room).mkdir()
        (tmp_path / room / "kernel.nbc").touch()
        (row,) = doctor._numba_cache()
        assert row.value.endswith(f"writable, {n} kernel{'s' * (n > 1)} compiled")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(doctor.rtseg, "__file__", str(tmp_path / "__init__.py"))
    (row,) = doctor._numba_cache()
    assert row.value.endswith("writable, 2 kernels compiled")
