"""The driver's calls against a stand-in in C with cuda.h's signatures: addresses, order, capture, errors.

No GPU is here; what this cannot show is that the driver itself does as its manual says.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtseg.engine.tensorrt import device as device_module
from rtseg.engine.tensorrt.device import CudaDevice
from rtseg.errors import EngineError
from rtseg.system import nvidia

SOURCE = Path(__file__).parent / "stand_in_driver.c"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler (cc) on Linux")
    built = tmp_path_factory.mktemp("driver") / "libstand_in.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", built, SOURCE], check=True)
    return ctypes.CDLL(str(built))


@pytest.fixture
def device(library: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[CudaDevice]:
    monkeypatch.setattr(device_module.ctypes, "CDLL", lambda name: library)
    made = CudaDevice()
    yield made
    made.close()
    assert (library.stand_in_allocations(), library.stand_in_contexts()) == (0, 0), "all is given back"


def test_copies_are_done_once_the_device_is_synchronized(device: CudaDevice) -> None:
    address, here, back = device.allocate(1000), device.allocate_pinned(1000), device.allocate_pinned(1000)
    assert address > 2**32, "an address that needs all of its bits"
    assert address % 256 == 0
    assert not here.any()
    here[:] = np.arange(1000) % 251
    device.copy_to_device(address, here)
    device.copy_to_host(back, address)
    assert not back.any(), "nothing is done before the device is synchronized"
    device.synchronize()
    assert back.tolist() == here.tolist()
    device.zero(address + 10, 5)
    device.copy_to_host(back, address)
    device.synchronize()
    assert back[9:16].tolist() == [9, 0, 0, 0, 0, 0, 15]


def test_fresh_memory_is_zero(device: CudaDevice) -> None:
    back = device.allocate_pinned(64)
    back[:] = 1
    device.copy_to_host(back, device.allocate(64))
    device.synchronize()
    assert not back.any()


def test_a_captured_graph_runs_at_every_launch_and_not_before(device: CudaDevice) -> None:
    address, here, back = device.allocate(8), device.allocate_pinned(8), device.allocate_pinned(8)

    def work() -> None:
        device.copy_to_device(address, here)
        device.copy_to_host(back, address)

    launch = device.capture(work)
    here[:] = 3
    device.synchronize()
    assert not back.any()
    for value in (5, 6):
        here[:] = value
        launch()
        device.synchronize()
        assert back.tolist() == [value] * 8


def test_an_error_while_capturing_leaves_the_stream_usable(device: CudaDevice) -> None:
    address, back = device.allocate(8), device.allocate_pinned(8)

    def work() -> None:
        device.zero(address, 8)
        raise EngineError("in between")

    with pytest.raises(EngineError, match="in between"):
        device.capture(work)
    device.copy_to_host(back, address)
    device.synchronize()


def test_what_the_driver_refuses_is_named_with_its_reason(device: CudaDevice, library: Any) -> None:
    library.stand_in_fail_next(2)
    with pytest.raises(EngineError, match=r"^the GPU refused cuMemAlloc_v2: out of memory$"):
        device.allocate(8)
    library.stand_in_fail_next(719)
    with pytest.raises(EngineError, match=r"^the GPU refused cuStreamSynchronize: error 719$"):
        device.synchronize()


def test_another_thread_can_use_the_device(device: CudaDevice) -> None:
    address, back = device.allocate(4), device.allocate_pinned(4)
    done: list[bool] = []

    def run() -> None:
        device.make_current()
        device.copy_to_host(back, address)
        device.synchronize()
        done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    device.make_current()
    assert done == [True]


def test_a_missing_driver_is_named() -> None:
    if not isinstance(nvidia.gpus(), str):
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match=r"no usable NVIDIA driver here: .*libcuda"):
        CudaDevice()
