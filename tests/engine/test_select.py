"""Which engine serves: what falls back, what is an error, and what is logged."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from rtseg.bundle.bundle import Bundle
from rtseg.engine import parity, select
from rtseg.engine.base import Engine
from rtseg.engine.cpu.numba_engine import NumbaEngine
from rtseg.engine.cuda import cuda_engine
from rtseg.engine.select import choose_engine, format_reasons, make_engine
from rtseg.engine.tensorrt import tensorrt_library
from rtseg.errors import EngineError
from rtseg.system import nvidia
from tests.conftest import REPO
from tests.engine.networks import SPECS, bundle_of

BUNDLE = bundle_of(SPECS["small"])
WITHOUT_GPU = pytest.mark.skipif(not isinstance(nvidia.gpus(), str), reason="this machine has a GPU")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver names a GPU, and the libraries of both engines seem to be there."""
    gpu = nvidia.Gpu("pretended", (9, 0), 2**36, 132, (13, 0))
    monkeypatch.setattr(nvidia, "gpus", lambda: (gpu,))
    monkeypatch.setattr(cuda_engine, "why_unavailable", lambda: None)


def test_an_unknown_engine_is_named_with_the_known_ones() -> None:
    for name in ("gpu", "numba:fp16", ""):
        with pytest.raises(
            EngineError, match=r"unknown engine '.*'; there are: auto, numba, onnx, torch, tensorrt, cu"
        ):
            make_engine(BUNDLE, name)


@WITHOUT_GPU
@pytest.mark.parametrize("name", ["tensorrt", "tensorrt:fp16", "cuda"])
def test_a_named_engine_that_cannot_run_is_an_error(name: str) -> None:
    with pytest.raises(EngineError, match=r"engine cannot run here: .*NVIDIA"):
        make_engine(BUNDLE, name)


@WITHOUT_GPU
def test_without_a_gpu_numba_serves_and_says_why_once(caplog: pytest.LogCaptureFixture) -> None:
    engine, reasons = choose_engine(BUNDLE)
    assert isinstance(engine, NumbaEngine)
    assert set(reasons) == {"tensorrt", "cuda"}
    assert format_reasons(reasons).startswith("no tensorrt or cuda: no NVIDIA driver here: ")


@pytest.mark.parametrize("installed", [True, False])
@WITHOUT_GPU
def test_a_library_without_a_gpu_is_one_line_in_a_daemons_log(
    installed: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Choosing an engine without a GPU logs nothing, whatever is installed; a daemon logs the unused library."""
    monkeypatch.setattr(select, "TENSORRT", ("numpy",) if installed else ("no_such_library",))
    with caplog.at_level(logging.INFO, logger="rtseg"):
        assert make_engine(BUNDLE, "auto").name == "numba"
        select.log_unused_library("numba")
        assert not caplog.records
        select.log_unused_library("auto")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == installed
    assert all("numba, on the CPU (no tensorrt or cuda: no NVIDIA" in line for line in lines)


def test_a_gpu_that_is_not_used_is_a_warning(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = nvidia.Gpu("pretended", (9, 0), 2**36, 132, (13, 0))
    monkeypatch.setattr(nvidia, "gpus", lambda: (gpu,))
    monkeypatch.setattr(cuda_engine, "why_unavailable", lambda: "no triton")
    monkeypatch.setattr(tensorrt_library, "installed_version", lambda flavour: None)
    with caplog.at_level(logging.INFO, logger="rtseg"):
        assert make_engine(BUNDLE, "auto").name == "numba"
        select.log_unused_library("auto")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert (
        "no tensorrt: the package 'tensorrt' or 'tensorrt-rtx' is not installed; no cuda: no triton"
        in record.getMessage()
    )


def test_an_engine_that_answers_wrongly_does_not_serve(
    with_gpu: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU engine has a network with other weights; parity finds it, and the CPU engine takes over."""
    other = bundle_of(SPECS["small"], seed=1)

    def wrong(bundle: Bundle, capacity: int) -> Engine:
        engine = NumbaEngine(other.network, other.weights, capacity)
        parity.require_parity(engine, bundle)
        return engine

    monkeypatch.setattr(select, "ON_GPU", ("cuda",))
    monkeypatch.setattr(select, "_cuda", wrong)
    with caplog.at_level(logging.WARNING, logger="rtseg"):
        assert make_engine(BUNDLE, "auto").name == "numba"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "answers differ from the CPU engine's by 0." in line
    with pytest.raises(EngineError, match="differ from the CPU engine's"):
        make_engine(BUNDLE, "cuda")


@WITHOUT_GPU
def test_choosing_loads_no_gpu_library() -> None:
    code = (
        "import sys\nfrom rtseg.bundle.bundle import load_bundle\nfrom rtseg.engine.select import make_engine\n"
        "make_engine(load_bundle('engines/rats58'))\nprint(*sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in child.stdout.split()}
    assert "rtseg" in loaded
    assert not loaded & {"torch", "triton", "tensorrt", "tensorrt_rtx", "tensorrt_lean", "onnx", "onnxruntime"}
